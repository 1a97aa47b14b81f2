"""A killed run, a full disk, two runs at once: the model folder is the old one, the new one or absent, never half."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import topwork
from topwork import ModelError, Recipe, storage

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")

FAST = Recipe(head="ridge", features="pooled")
CHILD = """
import os, signal, sys
import topwork
from topwork import Recipe, storage

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_at(call, module, name, after=False):
    real, seen = getattr(module, name), []
    def wrapper(*args, **kwargs):
        seen.append(1)
        if len(seen) == call and not after:
            die()
        result = real(*args, **kwargs)
        if len(seen) == call and after:
            die()
        return result
    setattr(module, name, wrapper)

def die_after_rename(source_or_target):
    real = os.rename
    def rename(old, new):
        real(old, new)
        if os.path.realpath(source_or_target(old, new)) == os.path.realpath(output):
            die()
    os.rename = rename

source, output = sys.argv[1:3]
{trap}
topwork.fit(source, Recipe(head="ridge", features="pooled", seed=1), output=output)
"""


def run_to_death(trap: str, source: Path, output: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD.replace("{trap}", trap), str(source), str(output)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


def seed_of(model: Path) -> int:
    return int(topwork.load(model).manifest["recipe"]["seed"])


def test_killed_in_the_feature_pass(photos: Path, tmp_path: Path, empty_cache: Path) -> None:
    target = tmp_path / "m.topwork"
    trap = "from topwork.features.cache import FeatureCache\ndie_at(8, FeatureCache, 'put', after=True)"
    run_to_death(trap, photos, target)
    assert [path.name for path in tmp_path.iterdir() if "topwork" in path.name] == []
    facts = topwork.fit(photos, FAST, output=target).facts
    assert facts["cache"] == {"hits": 8, "misses": 16}
    assert seed_of(target) == 0


MOMENTS = {
    "before anything is written": "die_at(1, storage, 'check_replaceable')",
    "before the first file": "die_at(1, storage, 'write_atomic')",
    "in the middle of a file": "die_at(1, os, 'fsync')",
    "between two files": "die_at(4, storage, 'write_atomic', after=True)",
    "before model.json": "die_at(11, storage, 'write_atomic')",
    "after model.json": "die_at(11, storage, 'write_atomic', after=True)",
    "before the old one is moved": "die_at(1, storage, '_swap')",
}


@pytest.mark.parametrize(
    ("moment", "old"),
    [*((moment, True) for moment in MOMENTS), ("between two files", False), ("before the old one is moved", False)],
)
def test_killed_while_saving(fitted: Any, tmp_path: Path, moment: str, old: bool) -> None:
    target = tmp_path / "m.topwork"
    if old:
        shutil.copytree(fitted.folder, target)
    trap = MOMENTS[moment]
    if "check_replaceable" not in trap:
        # Only what happens while saving counts: the graph and others may be written atomically before.
        trap = (
            "from topwork import folder\nreal = folder.write\n"
            f"def write(*a):\n    {trap}\n    real(*a)\nfolder.write = write"
        )
    run_to_death(trap, fitted.photos, target)
    if old:
        assert seed_of(target) == 0
        assert topwork.load(target).manifest["head"]["kind"] == "lda"
    else:
        assert not target.exists()
        with pytest.raises(ModelError):
            topwork.load(target)
        assert topwork.fit(fitted.photos, FAST, output=target).facts["cache"]["misses"] == 0
        assert topwork.load(target).manifest["head"]["kind"] == "ridge"


@pytest.mark.parametrize("again", ["load", "fit"])
def test_killed_between_the_two_renames(fitted: Any, tmp_path: Path, again: str) -> None:
    """The one moment when the old model is not in its place: whoever comes next puts it back."""
    target = tmp_path / "m.topwork"
    shutil.copytree(fitted.folder, target)
    run_to_death("die_after_rename(lambda old, new: old)", fitted.photos, target)
    assert not target.exists()
    if again == "load":
        assert topwork.load(target).manifest["head"]["kind"] == "lda"
    else:
        topwork.fit(fitted.photos, FAST, output=target)
        assert topwork.load(target).manifest["head"]["kind"] == "ridge"


def test_killed_after_the_new_one_is_in_place(fitted: Any, tmp_path: Path) -> None:
    target = tmp_path / "m.topwork"
    shutil.copytree(fitted.folder, target)
    run_to_death("die_after_rename(lambda old, new: new)", fitted.photos, target)
    assert seed_of(target) == 1
    topwork.fit(fitted.photos, FAST, output=target)
    assert seed_of(target) == 0


def test_a_full_disk_while_saving(fitted: Any, model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(topwork.TopworkError, match="the disk is full"):
        fitted.fit.save(model_copy)
    monkeypatch.undo()
    assert topwork.load(model_copy).manifest == topwork.load(fitted.folder).manifest
    assert [path.name for path in model_copy.parent.iterdir()] == [model_copy.name]


def test_an_error_while_saving_leaves_nothing_behind(
    fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("struck by lightning")

    monkeypatch.setattr("topwork.golden.golden_files", fail)
    with pytest.raises(RuntimeError, match="lightning"):
        fitted.fit.save(tmp_path / "m.topwork")
    monkeypatch.undo()
    monkeypatch.setattr(storage, "_swap", fail)
    with pytest.raises(RuntimeError, match="lightning"):
        fitted.fit.save(tmp_path / "m.topwork")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["file", "folder", "pictures"])
def test_a_place_that_is_taken_is_refused_before_any_work(
    photos: Path, tmp_path: Path, photo_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    target = tmp_path / "mine"
    if what == "file":
        target.write_text("my thesis")
    elif what == "folder":
        target.mkdir()
        (target / "thesis.txt").write_text("my thesis")
    else:
        photo_set(target, 2)
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("topwork.images.ImageSource.open", never)
    monkeypatch.setattr("topwork.pipeline.extract", never)
    with pytest.raises(topwork.TopworkError, match="choose another name with -o"):
        topwork.fit(photos, FAST, output=target)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_folder_below_a_file_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(topwork.TopworkError):
        topwork.fit(photos, FAST, output=tmp_path / "file" / "m.topwork")


def test_an_empty_folder_may_be_taken(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    topwork.fit(photos, FAST, output=tmp_path / "new")
    assert seed_of(tmp_path / "new") == 0


@pytest.mark.parametrize("cold", [True, False], ids=["empty cache", "full cache"])
def test_two_fits_at_once(fitted: Any, tmp_path: Path, cold: bool, request: pytest.FixtureRequest) -> None:
    if cold:
        request.getfixturevalue("empty_cache")
    target = tmp_path / "m.topwork"
    shutil.copytree(fitted.folder, target)
    program = (
        "import sys, topwork\n"
        "fit = topwork.fit(sys.argv[1], topwork.Recipe(head='ridge', features='pooled'), output=sys.argv[2])\n"
        "for _ in range(3): fit.save(sys.argv[2])\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(fitted.photos), str(target)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    errors = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], "\n".join(errors)
    assert topwork.load(target).manifest["head"]["kind"] == "ridge"
    assert [path.name for path in tmp_path.iterdir() if "topwork" in path.name] == ["m.topwork"]


def _meanwhile(target: Path, act: Callable[[], Any]) -> Callable[[Any, Any], None]:
    """An ``os.rename`` after whose first move of ``target`` somebody else acts."""
    real, done = os.rename, []

    def rename(old: Any, new: Any) -> None:
        real(old, new)
        if Path(old) == target and not done:
            done.append(1)
            act()

    return rename


def test_a_model_may_be_opened_while_it_is_replaced(fitted: Any, model_copy: Path) -> None:
    """`predict` must not disturb a `fit` that is about to swap the folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", _meanwhile(model_copy, lambda: topwork.load(model_copy)))
        fitted.fit.save(model_copy)
    assert topwork.load(model_copy).labels == ["checks", "dots", "stripes"]


def test_a_model_may_be_saved_while_it_is_replaced(fitted: Any, fitted_logits: Any, model_copy: Path) -> None:
    """Two runs with one output that end at the same moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", _meanwhile(model_copy, lambda: fitted_logits.fit.save(model_copy)))
        fitted.fit.save(model_copy)
    assert topwork.load(model_copy).manifest["head"]["kind"] in ("lda", "svm")
    assert [path.name for path in model_copy.parent.iterdir()] == [model_copy.name]

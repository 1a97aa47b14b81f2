"""Wrong calls and failures: the exit code, and one line that helps."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., tuple[int, str, str]]


def line_of(result: tuple[int, str, str], code: int) -> str:
    """The one line on stderr."""
    found, out, err = result
    assert found == code, err
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1, err
    assert "Traceback" not in err
    assert err.startswith("topwork: ")
    return err


WRONG = {
    "unknown command": (["fitt", "PHOTOS"], "fitt"),
    "another program's name": (["train", "PHOTOS"], "did you mean `topwork fit`?"),
    "what it does": (["dedupe", "PHOTOS"], "did you mean `topwork duplicates`?"),
    "a test of what was learned": (["test", "MODEL", "PHOTOS"], "did you mean `topwork evaluate`?"),
    "in capitals": (["Predict", "MODEL", "PHOTOS"], "did you mean `topwork predict`?"),
    "no server yet": (["serve", "MODEL"], "there is no server yet"),
    "no export yet": (["export", "MODEL"], "there is no export to other formats yet"),
    "nothing like it": (["xyzzy"], "see `topwork --help`"),
    "unknown look": (["see", "maximise"], "did you mean maximize?"),
    "unknown option": (["fit", "PHOTOS", "--hed", "svm"], "--hed"),
    "no source": (["fit"], "PHOTOS"),
    "one argument too many": (["fit", "PHOTOS", "more"], "more"),
    "unknown head": (["fit", "PHOTOS", "--head", "swm"], "did you mean svm?"),
    "unknown features": (["fit", "PHOTOS", "--features", "pool"], "pooled"),
    "unknown geometry": (["fit", "PHOTOS", "--geometry", "cropp"], "did you mean crop?"),
    "unknown strategy": (["fit", "PHOTOS", "--strategy", "ful"], "did you mean full?"),
    "unknown backbone": (["fit", "PHOTOS", "--backbone", "resnet"], "resnet"),
    "folds no number": (["fit", "PHOTOS", "--folds", "many"], "--folds"),
    "folds too few": (["fit", "PHOTOS", "--folds", "1"], "folds"),
    "negative folds": (["fit", "PHOTOS", "--folds", "-3"], "folds"),
    "negative seed": (["fit", "PHOTOS", "--seed", "-1"], "seed"),
    "a stage for a strategy without one": (
        ["fit", "PHOTOS", "--strategy", "full", "--cut", "blocks.5"],
        "--cut is for",
    ),
    "views for no training": (["fit", "PHOTOS", "--views", "7"], "--views is for"),
    "a budget for a strategy that has none": (
        ["fit", "PHOTOS", "--strategy", "top", "--budget", "9s"],
        "--budget is for",
    ),
    "a head for a trained network": (["fit", "PHOTOS", "--strategy", "full", "--head", "svm"], "--head is for"),
    "an unknown stage": (["fit", "PHOTOS", "--strategy", "top", "--cut", "blocks.55"], "did you mean blocks.5"),
    "an unknown stage for auto": (["fit", "PHOTOS", "--strategy", "auto", "--unfreeze", "x"], "no stage 'x'"),
    "folds and a hold-out": (["fit", "PHOTOS", "--strategy", "top", "--folds", "4", "--holdout", "0.3"], "--holdout"),
    "folds without refit": (["fit", "PHOTOS", "--strategy", "top", "--folds", "4", "--no-refit"], "--no-refit"),
    "no recipe there": (["fit", "PHOTOS", "--recipe", "absent.toml"], "absent.toml"),
    "no pictures to predict": (["predict", "MODEL"], "IMAGE"),
    "top 0": (["predict", "MODEL", "PHOTOS", "--top", "0"], "top"),
    "smoothing without a video": (["predict", "MODEL", "PHOTOS", "--smooth", "2s"], "--smooth is for videos"),
    "frames without a video": (["predict", "MODEL", "PHOTOS", "--every", "1s"], "--every is for videos"),
    "a name and a search": (["backbones", "resnet50", "--find", "vgg"], "not both"),
    "depth of no table": (["summary", "lenet5", "--depth", "2", "--json"], "--depth is for the table"),
    "photos for nothing": (["explain", "MODEL", "PHOTOS", "--photos", "PHOTOS"], "--photos is for showing"),
    "a seed without noise": (["style", "a.png", "b.png", "-o", "c.png", "--seed", "3"], "--seed would do nothing"),
    "a weight beside a strip": (
        ["style", "a.png", "b.png", "-o", "c.png", "--strip", "1,2", "--style-weight", "3"],
        "--style-weight would do nothing",
    ),
    "unknown pretrained": (["predict", "imagenet:nothing", "PHOTOS"], "nothing"),
    "unknown cache command": (["cache", "delete"], "delete"),
    "wrong switch": (["report", "MODEL", "--opn"], "--opn"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("json_too", [False, True])
def test_wrong_calls_exit_with_2(topwork_command: Command, fitted: Any, name: str, json_too: bool) -> None:
    words, hint = WRONG[name]
    places = {"PHOTOS": str(fitted.photos), "MODEL": str(fitted.folder)}
    line = [places.get(word, word) for word in words] + (["--json"] if json_too else [])
    assert hint in line_of(topwork_command(*line), 2)


@pytest.mark.parametrize(
    "text", ["head = ", "head = 3", "hed = 'svm'", "coverage = 2", "folds = 2.5", "[head]\nname = 'svm'", "\0"]
)
def test_bad_recipes_exit_with_2(topwork_command: Command, photos: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    line_of(topwork_command("fit", photos, "--recipe", tmp_path / "recipe.toml"), 2)


def test_a_recipe_that_is_a_folder(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    line_of(topwork_command("fit", photos, "--recipe", tmp_path), 2)


FAILED = {
    "audit nowhere": ["audit", "nowhere"],
    "fit nowhere": ["fit", "nowhere"],
    "fit empty": ["fit", "EMPTY"],
    "fit a name with a line break": ["fit", "no\nwhere"],
    "fit one class": ["fit", "ONE"],
    "fit a picture": ["fit", "ONE/dots/000.png"],
    "fit nowhere as URL": ["fit", "memory://nowhere"],
    "fit an unknown protocol": ["fit", "nonsense://nowhere"],
    "predict without model": ["predict", "EMPTY", "ONE"],
    "predict with pictures as model": ["predict", "ONE", "ONE"],
    "predict with a line break in the model": ["predict", "no\nmodel", "ONE"],
    "predict nothing": ["predict", "MODEL", "EMPTY"],
    "predict nowhere": ["predict", "MODEL", "nowhere.jpg"],
    "evaluate without labels": ["evaluate", "MODEL", "ONE/dots"],
    "evaluate without model": ["evaluate", "nowhere", "ONE"],
    "report without model": ["report", "EMPTY"],
    "report of a file": ["report", "ONE/dots/000.png"],
    "output taken": ["fit", "PHOTOS", "-o", "ONE"],
    "output a file": ["fit", "PHOTOS", "-o", "ONE/dots/000.png"],
    "page in a file": ["audit", "ONE", "--html", "ONE/dots/000.png/page.html"],
}


@pytest.fixture
def places(
    fitted: Any, tmp_path: Path, photo_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    (tmp_path / "empty").mkdir()
    one = photo_set(tmp_path / "one", 2, classes=("dots",))
    monkeypatch.chdir(tmp_path)
    return {
        "PHOTOS": str(fitted.photos),
        "MODEL": str(fitted.folder),
        "EMPTY": str(tmp_path / "empty"),
        "ONE": str(one),
    }


@pytest.mark.parametrize("name", FAILED)
def test_failures_exit_with_1(topwork_command: Command, places: dict[str, str], name: str) -> None:
    line = []
    for word in FAILED[name]:
        head, slash, rest = word.partition("/")
        line.append(places.get(head, head) + slash + rest)
    text = line_of(topwork_command(*line), 1)
    assert "unexpected" not in text
    assert len(text) < 500


def test_missing_folders_are_made(topwork_command: Command, places: dict[str, str], tmp_path: Path) -> None:
    page, sheet = tmp_path / "new" / "page.html", tmp_path / "other" / "new" / "sheet.png"
    assert topwork_command("audit", places["ONE"], "--html", page)[0] == 0
    assert topwork_command("augment", places["ONE"], "-o", sheet, "--pictures", 1, "--variants", 1)[0] == 0
    assert page.is_file()
    assert sheet.is_file()


@pytest.mark.parametrize("command", [["explain", "--no-faithfulness", "-o"], ["predict", "--explain"]])
def test_maps_never_replace_a_picture(
    topwork_command: Command, fitted: Any, tmp_path: Path, command: list[str]
) -> None:
    picture = (fitted.photos / "dots" / "000.png").read_bytes()
    for name in ("a.png", "a.cam.png"):
        (tmp_path / name).write_bytes(picture)
    line = [command[0], fitted.folder, tmp_path / "a.png", tmp_path / "a.cam.png", *command[1:], tmp_path]
    code, _, err = topwork_command(*line)
    assert code == 2
    assert "a.cam.png is one of the pictures, and would be lost" in err
    assert (tmp_path / "a.cam.png").read_bytes() == picture


def test_json_does_not_hide_a_failure(topwork_command: Command) -> None:
    line_of(topwork_command("fit", "nowhere", "--json"), 1)


def test_a_damaged_cache_says_what_to_do(topwork_command: Command, photos: Path, empty_cache: Path) -> None:
    (empty_cache / "features.sqlite").write_bytes(b"this is no database, but it is long enough to look like one" * 99)
    for line in (["fit", photos], ["audit", photos], ["cache", "info"]):
        assert "topwork cache clear" in line_of(topwork_command(*line), 1)
    assert topwork_command("cache", "clear")[0] == 0
    assert topwork_command("fit", photos, "--head", "ridge", "--features", "pooled")[0] == 0


def test_a_cache_folder_that_cannot_be(
    topwork_command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path / "file"))
    assert "TOPWORK_CACHE_DIR" in line_of(topwork_command("fit", photos), 1)


def test_a_cache_size_that_is_none(topwork_command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_SIZE", "lots")
    assert "TOPWORK_CACHE_SIZE" in line_of(topwork_command("fit", photos), 2)


def test_an_unforeseen_error_is_one_line_too(
    topwork_command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a surprise\nin two lines")

    monkeypatch.setattr("topwork.pipeline.fit", fail)
    text = line_of(topwork_command("fit", photos), 1)
    assert "ZeroDivisionError" in text
    assert "--debug" in text


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(place: str, fitted: Any) -> None:
    line = ["fit", "nowhere"]
    line = ["--debug", *line] if place == "before" else [*line, "--debug"]
    done = subprocess.run(
        [sys.executable, "-m", "topwork", *line], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" in done.stderr
    assert "SourceError" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c(photos: Path, tmp_path: Path, empty_cache: Path) -> None:
    program = (
        "import sys, time\nfrom topwork.features.cache import FeatureCache\nreal = FeatureCache.put\n"
        "def put(self, values):\n    real(self, values)\n    print('.', flush=True)\n    time.sleep(0.2)\n"
        "FeatureCache.put = put\nfrom topwork.cli.app import run\nsys.exit(run(sys.argv[1:]))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, "fit", str(photos), "-o", str(tmp_path / "m.topwork")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "m.topwork").exists()
    done = subprocess.run(
        [sys.executable, "-m", "topwork", "fit", str(photos), "--json"], capture_output=True, timeout=60, check=False
    )
    assert json.loads(done.stdout)["cache"]["hits"] > 0

"""The commands: what they print for machines and for people, and where."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork.report.own_page import is_own_page

Command = Callable[..., tuple[int, str, str]]


def only_json(out: str) -> Any:
    """The one document on stdout; json fails on anything before or after it."""
    return json.loads(out)


@pytest.fixture(scope="module")
def odd_names(tmp_path_factory: pytest.TempPathFactory, pattern: Callable[..., np.ndarray]) -> Path:
    """Pictures with difficult names."""
    folder = tmp_path_factory.mktemp("odd")
    names = [
        "käfer 🐞.png",
        "with space.png",
        "[red]brackets[bold].png",
        "-leading.png",
        "line\nbreak.png",
        "%s{x}.png",
    ]
    for seed, name in enumerate([*names, "漢字" * 30 + ".png"]):
        Image.fromarray(pattern("dots", seed)).save(folder / name)
    return folder


COMMANDS: dict[str, list[str]] = {
    "audit": ["audit", "PHOTOS"],
    "fit": ["fit", "PHOTOS", "--head", "ridge", "--features", "pooled"],
    "predict": ["predict", "MODEL", "PHOTOS"],
    "predict one": ["predict", "MODEL", "PHOTOS/dots/000.png"],
    "evaluate": ["evaluate", "MODEL", "NEW"],
    "report": ["report", "MODEL"],
    "backbones": ["backbones"],
    "backbones one": ["backbones", "tf_efficientnet_lite0"],
    "cache info": ["cache", "info"],
}


@pytest.fixture(scope="module")
def new_photos(tmp_path_factory: pytest.TempPathFactory, photo_set: Callable[..., Path]) -> Path:
    root = photo_set(tmp_path_factory.mktemp("new"), 2, first=300)
    (root / "dots" / "broken.png").write_bytes(b"")
    return root


@pytest.fixture
def line_of(fitted: Any, new_photos: Path) -> Callable[[str], list[str]]:
    places = {"PHOTOS": fitted.photos, "MODEL": fitted.folder, "NEW": new_photos}

    def make(name: str) -> list[str]:
        words = []
        for word in COMMANDS[name]:
            for key, path in places.items():
                word = word.replace(key, str(path))
            words.append(word)
        return words

    return make


@pytest.mark.parametrize("name", COMMANDS)
def test_json_is_all_there_is_on_stdout(
    topwork_command: Command, line_of: Callable[[str], list[str]], name: str
) -> None:
    code, out, err = topwork_command(*line_of(name), "--json")
    assert code == 0
    assert only_json(out)
    assert out.endswith("\n")
    assert err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_text_fits_80_columns(
    topwork_command: Command, line_of: Callable[[str], list[str]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = topwork_command(*line_of(name))
    assert code == 0
    assert err == ""
    assert out.strip()
    assert "\x1b" not in out
    tables = [line for line in out.splitlines() if "  " in line.strip() or "──" in line]
    assert all(len(line) <= 80 for line in tables)
    assert "Traceback" not in out


def test_fit_writes_a_model_and_says_where(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.topwork"
    code, out, _ = topwork_command("fit", photos, "-o", target, "--head", "ridge", "--features", "pooled")
    assert code == 0
    assert "leave-one-out" not in out
    assert str(target) in out
    assert str(target / "report.html") in out
    assert (target / "report.html").is_file()
    assert "Accuracy on pictures it did not see: 9" in out or "Accuracy on pictures it did not see: 100" in out
    for name in ("checks", "dots", "stripes"):
        assert name in out


def test_fit_without_output_says_that_nothing_was_kept(topwork_command: Command, photos: Path) -> None:
    _, out, _ = topwork_command("fit", photos, "--head", "ridge", "--features", "pooled")
    assert "Nothing was written" in out


def test_the_json_of_fit_is_that_of_python(topwork_command: Command, fitted: Any) -> None:
    code, out, _ = topwork_command("fit", fitted.photos, "--head", "lda", "--features", "pooled", "--json")
    found = only_json(out)
    assert code == 0
    assert found.keys() == fitted.facts.keys()
    for key in ("accuracy", "confusion", "novelty", "mistakes", "classes", "recipe", "seed", "groups"):
        assert found[key] == fitted.facts[key], key


def test_every_option_of_fit_reaches_the_recipe(topwork_command: Command, photos: Path) -> None:
    line = ["--strategy", "features", "--backbone", "tf_efficientnet_lite0", "--head", "svm", "--features", "logits"]
    line += ["--geometry", "stretch", "--folds", "4", "--seed", "11"]
    code, out, _ = topwork_command("fit", photos, *line, "--json")
    facts = only_json(out)
    assert code == 0
    expected = {"head": "svm", "features": "logits", "geometry": "stretch", "seed": 11}
    assert {key: facts[key] for key in expected} == expected
    assert facts["recipe"] == topwork.Recipe(folds=4, **expected).to_dict()
    assert "4-fold" in facts["accuracy"]["method"]


def test_a_recipe_file_and_options_that_win(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    recipe = topwork.Recipe(head="lda", features="pooled", seed=5, coverage=0.8)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    code, out, _ = topwork_command("fit", photos, "--recipe", tmp_path / "recipe.toml", "--json")
    assert code == 0
    assert only_json(out)["recipe"] == recipe.to_dict()
    line = ["--recipe", tmp_path / "recipe.toml", "--head", "ridge", "--seed", "0"]
    code, out, _ = topwork_command("fit", photos, *line, "--json")
    found = only_json(out)["recipe"]
    assert (found["head"], found["seed"], found["features"], found["coverage"]) == ("ridge", 0, "pooled", 0.8)


def test_a_short_recipe_keeps_the_defaults(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('head = "ridge"\nfeatures = "pooled"\n')
    _, out, _ = topwork_command("fit", photos, "--recipe", tmp_path / "recipe.toml", "--json")
    assert only_json(out)["recipe"] == topwork.Recipe(head="ridge", features="pooled").to_dict()


def test_predict_json(topwork_command: Command, fitted: Any) -> None:
    folder = fitted.photos / "stripes"
    code, out, _ = topwork_command("predict", fitted.folder, folder, "--json", "--top", "2")
    rows = only_json(out)
    assert code == 0
    assert len(rows) == 8
    expected = topwork.load(fitted.folder).predict(sorted(folder.iterdir()), top=2)
    for row, prediction in zip(rows, expected, strict=True):
        assert row.keys() == {"path", "label", "probability", "known", "novelty", "top", "error"}
        assert {**row, "path": ""} == {**prediction.as_dict(), "path": ""}
        assert [entry.keys() for entry in row["top"]] == [{"label", "probability"}] * 2
        assert row["known"] in (True, False)


def test_predict_of_one_picture_is_a_list_of_one(topwork_command: Command, fitted: Any) -> None:
    code, out, _ = topwork_command("predict", fitted.folder, fitted.photos / "dots" / "000.png", "--json")
    [row] = only_json(out)
    assert code == 0
    assert row["label"] == "dots"
    assert row["error"] is None


def test_predict_with_some_that_cannot_be_read(topwork_command: Command, fitted: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("text")
    line = [fitted.folder, tmp_path / "bad.jpg", fitted.photos / "dots" / "000.png", tmp_path / "absent.png"]
    code, out, _ = topwork_command("predict", *line, "--json")
    rows = {Path(row["path"]).name: row for row in only_json(out)}
    assert code == 0
    assert rows["000.png"]["label"] == "dots"
    assert rows["bad.jpg"]["error"]
    assert rows["bad.jpg"]["label"] is None
    assert rows["absent.png"]["error"] == "file not found"
    code, out, err = topwork_command("predict", *line)
    assert (code, err) == (0, "")
    assert "file not found" in " ".join(out.split())


def test_predict_with_none_that_can_be_read(topwork_command: Command, fitted: Any, tmp_path: Path) -> None:
    for name in ("one.jpg", "two.jpg"):
        (tmp_path / name).write_text("text")
    code, out, err = topwork_command("predict", fitted.folder, tmp_path / "one.jpg", tmp_path / "two.jpg", "--json")
    assert code == 1
    assert all(row["error"] for row in only_json(out))
    assert len(err.splitlines()) == 1


def test_predict_says_when_a_picture_is_not_known(topwork_command: Command, fitted: Any, tmp_path: Path) -> None:
    Image.new("RGB", (120, 90), (190, 190, 180)).save(tmp_path / "wall.png")
    code, out, _ = topwork_command("predict", fitted.folder, tmp_path / "wall.png")
    assert code == 0
    assert "NOT like the training pictures" in out
    code, out, _ = topwork_command("predict", fitted.folder, tmp_path / "wall.png", fitted.photos / "dots" / "000.png")
    lines = [line for line in out.splitlines() if "%" in line]
    assert len(lines) == 2
    assert lines[0].split()[-1] == "NO"
    assert lines[1].split()[-1] == "yes"


def test_imagenet_names_the_cat_and_the_coffee(topwork_command: Command, tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    Image.fromarray(data.cat()).save(tmp_path / "one.png")
    Image.fromarray(data.coffee()).save(tmp_path / "two.jpg", quality=95)
    line = ["predict", "imagenet:tf_efficientnet_lite0", tmp_path / "one.png", tmp_path / "two.jpg"]
    code, out, _ = topwork_command(*line, "--json")
    cat, coffee = ([entry["label"].lower() for entry in row["top"]] for row in only_json(out))
    assert code == 0
    assert len(cat) == len(coffee) == 5
    assert any("cat" in label.replace(",", " ").split() for label in cat)
    assert any("espresso" in label for label in coffee)
    code, out, _ = topwork_command(*line[:3])
    assert code == 0
    assert "cat" in out


def test_evaluate_json(topwork_command: Command, fitted: Any, new_photos: Path) -> None:
    code, out, _ = topwork_command("evaluate", fitted.folder, new_photos, "--json")
    found, expected = only_json(out), topwork.evaluate(fitted.folder, new_photos)
    assert code == 0
    assert {k: v for k, v in found.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}
    assert [row["path"] for row in found["excluded"]] == ["dots/broken.png"]


def test_evaluate_writes_a_page_with_its_mistakes(
    topwork_command: Command, fitted: Any, new_photos: Path, tmp_path: Path
) -> None:
    page = tmp_path / "made" / "page.html"
    code, out, _ = topwork_command("evaluate", fitted.folder, new_photos, "--html", page)
    text = page.read_text()
    assert code == 0
    assert out.rstrip().endswith(f"Page: {page}")
    assert "Accuracy on pictures it never saw" in text
    assert "broken.png" in text
    assert is_own_page(text.encode())
    assert topwork_command("evaluate", fitted.folder, new_photos, "--html", tmp_path)[0] == 1


def test_evaluate_on_the_training_pictures_says_so(topwork_command: Command, fitted: Any) -> None:
    code, out, err = topwork_command("evaluate", fitted.folder, fitted.photos)
    assert (code, err) == (0, "")
    assert " ".join(out.split()) == (
        "All 24 pictures were trained on, or are near-duplicates of such: nothing was measured; "
        "give it pictures it never saw."
    )


def test_report_prints_a_path_that_exists(topwork_command: Command, fitted: Any) -> None:
    code, out, _ = topwork_command("report", fitted.folder)
    assert code == 0
    path = Path(out.rstrip("\n"))
    assert path.is_absolute()
    assert path.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    _, out, _ = topwork_command("report", fitted.folder, "--json")
    assert only_json(out) == {"report": str(path)}


def test_report_opens_only_when_asked(topwork_command: Command, fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    topwork_command("report", fitted.folder)
    topwork_command("report", fitted.folder, "--no-open")
    assert opened == []
    topwork_command("report", fitted.folder, "--open")
    assert opened == [(fitted.folder / "report.html").resolve().as_uri()]


def test_backbones(topwork_command: Command) -> None:
    _, out, _ = topwork_command("backbones", "--json")
    rows = {row["name"]: row for row in only_json(out)}
    assert rows["tf_efficientnet_lite0"]["installed"] is True
    assert rows["tf_efficientnet_lite0"]["licence"] == "Apache-2.0"
    assert rows["tf_efficientnet_lite0"]["input"] == 224
    for name, row in rows.items():
        _, out, _ = topwork_command("backbones", name, "--json")
        assert row.items() <= only_json(out).items()  # what is not here is not described in the list
    _, out, _ = topwork_command("backbones")
    assert all(name in out for name in rows)


def test_an_unknown_backbone_gets_a_hint(topwork_command: Command) -> None:
    code, out, err = topwork_command("backbones", "tf_efficientnet_lit0")
    assert code == 2
    assert out == ""
    assert "did you mean tf_efficientnet_lite0" in err


def test_cache_info_and_clear(topwork_command: Command, photos: Path, empty_cache: Path) -> None:
    topwork_command("fit", photos, "--head", "ridge", "--features", "pooled")
    _, out, _ = topwork_command("cache", "info", "--json")
    info = only_json(out)
    assert info["entries"] == 24 * 3
    assert info["path"] == str(empty_cache / "features.sqlite")
    assert 24 * 2280 * 4 < info["size"] < info["limit"]
    assert info["graphs"] > 10**6
    _, out, _ = topwork_command("cache", "info")
    assert f"graphs beside it: {info['graphs'] / 1e6:,.1f} MB" in out
    _, out, _ = topwork_command("cache", "clear", "--json")
    assert only_json(out)["freed"] > 24 * 2280 * 4 + info["graphs"]
    assert not (empty_cache / "graphs").exists()
    _, out, _ = topwork_command("cache", "info", "--json")
    assert only_json(out)["entries"] == 0
    _, out, _ = topwork_command("fit", photos, "--head", "ridge", "--features", "pooled", "--json")
    assert only_json(out)["cache"] == {"hits": 0, "misses": 24}


def test_audit_writes_a_page(topwork_command: Command, new_photos: Path, tmp_path: Path) -> None:
    code, out, _ = topwork_command("audit", new_photos, "--html", tmp_path / "page.html")
    assert code == 0
    assert str(tmp_path / "page.html") in out
    assert "broken.png" in out
    assert "broken.png" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_refused_before_the_work(
    topwork_command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topwork.auditing.audit", lambda *_, **__: pytest.fail("it has worked for nothing"))
    (tmp_path / "file").write_bytes(b"")
    for place, why in ((tmp_path, "it is not a file"), (tmp_path / "file" / "page.html", "not a directory")):
        code, out, err = topwork_command("audit", photos, "--html", place)
        assert (code, out) == (1, "")
        assert f"cannot write {place}: {why}; choose another place\n" in err
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_audit_json(topwork_command: Command, new_photos: Path) -> None:
    code, out, _ = topwork_command("audit", new_photos, "--json")
    facts = only_json(out)
    assert code == 0
    assert facts["n_images"] == 6
    assert facts["classes"] == {"checks": 2, "dots": 2, "stripes": 2}
    assert [row["path"] for row in facts["unreadable"]] == ["dots/broken.png"]
    assert {"exact_duplicates", "near_duplicates", "label_conflicts", "quality"} <= facts.keys()


def test_version_and_help(topwork_command: Command) -> None:
    assert topwork_command("--version") == (0, f"topwork {topwork.__version__}\n", "")
    for line in ([], ["--help"], ["-h"]):
        code, out, _ = topwork_command(*line)
        assert code == 0
        assert all(name in out for name in ("audit", "fit", "predict", "evaluate", "report", "backbones", "cache"))


@pytest.mark.parametrize("width", ["80", "40"])
def test_odd_names_in_tables(
    topwork_command: Command, fitted: Any, odd_names: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.chdir(odd_names)
    code, out, err = topwork_command("predict", fitted.folder, ".")
    assert (code, err) == (0, "")
    from rich.cells import cell_len

    assert all(cell_len(line) <= int(width) for line in out.splitlines())
    if width == "80":
        for name in ("käfer 🐞.png", "with space.png", "[red]brackets[bold].png", "-leading.png", "%s{x}.png"):
            assert name in out


def test_odd_names_in_json(topwork_command: Command, fitted: Any, odd_names: Path) -> None:
    code, out, _ = topwork_command("predict", fitted.folder, odd_names, "--json")
    assert code == 0
    assert {row["path"] for row in only_json(out)} == {str(path) for path in odd_names.iterdir()}
    for path in odd_names.iterdir():
        code, out, _ = topwork_command("predict", fitted.folder, path, "--json")
        [row] = only_json(out)
        assert (code, row["error"], row["label"]) == (0, None, "dots"), path


def test_a_leading_dash_after_the_double_dash(
    topwork_command: Command, fitted: Any, odd_names: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd_names)
    code, out, _ = topwork_command("predict", "--json", fitted.folder, "--", "-leading.png")
    [row] = only_json(out)
    assert (code, row["path"], row["label"]) == (0, "-leading.png", "dots")


def test_odd_class_names_in_tables(
    topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    root = photo_set(tmp_path / "set", 3)
    (root / "checks").rename(root / "[bold]käfer[red]")
    (root / "dots").rename(root / ("very long name " * 10).strip())
    code, out, _ = topwork_command("fit", root, "--head", "ridge", "--features", "pooled")
    assert code == 0
    assert "[bold]käfer[red]" in out
    assert all(len(line) <= 80 for line in out.splitlines() if "very long" in line)


def command(*line: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    program = shutil.which("topwork", path=str(Path(sys.executable).parent))
    start = [program] if program else [sys.executable, "-m", "topwork"]
    return subprocess.run([*start, *map(str, line)], capture_output=True, timeout=100, check=False, **options)


def test_the_installed_command(fitted: Any, odd_names: Path) -> None:
    done = command("predict", fitted.folder, odd_names / "käfer 🐞.png", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["label"] == "dots"
    assert done.stderr == b""


def test_python_m_topwork() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "topwork", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, f"topwork {topwork.__version__}")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_that_is_no_unicode(fitted: Any, tmp_path: Path, odd_names: Path) -> None:
    name = bytes(tmp_path) + b"/latin \xe9.png"
    with open(name, "wb") as file:
        file.write((odd_names / "with space.png").read_bytes())
    program = [sys.executable, "-m", "topwork", "predict", str(fitted.folder)]
    for line in ([name], [name, "--json"], [bytes(tmp_path)], [bytes(tmp_path), "--json"]):
        done = subprocess.run([*program, *line], capture_output=True, timeout=60, check=False)
        assert b"Traceback" not in done.stderr
        assert b"unexpected" not in done.stderr
        assert done.returncode in (0, 1)


@pytest.mark.parametrize(
    "line", [["predict", "MODEL", "PHOTOS", "--json"], ["cache", "info", "--json"]], ids=["much", "little"]
)
def test_a_reader_that_goes_away_is_no_error(fitted: Any, line: list[str]) -> None:
    """As in ``topwork predict ... | head``."""
    places = {"MODEL": str(fitted.folder), "PHOTOS": str(fitted.photos)}
    child = subprocess.Popen(
        [sys.executable, "-m", "topwork", *(places.get(word, word) for word in line)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(60) == 0
    child.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_goes_to_stderr(fitted: Any, photos: Path, tmp_path: Path) -> None:
    """With a terminal as stderr there are bars on it, and stdout is still one document."""
    import os
    import pty

    program = (
        "import functools, sys\nfrom topwork import progress\n"
        "progress.Terminal.__init__.__defaults__ = (-1.0,)\n"
        "from topwork.cli.app import run\nsys.exit(run(sys.argv[1:]))"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program, "predict", str(fitted.folder), str(photos), "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    out, _ = child.communicate(timeout=60)
    os.close(theirs)
    seen = os.read(ours, 100_000)
    os.close(ours)
    assert child.returncode == 0
    assert len(json.loads(out)) == 24
    assert b"predicting" in seen

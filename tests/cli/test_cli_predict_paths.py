"""Which rows ``predict`` gives, and the paths in them."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., tuple[int, str, str]]
Rows = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def here(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one.png, set/dots/a.png, set/b.png, and things that are no pictures."""
    picture = (photos / "dots" / "000.png").read_bytes()
    for name in ("one.png", "set/dots/a.png", "set/b.png", "set/.hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture + name.encode())
    (tmp_path / "set" / "notes.txt").write_text("notes")
    (tmp_path / "set" / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rows(topwork_command: Command, fitted: Any) -> Rows:
    def ask(*arguments: object, code: int = 0) -> list[dict[str, Any]]:
        found, out, err = topwork_command("predict", fitted.folder, *arguments, "--json")
        assert found == code, err
        return json.loads(out)  # type: ignore[no-any-return]

    return ask


@pytest.mark.parametrize("folder", ["set", "set/", "./set", "../{}/set", "{here}/set"])
@pytest.mark.parametrize("others", [[], ["one.png"]])
def test_paths_lead_from_where_the_call_was_made(here: Path, rows: Rows, folder: str, others: list[str]) -> None:
    folder = folder.format(here.name, here=here)
    paths = [row["path"] for row in rows(*others, folder)]
    assert paths == [*others, *(folder.rstrip("/") + "/" + name for name in ("b.png", "dots/a.png"))]
    assert all(os.path.isfile(path) for path in paths)


def test_a_single_file_keeps_its_path(here: Path, rows: Rows) -> None:
    for path in ("set/b.png", "./one.png", str(here / "one.png"), "set/.hidden.png"):
        assert [row["path"] for row in rows(path)] == [path]


def test_what_is_repeated_has_one_row(here: Path, rows: Rows) -> None:
    found = rows("set/b.png", "set", "set", "./set/b.png", "gone.png", "gone.png")
    assert [row["path"] for row in found] == ["set/b.png", "set/dots/a.png", "gone.png"]
    assert [row["error"] for row in found] == [None, None, "file not found"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a link")
def test_broken_entries_have_a_row(here: Path, rows: Rows) -> None:
    (here / "set" / "link.png").symlink_to("nowhere")
    (here / "set" / "cut.png").write_bytes(b"")
    for arguments in (["set"], ["set", "one.png"]):
        faults = {row["path"]: row["error"] for row in rows(*arguments) if row["error"]}
        assert faults == {"set/link.png": "broken link", "set/cut.png": "empty file"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a link")
def test_a_folder_of_broken_entries_only(here: Path, rows: Rows) -> None:
    (here / "bad").mkdir()
    (here / "bad" / "link.png").symlink_to("nowhere")
    assert [(row["path"], row["error"]) for row in rows("bad", code=1)] == [("bad/link.png", "broken link")]


def test_lists_and_archives_among_others(here: Path, rows: Rows) -> None:
    (here / "set" / "list.csv").write_text("path\ndots/a.png\ngone.png\ndots/a.png\n")
    with zipfile.ZipFile(here / "pack.zip", "w") as archive:
        archive.write("one.png", "top/one.png")
        archive.writestr("top/.hidden.png", "")
    alone = [rows("set/list.csv"), rows("pack.zip")]
    assert [row["path"] for row in alone[0]] == ["dots/a.png", "gone.png"]
    assert [row["path"] for row in alone[1]] == ["pack.zip/top/one.png"]
    together = rows("set/list.csv", "pack.zip", "one.png")
    assert together[:3] == [*alone[0], *alone[1]]
    assert together[3]["path"] == "one.png"


@pytest.mark.usefixtures("here")
def test_what_cannot_be_opened_has_a_row_and_the_others_go_on(rows: Rows) -> None:
    found = rows("gone.png", "set/notes.txt", "one.png", "set/empty", "nonsense://x")
    assert [row["path"] for row in found] == ["gone.png", "set/notes.txt", "one.png", "set/empty", "nonsense://x"]
    assert [bool(row["error"]) for row in found] == [True, True, False, True, True]
    assert all(row["label"] is None and row["top"] == [] for row in found if row["error"])


@pytest.mark.usefixtures("here")
def test_nothing_readable_still_prints_rows(topwork_command: Command, fitted: Any, rows: Rows) -> None:
    assert [row["error"] for row in rows("gone.png", code=1)] == ["file not found"]
    code, out, err = topwork_command("predict", fitted.folder, "gone.png", "lost.png")
    assert code == 1
    assert "gone.png" in out
    assert "lost.png" in out
    assert "none of the pictures could be read" in err


@pytest.mark.usefixtures("here")
def test_predict_starts_without_scipy(fitted: Any) -> None:
    program = (
        "import sys\nfrom topwork.cli.app import run\ncode = run(sys.argv[1:])\n"
        "heavy = [name for name in ('scipy', 'torch', 'jinja2', 'topwork.pipeline') if name in sys.modules]\n"
        "sys.exit(code or ' '.join(heavy) or 0)"
    )
    line = [sys.executable, "-c", program, "predict", str(fitted.folder), "set", "one.png", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_limit_on_pixels_may_be_another_one_than_the_models(
    here: Path, rows: Rows, topwork_command: Command, fitted: Any
) -> None:
    assert "max_pixels" in rows("--max-pixels", 100, "one.png", code=1)[0]["error"]
    assert rows("--max-pixels", 10**9, "one.png")[0]["error"] is None
    for command in (("predict",), ("explain",), ("explain", "--summary"), ("evaluate",)):
        code, _, err = topwork_command(command[0], fitted.folder, "set", *command[1:], "--max-pixels", 10**9 + 1)
        assert code == 2
        assert "max_pixels must be a whole number, at least 1 and at most 1,000,000,000" in " ".join(err.split())

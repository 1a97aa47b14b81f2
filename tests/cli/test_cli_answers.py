"""``predict -o``: all answers in a table, and a summary instead of rows beyond a screenful."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topwork.cli import answers
from topwork.cli.output import json_text
from topwork.cli.tally import Tally
from topwork.tables import unguarded

Command = Callable[..., tuple[int, str, str]]
ODD = "=1+1.png", "a,b.png", "line\nbreak.png", "turn\u202earound\x9b.png"


@pytest.fixture
def mixed(fitted: Any, tmp_path: Path) -> Path:
    """Eight pictures, four of them under odd names, and two that cannot be read."""
    root = tmp_path / "mixed"
    (root / "dots").mkdir(parents=True)
    pictures = sorted((fitted.photos / "dots").iterdir())
    for number, path in enumerate(pictures):
        (root / (ODD[number] if number < len(ODD) else f"dots/{path.name}")).write_bytes(path.read_bytes())
    (root / "bad.jpg").write_text("text")
    (root / "empty.png").write_bytes(b"")
    return root


def test_all_formats_say_the_same(topwork_command: Command, fitted: Any, mixed: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    code, out, _ = topwork_command("predict", fitted.folder, mixed, "--json")
    rows = json.loads(out)
    assert (code, len(rows)) == (0, 10)
    for ending in answers.ENDINGS:
        code, out, err = topwork_command("predict", fitted.folder, mixed, "-o", tmp_path / "new" / f"all{ending}")
        assert (code, err) == (0, "")
        assert "10 pictures: 8 dots; " in out
        assert "2 could not be read" in out
        assert str(tmp_path / "new" / f"all{ending}") in out
        assert "dots/004.png" not in out
    lines = (tmp_path / "new" / "all.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    with (tmp_path / "new" / "all.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    columns = parquet.read_table(tmp_path / "new" / "all.parquet").to_pylist()
    for row, cell, column in zip(rows, cells, columns, strict=True):
        assert unguarded(cell["path"]) == column["path"] == row["path"]
        assert (cell["label"] or None) == column["label"] == row["label"]
        assert (unguarded(cell["error"]) or None) == column["error"] == row["error"]
        assert cell["known"] == {True: "true", False: "false", None: ""}[row["known"]]
        assert (column["known"], column["probability"]) == (row["known"], row["probability"])
        if row["label"]:
            assert float(cell["probability"]) == pytest.approx(row["probability"], abs=1e-6)
            assert cell["label_2"] == column["label_2"] == row["top"][1]["label"]
            assert column["probability_3"] == row["top"][2]["probability"]
    assert "label_4" not in cells[0]  # the model has three classes


def test_the_summary_as_json(topwork_command: Command, fitted: Any, mixed: Path, tmp_path: Path) -> None:
    table = tmp_path / "all.csv"
    code, out, _ = topwork_command("predict", fitted.folder, mixed, "-o", table, "--json")
    found = json.loads(out)
    assert code == 0
    assert found.pop("not_known") in range(9)
    assert found == {"output": str(table), "pictures": 10, "classes": {"dots": 8}, "unreadable": 2, "frames": 0}


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("answers.txt", 2, "ends in .csv, .jsonl or .parquet"),
        ("mixed/dots/004.png", 2, "ends in .csv"),
        ("list.csv", 2, "which is asked about"),
        ("folder.csv", 1, "it is a folder"),
        ("dots.csv/all.csv", 1, "cannot write"),
    ],
)
def test_a_table_that_cannot_be(
    topwork_command: Command, fitted: Any, mixed: Path, tmp_path: Path, name: str, code: int, words: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "dots.csv").write_text("a file")
    (tmp_path / "list.csv").write_text("path\nmixed/dots/004.png\n")
    found, out, err = topwork_command("predict", fitted.folder, mixed, tmp_path / "list.csv", "-o", tmp_path / name)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert words in err
    assert (tmp_path / "list.csv").read_text().startswith("path\n")


def test_parquet_without_its_package(
    topwork_command: Command, fitted: Any, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = topwork_command("predict", fitted.folder, mixed, "-o", tmp_path / "a.parquet")
    assert code == 2
    assert 'pip install "topwork[parquet]"' in err


def test_nothing_readable_leaves_the_old_table(topwork_command: Command, fitted: Any, mixed: Path) -> None:
    table = mixed.parent / "a.csv"
    table.write_text("old")
    code, _, err = topwork_command("predict", fitted.folder, mixed / "empty.png", mixed / "bad.jpg", "-o", table)
    assert code == 1
    assert "a.csv was not written; the first: empty file" in err
    assert table.read_text() == "old"
    assert sorted(path.name for path in mixed.parent.iterdir()) == ["a.csv", "mixed"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_leaves_the_old_table(fitted: Any, mixed: Path) -> None:
    table = mixed.parent / "a.csv"
    table.write_text("old")
    program = (
        "import sys, time\nfrom topwork.cli import answers\nreal = answers._Csv.add\n"
        "def add(self, row):\n    real(self, row)\n    print('.', flush=True)\n    time.sleep(0.2)\n"
        "answers._Csv.add = add\nfrom topwork.cli.app import run\nsys.exit(run(sys.argv[1:]))"
    )
    line = ["predict", str(fitted.folder), str(mixed), "-o", str(table)]
    child = subprocess.Popen([sys.executable, "-c", program, *line], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert table.read_text() == "old"


def test_answers_are_not_kept_in_memory(tmp_path: Path) -> None:
    """Rows of which only counts remain, and a table that is written while they come."""
    tally = Tally(most=3)
    best = [{"label": "ant", "probability": 0.75}]
    with answers.writing(tmp_path / "a.csv", top=1, videos=False) as table:
        assert table is not None
        for number in range(20_000):
            row = {"path": f"{number}.jpg", **best[0], "known": True, "novelty": 0.5, "top": best, "error": None}
            table.add(row)
            tally.add(row)
            if number == 10_000:
                [part] = tmp_path.iterdir()
                assert part.stat().st_size > 100_000
    assert len(tally.rows) == 3
    assert tally.summary() == "20,000 pictures: 20,000 ant; all known"
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 20_001


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_screenful(fitted: Any, photos: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "topwork", "predict", str(fitted.folder), str(photos)]
    environment = {**os.environ, "LINES": "20", "COLUMNS": "80", "TERM": "dumb"}
    child = subprocess.Popen(line, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    assert child.wait(60) == 0
    os.close(theirs)
    seen = os.read(ours, 100_000).decode().splitlines()
    os.close(ours)
    assert sum(".png" in row for row in seen) <= 20
    assert any("more pictures; -o answers.csv writes them all" in row for row in seen)
    assert any("24 pictures: 8 checks, 8 dots, 8 stripes; " in row for row in seen)
    assert max(len(row.rstrip()) for row in seen) <= 80


@pytest.mark.parametrize("char", ["\x9b", "\x07", "\u202e", "\u2066", "\u200f", "\u2028", "\ufeff", "\U000e0041"])
def test_json_shows_no_control_character(char: str) -> None:
    text = json_text({"pa" + char: [f"a{char}b", "käfer 🐞 小"]}, indent=1)
    assert char not in text
    assert "käfer 🐞 小" in text
    assert json.loads(text) == {"pa" + char: [f"a{char}b", "käfer 🐞 小"]}

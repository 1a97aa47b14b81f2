"""``make fuzz`` finds what it looks for: an error that is not topwork's, a crash, a hang, a message of many lines."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from topwork.errors import ImageError

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import fuzz
from targets import TARGETS, Target


def planted(data: bytes, _: Path) -> None:
    if not data.startswith(b"abc"):
        raise KeyError(data)
    if data != b"abc":
        raise ImageError("refused")


def many_lines(data: bytes, _: Path) -> None:
    if data != b"abc":
        raise ImageError("one\ntwo")


@pytest.fixture(autouse=True)
def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "bound_memory", lambda: None)  # this process goes on


@pytest.mark.parametrize("check", [planted, many_lines])
def test_a_planted_fault_is_found_and_its_file_kept(
    check: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "planted", Target(lambda: [b"abc"], check))  # type: ignore[arg-type]
    assert fuzz.work("planted", 0, 30, tmp_path) == 1
    assert (tmp_path / "current").read_bytes() != b"abc"


def test_a_parser_without_fault_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz.work("recipes", 0, 0.5, tmp_path) == 0
    assert '"refused"' in capsys.readouterr().out


def test_a_hang_and_a_crash_are_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "PATIENCE", 0.5)
    current = tmp_path / "current"
    current.write_bytes(b"")
    begun = time.monotonic()
    sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert "took more than" in fuzz.watch(sleeping, current)
    assert time.monotonic() - begun < 300
    monkeypatch.setattr(fuzz, "PATIENCE", 60)
    crashing = subprocess.Popen([sys.executable, "-c", "import os; os.abort()"])
    assert fuzz.watch(crashing, current)
    assert fuzz.watch(subprocess.Popen([sys.executable, "-c", ""]), current) == ""

"""Streams that cannot take every character, or are closed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIT = ["--head", "ridge", "--features", "pooled"]


@pytest.fixture
def small(tmp_path: Path, photo_set: Callable[..., Path]) -> Path:
    """Two classes, one of them called 小."""
    root = photo_set(tmp_path / "set", 3, classes=("dots", "stripes"))
    (root / "dots").rename(root / "小")
    return root


def run(*line: object, encoding: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "topwork", *map(str, line)]
    return subprocess.run(command, capture_output=True, timeout=100, check=False, env=environment)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_labels_beyond_the_encoding(small: Path, encoding: str) -> None:
    done = run("fit", small, *FIT, "--json", encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(json.loads(done.stdout.decode(encoding))["classes"]) == ["stripes", "小"]
    assert ("小".encode() in done.stdout) == (encoding == "utf-8")
    done = run("audit", small, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_error_beyond_the_encoding(tmp_path: Path) -> None:
    done = run("fit", tmp_path / "小", encoding="cp1252:strict")
    assert done.returncode == 1
    assert b"\\u5c0f" in done.stderr
    assert b"unexpected" not in done.stderr


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_closed_streams(fitted: Any, closed: str, json_too: list[str]) -> None:
    line = [sys.executable, "-m", "topwork", "predict", str(fitted.folder), str(fitted.photos / "dots"), *json_too]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *line], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in closed.split())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("line", [["backbones"], ["backbones", "--json"], ["cache", "info"], ["--help"]])
def test_a_full_disk(line: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "topwork", *line]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no space left on device" in done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", ["80", "60"])
def test_no_word_is_cut_at_the_edge_of_a_terminal(fitted: Any, columns: str) -> None:
    import pty

    ours, theirs = pty.openpty()
    words = ["fit", str(fitted.photos), "--head", "lda", "--features", "pooled"]
    environment = {**os.environ, "COLUMNS": columns, "LINES": "40", "TERM": "dumb"}
    command = [sys.executable, "-m", "topwork", *words]
    child = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    assert child.wait(100) == 0
    os.close(theirs)
    seen = os.read(ours, 100_000).decode()
    os.close(ours)
    assert max(len(line.rstrip()) for line in seen.splitlines()) <= int(columns)
    piped = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    sentence = next(line for line in piped.splitlines() if line.startswith(("The prob", "Take the prob")))
    assert len(sentence) > 60
    assert sentence in " ".join(seen.split())
    assert "cross-validation" not in piped
    assert "lda head" not in piped


def test_what_was_measured_how_is_for_those_who_ask(topwork_command: Callable[..., Any], fitted: Any) -> None:
    code, out, _ = topwork_command("fit", fitted.photos, "--head", "lda", "--features", "pooled", "-v")
    assert code == 0
    assert "leave-one-out cross-validation, Wilson 95% interval; lda head on pooled, crop" in out
    assert "in the cache" in out

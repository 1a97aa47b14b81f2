"""What killed processes leave beside their places goes with the next run; what living ones hold stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from topwork import storage, temporary

SOMEBODY = """
import sys, time
from pathlib import Path
from topwork import temporary
target = Path(sys.argv[1])
if sys.argv[2] == "file":
    with temporary.file_beside(target) as (part, file):
        file.write(b"half"); file.flush()
        print(part.name, flush=True)
        time.sleep(600)
with temporary.folder_beside(target) as folder:
    (folder / "half").write_text("half")
    print(folder.parent.name, flush=True)
    time.sleep(600)
"""
KINDS = ("file", "folder")
LONG_AGO = 2 * 86_400


@contextmanager
def somebody(target: Path, kind: str) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Another process that writes; gives what it is at, and a function that kills it."""
    child = subprocess.Popen([sys.executable, "-c", SOMEBODY, str(target), kind], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    part = target.with_name(child.stdout.readline().strip())
    assert part.exists()

    def kill() -> None:
        child.kill()
        child.wait()

    try:
        yield part, kill
    finally:
        kill()
        child.stdout.close()


def write(folder: Path) -> None:
    """What the next run does there, as a new process: it looks at each folder once."""
    temporary._swept.clear()
    storage.write_atomic(folder / "another", b"x")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_process_left_goes_at_once(tmp_path: Path, kind: str) -> None:
    with somebody(tmp_path / "next.csv", kind) as (part, kill):
        kill()
        assert part.exists()
        write(tmp_path)
        assert os.listdir(tmp_path) == ["another"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_living_process_writes_stays_however_old(tmp_path: Path, kind: str) -> None:
    with somebody(tmp_path / "next.csv", kind) as (part, _):
        aged(part)
        write(tmp_path)
        assert part.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_machine_writes_stays_for_a_day(tmp_path: Path, kind: str) -> None:
    with somebody(tmp_path / "m", kind) as (part, kill):
        kill()
        others = part.with_name(part.name.replace(temporary._host(), "0123abcd"))
        part.rename(others)
        write(tmp_path)
        assert others.exists()
        aged(others)
        write(tmp_path)
        assert os.listdir(tmp_path) == ["another"]


def aged(path: Path) -> None:
    old = path.stat().st_mtime - LONG_AGO
    os.utime(path, (old, old))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_what_only_looks_like_one_stays(tmp_path: Path) -> None:
    """A stranger's folder may hold anything under such a name; nothing of it hangs, and no link is followed."""
    name = f".m.topwork-{temporary._host()}{'0' * 16}.part"
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "held").write_text("mine")
    os.mkfifo(tmp_path / name)
    (tmp_path / name.replace("00.part", "01.part")).symlink_to("precious")
    folder = tmp_path / name.replace("00.part", "02.part")
    folder.mkdir()
    os.mkfifo(folder / "held")
    (tmp_path / ".m.0123456789abcdef.part").write_text("of another program")
    before = sorted(os.listdir(tmp_path))
    write(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "another"])
    assert (tmp_path / "precious" / "held").read_text() == "mine"


def test_a_file_system_without_locks_keeps_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_lock", lambda file: None)
    storage.write_atomic(tmp_path / "a", b"x")
    left = tmp_path / f".m.topwork-{temporary._host()}{'0' * 16}.part"
    left.write_text("half")
    write(tmp_path)
    assert left.exists()
    aged(left)
    write(tmp_path)
    assert not left.exists()


def test_one_that_was_swept_before_it_was_held_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its lock another process may have removed it."""
    swept: list[str] = []

    def lock(file: object) -> bool:
        if len(swept) < 2:
            swept.append(file.name)  # type: ignore[attr-defined]
            os.unlink(file.name)  # type: ignore[attr-defined]
        return True

    monkeypatch.setattr(temporary, "_lock", lock)
    storage.write_atomic(tmp_path / "a", b"x")
    assert len(swept) == 2
    assert (tmp_path / "a").read_bytes() == b"x"
    swept.clear()
    with temporary.folder_beside(tmp_path / "b") as folder:
        assert folder.is_dir()

"""Writes that are killed, refused or run out of space."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from topwork import storage
from topwork.errors import CacheError, TopworkError
from topwork.storage import cache_dir, check_replaceable, recover, replace_folder, write_atomic

MARKER = "model.json"
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def save(target: Path, text: str) -> None:
    with replace_folder(target, marker=MARKER) as folder:
        (folder / MARKER).write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)


def holds(text: str) -> dict[str, str]:
    return {MARKER: text, "deep/file": text}


def test_write_atomic_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    for data in (b"first", b"", b"x" * 100_000):
        write_atomic(path, data)
        assert path.read_bytes() == data
        assert names(tmp_path) == ["file.bin"]


def test_write_atomic_with_names_at_the_limit(tmp_path: Path) -> None:
    for name in ("a" * 255, "ä" * 127, "画" * 85):
        write_atomic(tmp_path / name, b"x")
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_write_atomic_leaves_the_old_file_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, failing, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@posix
def test_written_files_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_replace_folder_makes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "new" / "cars.topwork"
    for text in ("one", "two"):
        save(target, text)
        assert content(target) == holds(text)
        assert names(tmp_path / "new") == ["cars.topwork"]


def test_what_is_in_the_old_folder_only_is_gone_after_a_replacement(tmp_path: Path) -> None:
    target = tmp_path / "m"
    save(target, "one")
    (target / "stale").write_text("old")
    save(target, "two")
    assert content(target) == holds("two")


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), TopworkError("mine")])
def test_an_error_inside_leaves_the_old_folder(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "m"
    save(target, "old")

    def half() -> None:
        with replace_folder(target, marker=MARKER) as folder:
            (folder / MARKER).write_text("half")
            raise error

    with pytest.raises(type(error)):
        half()
    assert content(target) == holds("old")
    assert names(tmp_path) == ["m"]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    target = tmp_path / "m"
    save(target, "old")
    with pytest.raises(TopworkError, match="the disk is full"), replace_folder(target, marker=MARKER):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert content(target) == holds("old")


def foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


@pytest.mark.parametrize("make", [foreign_folder, lambda p: p.write_text("a file"), lambda p: p.symlink_to("nowhere")])
def test_something_else_is_never_replaced(tmp_path: Path, make: Callable[[Path], object]) -> None:
    target = tmp_path / "m"
    make(target)
    before = names(tmp_path)
    entered = False
    with pytest.raises(TopworkError, match="choose another name with -o"), replace_folder(target, marker=MARKER):
        entered = True
    assert not entered
    assert names(tmp_path) == before
    if target.is_dir():
        assert content(target) == {"thesis.tex": "years of work"}


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    check_replaceable(tmp_path / "m", MARKER)
    save(tmp_path / "m", "new")
    assert content(tmp_path / "m") == holds("new")


@posix
def test_a_link_to_a_model_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "m"
    save(tmp_path / "disk" / "m", "one")
    link.symlink_to(tmp_path / "disk" / "m")
    for text in ("two", "three"):
        save(link, text)
        assert link.is_symlink()
        assert content(link) == content(tmp_path / "disk" / "m") == holds(text)
        assert names(tmp_path) == ["disk", "m"]
        assert names(tmp_path / "disk") == ["m"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TopworkError, match=r"cannot write .*; choose another place"):
        save(tmp_path / "file" / "m", "new")


def test_a_failed_second_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "m"
    save(target, "old")
    real, calls = os.rename, []

    def second_fails(source: Path, destination: Path) -> None:
        calls.append(destination)
        if len(calls) == 2:
            raise OSError(errno.EACCES, "Permission denied")
        real(source, destination)

    monkeypatch.setattr(storage.os, "rename", second_fails)
    with pytest.raises(OSError, match="Permission denied"):
        save(target, "new")
    monkeypatch.undo()
    assert content(target) == holds("old")
    assert names(tmp_path) == ["m"]


KILLED = """
import os, signal, sys
from pathlib import Path
from topwork import storage

moment, target = sys.argv[1], Path(sys.argv[2])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

real = os.rename
def between(source, destination):
    if Path(destination) == target:
        die()
    real(source, destination)

if moment == "between":
    os.rename = between
if moment == "write":
    os.replace = die
    storage.write_atomic(target / "model.json", b"new")
with storage.replace_folder(target, marker="model.json") as folder:
    (folder / "model.json").write_text("new")
    if moment == "inside":
        die()
"""


def kill(moment: str, target: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, moment, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL


@posix
def test_a_run_killed_while_writing_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "m"
    save(target, "old")
    kill("inside", target)
    assert content(target) == holds("old")
    kill("write", target)
    assert (target / MARKER).read_text() == "old"
    save(target, "new")
    assert content(target) == holds("new")


@posix
def test_a_run_killed_between_the_renames_is_recovered(tmp_path: Path) -> None:
    target = tmp_path / "m"
    save(target, "old")
    kill("between", target)
    assert not target.exists()
    recover(target)
    assert content(target) == holds("old")
    assert ".m.old" not in names(tmp_path)


@posix
def test_a_failed_run_after_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "m"
    save(target, "old")
    kill("between", target)
    with pytest.raises(ValueError, match="mine"), replace_folder(target, marker=MARKER):
        raise ValueError("mine")
    recover(target)
    assert content(target) == holds("old")
    kill("between", target)
    save(target, "new")
    assert content(target) == holds("new")


SAVES = """
import sys
from pathlib import Path
from topwork import storage
for _ in range(100):
    with storage.replace_folder(Path(sys.argv[1]), marker="model.json") as folder:
        (folder / "model.json").write_text(sys.argv[2])
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(sys.argv[2])
"""


@posix
def test_processes_that_save_to_one_place_leave_one_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "m"
    runs = [subprocess.Popen([sys.executable, "-c", SAVES, str(target), name]) for name in "ab"]
    assert [run.wait() for run in runs] == [0, 0]
    assert content(target) in (holds("a"), holds("b"))
    assert names(tmp_path) == ["m"]


def test_recover_touches_nothing_without_need(tmp_path: Path) -> None:
    target = tmp_path / "m"
    recover(target)
    assert names(tmp_path) == []
    save(target, "new")
    (tmp_path / ".m.old").mkdir()
    recover(target)
    assert content(target) == holds("new")


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path / "a" / "b"))
    assert cache_dir() == tmp_path / "a" / "b"
    assert cache_dir().is_dir()
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(CacheError, match="set TOPWORK_CACHE_DIR to a folder of your own"):
        cache_dir()
    if sys.platform == "linux":
        monkeypatch.delenv("TOPWORK_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache_dir() == tmp_path / "xdg" / "topwork"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_no_device_and_no_pipe_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(TopworkError, match="it is a device or a pipe; choose a file"):
            storage.write_atomic(path, b"x")
    for path in (Path(os.devnull), Path("/dev/stdout")):  # not written to: as root a failure would break the computer
        with pytest.raises(TopworkError, match="it is a device or a pipe; choose a file"):
            storage.check_writable(path)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


@pytest.mark.parametrize("code", [errno.EFBIG, errno.ENOSPC, errno.ESTALE, errno.EIO], ids=errno.errorcode.get)
def test_trouble_of_the_computer_is_no_fault_to_report(code: int) -> None:
    from topwork.cli.app import _sentence

    said = _sentence(OSError(code, os.strerror(code), "m.topwork"))
    assert said.startswith("the computer refused something that is needed: m.topwork: ")
    assert "report it" not in said

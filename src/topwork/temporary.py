"""Files and folders that are made beside their place, and the removal of those whose process has died.

::

    .next.csv.topwork-HOSTRANDOM.part           a file that is being written
    .m.topwork.topwork-HOSTRANDOM.part/held     a folder that is being written: held while its process lives
                                      /content  what takes its place in the end

Who makes one holds a lock of the operating system on it (flock), which ends with the process however it ends: neither a
process number that was given again nor one of another container is taken for its owner. A file that is open cannot be
removed on Windows, so there that is the lock. Of another machine on the same network folder, and where a file system
has no locks, only what is a day old is removed: locks may not reach from one machine to the other.
"""

import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_A_DAY, _A_MINUTE = 86_400, 60  # seconds; without flock a file is closed for a moment before it is renamed
_NAME = re.compile(r"\..+\.topwork-([0-9a-f]{8})[0-9a-f]{16}\.part")
_SHOWN = 40  # characters of the name it is for; file systems allow 255 bytes, and each may take three
_HELD, CONTENT = "held", "content"
_swept: set[Path] = set()


@contextmanager
def file_beside(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in the folder of ``path``, open for writing; removed in the end if it is still there.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with file_beside(Path(folder, "next.csv")) as (part, file):
    ...         _ = file.write(b"a,b")
    ...         os.listdir(folder) == [part.name], part.name.startswith(".next.csv.topwork-")
    ...     os.listdir(folder)
    (True, True)
    []
    """
    _sweep_once(path.parent)
    part, file = _new_file(path)
    try:
        with file:
            yield part, file
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new, empty folder that can be renamed to ``path``; what is left of it in the end is removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with folder_beside(Path(place, "m")) as folder:
    ...         os.rename(folder, Path(place, "m"))
    ...     os.listdir(place)
    ['m']
    """
    _sweep_once(path.parent)
    part, held = _new_folder(path)
    try:
        with held:
            yield part / CONTENT
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders in ``folder`` that belong to no living process; others stay.

    >>> sweep(Path("no such folder"))
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := _NAME.fullmatch(entry.name)) and not entry.is_symlink():
                with suppress(OSError):
                    _remove_abandoned(Path(entry.path), entry, is_own=match[1] == _host())


def _sweep_once(folder: Path) -> None:
    """A process looks once at each folder: what is left there is of processes that were killed before."""
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)


def _remove_abandoned(part: Path, entry: os.DirEntry[str], *, is_own: bool) -> None:
    """Raises OSError where it is in use, another user's, or gone."""
    is_folder = entry.is_dir(follow_symlinks=False)
    held = part / _HELD if is_folder else part
    age = time.time() - entry.stat(follow_symlinks=False).st_mtime
    if not _is_regular(held):  # a folder in its first moment, or something strange
        if is_folder and age > _A_DAY:
            shutil.rmtree(part)
        return
    if age < (_A_DAY if not is_own else _A_MINUTE if fcntl is None else 0):
        return
    with held.open("r+b") as file:  # for writing: a lock on a network folder wants it
        locked = _lock(file)
        if fcntl is not None and (locked or (locked is None and age > _A_DAY)):
            _remove(part, held)
    if fcntl is None:
        _remove(part, held)


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _remove(part: Path, held: Path) -> None:
    if held == part:
        part.unlink()
        return
    if fcntl is None:
        held.unlink()  # PermissionError where another process has it open
    shutil.rmtree(part)


def _new_file(path: Path) -> tuple[Path, BinaryIO]:
    """Not mkstemp: its files are readable by nobody else, and a model is made to be handed on."""
    while True:
        part = path.with_name(_new_name(path))
        file = part.open("xb")
        if _lock(file) is not False and part.exists():
            return part, file
        file.close()  # another process has just swept it away: it had no lock yet


def _new_folder(path: Path) -> tuple[Path, BinaryIO]:
    """The folder that is held, and the file that holds it."""
    while True:
        part = path.with_name(_new_name(path))
        part.mkdir(0o700)
        try:
            file = (part / _HELD).open("xb")
            if _lock(file) is not False and (part / _HELD).exists():
                (part / CONTENT).mkdir()
                return part, file
            file.close()
        except FileNotFoundError:  # another process has just swept it away
            continue
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _new_name(path: Path) -> str:
    return f".{path.name[:_SHOWN]}.topwork-{_host()}{secrets.token_hex(8)}.part"


def _lock(file: BinaryIO) -> bool | None:
    """Whether this process now has the lock of a file; None where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@cache
def _host() -> str:
    """Eight characters that tell this machine from others."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]

"""Places and ways to keep files: the cache folder, and writes that leave the old state when they are killed."""

import errno
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from topwork import temporary
from topwork.errors import CacheError, TopworkError, TopworkWarning, UsageError

DEFAULT_LIMIT = 10 * 10**9
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave in any folder that is looked at."""
_LARGEST_MARKER = 100 * 10**6  # bytes
_ATTEMPTS = 100  # at a swap, 0.01 s apart, while another process swaps the same folder


def cache_dir(*, write: bool = True) -> Path:
    """The folder of everything that can be computed again; made when missing.

    ``TOPWORK_CACHE_DIR`` if it is set, else the platform's cache folder (on Linux below ``XDG_CACHE_HOME``). A user
    who has no home gets a folder of the system's temporary files, with a TopworkWarning. CacheError where it cannot
    be made, or with ``write`` where nothing can be written in it.
    """
    chosen = os.environ.get("TOPWORK_CACHE_DIR")
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("topwork", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if write and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        homeless = None if chosen or folder.exists() else _temporary_cache(folder)
        if homeless is None:
            raise _cannot_keep(folder, error) from error
        return homeless
    return folder


@cache
def _temporary_cache(missing: Path) -> Path | None:
    """A folder of this user alone among the system's temporary files, said once; None where that cannot be had."""
    if not hasattr(os, "getuid"):
        return None
    folder = Path(tempfile.gettempdir()) / f"topwork-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    # Anybody may have put something under this name.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        return None
    warnings.warn(
        f"the cache folder {missing} cannot be made, so {folder} is used, which may be emptied at any time; "
        "set TOPWORK_CACHE_DIR to a folder of your own",
        TopworkWarning,
        stacklevel=3,
    )
    return folder


@contextmanager
def keeping(place: Path) -> Iterator[None]:
    """What goes wrong when something is written at ``place`` in the cache, or removed there, as a CacheError.

    >>> with keeping(Path("cache")):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    topwork.errors.CacheError: expected a cache folder that can be written at cache, but no space left on device; \
free some space, or set TOPWORK_CACHE_DIR to a folder on another disk
    """
    try:
        yield
    except OSError as error:
        raise _cannot_keep(place, error) from error


def _cannot_keep(place: Path, error: OSError) -> CacheError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some space, or set TOPWORK_CACHE_DIR to a folder on another disk" if full else OWN_CACHE
    return CacheError(f"expected a cache folder that can be written at {place}, but {reason(error)}; {remedy}")


OWN_CACHE = "set TOPWORK_CACHE_DIR to a folder of your own that can be written"


def cache_limit() -> int:
    """Bytes that each part of the cache may take: ``TOPWORK_CACHE_SIZE`` (such as ``2GB``), else 10 GB."""
    text = os.environ.get("TOPWORK_CACHE_SIZE")
    return parse_size(text, "TOPWORK_CACHE_SIZE") if text else DEFAULT_LIMIT


def parse_size(text: str, what: str) -> int:
    """Bytes of a size such as ``500MB``, ``2 GB`` or ``1000000``; ``what`` names it in the error.

    >>> parse_size("1.5GB", "limit")
    1500000000
    """
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
    cleaned = text.strip().upper()
    number = cleaned.rstrip("KMGTB ")
    try:
        size = float(number) * units[cleaned[len(number) :].strip()]
    except (ValueError, KeyError):
        raise UsageError(f"{what} must be a size such as 500MB or 2GB, not {text!r}") from None
    if not 0 <= size < 1e18:
        raise UsageError(f"{what} must be a size such as 500MB or 2GB, not {text!r}")
    return int(size)


def reason(error: OSError) -> str:
    """What the system said, in lower case and without the error number.

    >>> reason(OSError(28, "No space left on device"))
    'no space left on device'
    """
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def check_only_own(target: Path, marker: str, own_files: Callable[[dict[str, Any]], set[str]], what: str) -> None:
    """Raise TopworkError where ``target`` cannot be replaced by a folder, or holds a file that no earlier one has.

    ``own_files`` gives the names of an earlier one's files from the content of its ``marker``; ``what`` names it.
    """
    check_replaceable(target, marker)
    check_writable(target)
    if not target.is_dir() or all(path.name in _LITTER for path in target.iterdir()):
        return
    try:
        with (target / marker).open("rb") as file:
            own = own_files(json.loads(file.read(_LARGEST_MARKER)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        own = set()
    files = (path for path in target.rglob("*") if path.name not in _LITTER and not path.is_dir())
    strange = next((path for path in files if path.relative_to(target).as_posix() not in own), None)
    if strange is not None:
        raise TopworkError(
            f"expected {target} to be free or an earlier {what}, but it holds {strange.relative_to(target)}, which "
            "would be lost; choose another name with -o"
        )


RESULT = ".topwork"
"""The file by which a folder of results is known: the pictures in it are no photographs of a class."""


def mark_result(folder: Path) -> None:
    """Make a folder for results, and let later runs pass over it where it lies among pictures.

    One that holds something else already stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        text = "topwork wrote this folder and passes over it among pictures; without this file it would not.\n"
        write_atomic(folder / RESULT, text.encode())


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a killed run, sees the old file or the new one."""
    with writing_atomic(path) as file:
        file.write(data)


def write_file(path: Path, content: bytes) -> None:
    """``write_atomic`` for a result, its folder made too; TopworkError says why it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise TopworkError(f"cannot write {path}: {reason(error)}; choose another place") from error


@contextmanager
def writing_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name at the end of the block; an error, or a kill, leaves the old one.

    TopworkError where the path is a device or the like.
    """
    _check_kind(path)
    with temporary.file_beside(path) as (part, file):
        yield file
        file.flush()
        os.fsync(file.fileno())
        if os.name == "nt":  # an open file cannot be renamed there
            file.close()
        os.replace(part, path)


@contextmanager
def replace_folder(target: Path, *, marker: str) -> Iterator[Path]:
    """A temporary sibling of ``target`` that takes its place when the block ends without an error.

    An existing folder is replaced only when it holds the file ``marker``, so that a folder of something else
    is never lost; else TopworkError is raised before any work. A killed run leaves the old folder.
    """
    check_replaceable(target, marker)
    target = target.resolve()  # a link stays, what it leads to is replaced
    with ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(temporary.folder_beside(target))
        except OSError as error:
            raise TopworkError(f"cannot write {target}: {reason(error)}; choose another place with -o") from error
        try:
            yield folder
            _swap(folder, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise TopworkError(f"cannot write {target}: the disk is full; free some space and run again") from error
            raise


def check_replaceable(target: Path, marker: str) -> None:
    """Raise TopworkError where ``target`` exists and is not a folder that holds ``marker``."""
    for _ in range(10):  # it may be away for a moment while another process replaces it
        if _is_replaceable(target, marker):
            return
        time.sleep(0.01)
    raise TopworkError(
        f"expected {target} to be free or an earlier result, but it is something else; choose another name with -o"
    )


def check_writable(target: Path) -> None:
    """Raise TopworkError where nothing can be written at ``target``; leaves no trace."""
    _check_kind(target)
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise TopworkError(f"cannot write {target}: {reason(error)}; choose another place") from error


def _check_kind(target: Path) -> None:
    """TopworkError for a device or a pipe: as root, a file would take the place of ``/dev/null`` for everybody."""
    is_stream = target.absolute().parent == Path("/dev") and target.exists()  # /dev/stdout may be a file
    if is_stream or (target.exists() and not target.is_file() and not target.is_dir()):
        raise TopworkError(f"cannot write {target}: it is a device or a pipe; choose a file")


def check_file(path: Path) -> None:
    """Raise TopworkError before any work where ``write_file`` could not write; leaves no trace."""
    if path.exists() and not path.is_file():
        raise TopworkError(f"cannot write {path}: it is not a file; choose another place")
    check_writable(path)


def _is_replaceable(target: Path, marker: str) -> bool:
    if not target.exists() and not target.is_symlink():
        return True
    try:
        return (target / marker).is_file() or all(path.name in _LITTER for path in target.iterdir())
    except OSError:  # not a folder, or gone meanwhile
        return False


def _swap(folder: Path, target: Path) -> None:
    """Put ``folder`` in the place of ``target``.

    Folders cannot be replaced in one step everywhere, so the old one is moved aside first and comes back if
    the second step fails; between two renames a kill leaves the old one under its aside name, which the next
    ``recover`` puts back. Where another process swaps at the same moment, one of them comes last.
    """
    for attempt in range(_ATTEMPTS):
        try:
            _swap_once(folder, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(0.01)


def _swap_once(folder: Path, target: Path) -> None:
    aside = _aside(target)
    shutil.rmtree(aside, ignore_errors=True)
    moved = target.exists()
    if moved:
        os.rename(target, aside)
    try:
        os.rename(folder, target)
    except OSError:
        if moved:
            with suppress(OSError):  # another process has put its folder there
                os.rename(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover(target: Path) -> None:
    """Undo a swap that was killed between its two renames."""
    target = target.resolve()
    aside = _aside(target)
    if aside.exists() and not target.exists():
        with suppress(OSError):
            os.rename(aside, target)


def is_being_replaced(target: Path) -> bool:
    """Whether ``target`` is moved aside at this moment, or was when a run was killed."""
    return _aside(target.resolve()).exists()


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")

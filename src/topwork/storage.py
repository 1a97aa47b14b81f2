"""Places and ways to keep files: the cache folder, and writes that leave the old state when they are killed."""

import errno
import glob
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from topwork.errors import CacheError, TopworkError, UsageError

DEFAULT_LIMIT = 10 * 10**9
_A_DAY = 86_400  # seconds
_ATTEMPTS = 100  # at a swap, 0.01 s apart, while another process swaps the same folder


def cache_dir() -> Path:
    """The folder of everything that can be computed again; made when missing.

    ``TOPWORK_CACHE_DIR`` if it is set, else the platform's cache folder (on Linux below ``XDG_CACHE_HOME``).
    """
    chosen = os.environ.get("TOPWORK_CACHE_DIR")
    if chosen:
        folder = Path(chosen).expanduser()
    else:
        from platformdirs import user_cache_path

        folder = user_cache_path("topwork", appauthor=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"expected a writable cache folder at {folder}, but {reason(error)}; "
            "set TOPWORK_CACHE_DIR to a folder that can be written"
        ) from error
    return folder


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
    if not target.is_dir() or not any(target.iterdir()):
        return
    try:
        own = own_files(json.loads((target / marker).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        own = set()
    files = (path for path in target.rglob("*") if not path.is_dir())
    strange = next((path for path in files if path.relative_to(target).as_posix() not in own), None)
    if strange is not None:
        raise TopworkError(
            f"expected {target} to be free or an earlier {what}, but it holds {strange.relative_to(target)}, which "
            "would be lost; choose another name with -o"
        )


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a killed run, sees the old file or the new one."""
    # Not mkstemp: its files are readable by nobody else, and a model is made to be handed on.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


@contextmanager
def replace_folder(target: Path, *, marker: str) -> Iterator[Path]:
    """A temporary sibling of ``target`` that takes its place when the block ends without an error.

    An existing folder is replaced only when it holds the file ``marker``, so that a folder of something else
    is never lost; else TopworkError is raised before any work. A killed run leaves the old folder.
    """
    check_replaceable(target, marker)
    target = target.resolve()  # a link stays, what it leads to is replaced
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:60]}.", suffix=".part"))
    except OSError as error:
        raise TopworkError(f"cannot write {target}: {reason(error)}; choose another place with -o") from error
    try:
        folder.chmod(0o777 & ~_umask())
        yield folder
        _swap(folder, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TopworkError(f"cannot write {target}: the disk is full; free some space and run again") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _umask() -> int:
    """The permissions that new files do not get; it can only be read by setting it, so once."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


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
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise TopworkError(f"cannot write {target}: {reason(error)}; choose another place with -o") from error


def _is_replaceable(target: Path, marker: str) -> bool:
    if not target.exists() and not target.is_symlink():
        return True
    try:
        return (target / marker).is_file() or not any(target.iterdir())
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


def sweep(target: Path) -> None:
    """Remove what killed runs left half-written beside ``target``, once it is a day old."""
    target = target.resolve()
    for left in target.parent.glob(f".{glob.escape(target.name[:60])}.*.part"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _A_DAY:
                shutil.rmtree(left)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")

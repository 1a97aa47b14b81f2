"""What is known of indexes on this computer, kept in the user's cache, where no stranger writes.

An index may come from somebody else, with everything in it: whatever it says of itself proves nothing. So what topwork
has looked at, and what it has written itself, is noted outside of it:

- a file that was found whole, by what changes when the file does (inode, size, times): it is not read again
- the content of a table that topwork wrote, by its digest, with the sources that the user named then: their pictures
  may be read where the table says they are. The same content is trusted wherever it is; no stranger can make it.

Losing these notes costs time only. At most `_MOST` of each kind are kept, the latest.
"""

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from topwork import storage
from topwork.errors import TopworkError

_MOST = 1_000
_FILE = "indexes.json"
_LARGEST = 50_000_000  # bytes


def stamp(path: Path) -> str:
    """What changes when a file does; nobody can set the time of the last change of its state (on Linux and macOS)."""
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def digest_of(file_stamp: str) -> str | None:
    """What was noted of a file that is whole; None where it was not looked at, or has changed."""
    found = _read()["whole"].get(file_stamp)
    return found if isinstance(found, str) else None


def note_whole(file_stamp: str, digest: str = "") -> None:
    """A file was looked at, or written here, and is whole."""
    _change(lambda notes: notes["whole"].update({file_stamp: digest}))


def sources_of(digest: str) -> frozenset[str]:
    """The roots of the sources that the user named when this content was written here; none for a stranger's."""
    found = _read()["written"].get(digest)
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def note_written(digest: str, sources: Iterable[str]) -> None:
    """This content was written here, of sources that the user named."""
    listed = sorted(sources)
    _change(lambda notes: notes["written"].update({digest: listed}))


def _read() -> dict[str, dict[str, Any]]:
    notes: Any = None
    with suppress(OSError, ValueError, RecursionError, TopworkError):
        path = storage.cache_dir(write=False) / _FILE
        notes = json.loads(path.read_bytes()) if os.path.getsize(path) < _LARGEST else None
    found = notes if isinstance(notes, dict) else {}
    return {name: found[name] if isinstance(found.get(name), dict) else {} for name in ("whole", "written")}


def _change(change: Callable[[dict[str, dict[str, Any]]], None]) -> None:
    """Note something, where the cache can be written."""
    with suppress(OSError, TopworkError):  # filelock's Timeout is an OSError
        folder = storage.cache_dir()
        with FileLock(folder / f"{_FILE}.lock", timeout=10):
            notes = _read()
            change(notes)
            kept = {name: dict(list(values.items())[-_MOST:]) for name, values in notes.items()}
            storage.write_atomic(folder / _FILE, json.dumps(kept).encode())

"""What was made once from a network and is kept in the cache folder, each file beside its sha256."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from topwork import fingerprint, storage
from topwork.weights.files import remove_older

_FORGOTTEN = 60 * 24 * 3600.0
"""Seconds after which a file that nobody asked for is removed."""


def kept(name: str, make: Callable[[], bytes]) -> Path:
    """The file ``name`` in the cache folder; made when it is missing or damaged."""
    folder = storage.cache_dir() / "graphs"
    with storage.keeping(folder):
        folder.mkdir(exist_ok=True)
    path = folder / name.replace(":", "-")
    checksum = path.with_suffix(".sha256")
    if _intact(path, checksum):
        with suppress(OSError):  # of another user: it goes when that one does not need it any more
            os.utime(path)
            os.utime(checksum)
    else:
        remove_older([each for each in folder.iterdir() if each.is_file()], _FORGOTTEN)
        data = make()
        with storage.keeping(folder):
            storage.write_atomic(checksum, fingerprint.of_bytes(data).encode())
            storage.write_atomic(path, data)
    return path


def _intact(path: Path, checksum: Path) -> bool:
    try:
        return fingerprint.of_bytes(path.read_bytes()) == checksum.read_text()
    except (OSError, ValueError):  # ValueError: a checksum that is not even text
        return False

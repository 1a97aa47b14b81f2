"""Feature maps at the cut, computed once and kept: fp16 in memory-mapped files of the cache folder.

A row is one view of one picture, found by content, so a changed set computes only what is new, and a killed run
continues. Rows lie in shards, files that are written once; the least recently used ones go when the limit is reached.
"""

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from topwork import storage
from topwork.errors import CacheError

Halves = NDArray[np.float16]
Key = str

VERSION = 2
"""Raised whenever the same settings would give other activations: it is part of every store's name."""
_ABANDONED = 300.0
"""Seconds after which a file without its index was left behind by a killed run, not by one that is writing."""
SHARD_BYTES = 32 * 10**6
"""What a killed run loses at most."""

_LARGEST = float(np.finfo(np.float16).max)


def store_folder() -> Path:
    """Where the activations of all sets lie."""
    return storage.cache_dir() / "activations"


@dataclass(frozen=True)
class Rows:
    """Rows of the store as one array ``[n, c, h, w]`` that stays on disk; it may be sent to another process."""

    files: tuple[Path, ...]
    places: NDArray[np.int64]
    """``[n, 2]``: number of the file, row in it."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """These rows in memory, ``[m, c, h, w]``."""
        maps = self._maps()
        return np.stack([maps[file][row] for file, row in self.places[rows]]).astype(np.float32)

    def _maps(self) -> list[Halves]:
        """The open files; not part of the value, so that they are opened again in another process."""
        if "maps" not in self.__dict__:
            try:
                self.__dict__["maps"] = [np.load(path, mmap_mode="r") for path in self.files]
            except FileNotFoundError as error:
                raise _gone(self.files[0].parent) from error
        maps: list[Halves] = self.__dict__["maps"]
        return maps

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "places": self.places}


class ActivationStore:
    """The rows of one cut: ``name`` says what they were computed from and by.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ActivationStore("cut", folder=Path(folder))
    ...     with store:
    ...         store.add("a", np.ones((2, 1, 1), np.float32))
    ...     store.rows(["a"])[np.array([0, 0])].shape
    (2, 2, 1, 1)
    """

    def __init__(self, name: str, *, folder: Path | None = None) -> None:
        self._folder = (folder or store_folder()) / name
        with storage.keeping(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._found: dict[Key, tuple[Path, int]] = {}
        self._pending: dict[Key, Halves] = {}
        for index in sorted(self._folder.glob("*.json")):
            self._open(index)

    def _open(self, index: Path) -> None:
        """Take in a shard; a damaged one is deleted, for only time is lost."""
        data = index.with_suffix(".npy")
        try:
            facts = json.loads(index.read_text(encoding="utf-8"))
            keys = facts["rows"]
            if facts["checksum"] != _checksum(data) or not all(isinstance(key, str) for key in keys):
                raise ValueError
            rows = np.load(data, mmap_mode="r")
            if rows.dtype != np.float16 or rows.ndim != 4 or len(rows) != len(keys):
                raise ValueError
        except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError):
            _remove(index)
            return
        self._found.update((key, (data, row)) for row, key in enumerate(keys))

    def __enter__(self) -> "ActivationStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()

    def missing(self, keys: Iterable[Key]) -> set[Key]:
        """Those of ``keys`` that have no row yet."""
        return {key for key in keys if key not in self._found and key not in self._pending}

    def add(self, key: Key, activation: NDArray[np.float32]) -> None:
        """Keep one row ``[c, h, w]``; it is on disk at the latest when the store is closed."""
        row = self._pending[key] = np.clip(activation, -_LARGEST, _LARGEST).astype(np.float16)
        if len(self._pending) * row.nbytes >= SHARD_BYTES:
            self._flush()

    def rows(self, keys: Sequence[Key]) -> Rows:
        """The rows of these keys, in order; raises CacheError where another run removed one."""
        try:
            places = [self._found[key] for key in keys]
        except KeyError:
            raise _gone(self._folder) from None
        files = tuple(dict.fromkeys(path for path, _ in places))
        for path in files:
            with suppress(FileNotFoundError):  # found out where it is opened
                os.utime(path.with_suffix(".json"))
        number = {path: i for i, path in enumerate(files)}
        return Rows(files, np.array([(number[path], row) for path, row in places], np.int64))

    def _flush(self) -> None:
        if not self._pending:
            return
        keys, rows = list(self._pending), list(self._pending.values())
        index = self._folder / f"{uuid4().hex}.json"
        data = index.with_suffix(".npy")
        try:
            np.save(data, np.stack(rows))
            storage.write_atomic(index, json.dumps({"rows": keys, "checksum": _checksum(data)}).encode())
        except OSError as error:
            _remove(index)
            raise CacheError(
                f"the activations cannot be kept in {self._folder} ({storage.reason(error)}); free some space, set "
                "TOPWORK_CACHE_DIR to a folder on another disk, or ask for fewer views"
            ) from error
        self._found.update((key, (data, row)) for row, key in enumerate(keys))
        self._pending = {}


def _gone(folder: Path) -> CacheError:
    return CacheError(
        f"activations that were just computed are gone from {folder}: another run removed them, or TOPWORK_CACHE_SIZE "
        "is too small for two runs at once; run again"
    )


def trim(limit: int, *, keep: Collection[Path] = (), folder: Path | None = None) -> None:
    """Delete the least recently used shards until all take at most ``limit`` bytes, but no file of ``keep``.

    What a killed run left behind without an index goes first.
    """
    root = folder or store_folder()
    for data in root.glob("*/*.npy"):
        if not data.with_suffix(".json").exists() and time.time() - _used(data) > _ABANDONED:
            data.unlink(missing_ok=True)
    kept = {path.with_suffix(".json") for path in keep}
    shards = sorted((path for path in root.glob("*/*.json") if path not in kept), key=_used)
    total = size(folder)
    for index in shards:
        if total <= limit:
            return
        total -= _remove(index)


def size(folder: Path | None = None) -> int:
    """Bytes on disk."""
    return sum(_bytes(path) for path in (folder or store_folder()).glob("*/*"))


def _remove(index: Path) -> int:
    freed = 0
    for path in (index, index.with_suffix(".npy")):
        freed += _bytes(path)
        path.unlink(missing_ok=True)
    return freed


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process has just removed it
        return 0


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

"""Vectors in a file beside the table: USearch, float16, mapped into memory when it is opened.

The table names the file, and the name has the hash and the size of what is in it. Both are compared, and what USearch
would believe is looked at (`graph_file`), before a file is mapped that this computer has not seen as it is now.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from topwork import storage
from topwork.errors import CacheError
from topwork.extra import package
from topwork.features.session import cores
from topwork.retrieval import graph_file, known
from topwork.retrieval.store import Chunks, Floats, Ints

EXACT_UP_TO = 20_000
"""Vectors up to which every one is compared: 3 ms for 1,280 numbers each, where the graph takes 1 ms."""
_FEW = 2_000  # numbers that are looked up one by one for a filter
_PATTERN = "vectors-*.usearch"
_STATE = re.compile(r"vectors-(?P<hash>[0-9a-f]{12,64})(-(?P<size>\d+))?\.usearch")  # earlier ones: 12 random digits
_ROOM = 1_000_000  # bytes; with less the disk is full


class EmbeddedStore:
    """See `topwork.retrieval.store.Store`; a state is the name of a file in ``folder``, written once, with its size.

    HNSW (Malkov & Yashunin 2018) as USearch sets it: 16 links a vector, 128 candidates at insertion, 64 in a search.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._usearch = package("usearch.index", "an index")  # missing: said before the work
        self._opened: tuple[str, Any] = ("", None)
        self._lock = Lock()

    def check(self) -> None:
        pass

    def search(self, state: str, query: Floats, k: int, *, among: Ints | None = None) -> tuple[Ints, Floats]:
        index = self._open(state)
        if index is None:
            return _nothing()
        _check_width(index, query, self._folder / state)
        k = min(k, len(index))
        if among is None:
            return _found(index.search(query, k, exact=len(index) <= EXACT_UP_TO))
        if len(among) <= _FEW:
            return self._best_of(state, query, k, among)
        return _best_among(index, query, k, among)

    def search_exactly(self, state: str, query: Floats, k: int) -> tuple[Ints, Floats]:
        index = self._open(state)
        if index is None:
            return _nothing()
        _check_width(index, query, self._folder / state)
        return _found(index.search(query, min(k, len(index)), exact=True))

    def search_graph(self, state: str, query: Floats, k: int) -> tuple[Ints, Floats]:
        index = self._open(state)
        if index is None:
            return _nothing()
        _check_width(index, query, self._folder / state)
        return _found(index.search(query, k))

    def vectors(self, state: str, numbers: Ints) -> Floats:
        index = self._open(state)
        if index is None or not len(numbers):
            return np.empty((0, 0), np.float32)
        rows = index.get(np.asarray(numbers, np.uint64))
        if any(row is None for row in rows):
            raise _damaged(self._folder / state)
        return np.stack(rows).astype(np.float32)

    def prepare(self, state: str, added: Chunks, removed: Sequence[int], *, width: int, anew: bool) -> str:
        self._sweep(keep=state)
        index = self._changeable(state, removed, width, anew)
        for numbers, vectors in added:
            index.add(numbers.astype(np.uint64), vectors, threads=cores())
        part = self._folder / f"vectors-{secrets.token_hex(6)}.usearch"
        try:
            index.save(str(part))
            with open(part, "rb") as file:
                os.fsync(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            path = part.with_name(f"vectors-{digest}-{part.stat().st_size}.usearch")
            if path.exists():  # the same vectors as before
                part.unlink()
            else:
                part.rename(path)
        except (OSError, RuntimeError) as error:  # USearch has no error of its own for a full disk
            _remove(part)
            raise CacheError(
                f"the index {self._folder} is as it was, but its new vectors cannot be written "
                f"({_reason(error, self._folder)}); make room, then run again"
            ) from error
        known.note_whole(known.stamp(path))
        return path.name

    def settle(self, old: str, new: str, removed: Sequence[int]) -> None:
        if old != new and _STATE.fullmatch(old):
            _remove(self._folder / old)

    def size(self, state: str) -> int:
        return self._path(state).stat().st_size if state else 0

    def _changeable(self, state: str, removed: Sequence[int], width: int, anew: bool) -> Any:
        """An index in memory: the state's without what is removed, or an empty one."""
        old = None if anew or not state else self._open(state)
        if old is None:
            return self._usearch.Index(ndim=width, metric="ip", dtype="f16")
        index = self._usearch.Index.restore(str(self._folder / state))
        if len(removed):
            index.remove(np.asarray(removed, np.uint64))
        return index

    def _open(self, state: str) -> Any:
        """The index of a state, mapped; None for the empty state."""
        with self._lock:
            if state and self._opened[0] != state:
                self._opened = (state, self._restore(state))
            return self._opened[1] if state else None

    def _path(self, state: str) -> Path:
        """Where the vectors of a state are; CacheError where it names another file, as a stranger's table may."""
        if not _STATE.fullmatch(state):
            raise _damaged(self._folder / "vectors", f"the table names {state[:80]!r}")
        return self._folder / state

    def _restore(self, state: str) -> Any:
        path = self._path(state)
        if not path.is_file():
            raise FileNotFoundError(path)
        stamp = known.stamp(path)
        if known.digest_of(stamp) is None:
            self._check(path)
            known.note_whole(stamp)
        return self._usearch.Index.restore(str(path), view=True)

    def _check(self, path: Path) -> None:
        """CacheError where a file is not what its name says, or leads USearch beyond its end."""
        said = _STATE.fullmatch(path.name)
        if said is None or (said["size"] and int(said["size"]) != path.stat().st_size):
            raise _damaged(path)
        if len(said["hash"]) == 64:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != said["hash"]:
                    raise _damaged(path)
        if (why := graph_file.why_not(path)) is not None:
            raise _damaged(path, why)

    def _best_of(self, state: str, query: Floats, k: int, among: Ints) -> tuple[Ints, Floats]:
        if not len(among):
            return _nothing()
        scores = self.vectors(state, among) @ query
        best = np.argsort(-scores, kind="stable")[:k]
        return among[best], scores[best]

    def _sweep(self, *, keep: str) -> None:
        """Remove what killed runs left; only who holds the table's lock may, or a running one would lose its file."""
        for path in self._folder.glob(_PATTERN):
            if path.name != keep:
                _remove(path)


def _best_among(index: Any, query: Floats, k: int, among: Ints) -> tuple[Ints, Floats]:
    """Exact search for more and more neighbours, until ``k`` of them are allowed."""
    size, wanted = len(index), 4 * k * max(1, len(index) // len(among))
    while True:
        numbers, scores = _found(index.search(query, min(wanted, size), exact=True))
        allowed = np.isin(numbers, among)
        if allowed.sum() >= k or wanted >= size:
            return numbers[allowed][:k], scores[allowed][:k]
        wanted *= 8


def _check_width(index: Any, query: Floats, path: Path) -> None:
    if index.ndim != len(query):
        raise _damaged(path, f"its vectors have {index.ndim} numbers, not {len(query)}")


def _damaged(path: Path, why: str = "") -> CacheError:
    found = f" ({why})" if why else ""
    return CacheError(f"expected vectors in {path}, but it is damaged{found}; run `topwork index` with --rebuild")


def _reason(error: Exception, folder: Path) -> str:
    if isinstance(error, OSError):
        return storage.reason(error)
    return "the disk is full" if shutil.disk_usage(folder).free < _ROOM else str(error).strip()


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows keeps files that are mapped: they go another time
        path.unlink()


def _found(matches: Any) -> tuple[Ints, Floats]:
    """USearch gives 1 - cosine, nearest first."""
    return np.asarray(matches.keys).astype(np.int64), 1 - np.asarray(matches.distances, np.float32)


def _nothing() -> tuple[Ints, Floats]:
    return np.empty(0, np.int64), np.empty(0, np.float32)

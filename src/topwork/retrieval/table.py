"""The table of an index: a row a picture, in SQLite.

A rollback journal, not a write-ahead log: an index is one file that can be copied, and opened where nothing can be
written. One run at a time may write; who reads sees the old rows until the new ones are there.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import CacheError
from topwork.retrieval import known, soundness

FILE = "pictures.sqlite"
WAIT = 3600  # seconds that a run waits for another one to end its changes
_PATIENCE = 60  # seconds that a reader waits for a commit
_CACHE_KB = 500_000  # of changes that are kept in memory until they are committed
_CHUNK = 500  # numbers in one query
_DIGEST = "digest"  # the fact that is of all others

_SCHEMA = """
CREATE TABLE sources (number INTEGER PRIMARY KEY, root TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, beside TEXT NOT NULL);
CREATE TABLE pictures (
  id INTEGER PRIMARY KEY AUTOINCREMENT, source INTEGER NOT NULL, path TEXT NOT NULL, location TEXT NOT NULL,
  content TEXT NOT NULL, label TEXT, split TEXT, "group" TEXT, size INTEGER, time TEXT, width INTEGER NOT NULL,
  height INTEGER NOT NULL, format TEXT NOT NULL, sharpness REAL NOT NULL, brightness REAL NOT NULL,
  phash INTEGER NOT NULL, stamp TEXT, UNIQUE (source, path));
CREATE INDEX by_content ON pictures (content);
CREATE TABLE parts (id INTEGER PRIMARY KEY, thumbnail BLOB NOT NULL, features BLOB NOT NULL, twins BLOB);
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

COLUMNS = ("id", "path", "label", "split", "group", "size", "time", "width", "height", "format", "sharpness",
           "brightness", "content")  # fmt: skip
"""What a filter may name."""


@dataclass(frozen=True)
class Row:
    """A picture of an index."""

    id: int
    """Its number; a changed picture gets a new one."""
    source: int
    path: str
    """Its place in the source, as in `topwork.images.Sample`."""
    location: str
    content: str
    """sha256 of the bytes."""
    label: str | None
    split: str | None
    group: str | None
    size: int | None
    """Bytes of the file; None where it is not a file of its own on this computer."""
    time: str | None
    """When the file was last changed, as ``2026-11-26 12:00:00`` UTC."""
    width: int
    height: int
    format: str
    sharpness: float
    brightness: float
    phash: int
    """The 64-bit perceptual hash, as SQLite's signed integer."""
    stamp: str | None
    """By which an unchanged file is told without reading it."""


@dataclass(frozen=True)
class Parts:
    """What is kept of a picture beside its row."""

    thumbnail: bytes
    """A small JPEG."""
    features: NDArray[np.float32]
    """``[d]``, of length 1."""
    twins: NDArray[np.float32] | None
    """The features that near-duplicates are told by, of length 1, where they are others."""


_ROW = tuple(field.name for field in fields(Row))
_SELECT = "SELECT " + ", ".join(f'"{name}"' for name in _ROW) + " FROM pictures"


class Table:
    """The table in ``folder``; it may be used from several threads one after the other.

    ``read_only``: a reader never waits for a writer, and may be where nothing can be written.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.path = folder / FILE
        if read_only:
            self._roll_back()
        with self._errors():
            self.database = connect(folder, "ro" if read_only else "rw", timeout=_PATIENCE if read_only else WAIT)
            # A cache that overflows in a transaction locks readers out until its end, which may be minutes away.
            if not read_only:
                self.database.execute(f"PRAGMA cache_size = -{_CACHE_KB}")

    def _roll_back(self) -> None:
        """Undo what a killed run left half-written: whoever may only read cannot, and would fail."""
        if not self.path.with_name(f"{FILE}-journal").exists():
            return
        with suppress(sqlite3.Error):  # another run is writing, or nothing may be written here
            connect(self.path.parent, "rw", timeout=1).close()

    @staticmethod
    def create(folder: Path) -> None:
        """Make an empty table."""
        database = sqlite3.connect(folder / FILE)
        database.executescript(_SCHEMA)
        database.close()

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def examine(self) -> str:
        """The digest of all that is in the table; CacheError where it is damaged, or not as topwork writes it.

        Read whole only where the file has changed since this computer looked at it, or wrote it.
        """
        with self._errors():
            self.database.execute("BEGIN")  # nobody changes it meanwhile
            try:
                self.database.execute("SELECT count(*) FROM facts").fetchall()
                stamp = known.stamp(self.path)
                if (noted := known.digest_of(stamp)) is not None:
                    return noted
                if (found := self.database.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                    raise soundness.damaged(self.path, " ".join(str(found[0]).split())[:100])
                digest = self.digest()
                if self.fact(_DIGEST, digest) != digest:  # one that is older has none
                    raise soundness.damaged(self.path, "what is in it has changed")
            finally:
                self.database.execute("COMMIT")
        known.note_whole(stamp, digest)
        return digest

    def digest(self) -> str:
        """A hash of all that is in the table; CacheError where that is not as topwork writes it."""
        found, widths, numbers = sha256(), None, set()
        for values in self.database.execute(f"{_SELECT} ORDER BY id"):
            soundness.check_row(values, self.path)
            numbers.add(values[0])
            found.update(repr(values).encode())
        for number, *blobs in self.database.execute("SELECT id, thumbnail, features, twins FROM parts ORDER BY id"):
            sizes = [len(each) if isinstance(each, bytes) else 0 for each in blobs]
            widths = widths or (sizes[1], sizes[2])
            soundness.check_parts((number, *blobs), widths, self.path)
            numbers.discard(number)
            found.update(repr((number, sizes)).encode())
            for each in blobs:
                found.update(each or b"")
        if numbers:
            raise soundness.damaged(self.path, "pictures lack their features")
        for values in self.sources():
            if [type(value) for value in values] != [int, str, str, str]:
                raise soundness.damaged(self.path, "a source is no such value")
            found.update(repr(values).encode())
        for name, value in self.database.execute("SELECT name, value FROM facts ORDER BY name"):
            if not isinstance(name, str) or not isinstance(value, str | bytes):
                raise soundness.damaged(self.path, "a fact is no such value")
            found.update(repr((name, value)).encode() if name != _DIGEST else b"")
        if not isinstance(self.fact("state", ""), str):
            raise soundness.damaged(self.path, "its state is no such value")
        return found.hexdigest()

    def set_digest(self) -> str:
        """Keep the digest of all that is in the table now, and return it."""
        digest = self.digest()
        self.set_fact(_DIGEST, digest)
        return digest

    @property
    def changes(self) -> int:
        """How many rows were changed since it was opened."""
        return self.database.total_changes

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction: everything in the block is there afterwards, or nothing of it; others wait to change it."""
        with self._errors():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise

    def rows(self, numbers: Sequence[int] | None = None) -> list[Row]:
        """All rows in the order of their numbers, or those of ``numbers`` in their order; who is gone is left out."""
        if numbers is None:
            return [Row(*values) for values in self._select(f"{_SELECT} ORDER BY id", ())]
        found: dict[int, Row] = {}
        for chunk in _chunks(numbers):
            marks = ",".join("?" * len(chunk))
            found |= {values[0]: Row(*values) for values in self._select(f"{_SELECT} WHERE id IN ({marks})", chunk)}
        return [found[number] for number in numbers if number in found]

    def with_content(self, contents: Sequence[str]) -> list[Row]:
        """The rows of the pictures with these content hashes."""
        found: list[Row] = []
        for start in range(0, len(contents), _CHUNK):
            chunk = contents[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            found += [Row(*values) for values in self._select(f"{_SELECT} WHERE content IN ({marks})", chunk)]
        return found

    def counts(self) -> tuple[int, int]:
        """Number of rows, and of those with a label."""
        pictures, labelled = self._select("SELECT count(*), count(label) FROM pictures", ())[0]
        return int(pictures), int(labelled)

    def numbers(self) -> NDArray[np.int64]:
        """The numbers of all rows, ascending."""
        return np.array([number for (number,) in self._select("SELECT id FROM pictures ORDER BY id", ())], np.int64)

    def thumbnail(self, number: int) -> bytes | None:
        """A small JPEG of a picture; None where it is gone."""
        found = self._select("SELECT thumbnail FROM parts WHERE id = ?", (number,))
        return found[0][0] if found else None

    def features(self, numbers: Iterable[int], *, twins: bool = False) -> NDArray[np.float32]:
        """Features of length 1 of these numbers, ``[n, d]``; ``twins``: those that near-duplicates are told by."""
        column = "coalesce(twins, features)" if twins else "features"
        numbers = list(numbers)
        rows: dict[int, Any] = {}
        for chunk in _chunks(numbers):
            marks = ",".join("?" * len(chunk))
            found = self._select(f"SELECT id, {column} FROM parts WHERE id IN ({marks})", chunk)
            rows |= {number: np.frombuffer(value, np.float16) for number, value in found}
        if not numbers:
            return np.empty((0, 0), np.float32)
        return np.stack([rows[number] for number in numbers]).astype(np.float32)

    def insert(self, row: Mapping[str, Any], parts: Parts) -> int:
        """Add a picture; returns its number."""
        names = [name for name in _ROW if name != "id"]
        quoted = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join("?" * len(names))
        values = [row[name] for name in names]
        number = self.database.execute(f"INSERT INTO pictures ({quoted}) VALUES ({marks})", values).lastrowid
        twins = None if parts.twins is None else _float16(parts.twins)
        kept = (number, parts.thumbnail, _float16(parts.features), twins)
        self.database.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)", kept)
        return int(number or 0)

    def update(self, number: int, changes: Mapping[str, Any]) -> None:
        """Change some columns of a row."""
        assignments = ", ".join(f'"{name}" = ?' for name in changes)
        self.database.execute(f"UPDATE pictures SET {assignments} WHERE id = ?", (*changes.values(), number))

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove rows and what is kept beside them."""
        for chunk in _chunks(list(numbers)):
            marks = ",".join("?" * len(chunk))
            self.database.execute(f"DELETE FROM pictures WHERE id IN ({marks})", chunk)
            self.database.execute(f"DELETE FROM parts WHERE id IN ({marks})", chunk)

    def fact(self, name: str, default: Any = None) -> Any:
        """A value that ``set_fact`` kept."""
        found = self._select("SELECT value FROM facts WHERE name = ?", (name,))
        if not found:
            return default
        value = found[0][0]
        try:
            return value if isinstance(value, bytes) else json.loads(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise soundness.damaged(self.path, f"its fact {name!r} is no such value") from error

    def set_fact(self, name: str, value: Any) -> None:
        """Keep plain data, or bytes, by name."""
        kept = value if isinstance(value, bytes) else json.dumps(value)
        self.database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, kept))

    def sources(self) -> list[tuple[int, str, str, str]]:
        """Number, root, kind and root relative to the index of every source."""
        return self._select("SELECT number, root, kind, beside FROM sources ORDER BY number", ())

    def set_source(self, number: int | None, root: str, kind: str, beside: str) -> int:
        """Add a source, or change one; returns its number."""
        values = (number, root, kind, beside)
        return int(self.database.execute("INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?)", values).lastrowid or 0)

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._errors():
            return self.database.execute(query, values).fetchall()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _as_cache_error(error, self.path) from error
        except UnicodeDecodeError as error:  # what SQLite says of a damaged schema may be no text
            raise soundness.damaged(self.path, "its schema is no text") from error


def connect(folder: Path, mode: str, *, timeout: float) -> sqlite3.Connection:
    """The database of an index, which holds the tables of topwork and nothing else; ``mode``: "ro" or "rw".

    CacheError where it holds anything else; sqlite3.Error where SQLite cannot use it.
    """
    path = folder / FILE
    soundness.check_files(path)
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, soundness.LONGEST)
        database.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            database.execute(f"PRAGMA {setting}")
        soundness.check_schema(database, path, _SCHEMA)
    except BaseException:
        database.close()
        raise
    return database


_UNTOUCHED = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk cannot be read or written; check it",
    sqlite3.SQLITE_READONLY: "it may not be written; allow that",
    sqlite3.SQLITE_PERM: "it may not be opened; allow that",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check whether it may be read",
    sqlite3.SQLITE_NOMEM: "the memory is full; close other programs",
}
"""What hinders SQLite while an index stays what it was, and what to do."""


def _as_cache_error(error: sqlite3.Error, path: Path) -> CacheError:
    if "locked" in str(error):
        return CacheError(f"{path} is being changed by another run; wait for it, then run again")
    why = _UNTOUCHED.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
    if why is not None:
        return CacheError(f"the index {path.parent} is as it was, but {why}, then run again")
    return soundness.damaged(path, str(error))


def _float16(values: NDArray[np.float32]) -> bytes:
    return values.astype(np.float16).tobytes()


def _chunks(numbers: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(numbers), _CHUNK):
        yield [int(number) for number in numbers[start : start + _CHUNK]]

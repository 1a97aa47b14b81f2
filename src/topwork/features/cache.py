"""The feature cache: a bounded, content-addressed table on disk.

A key says exactly what a value was computed from: content hash of the picture × how it was decoded × fingerprint of
the graph × name of the output. So nothing in it can be out of date, and it may be deleted at any time.

SQLite in write-ahead mode carries it: several processes may use one cache, what is put is committed at once, and each
value has a checksum, so damage is an error, not a feature.
"""

import hashlib
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from topwork import storage
from topwork.errors import CacheError
from topwork.shortage import shortage_of

_SETTINGS = """
PRAGMA page_size = 8192;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
  key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON entries (used, size);
"""
_GRAPHS = "graphs"  # the folder in which `topwork.backbones.graph` keeps its files
_TRAINING = ("activations", "training")  # the folders of `topwork.training`: feature maps at a cut, checkpoints
_FRAMES = "frames"  # the folder in which `topwork.images.kept_frames` keeps what it chose of videos
_PATIENCE = 60  # seconds to wait for other processes
_CHUNK = 500  # keys in one query; SQLite allows 32,766 variables, older builds 999
_TOUCH_AFTER = 3600  # seconds; the age of a last use is not worth a write more often


def key(content: str, decoding: str, graph: str, output: str) -> bytes:
    """The key of one value: 32 bytes.

    >>> key("a", "jpeg", "g", "features") != key("a", "jpeg", "g", "logits")
    True
    """
    return hashlib.sha256("\0".join((content, decoding, graph, output)).encode()).digest()


@dataclass(frozen=True)
class CacheInfo:
    """What ``topwork cache info`` shows; sizes in bytes."""

    path: str
    entries: int
    size: int
    """Of the features' file with all that is in its write-ahead log, and of the log; this is what has a limit."""
    limit: int
    graphs: int
    """Of the backbones' graphs in the folder beside it."""
    training: int
    """Of the activations and checkpoints of fine-tuning in the folders beside it; activations have the same limit."""
    frames: int
    """Of the chosen frames of videos in the folder beside it, which has the same limit again."""


class FeatureCache:
    """Values by key; use it as a context manager, from one thread (open one for each thread).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, FeatureCache(Path(folder)) as cache:
    ...     cache.put({b"k": b"value"})
    ...     cache.get([b"k", b"other"])
    {b'k': b'value'}
    """

    def __init__(self, folder: Path | None = None, *, limit: int | None = None) -> None:
        """Open the cache in ``folder`` (default: the cache folder); ``trim`` cuts it to ``limit`` bytes on disk.

        The default limit is the environment variable ``TOPWORK_CACHE_SIZE`` (such as ``2GB``), else 10 GB.
        """
        self.path = (folder or storage.cache_dir()) / "features.sqlite"
        self.limit = limit if limit is not None else storage.cache_limit()
        with self._errors():
            self._database = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            self._set_up()

    def _set_up(self) -> None:
        """Make the tables; SQLite does not wait by itself where two processes switch to write-ahead mode at once."""
        last = time.monotonic() + _PATIENCE
        while True:
            try:
                self._database.executescript(_SETTINGS + _SCHEMA)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > last:
                    raise
                time.sleep(0.02)

    def __enter__(self) -> "FeatureCache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def missing(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of ``keys`` that are not in the cache."""
        keys = list(keys)
        found: set[bytes] = set()
        for chunk in _chunks(keys):
            query = f"SELECT key FROM entries WHERE key IN ({_marks(chunk)})"
            found.update(row[0] for row in self._select(query, chunk))
        return set(keys) - found

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those ``keys`` that are there; a damaged value raises CacheError."""
        found: dict[bytes, bytes] = {}
        stale: list[bytes] = []
        now = int(time.time())
        for chunk in _chunks(list(keys)):
            query = f"SELECT key, value, checksum, used FROM entries WHERE key IN ({_marks(chunk)})"
            for name, value, checksum, used in self._select(query, chunk):
                if _checksum(name, value) != checksum:
                    raise CacheError(f"an entry of the feature cache {self.path} is damaged; {_REMEDY}")
                found[name] = value
                if now - used > _TOUCH_AFTER:
                    stale.append(name)
        self._touch(stale, now)
        return found

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Add values in one transaction; a full disk raises CacheError and leaves the cache as it was."""
        now = int(time.time())
        rows = [(name, value, _checksum(name, value), len(value), now) for name, value in values.items()]
        with self._errors(), self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows)

    def trim(self) -> int:
        """Remove the least recently used entries until the file is within the limit; returns the bytes given back."""
        with self._errors():
            before = self._size()
            if before <= self.limit:
                return 0
            self._empty_log()
            while (excess := self._size() - self.limit) > 0 and (victims := self._oldest(excess)):
                with self._transaction():
                    self._database.executemany("DELETE FROM entries WHERE rowid = ?", victims)
                # Not execute: it takes one step of the statement, which frees one page.
                self._database.executescript("PRAGMA incremental_vacuum")
                self._empty_log()
            return max(0, before - self._size())

    def _oldest(self, excess: int) -> list[tuple[int]]:
        """Rows of the least recently used entries that take about ``excess`` bytes on disk; none in an empty cache."""
        total = self._database.execute("SELECT sum(size) FROM entries INDEXED BY by_use").fetchone()[0]
        a_byte_on_disk = self._size() / max(1, total or 0)
        victims: list[tuple[int]] = []
        by_use = "SELECT rowid, size FROM entries INDEXED BY by_use ORDER BY used"
        # Closed, because a query that was not read to its end would keep the log from shrinking.
        with closing(self._database.execute(by_use)) as rows:
            for row, size in rows:
                if excess <= 0:
                    break
                victims.append((row,))
                excess -= max(1, round(size * a_byte_on_disk))
        return victims

    def info(self) -> CacheInfo:
        """Number of entries, and bytes on disk."""
        count = self._select("SELECT count(*) FROM entries INDEXED BY by_use", ())[0][0]
        with self._errors():
            graphs, frames, *training = (_folder_size(self.path.parent / n) for n in (_GRAPHS, _FRAMES, *_TRAINING))
            return CacheInfo(str(self.path), count, self._size(), self.limit, graphs, sum(training), frames)

    def _size(self) -> int:
        pages, free, page = (
            self._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page) + _file_size(_beside(self.path, "-wal"))

    def _empty_log(self) -> None:
        """Move the write-ahead log into the file; another process that is reading may keep it from shrinking."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _touch(self, names: list[bytes], now: int) -> None:
        if names:
            with self._errors(), self._transaction():
                self._database.executemany("UPDATE entries SET used = ? WHERE key = ?", [(now, n) for n in names])

    def _select(self, query: str, values: Iterable[bytes]) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._database.execute(query, tuple(values)).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite has rolled back by itself when the disk is full
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if short := shortage_of(error):
                raise short from error
            text = str(error)
            if "full" in text or "disk I/O" in text:
                raise CacheError(
                    f"the feature cache {self.path} cannot grow ({text}); free some space or set TOPWORK_CACHE_DIR "
                    "to a folder on another disk"
                ) from error
            if "readonly" in text or "unable to open" in text:
                raise CacheError(
                    f"the feature cache {self.path} cannot be written ({text}), perhaps because it is another user's; "
                    f"{storage.OWN_CACHE}"
                ) from error
            if isinstance(error, sqlite3.OperationalError) and "locked" in text:
                raise CacheError(
                    f"the feature cache {self.path} was busy for a minute; wait for other runs, then run again"
                ) from error
            raise CacheError(f"the feature cache {self.path} cannot be read ({text}); {_REMEDY}") from error


_REMEDY = "run `topwork cache clear`, then run again (only time is lost)"


def clear(folder: Path | None = None) -> int:
    """Delete all features, damaged or not, graphs, frames and what training keeps; returns the bytes freed on disk."""
    folder = folder or storage.cache_dir()
    path, freed = folder / "features.sqlite", 0
    with storage.keeping(folder):
        for place in (folder / name for name in (_GRAPHS, _FRAMES, *_TRAINING)):
            freed += _folder_size(place)
            if place.is_dir():
                shutil.rmtree(place)
        for name in (path, _beside(path, "-wal"), _beside(path, "-shm")):
            if name.exists():
                freed += name.stat().st_size
                name.unlink()
    return freed


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # there is none, or another process has just removed it
        return 0


def _folder_size(folder: Path) -> int:
    return sum(_file_size(path) for path in folder.rglob("*") if not path.is_dir())


def _checksum(name: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, key=name[:64], digest_size=8).digest()


def _chunks(keys: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


def _marks(chunk: list[bytes]) -> str:
    return ",".join("?" * len(chunk))

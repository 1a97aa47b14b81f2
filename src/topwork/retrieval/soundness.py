"""Whether the table of an index is one that topwork could have written: it may be damaged, or come from a stranger.

SQLite runs what a file asks of it: triggers, views, virtual tables, a journal that names another file and has it
deleted. So a file is looked at before SQLite sees it (`check_files`), and what it holds has to be the schema of topwork
and nothing else (`check_schema`). Every row has its types and bounds (`check_row`, `check_parts`), because SQLite keeps
any type in any column.
"""

import math
import os
import re
import sqlite3
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topwork import storage
from topwork.errors import CacheError

LONGEST = 64_000_000  # bytes of one value: the axes of a treatment are the largest
_TEXT = 131_072  # characters of a path, a label
_PIXELS = 2**31
_THUMBNAIL = 200_000  # bytes; one of 128 x 128 pixels has 20,000 at most
_FEATURES = 2 * 100_000  # bytes of half-precision numbers
_HEX = re.compile(r"[0-9a-f]{64}")
_JOURNAL_NAMES_ANOTHER = bytes.fromhex("d9d505f920a163d7")  # the end of a journal of several databases

_COLUMNS: Mapping[str, tuple[type, ...]] = {
    "id": (int,), "source": (int,), "path": (str,), "location": (str,), "content": (str,), "label": (str, type(None)),
    "split": (str, type(None)), "group": (str, type(None)), "size": (int, type(None)), "time": (str, type(None)),
    "width": (int,), "height": (int,), "format": (str,), "sharpness": (float,), "brightness": (float,),
    "phash": (int,), "stamp": (str, type(None)),
}  # fmt: skip


def check_files(path: Path) -> None:
    """CacheError where the table's file is not one that SQLite may see.

    It is not opened here: closing it would free every lock that this process holds on it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise damaged(path, "it is no regular file")
    except OSError as error:
        raise CacheError(f"the index {path.parent} cannot be read ({storage.reason(error)}); check the path") from error
    for ending in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{ending}"):
            raise damaged(path, f"there is a file {path.name}{ending}, which topwork never makes")
    _check_journal(path.with_name(f"{path.name}-journal"))


def _check_journal(path: Path) -> None:
    """A journal of topwork is of one database; SQLite deletes the file that another kind of journal names."""
    try:
        if not os.path.lexists(path):
            return
        if not stat.S_ISREG(path.lstat().st_mode):
            raise damaged(path, "its journal is no regular file")
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8))
            if file.read(8) == _JOURNAL_NAMES_ANOTHER:
                raise damaged(path, "its journal names another file")
    except OSError:  # gone meanwhile, or not readable: then SQLite cannot read it either
        return


def check_schema(database: sqlite3.Connection, path: Path, schema: str) -> None:
    """CacheError where a database holds anything but ``schema``: a trigger, a view, another table."""
    if database.execute("PRAGMA journal_mode").fetchone() != ("delete",):
        raise damaged(path, "it keeps its changes in another way")
    found = set(database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    own = sqlite3.connect(":memory:")
    own.executescript(schema)
    expected = set(own.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
    own.close()
    if found != expected:
        strange = sorted(str(name) for _, name, _, _ in found ^ expected)
        raise damaged(path, f"its tables are not those of topwork: {strange[0][:60]!r}")


def check_row(values: tuple[Any, ...], path: Path) -> None:
    """CacheError where a row of pictures has anything but the types and bounds that topwork writes."""
    for (name, kinds), value in zip(_COLUMNS.items(), values, strict=True):
        is_sound = isinstance(value, kinds)
        if isinstance(value, str):
            is_sound &= len(value) <= _TEXT and "\0" not in value
        elif isinstance(value, float):
            is_sound &= math.isfinite(value)
        elif name in ("width", "height"):
            is_sound &= 0 < value < _PIXELS if is_sound else False
        elif name == "size" and isinstance(value, int):
            is_sound &= value >= 0
        if not is_sound or (name == "content" and not _HEX.fullmatch(value)):
            raise damaged(path, f"{name!r} of a picture is no such value")


def check_parts(values: tuple[Any, ...], widths: tuple[int, int], path: Path) -> None:
    """CacheError where what is kept beside a row is not as topwork writes it; ``widths``: bytes of the first row's."""
    number, thumbnail, features, twins = values
    is_sound = isinstance(number, int) and isinstance(thumbnail, bytes) and isinstance(features, bytes)
    if not is_sound or len(thumbnail) > _THUMBNAIL or not thumbnail.startswith(b"\xff\xd8\xff"):
        raise damaged(path, "a thumbnail is no small JPEG")
    if not 0 < len(features) <= _FEATURES or len(features) % 2 or len(features) != widths[0]:
        raise damaged(path, "the features of a picture have another length")
    is_twin = twins is None or (isinstance(twins, bytes) and len(twins) % 2 == 0)
    if not is_twin or (0 if twins is None else len(twins)) != widths[1]:
        raise damaged(path, "the features of a picture have another length")


def damaged(path: Path, why: str) -> CacheError:
    """The error for a table that cannot be used."""
    return CacheError(
        f"expected the table of an index at {path}, but it is damaged or from somewhere else: {why}; delete the index "
        "and run `topwork index` again"
    )

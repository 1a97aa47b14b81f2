"""Filters: an SQL expression over the columns of the table, which can read them and do nothing else.

The expression comes from a person, or from whoever a person lets ask, and the texts that it looks at from whoever made
the index. It runs on a connection of its own that was opened for reading; SQLite asks `_allowed` about every step of
the compiled statement, so that it cannot write, attach a file, read another table, select once more, load an extension
or recurse; and it is stopped after a while. SQLite looks at the clock between two of its steps only, and one step may
compare two texts in a time that grows with the product of their lengths: so these are short (`_LIMITS`).
"""

import re
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import CacheError, UsageError
from topwork.registry import closest
from topwork.retrieval.table import COLUMNS, connect

_SECONDS = 10.0  # that an expression may take
_STEPS = 10  # of SQLite's machine, from one look at the clock to the next: each takes 0.1 s at most
_LONGEST = 10_000  # bytes of a value, also on the way; more than a path or a label has
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: _LONGEST,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 500,  # also of GLOB
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 500,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 1,
    sqlite3.SQLITE_LIMIT_COLUMN: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 30_000,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_SHOWN = 200  # characters of a filter in a message
_FUNCTIONS = {
    "abs", "ceil", "coalesce", "date", "datetime", "floor", "glob", "ifnull", "iif", "instr", "julianday", "length",
    "like", "lower", "ltrim", "max", "min", "nullif", "replace", "round", "rtrim", "sign", "strftime", "substr",
    "substring", "time", "trim", "unixepoch", "upper",
}  # fmt: skip
_EXAMPLE = "such as \"label = 'classic' AND width > 500\""


def matching(folder: Path, where: str, values: Sequence[Any] = ()) -> NDArray[np.int64]:
    """The numbers of the rows for which the expression ``where`` is true, ascending.

    ``values`` take the places of its question marks. UsageError where it is no expression over `COLUMNS`.
    """
    _check_names(where)
    try:
        database = connect(folder, "ro", timeout=60)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise CacheError(f"the index {folder} cannot be opened ({error}); run `topwork index` again") from error
    try:
        for limit, most in _LIMITS.items():
            database.setlimit(limit, most)
        until = time.monotonic() + _SECONDS
        database.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS)
        # The line break ends a comment that would swallow the bracket.
        query = f"SELECT id FROM pictures WHERE (\n{where}\n) ORDER BY id"
        _check_alone(database, query)
        database.set_authorizer(_allowed)
        found = database.execute(query, tuple(values)).fetchall()
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        if "locked" in str(error) or "unable to open" in str(error):
            raise CacheError(f"{folder} is being changed by another run; wait for it, then search again") from error
        given = repr(where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…")
        raise UsageError(f"expected a filter {_EXAMPLE}, but {given} is none: {_why(error)}") from error
    finally:
        database.close()
    return np.array([number for (number,) in found], np.int64)


def _check_names(where: str) -> None:
    """UsageError for an unknown name in double quotes, which SQLite takes for text: nothing would be found."""
    if len(where) > _LIMITS[sqlite3.SQLITE_LIMIT_SQL_LENGTH]:
        raise UsageError(f"expected a filter {_EXAMPLE}, but it has {len(where):,} characters; make it shorter")
    for name in re.findall(r'"([^"]*)"', re.sub(r"'(?:[^']|'')*+'", "", where)):
        if name not in COLUMNS:
            raise UsageError(
                f"expected a filter {_EXAMPLE}, but there is no column {name!r}: {closest(name, COLUMNS)}; text stands "
                "in single quotes"
            )


def _check_alone(database: sqlite3.Connection, query: str) -> None:
    """Raise where a SELECT stands in the filter: it could join the table with itself, or fill the disk."""
    selects = count()

    def alone(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_SELECT:
            return sqlite3.SQLITE_OK if next(selects) == 0 else sqlite3.SQLITE_DENY
        return _allowed(action, first, second)

    database.set_authorizer(alone)
    # Compiled once, and no value bound: with one SQLite may compile again, and would ask again.
    with suppress(sqlite3.ProgrammingError):
        database.execute(f"EXPLAIN {query}").close()


def _allowed(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action == sqlite3.SQLITE_SELECT:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and first == "pictures" and (second in COLUMNS or second == ""):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second in _FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


_QUOTED = 200  # characters


def _why(error: Exception) -> str:
    text = str(error).partition("\n")[0][:_QUOTED]  # SQLite may quote the rest of the query
    if "interrupted" in text:
        return f"it took more than {_SECONDS:.0f} seconds"
    if "too big" in text or "pattern too complex" in text:
        return f"a text may have {_LONGEST:,} characters, and a pattern of LIKE or GLOB 500 ({text})"
    if "not authorized" in text or "prohibited" in text:
        return f"a filter may only compare columns and call simple functions ({text})"
    if "no such column" in text or "no such function" in text:
        return f"{text}; the columns are {', '.join(COLUMNS)}, and text stands in single quotes"
    return text

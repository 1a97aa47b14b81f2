"""Tables as CSV that a spreadsheet program shows as they are, and that read back as they were.

A spreadsheet program takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, and a formula may
start a program or send what is in the table elsewhere; labels and file names may come from a stranger. So a text gets
an apostrophe in front of whatever could begin a formula: at its start and, because a program that expects semicolons or
tabs cuts there, after each of those and after each line break. Apostrophes, blanks and characters without a width may
stand between. Reading takes an apostrophe away exactly where writing would have put one. Numbers stay numbers.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

_NUMBER = re.compile(r"[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?")


class Number(str):
    """A number in the digits that it is to have in its cell; a text that is none stays guarded.

    >>> csv_row([Number("-0.50"), Number("-x")])
    "-0.50,'-x\\n"
    """


Cell = str | int | float | None

_FORMULA = frozenset(
    "=+-@\u2212\u207a\u207b\u207c\u208a\u208b\u208c\u2a75\u2a76\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
)
"""What a formula may begin with, also raised, small and full-width, as some keyboards write it."""
_CUTS = frozenset(";\t\r\n")
_LOST = ("\t", "\r", "\n")  # at the start of a cell some programs drop them, and look at what follows
_SPECIAL = re.compile(r'[",;\s\x00-\x1f\x7f-\x9f]')


def guarded(text: str) -> str:
    """A text as it stands in a cell.

    >>> guarded("=1+1"), guarded("'-3"), guarded("ant; @bee"), guarded("don't - stop")
    ("'=1+1", "''-3", "ant;' @bee", "don't - stop")
    """
    return _pieced(text, _starts(text), "'")


def unguarded(cell: str) -> str:
    """The text that stands in a cell: what `guarded` was given.

    >>> unguarded("'=1+1"), unguarded("''-3"), unguarded("=1+1"), unguarded("'tis")
    ('=1+1', "'-3", '=1+1', "'tis")
    """
    return _pieced(cell, [start for start in _starts(cell) if cell[start] == "'"], "")


def text_in(cell: str) -> str:
    """The text that stands in a cell, without the blanks around.

    >>> text_in("'=1+1 "), text_in(" '=1+1"), text_in("'\\n")
    ('=1+1', '=1+1', '')
    """
    # Behind the apostrophe a blank may be what it guards; before it a person put it.
    return unguarded(cell).strip() if cell.startswith("'") else unguarded(cell.strip())


def heading(cell: str) -> str:
    """The name of a column as it is compared, however it is written.

    >>> heading(' "Path" ')
    'path'
    """
    return cell.strip().strip('"').strip().lower()


def csv_row(cells: Iterable[Cell]) -> str:
    """One row with its line end: texts guarded, numbers plain, nothing for None; any text is one cell.

    >>> csv_row(["a;b.jpg", "-3", -3, 0.5, None])
    '"a;b.jpg",\\'-3,-3,0.5,\\n'
    """
    return ",".join(_written(cell) for cell in cells) + "\n"


def csv_text(header: Iterable[str], rows: Iterable[Iterable[Cell]]) -> str:
    """A table: its header, then its rows.

    >>> csv_text(("path", "label"), [("a.jpg", "@ant")])
    "path,label\\na.jpg,'@ant\\n"
    """
    return csv_row(header) + "".join(csv_row(row) for row in rows)


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return str(cell)
    text = cell if isinstance(cell, Number) and _NUMBER.fullmatch(cell) else guarded(cell)
    # Not csv.writer: it leaves a carriage return bare, where readers end the row.
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


def _starts(text: str) -> list[int]:
    """Where a formula could begin: at the start or after a cut, behind what is skipped; one pass from the right."""
    is_lost = text.lstrip("'").startswith(_LOST)
    if _FORMULA.isdisjoint(text) and not is_lost:
        return []
    starts, is_formula = [], False
    for at in range(len(text) - 1, -1, -1):
        if not _is_skipped(text[at]):
            is_formula = text[at] in _FORMULA
        if (is_formula and (at == 0 or text[at - 1] in _CUTS)) or (is_lost and at == 0):
            starts.append(at)
    return starts[::-1]


def _pieced(text: str, starts: list[int], instead: str) -> str:
    """The text with an apostrophe put in at each of ``starts``, or, ``instead`` of one that is there, nothing."""
    parts, end = [], 0
    for start in starts:
        parts += [text[end:start], instead]
        end = start if instead else start + 1
    return "".join(parts) + text[end:]


@cache
def _is_skipped(char: str) -> bool:
    return char == "'" or char.isspace() or unicodedata.category(char) in ("Cc", "Cf")

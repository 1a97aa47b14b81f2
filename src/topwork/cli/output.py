"""How results are printed: JSON for machines, short tables for people."""

import codecs
import io
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer

from topwork.errors import TopworkError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def prepare_streams() -> None:
    """Make stdout and stderr take any text: what their encoding lacks is escaped; a closed one swallows everything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as in `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def to_stdout() -> Iterator[None]:
    """What fails in writing to stdout as one sentence; a reader that has gone away is left to the caller."""
    from topwork.storage import reason

    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_stdout()
        raise TopworkError(f"cannot write the result to stdout: {reason(error)}; send it elsewhere") from error


def give_up_stdout() -> None:
    """What is left in it goes nowhere: it must not fail again when Python flushes it at exit."""
    with suppress(io.UnsupportedOperation):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any) -> None:
    """One JSON document on stdout; in ASCII with escapes where stdout is not UTF-8."""
    with to_stdout():
        sys.stdout.write(json_text(value, indent=1, ascii_only=not _is_utf8(sys.stdout)) + "\n")


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON that a terminal can show: control characters, also those that change the direction of text, are escaped.

    >>> print(json_text(["a\u202eb", "\x9b2J", "k\xe4fer"]))
    ["a\\u202eb", "\\u009b2J", "käfer"]
    """
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _is_utf8(stream: Any) -> bool:
    encoding = getattr(stream, "encoding", None)
    try:
        return encoding is not None and codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def print_lines(lines: Iterable[str]) -> None:
    """Plain lines on stdout; on a terminal no word is cut at its edge."""
    for line in lines:
        with to_stdout():
            typer.echo("\n".join(fitted(printable(line), sys.stdout)))


def fitted(line: str, stream: Any) -> list[str]:
    """A line in parts that fit the terminal that a stream is, further ones indented; itself where it is none.

    >>> fitted("  note: " + "so " * 40, sys.stdin) == ["  note: " + "so " * 40]
    True
    """
    if not stream.isatty():
        return [line]
    width = shutil.get_terminal_size().columns
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    # Paths and options stay whole: they are copied.
    whole = line.replace(" %", "\xa0%")
    parts = textwrap.wrap(whole, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return [part.replace("\xa0%", " %") for part in parts]


def percent(value: float | None) -> str:
    """A share as a percentage with one digit; a dash for what was not measured.

    >>> percent(0.9537), percent(None)
    ('95.4 %', '-')
    """
    return "-" if value is None else f"{100 * value:.1f} %"


def spread(interval: dict[str, Any]) -> str:
    """A share with its interval.

    >>> spread({"value": 0.95, "low": 0.76, "high": 0.99})
    '95.0 % (76.0 to 99.0 %)'
    """
    return f"{percent(interval['value'])} ({100 * interval['low']:.1f} to {percent(interval['high'])})"


def balanced(facts: dict[str, Any]) -> str:
    """The line on balanced accuracy below that on accuracy."""
    return f"  every class counting alike (balanced accuracy): {percent(facts['balanced_accuracy'])}"


def counted(count: int, one: str, many: str) -> str:
    """A count with the words that follow it.

    >>> counted(1, "label looks", "labels look"), counted(2000, "label looks", "labels look")
    ('1 label looks', '2,000 labels look')
    """
    return f"{count:,} {one if count == 1 else many}"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A table that fits the terminal; columns in ``right`` are aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_plain, row))
    with to_stdout():
        Console(highlight=False, soft_wrap=False).print(table)


def _plain(text: str) -> Any:
    """Text as it is: brackets in file names are not markup."""
    from rich.text import Text

    return Text(printable(text))


def printable(text: str) -> str:
    """One line without control characters, whatever the names of files in it.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cut(items: Sequence[Any], most: int) -> tuple[Sequence[Any], str | None]:
    """The first ``most`` items, and a line that says how many were left out.

    >>> cut([1, 2, 3], 2)
    ([1, 2], '... and 1 more (--json lists all)')
    """
    rest = len(items) - most
    return items[:most], f"... and {rest} more (--json lists all)" if rest > 0 else None

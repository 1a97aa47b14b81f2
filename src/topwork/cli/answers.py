"""The answers of ``topwork predict`` as a table in a file: CSV, JSON Lines or Parquet, written while they come."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Protocol

from topwork.errors import TopworkError, UsageError

ENDINGS = (".csv", ".jsonl", ".parquet")
_ROWS_AT_ONCE = 4096  # of a Parquet file: a row group

Row = Mapping[str, Any]


class Table(Protocol):
    """What takes one answer after the other."""

    def add(self, row: Row) -> None:
        """One row, as in ``topwork predict --json``."""


def check_table(path: Path, given: Sequence[str]) -> None:
    """Raise before the work where a table could not be written to ``path``, or would replace what was ``given``."""
    from topwork import storage

    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"expected a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, not {path}")
    if path.is_dir():
        raise TopworkError(f"cannot write {path}: it is a folder; choose another name with -o")
    if any(path.resolve() == Path(each).resolve() for each in given if "://" not in each):
        raise UsageError(f"expected another file for the answers than {path}, which is asked about; choose another")
    if path.suffix.lower() == ".parquet":
        _pyarrow()
    storage.check_writable(path)


def columns(top: int, *, videos: bool) -> list[str]:
    """The columns of CSV and Parquet: the answer, the next best classes, of videos also the moment.

    >>> columns(2, videos=False)
    ['path', 'label', 'probability', 'known', 'novelty', 'label_2', 'probability_2', 'error']
    """
    names = ["path", "label", "probability", "known", "novelty"]
    names += [f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "probability")]
    return [*names, *(["video", "time", "raw_label", "raw_probability"] if videos else []), "error"]


def values(row: Row, top: int, *, videos: bool) -> list[Any]:
    """What stands in the columns; None for what a row does not have.

    >>> first, second = {"label": "ant", "probability": 0.75}, {"label": "bee", "probability": 0.25}
    >>> row = {"path": "a.jpg", **first, "known": True, "novelty": 0.5, "top": [first, second], "error": None}
    >>> values(row, 3, videos=False)
    ['a.jpg', 'ant', 0.75, True, 0.5, 'bee', 0.25, None, None, None]
    """
    cells = [row[name] for name in ("path", "label", "probability", "known", "novelty")]
    for place in range(1, top):
        other = row["top"][place] if place < len(row["top"]) else {}
        cells += [other.get("label"), other.get("probability")]
    if videos:
        raw = row.get("raw", {})
        cells += [row.get("video"), row.get("time"), raw.get("label"), raw.get("probability")]
    return [*cells, row["error"]]


def writing(path: Path | None, *, top: int, videos: bool) -> AbstractContextManager[Table | None]:
    """A table that has its name once all rows are in it: a run that ends before leaves the old file; None for none."""
    return nullcontext() if path is None else _written(path, top, videos)


@contextmanager
def _written(path: Path, top: int, videos: bool) -> Iterator[Table]:
    from topwork import storage

    kind: Any = {".csv": _Csv, ".jsonl": _Lines, ".parquet": _Parquet}[path.suffix.lower()]
    others: OSError | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.writing_atomic(path) as file:
            table = kind(file, top, videos)
            try:
                yield _Named(table, path)
            except OSError as error:  # not of this file
                others = error
                raise
            table.finish()
    except OSError as error:
        if error is others:
            raise
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> TopworkError:
    from topwork import storage

    return TopworkError(f"cannot write {path}: {storage.reason(error)}; choose another place with -o")


class _Named:
    """A table whose errors name its file."""

    def __init__(self, table: Table, path: Path) -> None:
        self._table, self._path = table, path

    def add(self, row: Row) -> None:
        try:
            self._table.add(row)
        except OSError as error:
            raise _failed(self._path, error) from error


class _Csv:
    def __init__(self, file: IO[bytes], top: int, videos: bool) -> None:
        self._file, self._top, self._videos = file, top, videos
        self._write(columns(top, videos=videos))

    def add(self, row: Row) -> None:
        self._write(map(_cell, values(row, self._top, videos=self._videos)))

    def finish(self) -> None:
        pass

    def _write(self, cells: Any) -> None:
        from topwork.tables import csv_row

        # A name that is no Unicode stands as Python escapes it: a CSV file has to be UTF-8.
        self._file.write(csv_row(cells).encode("utf-8", "backslashreplace"))


def _cell(value: Any) -> Any:
    from topwork.tables import Number

    if isinstance(value, bool):
        return "true" if value else "false"
    return Number(f"{value:.6f}") if isinstance(value, float) else value


class _Lines:
    """One JSON object a line, as in the list of ``--json``."""

    def __init__(self, file: IO[bytes], top: int, videos: bool) -> None:
        self._file = file

    def add(self, row: Row) -> None:
        from topwork.cli.output import json_text

        self._file.write(f"{json_text(row)}\n".encode())

    def finish(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: IO[bytes], top: int, videos: bool) -> None:
        self._arrow, parquet = _pyarrow()
        self._top, self._videos, self._rows = top, videos, list[list[Any]]()
        self._schema = self._arrow.schema([(name, self._kind(name)) for name in columns(top, videos=videos)])
        self._writer = parquet.ParquetWriter(file, self._schema)

    def add(self, row: Row) -> None:
        self._rows.append([_unicode(value) for value in values(row, self._top, videos=self._videos)])
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def finish(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        found = zip(*self._rows, strict=True)
        arrays = [self._arrow.array(column, field.type) for column, field in zip(found, self._schema, strict=True)]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()

    def _kind(self, name: str) -> Any:
        if name == "known":
            return self._arrow.bool_()
        number = name in ("novelty", "time") or name.startswith(("probability", "raw_probability"))
        return self._arrow.float64() if number else self._arrow.string()


def _unicode(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _pyarrow() -> tuple[Any, Any]:
    from topwork.extra import package

    arrow, parquet = (package(name, "a table in Parquet", "parquet") for name in ("pyarrow", "pyarrow.parquet"))
    return arrow, parquet

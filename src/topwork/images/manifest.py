"""Manifests: a CSV or TSV file with a row a picture."""

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from topwork.errors import ImageError, SourceError
from topwork.images.sample import SPLITS, Excluded, Sample, shown
from topwork.images.storage import answers_quickly, is_url, kind_of, local_path, read_bytes, resolve_url
from topwork.tables import unguarded

SUFFIXES = (".csv", ".tsv", ".txt")
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t,;", ".txt": "\t,;"}
_COLUMNS = ("path", "label", "split", "group", "time")
_HOW = 'the header is "path,label", optionally with "split" and "group"'


@dataclass
class _Rows:
    """What has been read so far; ``first``: location -> the line and the label that it first had."""

    samples: list[Sample] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    first: dict[str, tuple[int, str | None]] = field(default_factory=dict)


def read_manifest(location: str) -> tuple[list[Sample], list[Excluded]]:
    """The samples of a manifest sorted by id, and the rows left out.

    Columns: ``path`` (relative to the manifest's folder, absolute, or a URL), and, if there, ``label``,
    ``split`` (train, training, val, validation, valid, test, testing or empty), ``group`` and ``time`` (of a
    frame of a video, in seconds; what is no number is ignored); others are ignored, and so are blanks around a value,
    unless there is a file whose name begins or ends with them.
    The delimiter is a comma, semicolon or tab. Paths behind network URLs are not looked up: a missing one is an
    ImageError when it is read. SourceError if it is no manifest, has no rows, or gives one picture two labels.
    """
    rows = _Rows()
    for line, cells in _records(location):
        _add(rows, location, line, cells)
    if not rows.samples and not rows.excluded:
        raise SourceError(f"expected a row for each picture in {shown(location)}, but there is none; {_HOW}")
    rows.samples.sort(key=lambda sample: sample.id)
    rows.excluded.sort(key=lambda excluded: excluded.path)
    return rows.samples, rows.excluded


def _records(location: str) -> Iterator[tuple[int, dict[str, str] | list[str]]]:
    """Line number and the known columns of each row, without the blanks around; all cells of one that is too short."""
    text = _text(location)
    delimiter = _delimiter(text, PurePosixPath(location).suffix.lower())
    # strict: otherwise a quote that is never closed swallows all the rows after it
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(reader, []), location)
        for cells in reader:
            if not cells:
                continue
            raw, cells = [unguarded(cell) for cell in cells], [unguarded(cell.strip()) for cell in cells]
            short = len(cells) <= max(at for name, at in columns.items() if name != "time")
            known = {name: cells[at] for name, at in columns.items() if at < len(cells)}
            if not short:
                known["path"] = path_in(location, raw[columns["path"]])
            yield reader.line_num, cells if short else known
    except csv.Error as error:
        raise SourceError(
            f"expected CSV in {shown(location)}, but line {reader.line_num} is broken: {error}; check its quotes"
        ) from error


def path_in(manifest: str, cell: str) -> str:
    """The path that a cell of ``manifest`` stands for: blanks around it are part of it where a file has that name."""
    path = cell.strip()
    if cell == path or not path or is_url(path):
        return path
    location = _locate(manifest, cell)
    is_known = not is_url(location) or answers_quickly(location)
    return cell if is_known and kind_of(location) == "file" else path


def _text(location: str) -> str:
    try:
        data = read_bytes(location)
    except ImageError as error:
        raise SourceError(f"expected a manifest at {shown(location)}, but: {error}") from error
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # "Unicode text" of spreadsheet programs
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"expected UTF-8 text in {shown(location)}, but byte {error.start} is not; save it as CSV UTF-8"
        ) from error


def _delimiter(text: str, suffix: str) -> str:
    candidates = _DELIMITERS.get(suffix, ",;\t")
    header = text.splitlines()[0] if text else ""
    for delimiter in candidates:
        if "path" in (_name(cell) for cell in header.split(delimiter)):
            return delimiter
    return candidates[0]


def _name(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def _columns(header: list[str], location: str) -> dict[str, int]:
    names = [_name(cell) for cell in header]
    for name in _COLUMNS:
        if names.count(name) > 1:
            raise SourceError(f"expected one column {name!r} in {shown(location)}, but there are more; {_HOW}")
    if "path" not in names:
        listed = shown(", ".join(header)[:60]) if any(names) else "nothing"
        raise SourceError(f"expected a column 'path' in {shown(location)}, but its first line is {listed}; {_HOW}")
    return {name: names.index(name) for name in _COLUMNS if name in names}


def _add(rows: _Rows, manifest: str, line: int, cells: dict[str, str] | list[str]) -> None:
    if isinstance(cells, list):
        rows.excluded.append(Excluded(cells[0] or f"line {line}", f"too few columns in line {line}"))
        return
    path, label = cells["path"], cells.get("label", "")
    reason = _fault(cells, line)
    if reason:
        rows.excluded.append(Excluded(path or f"line {line}", reason))
        return
    location = _locate(manifest, path)
    reason = _repeated(rows, location, path, label, line) or _missing(location)
    if reason:
        rows.excluded.append(Excluded(path, reason))
        return
    split = SPLITS.get(cells.get("split", "").lower())
    time = _seconds(cells.get("time", ""))
    rows.samples.append(Sample(path, location, label or None, split, cells.get("group") or None, time))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    except ValueError:  # a time of the day, or nothing
        return None


def _fault(cells: dict[str, str], line: int) -> str | None:
    if not cells["path"]:
        return f"no path in line {line}"
    split = cells.get("split", "")
    if split and split.lower() not in SPLITS:
        return f"the split in line {line} is {split!r}, not one of {', '.join(SPLITS)}"
    return None


def _locate(manifest: str, path: str) -> str:
    if is_url(path):
        return local_path(path)
    if is_url(manifest):
        return resolve_url(manifest, path)
    return os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(manifest)), path))


def _repeated(rows: _Rows, location: str, path: str, label: str, line: int) -> str | None:
    first = rows.first.setdefault(location, (line, label or None))
    if first[0] == line:
        return None
    if first[1] != (label or None):
        raise SourceError(
            f"expected one label for {shown(path)}, but it is {first[1]!r} in line {first[0]} and "
            f"{label or None!r} in line {line} of the manifest; correct one of them"
        )
    return f"line {line} repeats line {first[0]}"


def _missing(location: str) -> str | None:
    if "\0" in location:
        return "file not found"
    if is_url(location) and not answers_quickly(location):
        return None
    return {"missing": "file not found", "folder": "a folder, not a file", "file": None}[kind_of(location)]

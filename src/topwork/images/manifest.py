"""Manifests: a CSV or TSV file with a row a picture."""

import csv
import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from topwork.errors import ImageError, MissingExtraError, SourceError
from topwork.images.names import plain, spellings, unified
from topwork.images.reach import Reach
from topwork.images.sample import SPLITS, Excluded, Sample, shown
from topwork.images.storage import (
    NOT_REGULAR,
    answers_quickly,
    is_url,
    kind_of,
    local_path,
    read_bytes,
    resolve_url,
)
from topwork.images.text import text_of
from topwork.tables import heading, text_in, unguarded

SUFFIXES = (".csv", ".tsv", ".txt")
MAX_BYTES = 200_000_000
"""Bytes of a manifest: two million rows of a hundred letters."""
MAX_COLUMNS = 1_000
MAX_ROWS = 5_000_000
MAX_LETTERS = {"path": 4096, "label": 500, "group": 4096}
_HEADER = 100_000  # letters of the first line in which a delimiter is looked for
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t,;", ".txt": "\t,;"}
_CALLED = {",": "comma", ";": "semicolon", "\t": "tab"}
_COLUMNS = ("path", "label", "split", "group", "time")
_HOW = 'the header is "path,label", optionally with "split" and "group"'


@dataclass
class Manifest:
    """What a manifest says. ``samples`` and ``excluded``: sorted by id; ``notes``: sentences on what was unified."""

    samples: list[Sample] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Rows:
    """What has been read so far; ``first``: location -> the line and the label that it first had."""

    manifest: str
    reach: Reach
    found: Manifest = field(default_factory=Manifest)
    first: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)

    def exclude(self, path: str, reason: str) -> None:
        self.found.excluded.append(Excluded(path, reason))


@dataclass(frozen=True)
class _Row:
    """A row. ``cells``: the known columns without the blanks around; ``fault``: why they mean nothing."""

    line: int
    cells: dict[str, str]
    fault: str | None = None


def read_manifest(location: str, reach: Reach) -> Manifest:
    """The samples of a manifest, and the rows left out, each with its reason.

    Columns: ``path`` (relative to the manifest's folder, absolute, or a URL), and, if there, ``label``,
    ``split`` (train, training, val, validation, valid, test, testing or empty), ``group`` and ``time`` (of a
    frame of a video, in seconds; what is no number is ignored); others are ignored, and so are blanks around a value,
    unless there is a file whose name begins or ends with them. Labels count in composed letters (NFC); a file is found
    also where its name is stored in another form than in the manifest. ``reach``: what a path may lead to.
    The delimiter is a comma, semicolon or tab. Paths behind network URLs are not looked up: a missing one is an
    ImageError when it is read. SourceError if it is no manifest, has no rows, is beyond the limits of this module, or
    gives one picture two labels.
    """
    rows = _Rows(location, reach)
    for row in _records(location):
        _add(rows, row)
    found = rows.found
    if not found.samples and not found.excluded:
        raise SourceError(f"expected a row for each picture in {shown(location)}, but there is none; {_HOW}")
    found.samples.sort(key=lambda sample: sample.id)
    found.excluded.sort(key=lambda excluded: excluded.path)
    found.notes = unified(rows.labels)
    return found


def _records(location: str) -> Iterator[_Row]:
    text = _text(location)
    delimiter = _delimiter(text, PurePosixPath(location).suffix.lower())
    # strict: otherwise a quote that is never closed swallows all the rows after it
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        columns = _columns(header, location)
        for number, cells in enumerate(reader):
            if number >= MAX_ROWS:
                raise SourceError(
                    f"expected at most {MAX_ROWS:,} rows in {shown(location)}, but there are more; split it"
                )
            if cells:
                yield _row(reader.line_num, cells, columns, len(header), delimiter)
    except csv.Error as error:
        raise SourceError(
            f"expected CSV in {shown(location)}, but line {reader.line_num} is broken: {error}; check its quotes"
        ) from error


def _row(line: int, raw: list[str], columns: dict[str, int], width: int, delimiter: str) -> _Row:
    raw, cells = [unguarded(cell) for cell in raw], [text_in(cell) for cell in raw]
    known = {name: cells[at] for name, at in columns.items() if at < len(cells)}
    if len(cells) <= max(at for name, at in columns.items() if name != "time"):
        return _Row(line, {"path": cells[0]}, f"too few columns in line {line}")
    if any(cells[width:]):
        # Cut, "cat, big" and "cat, small" would become one class.
        mark = _CALLED[delimiter]
        fault = f"{len(cells)} cells in line {line}, the header has {width}; put a value with a {mark} in it in quotes"
        return _Row(line, known, fault)
    known["path"] = raw[columns["path"]]
    return _Row(line, known, _fault(known, line))


def path_in(manifest: str, cell: str) -> str:
    """The path that a cell of ``manifest`` stands for, as the file is called where there is one.

    Blanks around it are part of it where a file has that name; so are accents that are stored apart.
    """
    path = cell.strip()
    if not path or is_url(path):
        return path
    candidates = [*(spellings(cell) if cell != path else ()), *spellings(path)]
    if len(candidates) == 1:
        return path
    return next((each for each in candidates if _is_file(_locate(manifest, each))), path)


def _is_file(location: str) -> bool:
    return (not is_url(location) or answers_quickly(location)) and _missing(location) is None


def _text(location: str) -> str:
    try:
        data = read_bytes(location, most=MAX_BYTES)
    except ImageError as error:
        raise SourceError(f"expected a manifest at {shown(location)}, but: {error}") from error
    return text_of(data, location)


def _delimiter(text: str, suffix: str) -> str:
    candidates = _DELIMITERS.get(suffix, ",;\t")
    header = (text[:_HEADER].splitlines() or [""])[0]
    for delimiter in candidates:
        if "path" in (heading(cell) for cell in header.split(delimiter)):
            return delimiter
    return candidates[0]


def _columns(header: list[str], location: str) -> dict[str, int]:
    if len(header) > MAX_COLUMNS:
        raise SourceError(
            f"expected at most {MAX_COLUMNS:,} columns in {shown(location)}, but there are {len(header):,}; {_HOW}"
        )
    names = [heading(cell) for cell in header]
    for name in _COLUMNS:
        if names.count(name) > 1:
            raise SourceError(f"expected one column {name!r} in {shown(location)}, but there are more; {_HOW}")
    if "path" not in names:
        listed = shown(", ".join(header)[:60]) if any(names) else "nothing"
        raise SourceError(f"expected a column 'path' in {shown(location)}, but its first line is {listed}; {_HOW}")
    return {name: names.index(name) for name in _COLUMNS if name in names}


def _add(rows: _Rows, row: _Row) -> None:
    written = row.cells.get("path", "").strip()
    if row.fault:
        rows.exclude(written[:100] or f"line {row.line}", row.fault)
        return
    # Before anything is looked up: a name in a list must not make this computer ask another one.
    if reason := _out_of_reach(rows, written):
        rows.exclude(written, reason)
        return
    path, label = path_in(rows.manifest, row.cells["path"]), plain(row.cells.get("label", ""))
    location = _locate(rows.manifest, path)
    reason = _repeated(rows, location, path, label, row.line) or _missing(location)
    if reason:
        rows.exclude(path, reason)
        return
    rows.labels.add(row.cells.get("label", ""))
    split = SPLITS.get(row.cells.get("split", "").lower())
    group, time = plain(row.cells.get("group", "")), _seconds(row.cells.get("time", ""))
    rows.found.samples.append(Sample(path, location, label or None, split, group or None, time))


def _out_of_reach(rows: _Rows, path: str) -> str | None:
    if is_url(path) and "::" in path:
        return "a chain of addresses (::), which no list may name"
    return rows.reach.why_not(_locate(rows.manifest, path))


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
        return seconds if math.isfinite(seconds) else None
    except ValueError:  # a time of the day, or nothing
        return None


def _fault(cells: dict[str, str], line: int) -> str | None:
    if not cells["path"].strip():
        return f"no path in line {line}"
    for name, most in MAX_LETTERS.items():
        if len(cells.get(name, "")) > most:
            return f"the {name} in line {line} has {len(cells[name]):,} letters, more than {most:,}"
    split = cells.get("split", "")
    if split and split.lower() not in SPLITS:
        return f"the split in line {line} is {split[:40]!r}, not one of {', '.join(SPLITS)}"
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
    if is_url(location) and not answers_quickly(location):
        return None
    try:
        kind = kind_of(location)
    except (SourceError, MissingExtraError) as error:  # of one row: the others can still be read
        return str(error)
    reasons = {"missing": "file not found", "folder": "a folder, not a file", "other": NOT_REGULAR, "file": None}
    return reasons[kind]

"""The list of pictures to label: a manifest that ``fit`` takes, which also says where each label comes from.

The file is the truth: whoever changes a label reads it again first and writes it whole, and holds a lock meanwhile, so
that several programs can work on one list. A label that a person made is never replaced by anything but a person.
"""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from filelock import FileLock, Timeout

from topwork import storage
from topwork.errors import SourceError, TopworkError
from topwork.images.manifest import path_in
from topwork.images.names import plain
from topwork.images.sniff import shown
from topwork.images.storage import is_url
from topwork.images.text import text_of
from topwork.tables import Number, csv_text, guarded, heading, text_in, unguarded

PERSON, INDEX, LABELS, PROPAGATED = "person", "index", "labels", "propagated"
"""Where a label comes from: a person, the index, the file of --labels, pictures nearby."""

_COLUMNS = ("path", "label", "by", "suggested", "confidence", "stands_for")
_OPTIONAL = ("split", "group")
_PATIENCE = 60  # seconds to wait for another program, which needs a moment for each of its changes


@dataclass(frozen=True)
class Item:
    """A row of the list."""

    location: str
    """Absolute path or URL of the picture."""
    label: str = ""
    """Empty where it is still to be labelled."""
    by: str = ""
    """Where the label comes from."""
    suggested: str = ""
    """The label that was not made by a person: proposed, propagated, or the index's."""
    confidence: str = ""
    """How sure that is, 0..1 with two digits."""
    stands_for: str = ""
    """Pictures that are most like this one."""
    split: str = ""
    group: str = ""
    others: Mapping[str, str] = field(default_factory=dict)
    """Columns of somebody else."""

    @property
    def is_made(self) -> bool:
        """Whether a person decided the label: typed it, or changed one that was there."""
        automatic = self.by in (INDEX, LABELS, PROPAGATED) and self.label == self.suggested
        return bool(self.label) and not automatic


class Worklist:
    """The rows of the list at ``path``, a ``.csv``; it may be used from several threads and by several programs.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     made = Worklist(Path(folder) / "next.csv")
    ...     made.replace([Item(f"{folder}/a.jpg"), Item(f"{folder}/b.jpg")])
    ...     made.set_label(f"{folder}/b.jpg", "bee")
    ...     print(made.path.read_text())
    path,label,by,suggested,confidence,stands_for
    a.jpg,,,,,
    b.jpg,bee,person,,,
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """SourceError where something else is at ``path``; nothing there is an empty list."""
        self.path = Path(path)
        self._lock = Lock()
        self._content: bytes | None = None
        self._items: dict[str, Item] = {}
        self._seen: dict[str, Item] = {}
        self._read()

    @property
    def items(self) -> list[Item]:
        """The rows, in their order."""
        return list(self._items.values())

    def replace(self, items: Iterable[Item], source: Mapping[str, Item] | None = None) -> None:
        """Write these rows; rows of the file that a person labelled or added to, and are not among them, follow.

        ``source``: by location, the split and the group that no person wrote.
        """
        with self._changing():
            new = {item.location: item for item in items}
            for location, old in self._items.items():
                if location in new or _is_kept(old, (source or {}).get(location, Item(location))):
                    now = new.get(location, old if old.is_made else Item(location))
                    now = replace(now, split=old.split or now.split, group=old.group or now.group, others=old.others)
                    new[location] = replace(now, label=old.label, by=PERSON) if old.is_made else now
            self._set(new)

    def set_label(self, location: str, label: str) -> None:
        """What a person decided, "" for nothing; written at once. KeyError where the list never had such a picture.

        A row that somebody took out meanwhile comes back with it.
        """
        label = plain(label)
        with self._changing():
            changed = replace(self._seen[location], label=label, by=PERSON if label else "")
            self._set(self._items | {location: changed})

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """What the file says now, and after the block what the block made of it; others wait."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not the list itself, which is replaced by every change.
            with self._lock, FileLock(self.path.with_name(f".{self.path.name[:40]}.lock"), timeout=_PATIENCE):
                self._read()
                before = self._items
                try:
                    yield
                    self._write()
                except BaseException:
                    self._items = before  # what is not in the file is not said to be
                    raise
        except Timeout as error:
            raise TopworkError(
                f"{self.path} is being changed by another program for more than {_PATIENCE} seconds; end it, then run "
                "again"
            ) from error
        except OSError as error:
            raise TopworkError(f"cannot write {self.path}: {storage.reason(error)}; choose another place") from error

    def _read(self) -> None:
        """Read the file, unless it is as this object left it."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            if self._content is not None:  # deleted meanwhile: what is known is written again
                return
            data = b""
        except OSError as error:
            raise SourceError(f"cannot read {self.path}: {storage.reason(error)}; choose another -o") from error
        if data != self._content:
            self._set({item.location: item for item in _parsed(data, self.path)})
            self._content = data or None

    def _set(self, items: dict[str, Item]) -> None:
        self._items = items
        self._seen |= items

    def _write(self) -> None:
        content = _text(self._items.values(), self.path).encode()
        storage.write_atomic(self.path, content)
        self._content = content


def _is_kept(old: Item, source: Item) -> bool:
    """Whether a person put something into a row."""
    is_own = old.split not in ("", source.split) or old.group not in ("", source.group)
    return old.is_made or is_own or any(old.others.values())


def _parsed(data: bytes, path: Path) -> Iterable[Item]:
    """The rows of a list, also after a spreadsheet program wrote it."""
    text = text_of(data, str(path))
    try:
        first = text.partition("\n")[0].lower()
        delimiter = next((mark for mark in ",;\t" if "path" in [heading(cell) for cell in first.split(mark)]), ",")
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise SourceError(f"expected a list of pictures at {path}, but {error}; choose another -o") from error
    if not rows and not data:
        return
    header = [unguarded(heading(name)) for name in rows[0]] if rows else []
    if "path" not in header:
        raise SourceError(f"expected a list of pictures at {path}, but it has no column 'path'; choose another -o")
    if not {"by", "suggested"} & set(header):
        raise SourceError(
            f"expected a list that `topwork label` wrote at {path}, but it is another manifest; choose another -o, and "
            "give this one with --labels"
        )
    for cells in rows[1:]:
        if any(cell.strip() for cell in cells[len(header) :]):  # cut, they would be lost when the list is written
            raise SourceError(
                f"expected {len(header)} cells in each row of {path}, but that of {shown(cells[0])} has {len(cells)}; "
                "put a label with a comma in it in quotes"
            )
        values = dict(zip(header, cells, strict=False))
        place = path_in(str(path), unguarded(values.pop("path", "")))
        values = {name: text_in(value) for name, value in values.items()}
        if place:
            own = {name: values.pop(name, "") for name in (*_COLUMNS[1:], *_OPTIONAL)}
            own |= {name: plain(own[name]) for name in ("label", "suggested")}
            yield Item(_located(place, path), **own, others=values)


def _text(items: Iterable[Item], path: Path) -> str:
    items = list(items)
    optional = [name for name in _OPTIONAL if any(getattr(item, name) for item in items)]
    others = list(dict.fromkeys(name for item in items for name in item.others))
    rows = (
        [
            _written(item.location, path),
            *(getattr(item, name) for name in (*_COLUMNS[1:], *optional)),
            *(Number(item.others.get(name, "")) for name in others),
        ]
        for item in items
    )
    return csv_text((*_COLUMNS, *optional, *others), rows)


def _located(place: str, path: Path) -> str:
    return place if is_url(place) else os.path.abspath(path.absolute().parent / place)


def _written(location: str, path: Path) -> str:
    """Relative to the list's folder where the picture is below it, so that both can be moved together."""
    if is_url(location):
        return location
    folder = str(path.absolute().parent)
    try:
        inside = os.path.commonpath([folder, location]) == folder
    except ValueError:  # another drive
        inside = False
    place = os.path.relpath(location, folder) if inside else location
    return place if guarded(place) == place else f"./{place}"

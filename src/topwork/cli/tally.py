"""What ``topwork predict`` says on the terminal: a screenful of rows, videos by their stretches, and a summary."""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topwork.cli import filmed
from topwork.cli.output import counted, percent, print_lines, print_table

Row = Mapping[str, Any]

_AROUND = 8  # lines of the terminal that the table's head, the summary and the next prompt take
_FEWEST_ROWS = 10
_NAMED_FILES, _NAMED_FAULTS, _NAMED_CLASSES = 5, 3, 5


@dataclass
class Tally:
    """Takes row by row; remembers counts, and no more rows than are shown.

    >>> tally = Tally(most=1)
    >>> for label, known in (("ant", True), ("bee", False), ("ant", True)):
    ...     tally.add({"path": "a.jpg", "label": label, "known": known, "error": None})
    >>> tally.add({"path": "b.jpg", "label": None, "known": None, "error": "empty file"})
    >>> tally.summary()
    '4 pictures: 2 ant, 1 bee; 1 not known (unlike the training pictures); 1 could not be read'
    """

    most: int | None = None
    """Rows that are shown; None: all."""
    rows: list[Row] = field(default_factory=list)
    pictures: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    judged: int = 0
    """Pictures of which is known whether they are like the training pictures."""
    faults: int = 0
    unseen: list[Row] = field(default_factory=list)
    """The first that could not be read, of those that are not shown as rows."""
    files: list[str] = field(default_factory=list)
    n_files: int = 0
    films: list["filmed.Film"] = field(default_factory=list)

    @classmethod
    def of_terminal(cls, *, rows: bool) -> "Tally":
        """A screenful where stdout is a terminal, else all; none where ``rows`` are wanted elsewhere."""
        if not rows:
            return cls(most=0)
        lines = shutil.get_terminal_size().lines
        return cls(most=max(_FEWEST_ROWS, lines - _AROUND) if sys.stdout.isatty() else None)

    @property
    def nothing(self) -> bool:
        """Whether no row has an answer."""
        return not self.films and self.faults == self.pictures

    def add(self, row: Row) -> None:
        """Count a row, and keep it where there is room."""
        if "video" in row:
            if not self.films or self.films[-1].name != row["video"]:
                self.films.append(filmed.Film(row["video"]))
            self.films[-1].add(row)
            return
        self.pictures += 1
        if row["error"]:
            self.faults += 1
        else:
            self.labels[row["label"]] += 1
            self.judged += row["known"] is not None
            self.unknown += row["known"] is False
        if self.most is None or len(self.rows) < self.most:
            self.rows.append(row)
        elif row["error"] and len(self.unseen) < _NAMED_FAULTS:
            self.unseen.append(row)
        shown = [path for path in row.get("files", ()) if path.endswith(".png")]
        self.n_files += len(shown)
        self.files += shown[: _NAMED_FILES - len(self.files)]

    def show(self, table: Path | None) -> None:
        """Print what there is; ``table``: where all rows were written."""
        if self.pictures == 1 and self.rows and not self.rows[0]["error"]:
            _print_one(self.rows[0])
        elif self.rows:
            _print_rows(self.rows)
        if self.files:
            rest = self.n_files - len(self.files)
            print_lines(["", *self.files, *([f"... and {rest:,} more"] if rest else [])])
        for place, film in enumerate(self.films):
            print_lines([""] if self.pictures or place else [])
            filmed.print_timeline(film)
        lines = self._closing(table)
        print_lines(["", *lines] if lines and (self.rows or self.films) else lines)

    def _closing(self, table: Path | None) -> list[str]:
        """How many more there are, how all are to be had, and the summary."""
        lines = []
        rest = self.pictures - len(self.rows)
        if rest and table is None:
            lines += [f"... and {counted(rest, 'more picture', 'more pictures')}; -o answers.csv writes them all.", ""]
        if self.pictures > 1 or (self.pictures and table is not None):
            lines.append(f"{self.summary()}.")
        lines += [f"could not be read: {row['path']} ({row['error']})" for row in self.unseen]
        if self.unseen and (others := self.faults - len(self.unseen) - sum(bool(row["error"]) for row in self.rows)):
            lines.append(f"could not be read: {others:,} more")
        return [*lines, *([f"Answers: {table}"] if table is not None else [])]

    def summary(self) -> str:
        """The counts in a sentence, without its full stop."""
        parts = [f"{counted(self.pictures, 'picture', 'pictures')}: {_classes(self.labels)}" if self.labels else ""]
        if self.judged:
            unknown = "all" if self.unknown == self.judged else f"{self.unknown:,}"
            parts.append(f"{unknown} not known (unlike the training pictures)" if self.unknown else "all known")
        if self.faults:
            parts.append(f"{self.faults:,} could not be read")
        if not self.labels:
            return f"{counted(self.pictures, 'picture', 'pictures')}, none of which could be read"
        return "; ".join(part for part in parts if part)

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain values."""
        return {
            "pictures": self.pictures,
            "classes": dict(self.labels.most_common()),
            "not_known": self.unknown if self.judged else None,
            "unreadable": self.faults,
            "frames": sum(len(film.moments) for film in self.films),
        }


def _classes(labels: Counter[str]) -> str:
    """The most frequent ones.

    >>> _classes(Counter({name: 9 - place for place, name in enumerate("abcdefg")}))
    '9 a, 8 b, 7 c, 6 d, 5 e and 7 of 2 other classes'
    """
    first = labels.most_common(_NAMED_CLASSES)
    rest = len(labels) - len(first)
    text = ", ".join(f"{count:,} {name}" for name, count in first)
    if not rest:
        return text
    others = labels.total() - sum(count for _, count in first)
    return f"{text} and {others:,} of {counted(rest, 'other class', 'other classes')}"


def _print_one(row: Row) -> None:
    print_lines([row["path"] + _known(row)])
    print_table(("class", "probability"), [(t["label"], percent(t["probability"])) for t in row["top"]], right=(1,))


def _print_rows(rows: list[Row]) -> None:
    table = [
        (row["path"], row["error"] or row["label"], percent(row["probability"]), "" if row["error"] else _word(row))
        for row in rows
    ]
    print_table(("picture", "label", "probability", "known"), table, right=(2,))


def _word(row: Row) -> str:
    return {True: "yes", False: "NO", None: "-"}[row["known"]]


def _known(row: Row) -> str:
    if row["known"] is False:
        return ": NOT like the training pictures; take the label with caution"
    return ""

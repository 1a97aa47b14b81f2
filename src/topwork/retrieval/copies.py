"""Pictures of an index that are there more than once, and which of them is the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.auditing.repeats import find_repeats
from topwork.progress import Progress
from topwork.retrieval.table import Row

if TYPE_CHECKING:
    from topwork.retrieval.index import Index

_LOSSLESS = ("PNG", "BMP", "TIFF")


@dataclass(frozen=True)
class Copies:
    """A group of pictures that are the same again."""

    kind: str
    """``exact``: the same bytes; ``near``: resized, compressed again, cropped a little, mirrored, brighter …"""
    rows: tuple[Row, ...]
    """The best one first: most pixels, then sharpest, then stored without loss, then largest file, then first path."""
    paths: tuple[str, ...]
    """Where they are, in the same order."""
    untouchable: tuple[str | None, ...]
    """Why the file of each may not be read or moved, in a few words; None where it may: see `Index.why_not`."""

    @property
    def labels(self) -> list[str]:
        """The labels that occur; more than one contradict each other."""
        return sorted({row.label for row in self.rows if row.label is not None})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork duplicates --json``."""
        best, *others = self.paths
        return {"kind": self.kind, "best": best, "others": others, "labels": self.labels}


def find_copies(index: "Index", *, exact: bool = False, progress: Progress | None = None) -> list[Copies]:
    """Groups of an index, in the order of their first picture, by the one logic that ``audit`` and ``fit`` use.

    ``exact``: groups of the same bytes only. Else a picture is in one group, with all that are near it.
    """
    rows = index.rows()
    contents = [row.content for row in rows]
    first = np.unique(np.array(contents, dtype=str), return_index=True)[1]
    compared = np.sort(first).astype(np.int64)
    features = index.table.features([rows[i].id for i in compared], twins=True)
    hashes = np.array([rows[i].phash for i in compared], np.int64).view(np.uint64)
    repeats = find_repeats(contents, features, hashes, rows=compared, progress=progress)
    if exact:
        groups = [(group, "exact") for group in repeats.exact]
    else:
        near = {row for group in repeats.near for row in group}  # identical ones are in their groups too
        apart = [group for group in repeats.exact if group[0] not in near]
        groups = [(group, "exact") for group in apart] + [(group, "near") for group in repeats.near]
    return [_copies(index, [rows[i] for i in group], kind) for group, kind in sorted(groups)]


def _copies(index: "Index", rows: Sequence[Row], kind: str) -> Copies:
    best_first = tuple(sorted(rows, key=_rank))
    paths = tuple(map(index.path_of, best_first))
    return Copies(kind, best_first, paths, tuple(map(index.why_not, best_first)))


def _rank(row: Row) -> tuple[Any, ...]:
    return (
        -row.width * row.height,
        -row.sharpness,
        row.format not in _LOSSLESS,
        -(row.size or 0),
        len(row.path),
        row.path,
    )

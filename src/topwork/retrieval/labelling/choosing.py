"""From an index and the labels that are known to the list of what to label next."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import UsageError
from topwork.images import ImageSource
from topwork.images.kept_frames import is_frame
from topwork.images.parts import is_part
from topwork.images.source import SourceLike
from topwork.images.storage import is_url
from topwork.progress import Progress, Silent, step
from topwork.retrieval.labelling.worklist import INDEX, LABELS, PERSON, PROPAGATED, Item, Worklist
from topwork.retrieval.propagation import Propagated, propagate
from topwork.retrieval.suggesting import Suggestions, suggest

if TYPE_CHECKING:
    from topwork.retrieval.index import Index
    from topwork.retrieval.table import Row

Ints = NDArray[np.int64]
MIN_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Choice:
    """How to choose; the options of ``topwork label``."""

    count: int = 50
    labels: SourceLike | None = None
    """A manifest with labels that are known besides."""
    ignore_labels: bool = False
    """Those of the index do not count: its folders are no classes."""
    propagated: bool = False
    """Label what lies near labelled pictures, at least ``min_confidence`` sure."""
    min_confidence: float = MIN_CONFIDENCE
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"the count must be at least 1, not {self.count}")
        if not 0 < self.min_confidence <= 1:
            raise UsageError(f"the confidence must be above 0 and at most 1, not {self.min_confidence:g}")


def choose(
    index: "Index", worklist: Worklist, choice: Choice | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Write to ``worklist`` what to label next and every label that is known; returns ``topwork label --json``.

    Labels that a person made stay. UsageError where no picture of the index is a file that a list can name.
    """
    begun, choice, progress = time.perf_counter(), choice or Choice(), progress or Silent()
    rows = [row for row in index.rows() if not is_part(row.location) and not is_frame(row.location)]
    unlisted = len(index) - len(rows)
    if unlisted and not rows:
        raise UsageError(
            f"expected pictures in files of their own in {index.path}, but they are drawings or frames of videos; make "
            "files of them with `topwork drawings` or `topwork frames`, then an index of those"
        )
    places = [absolute(index.place(row)) for row in rows]
    known = _known(rows, places, worklist, choice)
    names = sorted({label for label, _ in known.values()})
    labels = np.array([names.index(known[place][0]) if place in known else -1 for place in places], np.int64)
    vectors = index.vectors([row.id for row in rows]) if rows else np.zeros((0, 1), np.float32)
    groups = _groups(index, rows, progress)
    with step(progress, "choosing"):
        spread = propagate(vectors, labels, groups=groups, seed=choice.seed)
        sure = (labels < 0) & (spread.labels >= 0) & (spread.confidence >= choice.min_confidence)
        sure &= choice.propagated
        chosen = suggest(
            vectors, choice.count, labels=np.where(sure, spread.labels, labels), groups=groups, seed=choice.seed
        )
    source = {place: _item(row, place, "") for row, place in zip(rows, places, strict=True)}
    worklist.replace(_items(rows, places, known, names, spread, sure, chosen), source)
    measured = spread.measured(choice.min_confidence) if len(names) > 1 else None
    return {
        "list": str(worklist.path),
        "pictures": len(rows),
        "unlisted": unlisted,
        "labelled": {by: sum(1 for _, other in known.values() if other == by) for by in (PERSON, INDEX, LABELS)},
        "classes": dict(Counter(known[place][0] for place in places if place in known)),
        "suggested": [
            {
                "path": places[row],
                "suggested": names[spread.labels[row]] if spread.labels[row] >= 0 else None,
                "confidence": round(float(spread.confidence[row]), 4) if spread.labels[row] >= 0 else None,
                "stands_for": int(stands_for),
            }
            for row, stands_for in zip(chosen.rows, chosen.stands_for, strict=True)
        ],
        "propagated": int(sure.sum()) if choice.propagated else None,
        "min_confidence": choice.min_confidence,
        "measured": measured,
        "seconds": round(time.perf_counter() - begun, 4),
    }


def labels_of(index: "Index", rows: Sequence["Row"], source: SourceLike) -> list[str | None]:
    """The labels that a manifest or another source gives to rows."""
    by_place = _labels_in(source)
    return [by_place.get(absolute(index.place(row))) for row in rows]


def _known(
    rows: Sequence["Row"], places: Sequence[str], worklist: Worklist, choice: Choice
) -> dict[str, tuple[str, str]]:
    """Label and where it comes from by place; the later source wins: index, file, person."""
    here = set(places)
    known: dict[str, tuple[str, str]] = {}
    if not choice.ignore_labels:
        known |= {place: (row.label, INDEX) for row, place in zip(rows, places, strict=True) if row.label}
    if choice.labels is not None:
        known |= {place: (label, LABELS) for place, label in _labels_in(choice.labels).items() if place in here}
    made = {item.location: (item.label, PERSON) for item in worklist.items if item.is_made}
    return known | {place: found for place, found in made.items() if place in here}


def _labels_in(source: SourceLike) -> dict[str, str]:
    return {absolute(sample.location): sample.label for sample in ImageSource.open(source).samples if sample.label}


def absolute(place: str) -> str:
    """By which a picture is told in the index, in the list and in a file of labels."""
    return place if is_url(place) else os.path.abspath(place)


def _groups(index: "Index", rows: Sequence["Row"], progress: Progress) -> Ints:
    """The same number for copies of one picture."""
    place = {row.id: at for at, row in enumerate(rows)}
    groups = np.arange(len(rows))
    for copies in index.duplicates(progress=progress):
        members = [place[row.id] for row in copies.rows if row.id in place]
        groups[members] = min(members, default=0)
    return groups


def _items(
    rows: Sequence["Row"],
    places: Sequence[str],
    known: dict[str, tuple[str, str]],
    names: Sequence[str],
    spread: Propagated,
    sure: NDArray[np.bool_],
    chosen: Suggestions,
) -> list[Item]:
    """Rows of the list: what to label, in this order, then what has a label."""
    items = []
    for row, stands_for in zip(chosen.rows.tolist(), chosen.stands_for.tolist(), strict=True):
        items.append(_item(rows[row], places[row], *_guess(row, names, spread), stands_for=str(stands_for)))
    for row in np.flatnonzero(sure).tolist():
        guess, confidence = _guess(row, names, spread)
        items.append(_item(rows[row], places[row], guess, confidence, label=guess, by=PROPAGATED))
    for at, place in enumerate(places):
        if place in known:
            label, by = known[place]
            items.append(_item(rows[at], place, "" if by == PERSON else label, label=label, by=by))
    order = {PERSON: 1, INDEX: 2, LABELS: 3, PROPAGATED: 4}
    return sorted(items, key=lambda item: order.get(item.by, 0))


def _guess(row: int, names: Sequence[str], spread: Propagated) -> tuple[str, str]:
    label = spread.labels[row]
    return (names[label], f"{spread.confidence[row]:.2f}") if label >= 0 else ("", "")


def _item(
    row: "Row", place: str, suggested: str, confidence: str = "", *, label: str = "", by: str = "", stands_for: str = ""
) -> Item:
    return Item(place, label, by, suggested, confidence, stands_for, row.split or "", row.group or "")

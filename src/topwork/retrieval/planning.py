"""What has to be done to a table, so that it says what a source holds now."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from topwork.images import Sample
from topwork.retrieval.table import Row


@dataclass(frozen=True)
class Seen:
    """A readable picture of the source as it is now."""

    sample: Sample
    content: str
    stamp: str | None


@dataclass
class Plan:
    """Changes of a table. Paths and numbers occur once in all of it."""

    insert: list[Seen] = field(default_factory=list)
    replace: list[tuple[Row, Seen]] = field(default_factory=list)
    """Files with other pictures than before."""
    move: list[tuple[Row, Seen]] = field(default_factory=list)
    keep: list[tuple[Row, Seen]] = field(default_factory=list)
    remove: list[Row] = field(default_factory=list)

    @property
    def gone(self) -> list[int]:
        """Numbers whose vectors are not needed any more."""
        return [row.id for row in self.remove] + [row.id for row, _ in self.replace]

    @property
    def new(self) -> list[Seen]:
        """Pictures whose vectors are needed."""
        return [*self.insert, *(seen for _, seen in self.replace)]


def plan(rows: Sequence[Row], pictures: Sequence[Seen], *, keep_missing: bool = False) -> Plan:
    """Rows of one source, and its pictures now. A picture at a new path was moved if its row's path is gone.

    >>> plan([], [Seen(Sample("a.jpg", "/p/a.jpg"), "content", None)]).insert[0].content
    'content'
    """
    made = Plan()
    by_path: Mapping[str, Row] = {row.path: row for row in rows}
    there = {seen.sample.id for seen in pictures}
    missing: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.path not in there:
            missing[row.content].append(row)
    for seen in pictures:
        known = by_path.get(seen.sample.id)
        if known is not None:
            (made.keep if known.content == seen.content else made.replace).append((known, seen))
        elif missing[seen.content]:
            made.move.append((missing[seen.content].pop(0), seen))
        else:
            made.insert.append(seen)
    if not keep_missing:
        made.remove = [row for left in missing.values() for row in left]
    return made

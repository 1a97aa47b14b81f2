"""Where the pictures of an index are, and whether they may be read: the table that says so may be a stranger's."""

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from topwork.errors import ImageError
from topwork.images import Sample
from topwork.images.kept_frames import is_frame
from topwork.images.parts import is_part
from topwork.images.reach import Reach
from topwork.images.storage import is_url
from topwork.retrieval.stamps import file_of
from topwork.retrieval.table import Row

_ELSEWHERE = "the index was not made on this computer; name the folder of its pictures with --photos"


class Places:
    """The places of the pictures of an index in ``folder``.

    ``sources``: as `Table.sources`; ``own``: the roots of those whose rows topwork wrote on this computer, and whose
    files it may read therefore; ``reach``: what the rows of the others may name.
    """

    def __init__(
        self, folder: Path, sources: Sequence[tuple[int, str, str, str]], own: AbstractSet[str], reach: Reach
    ) -> None:
        self._roots = {number: root for number, root, _, _ in sources}
        self._own = {number for number, root in self._roots.items() if root in own}
        self._reach = reach
        # Of the others not even whether a place exists is asked: that may ask a server.
        self._moved = _moves(folder, [source for source in sources if source[0] in self._own])

    def is_own(self, row: Row) -> bool:
        """Whether topwork wrote the row on this computer."""
        return row.source in self._own

    def roots(self, *, own: bool = False) -> list[str]:
        """Where the sources are, or those of ``is_own`` rows; "" for a list of pictures."""
        return [self._root(number) for number in self._roots if not own or number in self._own]

    def path_of(self, row: Row) -> str:
        """See `Index.path_of`."""
        if not is_part(row.location) and not is_frame(row.location):
            return self.place(row)
        root = self._root(row.source)
        is_file = self.is_own(row) and os.path.isfile(root)
        return row.path if not root or is_url(root) or is_file else os.path.join(root, row.path)

    def place(self, row: Row) -> str:
        """See `Index.place`."""
        if row.source not in self._moved:
            return row.location
        old, new = self._moved[row.source]
        return row.location.replace(old, new, 1)

    def why_not(self, row: Row) -> str | None:
        """See `Index.why_not`."""
        reach = replace(self._reach, anywhere=True) if self.is_own(row) else self._reach
        reason = reach.why_not(self.place(row))
        return reason if reason is None or self.is_own(row) else _ELSEWHERE

    def sample(self, row: Row) -> Sample:
        """See `Index.sample`."""
        if (why := self.why_not(row)) is not None:
            return Unread(row.path, why)
        return Sample(row.path, self.place(row), row.label, row.split, row.group)

    def _root(self, source: int) -> str:
        return self._roots.get(source, "").replace(*self._moved.get(source, ("", "")))


def _moves(folder: Path, sources: Sequence[tuple[int, str, str, str]]) -> dict[int, tuple[str, str]]:
    """Sources whose folder is not where it was but, seen from the index, where it was: old and new place."""
    moved = {}
    for number, root, kind, beside in sources:
        local = file_of(root)
        if beside and local and not os.path.exists(local):
            new = os.path.normpath(folder.resolve().parent / beside)
            places = (local, new) if kind != "manifest" else (os.path.dirname(local), os.path.dirname(new))
            if os.path.exists(new):
                moved[number] = places
    return moved


class Unread(Sample):
    """A picture that may not be read."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, "unread://")
        object.__setattr__(self, "_why", why)

    def read(self, limit: int | None = None) -> bytes:
        """ImageError."""
        raise ImageError(f"not read: {self._why}")  # type: ignore[attr-defined]

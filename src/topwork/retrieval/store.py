"""Where the vectors of an index are: a small protocol, and the two places that fulfil it.

The table of an index (`topwork.retrieval.table`) says which pictures there are; a store answers only which numbers have
the vectors nearest to a query. A change is made in two steps, so that a killed run leaves the old state: ``prepare``
makes it durable under a name that nobody knows yet, the table takes over that name in the same transaction as its rows,
``settle`` then removes what is not needed any more.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from topwork.errors import UsageError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Chunks = Iterable[tuple[Ints, Floats]]
"""Numbers ``[m]`` with their vectors ``[m, d]`` of length 1, a few thousand at a time."""

EMBEDDED = "embedded"


class Store(Protocol):
    """Vectors of length 1 by number. ``state`` is what ``prepare`` returned last, "" for an empty store.

    FileNotFoundError means that the state is not there any more: the table names a newer one by now.
    """

    def check(self) -> None:
        """Raise where it cannot be used: before the work, and before anything is made."""

    def search(self, state: str, query: Floats, k: int, *, among: Ints | None = None) -> tuple[Ints, Floats]:
        """The numbers of the ``k`` vectors with the largest cosine to ``query`` ``[d]``, largest first, and those.

        ``among``: only these numbers. Fewer than ``k`` where there are fewer.
        """

    def search_exactly(self, state: str, query: Floats, k: int) -> tuple[Ints, Floats]:
        """The same by comparing with every vector."""

    def search_graph(self, state: str, query: Floats, k: int) -> tuple[Ints, Floats]:
        """The same by the graph (HNSW) alone, which ``search`` uses for large collections only."""

    def vectors(self, state: str, numbers: Ints) -> Floats:
        """The vectors of these numbers, ``[n, d]``, as they are stored."""

    def prepare(self, state: str, added: Chunks, removed: Sequence[int], *, width: int, anew: bool) -> str:
        """The state with ``added`` and without ``removed``, durable; the old one still answers.

        ``width``: length d of the vectors; ``anew`` forgets all others.
        """

    def settle(self, old: str, new: str, removed: Sequence[int]) -> None:
        """The state ``new`` counts from now on: what only ``old`` needed may go."""

    def size(self, state: str) -> int:
        """Bytes on disk of this machine."""


def open_store(name: str, folder: Path) -> Store:
    """The store of an index in ``folder``: "embedded", or "qdrant://HOST:PORT/COLLECTION".

    >>> open_store("redis://x", Path("photos.index"))
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: there is no store 'redis://x'; leave --store out, or give qdrant://HOST:PORT/COLLECTION
    """
    if name == EMBEDDED:
        from topwork.retrieval.embedded import EmbeddedStore

        return EmbeddedStore(folder)
    if name.startswith("qdrant://"):
        from topwork.retrieval.qdrant import QdrantStore

        return QdrantStore.at(name)
    raise UsageError(f"there is no store {name!r}; leave --store out, or give qdrant://HOST:PORT/COLLECTION")

"""Vectors in Qdrant, for more pictures than one machine holds; the table stays where the index is.

A state is the name of a collection; an alias, the name that the user gave, leads to the one that counts, so that other
programs find it. The number of a picture is its point's id. A point may be there before the table knows its number, or
after it has forgotten it: whoever searches leaves out what the table does not know.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from topwork.errors import CacheError, UsageError
from topwork.extra import package
from topwork.retrieval.store import Chunks, Floats, Ints

_ADDRESS = re.compile(r"qdrant://(?P<host>[\w.-]+)(?::(?P<port>\d{1,5}))?/(?P<name>[\w.-]+)")
_PORT = 6333
_BATCH = 200  # points in one request
_SECONDS = 60  # that a request may take

T = TypeVar("T")


class QdrantStore:
    """See `topwork.retrieval.store.Store`. ``client``: a ``qdrant_client.QdrantClient``; ``name``: of the alias."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self._models = package("qdrant_client.models", "a Qdrant store", "qdrant")

    @classmethod
    def at(cls, address: str) -> "QdrantStore":
        """The store at ``qdrant://HOST:PORT/COLLECTION``; nothing is asked of the server yet."""
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise UsageError(
                f"expected qdrant://HOST:PORT/COLLECTION, such as qdrant://localhost:6333/photos, not {address}"
            )
        qdrant = package("qdrant_client", "a Qdrant store", "qdrant")
        port = int(found["port"] or _PORT)
        client = qdrant.QdrantClient(host=found["host"], port=port, timeout=_SECONDS, check_compatibility=False)
        return cls(client, found["name"])

    def check(self) -> None:
        names = [each.name for each in self._ask(self._client.get_collections).collections]
        if self._name in names:
            raise UsageError(
                f"expected {self._name} to be free for an alias, but Qdrant has such a collection; choose another name"
            )

    def _own(self, state: str) -> str:
        """A collection that `prepare` made; CacheError for any other, which a table that is a stranger's may name."""
        if state and not self._is_own(state):
            raise CacheError(
                f"expected a collection of {self._name}, but the index names {state[:80]!r}; run `topwork index` with "
                "--rebuild"
            )
        return state

    def _is_own(self, state: str) -> bool:
        return re.fullmatch(re.escape(self._name) + "-[0-9a-f]{8}", state) is not None

    def search(self, state: str, query: Floats, k: int, *, among: Ints | None = None) -> tuple[Ints, Floats]:
        models = self._models
        chosen = None
        if among is not None:
            chosen = models.Filter(must=[models.HasIdCondition(has_id=among.tolist())])
        return self._query(state, query, k, query_filter=chosen)

    def search_exactly(self, state: str, query: Floats, k: int) -> tuple[Ints, Floats]:
        return self._query(state, query, k, search_params=self._models.SearchParams(exact=True))

    def search_graph(self, state: str, query: Floats, k: int) -> tuple[Ints, Floats]:
        return self._query(state, query, k)

    def vectors(self, state: str, numbers: Ints) -> Floats:
        state = self._own(state)
        if not state or not len(numbers):
            return np.empty((0, 0), np.float32)
        points = self._ask(
            lambda: self._client.retrieve(state, numbers.tolist(), with_payload=False, with_vectors=True)
        )
        found = {point.id: point.vector for point in points}
        if len(found) < len(set(numbers.tolist())):
            raise CacheError(f"vectors are missing in {self._name}; run `topwork index` with --rebuild")
        return np.array([found[number] for number in numbers.tolist()], np.float32)

    def prepare(self, state: str, added: Chunks, removed: Sequence[int], *, width: int, anew: bool) -> str:
        if anew or not self._own(state):
            state = f"{self._name}-{secrets.token_hex(4)}"
            self._ask(lambda: self._create(state, width))
        for numbers, vectors in added:
            for start in range(0, len(numbers), _BATCH):
                self._upsert(state, numbers[start : start + _BATCH], vectors[start : start + _BATCH])
        return state

    def settle(self, old: str, new: str, removed: Sequence[int]) -> None:
        models = self._models
        if new:  # also where nothing changed: a killed run may not have come so far
            self._ask(lambda: self._point_alias_to(new))
        if old == new and new and removed:
            self._ask(lambda: self._client.delete(new, models.PointIdsList(points=list(removed)), wait=True))
        if old and old != new and self._is_own(old):
            self._ask(lambda: self._client.delete_collection(old))

    def size(self, state: str) -> int:
        return 0

    def _create(self, state: str, width: int) -> None:
        models = self._models
        vectors = models.VectorParams(size=width, distance=models.Distance.COSINE, datatype=models.Datatype.FLOAT16)
        self._client.create_collection(state, vectors_config=vectors)

    def _upsert(self, state: str, numbers: Ints, vectors: Floats) -> None:
        points = self._models.Batch(ids=numbers.tolist(), vectors=vectors.tolist())
        self._ask(lambda: self._client.upsert(state, points, wait=True))

    def _point_alias_to(self, state: str) -> None:
        models = self._models
        made = models.CreateAlias(collection_name=state, alias_name=self._name)
        self._client.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])

    def _query(self, state: str, query: Floats, k: int, **options: Any) -> tuple[Ints, Floats]:
        if not self._own(state):
            return np.empty(0, np.int64), np.empty(0, np.float32)
        found = self._ask(
            lambda: self._client.query_points(state, query=query.tolist(), limit=k, with_payload=False, **options)
        )
        points = found.points
        return np.array([p.id for p in points], np.int64), np.array([p.score for p in points], np.float32)

    def _ask(self, question: Callable[[], T]) -> T:
        """FileNotFoundError where the collection is not there, CacheError where the server does not answer."""
        try:
            return question()
        except Exception as error:  # the client's errors share no base class; its local mode has ValueErrors
            missing = isinstance(error, ValueError) and "not found" in str(error)
            if missing or getattr(error, "status_code", None) == 404:
                raise FileNotFoundError(str(error)) from error
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise CacheError(
                f"expected a Qdrant server for {self._name}, but: {text}; start it, then run again"
            ) from error

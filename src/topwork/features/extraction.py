"""The one pass over the pixels: pictures in, features in the cache.

Each core takes a picture through read, hash, decode and a run of the graph; only a few pictures are in memory at any
time. What is in the cache already is neither decoded nor run. Each result goes to the cache as it comes, so a
killed run continues where it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock, local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint
from topwork.backbones.graph import Graph
from topwork.errors import CacheError, ImageError
from topwork.features.cache import FeatureCache, key
from topwork.features.facts import FACTS_VERSION, Facts, measure
from topwork.features.parallel import ordered_map
from topwork.features.session import open_session
from topwork.features.thumbnails import THUMBNAIL_VERSION, thumbnail
from topwork.images import DecodePolicy, Excluded, Picture, Sample, decode
from topwork.progress import Progress, Silent, step
from topwork.shortage import shortage_named


@dataclass(frozen=True)
class Measure:
    """What the pass notes of a picture beside its features. ``version`` changes whenever ``of`` gives other bytes."""

    name: str
    version: str
    of: Callable[[Picture], bytes]


FACTS = Measure("facts", FACTS_VERSION, lambda picture: measure(picture).to_bytes())
THUMBNAIL = Measure("thumbnail", THUMBNAIL_VERSION, thumbnail)


@dataclass(frozen=True)
class Extraction:
    """What the pass found; the features themselves stay in the cache until they are loaded."""

    samples: tuple[Sample, ...]
    """The pictures that could be read, in the order of the source."""
    hashes: tuple[str, ...]
    """Content hash of each of them."""
    excluded: tuple[Excluded, ...]
    """The pictures that could not."""
    fresh: frozenset[str] = frozenset()
    """Content hashes of the pictures that had to be decoded and run."""

    @property
    def hits(self) -> int:
        """Pictures of which everything was in the cache."""
        return len(self.samples) - self.misses

    @property
    def misses(self) -> int:
        """Pictures that had to be decoded and run."""
        return sum(content in self.fresh for content in self.hashes)


def extract(
    samples: Sequence[Sample],
    graphs: Sequence[Graph],
    policy: DecodePolicy,
    cache: FeatureCache,
    *,
    measures: Sequence[Measure] = (FACTS,),
    progress: Progress | None = None,
    doing: str = "reading pictures",
) -> Extraction:
    """Make sure that the features of every readable picture, and what ``measures`` note, are in the cache.

    Pictures that cannot be read come back in ``excluded``, each with its reason; they never change the
    features of another one. ``doing`` names the step for ``progress``.
    """
    progress = progress or Silent()
    worker = _Worker(graphs, measures, policy, cache)
    kept: list[tuple[Sample, str]] = []
    excluded: list[Excluded] = []
    fresh: set[str] = set()
    with step(progress, doing, total=len(samples)):
        for sample, done in zip(samples, ordered_map(worker, samples), strict=True):
            progress.advance(doing)
            if isinstance(done, ImageError):
                excluded.append(Excluded(sample.id, str(done)))
                continue
            kept.append((sample, done.content))
            if done.values:
                fresh.add(done.content)
                cache.put(done.values)
    kept_samples, hashes = tuple(sample for sample, _ in kept), tuple(content for _, content in kept)
    return Extraction(kept_samples, hashes, tuple(excluded), frozenset(fresh))


def load(
    hashes: Sequence[str], graph: Graph, output: str, policy: DecodePolicy, cache: FeatureCache
) -> NDArray[np.float32]:
    """``output`` (``features`` or ``logits``) of the pictures with these content hashes, ``[n, d] float32``."""
    width = {"features": graph.spec.feature_dim, "logits": graph.spec.logits_dim}[output]
    matrix = np.empty((len(hashes), width), np.float32)
    keys = [key(content, policy.describe(), graph.fingerprint, output) for content in hashes]
    for start in range(0, len(keys), _LOAD_CHUNK):
        part = keys[start : start + _LOAD_CHUNK]
        found = cache.get(part)
        for row, name in enumerate(part, start):
            matrix[row] = _row(found, name, width, cache)
    return matrix


def load_facts(hashes: Sequence[str], policy: DecodePolicy, cache: FeatureCache) -> list[Facts]:
    """The facts of the pictures with these content hashes."""
    return [Facts.from_bytes(value) for value in load_measure(hashes, FACTS, policy, cache)]


def load_measure(hashes: Sequence[str], noted: Measure, policy: DecodePolicy, cache: FeatureCache) -> list[bytes]:
    """What a measure noted of the pictures with these content hashes."""
    keys = [key(content, policy.describe(), noted.version, noted.name) for content in hashes]
    found = cache.get(keys)
    if len(found) < len(set(keys)):
        raise _vanished(cache)
    return [found[name] for name in keys]


_LOAD_CHUNK = 4000  # pictures; bounds what is held twice while a matrix is filled


def _row(found: dict[bytes, bytes], name: bytes, width: int, cache: FeatureCache) -> NDArray[np.float32]:
    if name not in found:
        raise _vanished(cache)
    return np.frombuffer(found[name], np.float32, width)


def _vanished(cache: FeatureCache) -> CacheError:
    return CacheError(
        f"features that were just computed are gone from {cache.path}: another run cleared it, or its limit of "
        f"{cache.limit / 1e9:.1f} GB is too small for this set; raise TOPWORK_CACHE_SIZE or run again"
    )


@dataclass(frozen=True)
class _Done:
    content: str
    values: dict[bytes, bytes]


class _Worker:
    """Takes one sample from bytes to cache entries; called from several threads."""

    def __init__(
        self, graphs: Sequence[Graph], measures: Sequence[Measure], policy: DecodePolicy, cache: FeatureCache
    ) -> None:
        self._graphs, self._measures, self._policy, self._cache = graphs, measures, policy, cache
        self._sessions: dict[str, Any] = {}
        self._opening = Lock()
        self._local = local()

    def __call__(self, sample: Sample) -> _Done | ImageError:
        try:
            with shortage_named():
                return self._done(sample)
        except ImageError as error:
            return error

    def _done(self, sample: Sample) -> _Done:
        data = sample.read()
        content = fingerprint.of_bytes(data)
        missing = self._own_cache().missing(self._keys(content))
        return _Done(content, self._compute(data, content, missing) if missing else {})

    def _own_cache(self) -> FeatureCache:
        """A connection for this thread: SQLite's belong to the thread that opened them."""
        if not hasattr(self._local, "cache"):
            self._local.cache = FeatureCache(self._cache.path.parent, limit=self._cache.limit)
        return self._local.cache  # type: ignore[no-any-return]

    def _keys(self, content: str) -> list[bytes]:
        decoding = self._policy.describe()
        keys = [key(content, decoding, graph.fingerprint, name) for graph in self._graphs for name in graph.outputs]
        return [*keys, *(key(content, decoding, noted.version, noted.name) for noted in self._measures)]

    def _compute(self, data: bytes, content: str, missing: set[bytes]) -> dict[bytes, bytes]:
        picture = decode(data, self._policy)
        decoding = self._policy.describe()
        values: dict[bytes, bytes] = {}
        for graph in self._graphs:
            keys = [key(content, decoding, graph.fingerprint, name) for name in graph.outputs]
            if missing.isdisjoint(keys):
                continue
            rows = self._session(graph).run(list(graph.outputs), {"image": picture.pixels[None]})
            values.update((name, row[0].tobytes()) for name, row in zip(keys, rows, strict=True))
        for noted in self._measures:
            name = key(content, decoding, noted.version, noted.name)
            if name in missing:
                values[name] = noted.of(picture)
        return values

    def _session(self, graph: Graph) -> Any:
        """Sessions are opened on first need: a run that finds everything in the cache opens none."""
        with self._opening:
            if graph.fingerprint not in self._sessions:
                self._sessions[graph.fingerprint] = open_session(graph.path)
            return self._sessions[graph.fingerprint]

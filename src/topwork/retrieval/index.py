"""An index that is open: which of these pictures look like this one?"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from topwork.errors import CacheError, UsageError
from topwork.features import thumbnails
from topwork.images import Sample
from topwork.images.reach import Reach
from topwork.images.storage import is_url
from topwork.progress import Progress
from topwork.retrieval import known
from topwork.retrieval import settings as index_settings
from topwork.retrieval.building import update
from topwork.retrieval.copies import Copies, find_copies
from topwork.retrieval.embedded import EXACT_UP_TO
from topwork.retrieval.filters import matching
from topwork.retrieval.places import Places
from topwork.retrieval.queries import Box, Encoder, One, Querylike, cached_features, towards, training_contents
from topwork.retrieval.store import EMBEDDED, Floats, Ints, Store
from topwork.retrieval.table import Row, Table
from topwork.retrieval.treatment import Treatment

Answer = TypeVar("Answer")
_ATTEMPTS = 5  # to ask vectors that another run replaces in that moment


@dataclass(frozen=True)
class Hit:
    """A picture that was found."""

    path: str
    """Where it is: a path or URL; of a frame of a video the video and the time."""
    score: float
    """Cosine of the angle between the vectors, -1..1."""
    label: str | None
    row: Row
    """What else the index knows of it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork search --json``."""
        return {"path": self.path, "score": round(self.score, 4), "label": self.label}


def build_index(
    source: Any,
    out: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    features: str | None = None,
    vectors: str | None = None,
    store: str | None = None,
    progress: Progress | None = None,
) -> "Index":
    """Make the index folder ``out`` of a source, or bring it up to date: only what is new or changed is read.

    ``source``: anything that `ImageSource.open` takes; labels are kept, none is needed. ``backbone``: the pretrained
    network (default EfficientNet-Lite0); ``features``: "pooled" or "logits"; ``vectors``: "centred", "plain", "pca" or
    "whitened"; ``store``: "embedded" or "qdrant://HOST:PORT/COLLECTION". What was done is in ``Index.facts``.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (64, 64), "red").save(f"{folder}/red.png")
    ...     index = build_index(folder, f"{folder}/my.index")
    ...     index.close()
    >>> index.facts["added"], index.facts["unchanged"]
    (1, 0)
    """
    facts = update(
        source,
        Path(out),
        backbone=backbone,
        features=features,
        vectors=vectors,
        store=store,
        progress=progress,
    )
    return Index.open(out, facts=facts, store=store)


class Index:
    """The pictures of an index folder; ``Index.open`` opens one. It may be used from several threads."""

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        store: str | None = None,
        photos: Sequence[str | os.PathLike[str]] = (),
        allow_remote: bool = False,
    ) -> None:
        self.path = folder.absolute()
        self.facts = facts
        """What the run that made it, or ``add``, did: the JSON of ``topwork index --json``; else empty."""
        self.settings = index_settings.read(folder)
        self.table = Table(self.path, read_only=True)
        self.encoder = Encoder(self.settings)
        self._lock = RLock()
        self._read: tuple[str, Treatment] = ("", Treatment())
        self._store_name = store
        self._store: Store | None = None
        self._reach = Reach.of_index([os.fspath(each) for each in photos], allow_remote=allow_remote)
        try:
            self._look_at_sources()
        except BaseException:
            self.table.close()
            raise

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        facts: dict[str, Any] | None = None,
        store: str | None = None,
        photos: Sequence[str | os.PathLike[str]] = (),
        allow_remote: bool = False,
    ) -> "Index":
        """Open an index folder; its vectors are mapped, not read. SourceError where there is none.

        An index may come from somebody else, so what it names is used only where you name it too. ``store``: where its
        vectors are, if not in the folder. Its pictures are read where topwork indexed them on this computer, and below
        ``photos``, folders or URLs; ``allow_remote``: also at s3, gs and http(s) addresses. CacheError where it is
        damaged, or holds what topwork does not write.

        >>> Index.open("nowhere.index")
        Traceback (most recent call last):
        ...
        topwork.errors.SourceError: expected an index at nowhere.index, but there is none that can be read; make one ...
        """
        return cls(Path(path), facts or {}, store, photos, allow_remote)

    def __enter__(self) -> "Index":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def store(self) -> Store:
        """Where the vectors are; UsageError where that is a server that the user did not name."""
        if self._store is None:
            self.settings.check_store(self.path, self._store_name)
            self._store = self.settings.open_store(self.path)
        return self._store

    def _look_at_sources(self) -> None:
        """Which sources there are, and of which of them topwork wrote the rows on this computer."""
        written = known.sources_of(self.settings.digest(self.table.examine()))
        self.places = Places(self.path, self.table.sources(), written, self._reach)

    def __len__(self) -> int:
        return self.table.counts()[0]

    def close(self) -> None:
        """Close the table."""
        self.table.close()

    def search(
        self,
        query: Querylike,
        k: int = 10,
        where: str | None = None,
        *,
        values: Sequence[Any] = (),
        unlike: Querylike | None = None,
        crop: Box | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """The ``k`` pictures most like ``query``, the most alike first; a picture of the index does not find itself.

        ``query``: a picture, features ``[d]``, or several, whose mean is looked for; ``unlike``: pictures to stay away
        from. ``where``: an SQL expression over the table's columns, ``values`` in the place of its question marks.
        ``crop``: left, top, width, height in pixels, the part of every query picture that counts. ``exact`` compares
        with every picture, however many there are.
        """
        looked_for = [self._named(each) for each in _several(query)]
        wanted = np.stack([self.encoder(each, crop) for each in looked_for])
        unwanted = None
        if unlike is not None:
            unwanted = np.stack([self.encoder(self._named(each)) for each in _several(unlike)])
        itself = set() if crop else {_real(each) for each in looked_for} - {None}
        return self._nearest(wanted, unwanted, k, where, values, itself=itself, exact=exact)

    def search_class(
        self,
        model: str | os.PathLike[str],
        label: str,
        k: int = 10,
        where: str | None = None,
        *,
        values: Sequence[Any] = (),
    ) -> list[Hit]:
        """The ``k`` pictures most like those that a model folder learned a class from, these among them.

        The features of those come from the index or from the cache. UsageError where neither has them.
        """
        contents = training_contents(os.fspath(model), label)
        rows = self.table.with_content(contents)
        inside = {row.content for row in rows}
        outside = cached_features([each for each in contents if each not in inside], self.settings)
        if not rows and not outside:
            raise UsageError(
                f"expected pictures of {label!r} in {self.path}, or in the cache of a fit with "
                f"{self.settings.backbone}, but there are none; add the model's pictures to the index"
            )
        wanted = np.stack([*self.features([row.id for row in rows]), *outside])
        return self._nearest(wanted, None, k, where, values, itself=set())

    def _nearest(
        self,
        wanted: Floats,
        unwanted: Floats | None,
        k: int,
        where: str | None,
        values: Sequence[Any],
        *,
        itself: set[str | None],
        exact: bool = False,
    ) -> list[Hit]:
        if not isinstance(k, Integral) or k < 1:
            raise UsageError(f"k must be a whole number, at least 1, not {k!r}")
        k = int(k)
        among = None if where is None else matching(self.path, where, values)

        def ask(state: str, treatment: Treatment) -> tuple[Ints, Floats]:
            vector = towards(wanted, unwanted, treatment)
            if exact and among is None:
                return self.store.search_exactly(state, vector, k + len(itself))
            return self.store.search(state, vector, k + len(itself), among=among)

        numbers, scores = self._ask(ask)
        rows = {row.id: row for row in self.table.rows(numbers.tolist())}
        found = (
            (rows[number], score)
            for number, score in zip(numbers.tolist(), scores.tolist(), strict=True)
            if number in rows
        )
        hits = (Hit(self.path_of(row), min(score, 1.0), row.label, row) for row, score in found)
        return [hit for hit in hits if not itself or self._real(hit.row) not in itself][:k]

    def _real(self, row: Row) -> str | None:
        """As `_real`; of a stranger's row the place as it stands, since asking where a link leads may ask a server."""
        return _real(self.place(row)) if self.places.is_own(row) else row.location

    def _named(self, query: One) -> One:
        """A picture by the name under which it is found, such as a frame of a video, which is no file."""
        if isinstance(query, str) and "@" in query and not os.path.exists(query):
            named = (row for row in self.rows() if query in (row.path, self.path_of(row)))
            if (row := next(named, None)) is not None:
                return self.sample(row)
        return query

    def _ask(self, question: Callable[[str, Treatment], Answer]) -> Answer:
        """Ask the vectors that the table names now; another run may replace them between the two."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                state = self.table.fact("state", "")
                if state != self._read[0]:
                    data = self.table.fact("treatment")
                    self._read = (state, Treatment.from_bytes(data) if data else Treatment())
                try:
                    return question(*self._read)
                except FileNotFoundError:
                    continue
        raise CacheError(f"the vectors of {self.path} are missing; run `topwork index` with --rebuild")

    def rows(self) -> list[Row]:
        """All pictures, in the order in which they came."""
        return self.table.rows()

    def features(self, numbers: Sequence[int]) -> Floats:
        """Features of length 1 of pictures by number, ``[n, d]``."""
        return self.table.features(numbers)

    def vectors(self, numbers: Sequence[int]) -> Floats:
        """What is compared, ``[n, m]`` of length 1: the features, treated."""
        return self._ask(lambda _, treatment: treatment(self.features(numbers)))

    def thumbnail(self, number: int) -> bytes:
        """A picture as a small JPEG; UsageError where the index has no such picture."""
        found = self.table.thumbnail(number)
        if found is None:
            raise UsageError(f"expected the number of a picture of {self.path}, but there is no {number}")
        thumbnails.opened(found, f"picture {number} of {self.path}")
        return found

    def path_of(self, row: Row) -> str:
        """Where a picture is, for people: of a part of a file, such as a frame of a video, its place in the source."""
        return self.places.path_of(row)

    def place(self, row: Row) -> str:
        """Where a picture can be read, also after its folder was moved together with the index."""
        return self.places.place(row)

    def why_not(self, row: Row) -> str | None:
        """Why the file of a picture may not be read, in a few words; None where it may: see `open`."""
        return self.places.why_not(row)

    def sample(self, row: Row) -> Sample:
        """The picture, to be read; that is an ImageError where the table names a place that it may not name."""
        return self.places.sample(row)

    def add(self, source: Any, *, progress: Progress | None = None) -> dict[str, Any]:
        """Add the pictures of another source; returns what was done, as ``topwork index --json``. None is removed."""
        self.facts = update(source, self.path, add=True, store=self._store_name, progress=progress)
        self._look_at_sources()
        return self.facts

    def duplicates(self, *, exact: bool = False, progress: Progress | None = None) -> list[Copies]:
        """Groups of pictures that are the same again, the best one of each first; nothing is moved or deleted.

        ``exact``: only those that are the same bytes.
        """
        return find_copies(self, exact=exact, progress=progress)

    def check(self, *, sample: int = 100, seed: int = 0) -> float | None:
        """Recall@10 of the graph against comparing with every picture, 0..1, over ``sample`` of them; None for none."""
        numbers = self.table.numbers()
        if not len(numbers):
            return None
        chosen = np.random.default_rng(seed).choice(numbers, min(sample, len(numbers)), replace=False)
        features = self.features(np.sort(chosen).tolist())

        def ask(state: str, treatment: Treatment) -> float:
            return float(np.mean([self._recall(state, vector) for vector in treatment(features)]))

        return self._ask(ask)

    def info(self) -> dict[str, Any]:
        """The JSON of ``topwork index --info --json``."""
        sources = [root for _, root, _, _ in self.table.sources()]
        state = self.table.fact("state", "")
        fitted_on = self._ask(lambda _, treatment: treatment.fitted_on)
        pictures, labelled = self.table.counts()
        settings = {name: getattr(self.settings, name) for name in ("backbone", "features", "vectors", "store")}
        return {
            "pictures": pictures,
            "labelled": labelled,
            "sources": sources,
            **settings,
            "fitted_on": fitted_on,
            "bytes": self.table.path.stat().st_size + self.store.size(state),
            "exact": self.settings.store == EMBEDDED and pictures <= EXACT_UP_TO,
            "recall": self.check(),
        }

    @property
    def roots(self) -> list[str]:
        """Where the sources are; "" for a list of pictures."""
        return self.places.roots()

    @property
    def own_roots(self) -> list[str]:
        """Where the sources are whose pictures topwork indexed on this computer; "" for a list of pictures."""
        return self.places.roots(own=True)

    def _recall(self, state: str, vector: Floats) -> float:
        exact, _ = self.store.search_exactly(state, vector, 10)
        found, _ = self.store.search_graph(state, vector, 10)
        return len(np.intersect1d(exact, found)) / len(exact)


def _several(query: Querylike) -> list[One]:
    several: list[One] = list(query) if isinstance(query, list | tuple) else [query]  # type: ignore[list-item]
    if not several:
        raise UsageError("expected a picture to look for, or several, but got none")
    return several


def _real(query: One) -> str | None:
    """The file that a query or a hit is, links followed, or its URL; None for what is neither."""
    place = query.location if isinstance(query, Sample) else query
    if not isinstance(place, str | os.PathLike):
        return None
    return os.fspath(place) if is_url(os.fspath(place)) else os.path.realpath(place)

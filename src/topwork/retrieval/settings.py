"""What an index was made with, decided once: its ``index.json``."""

import json
import os
import re
import sqlite3
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from topwork import storage, temporary
from topwork.backbones.graph import Graph, feature_graph
from topwork.backbones.zoo import backbone
from topwork.errors import SourceError, TopworkError, UsageError
from topwork.fingerprint import of_object
from topwork.images import DecodePolicy
from topwork.recipe import DEFAULT_BACKBONE
from topwork.registry import closest
from topwork.retrieval.store import EMBEDDED, Store, open_store
from topwork.retrieval.table import FILE, Table
from topwork.retrieval.treatment import TREATMENTS

MARKER = "index.json"
FORMAT = 1
_LARGEST = 100_000  # bytes of that file
_NAME = re.compile(r"[\w.:+-]{1,200}")  # of a backbone
VIEWS = {"pooled": "features", "logits": "logits"}
"""What is compared, and the graph's output that it is."""


@dataclass(frozen=True)
class Settings:
    """What decides the vectors of an index."""

    backbone: str = DEFAULT_BACKBONE
    fingerprint: str = ""
    """Of the feature graph: it changes with the weights, and with everything else that changes the features."""
    features: str = "pooled"
    vectors: str = next(iter(TREATMENTS))
    store: str = EMBEDDED

    @classmethod
    def of(cls, *, backbone: str | None, features: str | None, vectors: str | None, store: str | None) -> "Settings":
        """The settings of a new index; UsageError for an unknown name, or features that the network does not have."""
        asked = cls._asked(backbone=backbone, features=features, vectors=vectors, store=store)
        settings = cls(**asked)
        graph = settings.graph()
        if VIEWS[settings.features] not in graph.outputs:
            raise UsageError(f"{settings.backbone} has no classifier of its own, so no logits; use --features pooled")
        open_store(settings.store, Path()).check()
        return cls(**asked | {"fingerprint": graph.fingerprint})

    @staticmethod
    def _asked(**asked: str | None) -> dict[str, str]:
        for name, known in (("features", VIEWS), ("vectors", TREATMENTS)):
            value = asked[name]
            if value is not None and value not in known:
                raise UsageError(f"{name} must be known, not {value!r}: {closest(value, known)}")
        return {name: value for name, value in asked.items() if value is not None}

    def check_store(self, folder: Path, named: str | None) -> None:
        """UsageError where the vectors are on a server that the user did not name: the index may be a stranger's."""
        if named is not None and named != self.store:
            raise UsageError(
                f"expected vectors at {named}, but those of {folder} are at {self.store}; leave it out, or name that"
            )
        if self.store != EMBEDDED and named is None:
            raise UsageError(
                f"expected vectors in {folder}, but they are at {self.store}, where every search would be sent; if you "
                f"trust that, name it: --store {self.store}"
            )

    def check(self, folder: Path, **asked: str | None) -> None:
        """UsageError where an index that is there was made with something else than is asked for."""
        self.check_store(folder, asked["store"])
        for name, value in self._asked(**asked).items():
            if value != (found := getattr(self, name)):
                raise UsageError(
                    f"expected an index made with {name} {value}, but {folder} was made with {found}; leave --{name} "
                    "out, or give another -o"
                )
        if self.graph().fingerprint != self.fingerprint:
            raise UsageError(
                f"expected the weights of {self.backbone} that {folder} was made with, but those here are others; "
                "delete the index and make it again, or bring the old weights back"
            )

    def digest(self, table: str) -> str:
        """A hash of an index: of these settings, and of what is in its ``table``."""
        return of_object([asdict(self), table])

    def graph(self) -> Graph:
        """The graph that gives the features."""
        return feature_graph(backbone(self.backbone), "crop")

    def twins(self) -> Graph:
        """The graph by whose features near-duplicates are told, whatever the backbone."""
        return feature_graph(backbone(DEFAULT_BACKBONE), "crop")

    @property
    def needs_twins(self) -> bool:
        """Whether the features that are compared are others than those that tell near-duplicates."""
        return (self.backbone, self.features) != (DEFAULT_BACKBONE, "pooled")

    def policy(self) -> DecodePolicy:
        """How pictures are decoded: as for a ``fit`` with this backbone, which finds the features in the cache."""
        sides = [backbone(name).preprocess.needed_side for name in (self.backbone, DEFAULT_BACKBONE)]
        return DecodePolicy(shrink_to=max(sides))

    def open_store(self, folder: Path) -> Store:
        """Where the vectors are."""
        return open_store(self.store, folder)


def exists(folder: Path) -> bool:
    """Whether there is an index in ``folder``; TopworkError where there is something else."""
    storage.check_replaceable(folder, MARKER)
    return (folder / MARKER).is_file()


def create(folder: Path, settings: Settings) -> None:
    """Make an empty index, whole or not at all; where another run has just made one, that stays."""
    storage.check_writable(folder)
    try:
        _create(folder, settings)
    except (OSError, sqlite3.Error) as error:
        why = storage.reason(error) if isinstance(error, OSError) else str(error)
        raise TopworkError(f"cannot write {folder}: {why}; choose another place with -o, or make room") from error


def _create(folder: Path, settings: Settings) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary.folder_beside(folder) as unfinished:
        text = json.dumps({"format": FORMAT, **asdict(settings)}, indent=1)
        (unfinished / MARKER).write_text(text + "\n", encoding="utf-8")
        Table.create(unfinished)
        with suppress(OSError):
            folder.rmdir()  # one that is empty
        try:
            os.rename(unfinished, folder)
        except OSError:
            if not exists(folder):
                raise


def read(folder: Path) -> Settings:
    """The settings of the index in ``folder``; SourceError where there is none that can be read."""
    try:
        facts = json.loads(_text(folder / MARKER))
        number = facts.pop("format")
        if number > FORMAT:
            raise TopworkError(f"{folder} was made by a newer topwork (format {number}); update topwork")
        if not (folder / FILE).is_file():
            raise FileNotFoundError(FILE)
        return _checked(Settings(**facts))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        first = "delete it, then " if (folder / MARKER).exists() else ""
        raise SourceError(
            f"expected an index at {folder}, but there is none that can be read; {first}make one with "
            f"`topwork index PHOTOS -o {folder}`"
        ) from error


def _text(path: Path) -> bytes:
    """A file that is one, and small; OSError or ValueError for anything else, such as a pipe, which never ends."""
    if not path.is_file() or path.stat().st_size > _LARGEST:
        raise ValueError("no small file")
    return path.read_bytes()


def _checked(settings: Settings) -> Settings:
    """The settings; ValueError where they are none that topwork writes."""
    values = list(asdict(settings).values())
    are_known = settings.features in VIEWS and settings.vectors in TREATMENTS
    if not all(isinstance(value, str) for value in values) or not are_known or not _NAME.fullmatch(settings.backbone):
        raise ValueError("no settings")
    return settings

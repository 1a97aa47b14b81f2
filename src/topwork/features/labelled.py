"""A labelled set as the later steps need it: pictures that can be read, their classes as numbers, their features."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.graph import Graph
from topwork.errors import SourceError
from topwork.features.cache import FeatureCache
from topwork.features.extraction import Extraction, load, load_facts
from topwork.images import DecodePolicy, Excluded, Sample
from topwork.images.sample import unread

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
_NAMED = 3  # classes in a message


@dataclass(frozen=True)
class LabelledSet:
    """Readable, labelled pictures; row i of everything belongs to ``samples[i]``."""

    samples: tuple[Sample, ...]
    contents: tuple[str, ...]
    """Content hashes."""
    labels: Ints
    """``[n]``, places in ``names``."""
    names: list[str]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def paths(self) -> list[str]:
        """The samples' ids."""
        return [sample.id for sample in self.samples]

    def counts(self) -> dict[str, int]:
        """Pictures of each class."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def take(self, rows: Sequence[int] | Ints) -> "LabelledSet":
        """The set of these rows."""
        rows = [int(row) for row in rows]
        samples = tuple(self.samples[row] for row in rows)
        return replace(
            self, samples=samples, contents=tuple(self.contents[row] for row in rows), labels=self.labels[rows]
        )

    def user_groups(self) -> Ints:
        """The groups that the source gives, ``[n]``; a picture without one is a group of its own."""
        keys = [f"g{sample.group}" if sample.group else f"#{i}" for i, sample in enumerate(self.samples)]
        return np.unique(keys, return_inverse=True)[1].astype(np.int64)

    def content_groups(self) -> Ints:
        """A number for each content, ``[n]``."""
        return np.unique(self.contents, return_inverse=True)[1].astype(np.int64)

    def views(
        self, graphs: Sequence[Graph], policy: DecodePolicy, cache: FeatureCache
    ) -> dict[tuple[str, str], Floats]:
        """Inputs of the heads, ``{(geometry, "pooled" | "logits"): [n, d]}``, from the cache."""
        return {
            (graph.geometry, view): load(self.contents, graph, output, policy, cache)
            for graph in graphs
            for view, output in (("pooled", "features"), ("logits", "logits"))
            if output in graph.outputs
        }

    def hashes(self, policy: DecodePolicy, cache: FeatureCache) -> NDArray[np.uint64]:
        """Perceptual hashes ``[n]``, from the cache."""
        return np.array([facts.phash for facts in load_facts(self.contents, policy, cache)], np.uint64)


def labelled_set(extraction: Extraction, given: Sequence[Sample]) -> tuple[LabelledSet, list[Excluded]]:
    """The labelled pictures of an extraction, and those that cannot be used with the reason.

    Classes are those of the training split of all pictures that were ``given``, readable or not. Raises SourceError for
    fewer than 2 classes, or fewer than 2 usable training pictures in one.
    """
    training = Counter(sample.label for sample in extraction.samples if _trains(sample))
    names = sorted({sample.label for sample in given if sample.label is not None and _trains(sample)})
    _require_enough({name: training[name] for name in names}, given, extraction)
    place = {name: k for k, name in enumerate(names)}
    kept = [i for i, sample in enumerate(extraction.samples) if sample.label in place]
    foreign = [
        Excluded(sample.id, f"its class {sample.label!r} has no training pictures")
        for sample in extraction.samples
        if sample.label is not None and sample.label not in place
    ]
    samples = tuple(extraction.samples[i] for i in kept)
    labels = np.array([place[str(sample.label)] for sample in samples], np.int64)
    return LabelledSet(samples, tuple(extraction.hashes[i] for i in kept), labels, names), foreign


def _trains(sample: Sample) -> bool:
    return (sample.split or "train") == "train"


def _require_enough(counts: dict[str, int], given: Sequence[Sample], extraction: Extraction) -> None:
    label_of = {sample.id: sample.label for sample in given if _trains(sample)}
    bad: dict[str | None, list[Excluded]] = defaultdict(list)
    for item in extraction.excluded:
        bad[label_of.get(item.path)].append(item)
    if len(counts) < 2:
        found = f"only {next(iter(counts))!r}" if counts else "none"
        raise SourceError(
            f"expected at least 2 classes with pictures, found {found}{_in_brackets(extraction.excluded)}; "
            "make a folder for each class and put its pictures there"
        )
    few = [name for name, count in counts.items() if count < 2]
    if few:
        each = [f"{counts[name]} in {name!r}" + _not_read(len(bad[name])) for name in few[:_NAMED]]
        rest = f" and as few in {len(few) - _NAMED} more" if len(few) > _NAMED else ""
        unread_ones = [item for name in few for item in bad[name]]
        why = f" ({unread(unread_ones)})" if unread_ones else ""
        raise SourceError(
            f"expected at least 2 usable pictures in every class, found {', '.join(each)}{rest}{why}; "
            "add pictures or remove the class"
        )


def _not_read(count: int) -> str:
    return f" ({count} could not be read)" if count else ""


def _in_brackets(excluded: Sequence[Excluded]) -> str:
    return f" ({unread(excluded)})" if excluded else ""

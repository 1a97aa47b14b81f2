"""The pictures of a fit in memory: training, validation and test split, their features, their groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.graph import Graph
from topwork.errors import SourceError
from topwork.evaluation.duplicates import DuplicateKeys, duplicate_groups, merged_groups
from topwork.features.cache import FeatureCache
from topwork.features.extraction import load
from topwork.features.labelled import LabelledSet
from topwork.images import DecodePolicy, Excluded, stratified_sample
from topwork.progress import Progress
from topwork.recipe import Recipe

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Views = dict[tuple[str, str], Floats]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """The pictures of one split; row i of everything is one picture."""

    pictures: LabelledSet
    views: Views
    groups: Ints
    """``[n]``, numbered across all splits: near-duplicates and the source's own groups."""
    keys: DuplicateKeys | None = None
    """None where near-duplicates do not matter."""

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: NDArray[np.bool_]) -> "Split":
        """The pictures whose place in ``rows`` ``[n]`` is true; all of them are not copied."""
        if rows.all():
            return self
        views = {name: inputs[rows] for name, inputs in self.views.items()}
        keys = None if self.keys is None else self.keys.take(rows)
        return Split(self.pictures.take(np.flatnonzero(rows)), views, self.groups[rows], keys)

    def shares_groups(self, *others: "Split") -> NDArray[np.bool_]:
        """Which pictures ``[n]`` have a near-duplicate in one of ``others``."""
        return np.isin(self.groups, np.concatenate([other.groups for other in others]))


@dataclass(frozen=True)
class Dataset:
    """Everything that is fitted on, chosen by and measured on."""

    train: Split
    val: Split
    """Without near-duplicates of training pictures, which would choose the head that memorises best."""
    test: Split
    excluded: tuple[Excluded, ...]
    """Pictures of ``val`` that are near-duplicates of training pictures."""
    sampled_out: dict[str, int]
    """Pictures of each split that were left out because of ``head_limit``."""


def prepare(
    whole: LabelledSet,
    recipe: Recipe,
    graphs: Sequence[Graph],
    twins: Graph,
    policy: DecodePolicy,
    cache: FeatureCache,
    progress: Progress,
) -> Dataset:
    """Load the features of at most ``head_limit`` pictures a split, and group near-duplicates over all splits.

    ``twins``: the graph whose features tell near-duplicates, whatever the backbone.
    """
    parts, sampled_out = zip(*(_limited(whole, name, recipe) for name in SPLITS), strict=True)
    used = whole.take(np.concatenate(parts))
    views = used.views(graphs, policy, cache)
    groups, keys = grouped(used, recipe, twins, policy, cache, progress)
    _require_several_groups(used, groups)
    everything = Split(used, views, groups, keys)
    place = np.repeat(np.arange(len(SPLITS)), [len(part) for part in parts])
    train, val, test = (everything.take(place == k) for k in range(len(SPLITS)))
    copies = val.shares_groups(train)
    reason = "near-duplicate of a training picture, so it must not choose the head"
    excluded = tuple(Excluded(path, reason) for path, copy in zip(val.pictures.paths, copies, strict=True) if copy)
    return Dataset(train, val.take(~copies), test, excluded, dict(zip(SPLITS, sampled_out, strict=True)))


def grouped(
    used: LabelledSet, recipe: Recipe, twins: Graph, policy: DecodePolicy, cache: FeatureCache, progress: Progress
) -> tuple[Ints, DuplicateKeys | None]:
    """Groups ``[n]`` of the source, copies and, unless the recipe says otherwise, near-duplicates; and their keys."""
    groups = merged_groups(used.user_groups(), used.content_groups())
    if not recipe.group_duplicates:
        return groups, None
    features = load(used.contents, twins, "features", policy, cache)
    keys = DuplicateKeys(features.astype(np.float16), used.hashes(policy, cache))
    return merged_groups(groups, duplicate_groups(features, keys.hashes, progress=progress)), keys


def _require_several_groups(used: LabelledSet, groups: Ints) -> None:
    """Raise SourceError where the source's own groups, such as videos, are one a class: nothing could be measured."""
    rows = np.array([(s.split or "train") == "train" for s in used.samples], bool)
    filmed = any(sample.time is not None for sample in used.samples)
    grouped = any(sample.group for sample in used.samples)
    counts = {k: len(np.unique(groups[rows & (used.labels == k)])) for k in np.unique(used.labels[rows])}
    if grouped and max(counts.values()) < 2:
        what, how = ("video", "film") if filmed else ("group", "photograph")
        raise SourceError(
            f"expected at least 2 {what}s of a class, found 1 of each (or several that look the same): what is "
            f"measured must come from a {what} that did not train; {how} each class 5 times, each time anew"
        )


def _limited(whole: LabelledSet, split: str, recipe: Recipe) -> tuple[Ints, int]:
    """Rows of a split, at most ``head_limit``, whole user groups, classes in proportion; and how many were left out."""
    rows = np.array([i for i, s in enumerate(whole.samples) if (s.split or "train") == split], np.int64)
    if len(rows) <= recipe.head_limit:
        return rows, 0
    part = whole.take(rows)
    present = np.unique(part.labels, return_inverse=True)[1]  # a split need not have every class
    kept = stratified_sample(present, part.user_groups(), recipe.head_limit, recipe.seed)
    return rows[kept], len(rows) - len(kept)

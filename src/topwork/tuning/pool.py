"""The labelled pictures of a fit, and which of them train and which measure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.dataset import Dataset, Views
from topwork.errors import SourceError
from topwork.features.labelled import LabelledSet
from topwork.images import holdout, stratified_group_folds
from topwork.recipe import Recipe

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Rows of the pool that train, and rows that are measured by what they trained."""

    train: Ints
    held: Ints


@dataclass(frozen=True)
class Pool:
    """The pictures of ``train``, then those of ``val``; row i of everything is one picture."""

    pictures: LabelledSet
    views: Views
    """What heads on the frozen network see, ``[n, d]`` by (geometry, features)."""
    groups: Ints
    n_val: int

    def __len__(self) -> int:
        return len(self.groups)


def pool_of(data: Dataset) -> Pool:
    """All pictures that may be trained on or measured."""
    both = (data.train, data.val)
    pictures = LabelledSet(
        tuple(sample for split in both for sample in split.pictures.samples),
        tuple(content for split in both for content in split.pictures.contents),
        np.concatenate([split.pictures.labels for split in both]),
        data.train.pictures.names,
    )
    views = {view: np.concatenate([split.views[view] for split in both]) for view in data.train.views}
    return Pool(pictures, views, np.concatenate([split.groups for split in both]), len(data.val))


def hold_out(pool: Pool, recipe: Recipe) -> list[Part]:
    """One part: the source's ``val`` split measures, else a share of the pictures, in whole groups."""
    held = np.arange(len(pool)) >= len(pool) - pool.n_val
    if not pool.n_val:
        _require_groups(pool, 3)
        held = holdout(pool.pictures.labels, pool.groups, recipe.training.holdout, recipe.seed)
    return [Part(np.flatnonzero(~held), np.flatnonzero(held))]


def folds(pool: Pool, n_folds: int, recipe: Recipe) -> list[Part]:
    """A part for each fold."""
    _require_groups(pool, 3)
    n_folds = min(n_folds, len(np.unique(pool.groups)))
    fold = stratified_group_folds(pool.pictures.labels, pool.groups, n_folds, recipe.seed)
    return [Part(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def described(pool: Pool, parts: Sequence[Part]) -> str:
    """In words, how the parts measure."""
    grouped = ", grouped" if len(np.unique(pool.groups)) < len(pool) else ""
    if len(parts) > 1:
        return f"{len(parts)}-fold cross-validation{grouped}"
    if pool.n_val:
        return f"the val split of {len(parts[0].held)} pictures"
    return f"one hold-out of {len(parts[0].held)} pictures{grouped}"


def _require_groups(pool: Pool, least: int) -> None:
    n_groups = len(np.unique(pool.groups))
    if n_groups < least:
        raise SourceError(
            f"expected at least {least} pictures that are not near-duplicates of each other, found {n_groups}; "
            "add different pictures"
        )

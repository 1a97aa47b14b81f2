"""Pictures that are there more than once, and what contradicts itself because of it."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from topwork.evaluation.duplicates import duplicate_groups
from topwork.images import Sample
from topwork.progress import Progress

Ints = NDArray[np.int64]

Group = list[int]
"""Rows of the samples, in their order; at least two."""


@dataclass(frozen=True)
class Repeats:
    """Groups of pictures, each in the order of the samples; the groups in the order of their first picture."""

    exact: list[Group]
    """Same bytes."""
    near: list[Group]
    """Near-duplicates of at least two contents, with all their exact copies."""
    sampled_out: int
    """Contents that were not compared, because there were more than ``limit``."""


def find_repeats(
    contents: Sequence[str],
    features: NDArray[np.float32],
    hashes: NDArray[np.uint64],
    *,
    rows: Ints,
    progress: Progress | None = None,
) -> Repeats:
    """Exact copies among all pictures, near-duplicates among those in ``rows``.

    ``contents``: content hashes of the n pictures; ``rows`` ``[m]``: one picture of each content to compare, with its
    ``features`` ``[m, d]`` and perceptual ``hashes`` ``[m]``.

    >>> features, hashes = np.eye(2, dtype=np.float32), np.array([1, 2**20 - 1], np.uint64)
    >>> find_repeats(["a", "b", "a"], features, hashes, rows=np.array([0, 1])).exact
    [[0, 2]]
    """
    copies: dict[str, Group] = defaultdict(list)
    for row, content in enumerate(contents):
        copies[content].append(row)
    near = []
    if len(rows) > 1:
        # On matrices this large more BLAS threads than free cores cost more than they bring.
        with threadpool_limits(limits=1, user_api="blas"):
            groups = duplicate_groups(features, hashes, progress=progress)
        near = [
            sorted(row for member in members for row in copies[contents[rows[member]]])
            for members in _groups(groups.tolist())
        ]
    exact = [group for group in copies.values() if len(group) > 1]
    return Repeats(sorted(exact), sorted(near), len(copies) - len(rows))


def distinct_rows(contents: Sequence[str], limit: int, seed: int) -> Ints:
    """The first picture of each content, ``[m]`` ascending; of more than ``limit`` a random ``limit``.

    >>> distinct_rows(["a", "b", "a", "c"], 10, 0).tolist()
    [0, 1, 3]
    """
    first = np.unique(np.array(contents, dtype=str), return_index=True)[1]
    if len(first) > limit:
        first = np.random.default_rng(seed).choice(np.sort(first), limit, replace=False)
    return np.sort(first).astype(np.int64)


def label_conflicts(samples: Sequence[Sample], repeats: Repeats) -> list[dict[str, Any]]:
    """Groups whose pictures carry more than one label, exact copies first; unlabelled pictures are left out.

    A group of near-duplicates is not named again if copies in it carry all its labels already.
    """
    exact = [_conflict(samples, group, "exact") for group in repeats.exact]
    named = {row: set(found["labels"]) for found, group in zip(exact, repeats.exact, strict=True) for row in group}
    near = [
        found
        for found, group in ((_conflict(samples, group, "near"), group) for group in repeats.near)
        if not any(set(found["labels"]) <= named.get(row, set()) for row in group)
    ]
    return [found for found in (*exact, *near) if len(found["labels"]) > 1]


def across_splits(samples: Sequence[Sample], repeats: Repeats) -> list[Group]:
    """Groups with pictures in more than one split, so that what is learned by heart looks like skill."""
    near = {row for group in repeats.near for row in group}
    # exact copies within a group of near-duplicates are counted with that
    groups = [*repeats.near, *(group for group in repeats.exact if group[0] not in near)]
    return sorted(group for group in groups if len({samples[row].split for row in group} - {None}) > 1)


def _conflict(samples: Sequence[Sample], group: Group, kind: str) -> dict[str, Any]:
    labelled = [samples[row] for row in group if samples[row].label is not None]
    labels = sorted({str(sample.label) for sample in labelled})
    return {"paths": [sample.id for sample in labelled], "labels": labels, "kind": kind}


def _groups(numbers: Iterable[Hashable]) -> list[Group]:
    """Positions of equal numbers, where there are at least two."""
    members: dict[Hashable, Group] = defaultdict(list)
    for position, number in enumerate(numbers):
        members[number].append(position)
    return [group for group in members.values() if len(group) > 1]

"""Which pictures to label next, from arrays alone: those that stand for many others that are not understood yet.

A set S of pictures covers a collection with ``F(S) = sum_i w_i max_{j in S} s_ij`` (facility location), where ``s_ij``
is the cosine of vectors i and j, at least 0. Pictures are taken greedily, each the one that adds most to what the
labelled ones and those taken before it cover. So a picture that stands for many comes early (typical), and one that
looks like a labelled one adds nothing (diverse); whoever stops after any number has a set that covers at least 63 % of
what the best of its size would (Nemhauser, Wolsey and Fisher 1978).

Without labels all weights ``w_i`` are 1. With two labels a class or more, ``w_i`` is how unsure nearest-class-mean
classification is of picture i: 1 minus the margin between its two most likely classes (Scheffer, Decomain and Wrobel
2001). Submodular selection weighted by uncertainty is due to Wei, Iyer and Bilmes (2015). docs/label.md has what it
brings, measured.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.calibration import softmax
from topwork.evaluation.novelty import class_means
from topwork.evaluation.vectors import normalized

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

POOL = 5_000
"""Of more pictures as many are taken at random: their cosines take 100 MB."""
_SHARPNESS = 10.0  # of the softmax over cosines to class means


@dataclass(frozen=True)
class Suggestions:
    """Pictures to label, the most useful one first."""

    rows: Ints
    """``[k]``: their rows in the vectors."""
    stands_for: Ints
    """``[k]``: pictures that are more like this one than like any other suggested or labelled one, itself included."""


def suggest(
    vectors: Floats, count: int, *, labels: Ints | None = None, groups: Ints | None = None, seed: int = 0
) -> Suggestions:
    """Up to ``count`` pictures to label next.

    ``vectors`` ``[n, d]`` of length 1; ``labels`` ``[n]``: class numbers, -1 for none; ``groups`` ``[n]``: the same
    number for copies of one picture, of which one is suggested, and none where one is labelled.

    >>> two = np.array([[1, 0], [0.8, 0.6], [0.8, -0.6], [-1, 0]], np.float32)
    >>> suggest(two, 2).rows.tolist()
    [0, 3]
    >>> suggest(two, 2, labels=np.array([0, -1, -1, -1])).rows.tolist()
    [3, 1]
    """
    n = len(vectors)
    labels = np.full(n, -1) if labels is None else labels
    groups = np.arange(n) if groups is None else groups
    labelled = np.flatnonzero(labels >= 0)
    free = ~np.isin(groups, groups[labelled])
    # Of each group its first picture, so that a picture that is there five times does not count five times.
    first = np.zeros(n, bool)
    first[np.unique(groups, return_index=True)[1]] = True
    pool = np.flatnonzero(free & first)
    if len(pool) > POOL:
        pool = np.sort(np.random.default_rng(seed).choice(pool, POOL, replace=False))
    if not len(pool) or count < 1:
        return Suggestions(np.empty(0, np.int64), np.empty(0, np.int64))
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        weights = doubts(vectors, labels)[pool]
        covered = _best_cosine(vectors[pool], vectors[labelled])
        cosines = np.maximum(vectors[pool] @ vectors[pool].T, 0)
        chosen = _greedy(cosines, weights, covered, min(count, len(pool)))
    return Suggestions(pool[chosen], _stands_for(cosines[chosen], covered, float(free.sum()) / len(pool)))


def doubts(vectors: Floats, labels: Ints) -> Floats:
    """How unsure the class of each picture is, ``[n]``, 0..1.

    1 for all with fewer than two classes, or with fewer than two labels a class: such a mean is only one picture.

    >>> vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0.7, 0.7]], np.float32)
    >>> doubts(vectors, np.array([0, 0, 1, 1, -1])).round(3).tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0]
    """
    labelled = labels >= 0
    classes, numbers = np.unique(labels[labelled], return_inverse=True)
    if len(classes) < 2 or len(numbers) < 2 * len(classes):
        return np.ones(len(vectors), np.float32)
    means = normalized(class_means(vectors[labelled], numbers, len(classes)))
    likely = np.sort(softmax(_SHARPNESS * (vectors @ means.T)), axis=1)
    return np.asarray(1 - (likely[:, -1] - likely[:, -2]), np.float32)


def _best_cosine(vectors: Floats, labelled: Floats) -> Floats:
    best = np.zeros(len(vectors), np.float32)
    for start in range(0, len(labelled), POOL):
        part = labelled[start : start + POOL]
        best = np.maximum(best, (vectors @ part.T).max(axis=1))
    return best


def _greedy(cosines: Floats, weights: Floats, covered: Floats, count: int) -> list[int]:
    """Lazily (Minoux 1978): what a picture adds only becomes less, so an old value is a bound; few are looked at."""
    covered = covered.copy()

    def adds(row: int) -> float:
        return float(weights @ np.maximum(cosines[row] - covered, 0))

    bounds = [(-adds(row), row) for row in range(len(cosines))]
    heapq.heapify(bounds)
    chosen: list[int] = []
    while len(chosen) < count:
        row = bounds[0][1]
        renewed = (-adds(row), row)
        heapq.heapreplace(bounds, renewed)
        if bounds[0] == renewed:
            heapq.heappop(bounds)
            chosen.append(row)
            covered = np.maximum(covered, cosines[row])
    return chosen


def _stands_for(cosines: Floats, covered: Floats, times: float) -> Ints:
    """``cosines`` ``[k, m]`` of the chosen ones to the pool, which is one ``times``-th of the collection."""
    best = cosines.argmax(axis=0)
    counts = np.bincount(best[cosines.max(axis=0) > covered], minlength=len(cosines))
    return np.asarray(np.maximum(np.rint(counts * times), 1), np.int64)

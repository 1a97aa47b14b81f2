"""Labels for pictures that nobody labelled, from the labelled ones near them, with how far to trust each.

Label spreading (Zhou et al. 2004): every picture is joined with its nearest neighbours by the cosine ``W_ij`` of their
vectors, ``S = D^-1/2 W D^-1/2``, and the class scores are ``F = (I - a S)^-1 Y``, where ``Y`` holds the labels: a label
flows along chains of pictures that look alike. F is linear in Y, so what a labelled picture would have got without its
own label, and without those of its copies, is found without solving again: ``F_i - sum_j K_ij Y_j`` over itself and its
copies, ``K = (I - a S)^-1``. These left-out answers say how far scores can be trusted (Platt 1999).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

NEIGHBOURS = 10
FLOW = 0.8
"""The share of a picture's score that comes from its neighbours; the rest from its own label."""
LEFT_OUT = 500
"""Labelled pictures that are left out in turn, at most."""
_STEPS = 45  # FLOW to this power is 0.00004
_ROWS = 2_000  # of a block of cosines


@dataclass(frozen=True)
class Propagated:
    """What the labels of some pictures say about all."""

    labels: Ints
    """``[n]``: the class of each picture, also of the labelled ones, where it may differ; -1 for none."""
    confidence: Floats
    """``[n]``: probability that it is right, 0..1."""
    left_out: Ints
    """``[m]``: labelled pictures that were answered for without their own label; none of a class with one."""
    left_out_right: NDArray[np.bool_]
    """``[m]``: whether these answers were right."""
    left_out_confidence: Floats
    """``[m]``: and how sure they were."""

    def measured(self, least: float) -> dict[str, Any]:
        """How many of the labelled pictures would have got a label with confidence ``least``, and rightly."""
        sure = self.left_out_confidence >= least
        return {
            "left_out": len(self.left_out),
            "right": int(self.left_out_right.sum()),
            "sure": int(sure.sum()),
            "sure_right": int((sure & self.left_out_right).sum()),
        }


def propagate(vectors: Floats, labels: Ints, *, groups: Ints | None = None, seed: int = 0) -> Propagated:
    """Labels and confidences of all pictures from those that have a label.

    ``vectors`` ``[n, d]`` of length 1; ``labels`` ``[n]``: class numbers from 0, -1 for none; ``groups`` ``[n]``: the
    same number for copies of one picture. A picture that is far from everything, or only near pictures that no label
    reaches, gets none.

    >>> angles = np.array([0, 0.1, 0.2, 0.3, 1.6, 1.7, 1.8, 1.9, 4.0])
    >>> vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    >>> propagate(vectors, np.array([0, -1, -1, 0, 1, -1, -1, 1, -1])).labels.tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, -1]
    """
    n, labelled = len(vectors), np.flatnonzero(labels >= 0)
    if not len(labelled):
        return Propagated(np.full(n, -1), np.zeros(n, np.float32), *_nothing())
    groups = np.arange(n) if groups is None else groups
    graph = neighbour_graph(vectors)
    targets = np.zeros((n, labels.max() + 1), np.float32)
    targets[labelled, labels[labelled]] = 1
    scores = _solve(graph, targets)
    chosen = _to_leave_out(labels, groups, labelled, seed)
    without = _without_own(graph, scores, targets, chosen, groups)
    reached = without.sum(axis=1) > 0
    right = reached & (without.argmax(axis=1) == labels[chosen])
    calibration = _Platt.fit(_lead(without[reached]), right[reached])
    has = scores.sum(axis=1) > 0
    return Propagated(
        np.where(has, scores.argmax(axis=1), -1),
        np.where(has, calibration(_lead(scores)), 0).astype(np.float32),
        chosen,
        right,
        np.where(reached, calibration(_lead(without)), 0).astype(np.float32),
    )


def neighbour_graph(vectors: Floats, neighbours: int = NEIGHBOURS) -> Any:
    """``S`` as a sparse matrix ``[n, n]``: symmetric, its eigenvalues within -1..1.

    A cosine counts where it is above the lower fence of Tukey (1977), the first quartile minus 1.5 times the range
    between the quartiles, of the cosines of all pictures with their nearest neighbours: what lies farther from
    everything than that has no neighbours.
    """
    from scipy.sparse import coo_array, diags_array

    n = len(vectors)
    k = min(neighbours, n - 1)
    if k < 1:
        return coo_array((n, n), dtype=np.float32).tocsr()
    columns, cosines = _nearest(vectors, k)
    low, high = np.quantile(cosines[:, 0], [0.25, 0.75])
    floor = max(float(low - 1.5 * (high - low)), 0.0)
    weights = np.where(cosines > floor, cosines, 0).ravel()
    one_way = coo_array((weights, (np.repeat(np.arange(n), k), columns.ravel())), shape=(n, n)).tocsr()
    both = one_way.maximum(one_way.T)
    both.eliminate_zeros()
    roots = diags_array(1 / np.sqrt(np.maximum(both.sum(axis=1), 1e-12)))
    return (roots @ both @ roots).tocsr().astype(np.float32)


def _nearest(vectors: Floats, k: int) -> tuple[Ints, Floats]:
    """Rows and cosines ``[n, k]`` of the nearest others, the nearest first."""
    from threadpoolctl import threadpool_limits

    columns, cosines = [], []
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, len(vectors), _ROWS):
            block = vectors[start : start + _ROWS] @ vectors.T
            rows = np.arange(len(block))
            block[rows, start + rows] = -np.inf  # not itself
            best = np.argpartition(-block, k - 1, axis=1)[:, :k]
            values = np.take_along_axis(block, best, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            columns.append(np.take_along_axis(best, order, axis=1))
            cosines.append(np.take_along_axis(values, order, axis=1))
    return np.concatenate(columns), np.concatenate(cosines)


def _solve(graph: Any, right: Floats) -> Floats:
    """``(I - a S)^-1`` times ``right`` ``[n, m]``, by ``F <- a S F + right``: it converges as ``a`` to the steps."""
    result = right.copy()
    for _ in range(_STEPS):
        result = FLOW * (graph @ result) + right
    return np.asarray(result, np.float32)


def _to_leave_out(labels: Ints, groups: Ints, labelled: Ints, seed: int) -> Ints:
    """Labelled pictures whose class has another picture that is no copy of them; of many a random part."""
    pairs = np.unique(np.stack([labels[labelled], groups[labelled]], axis=1), axis=0)
    classes, different = np.unique(pairs[:, 0], return_counts=True)
    usable = labelled[np.isin(labels[labelled], classes[different > 1])]
    if len(usable) > LEFT_OUT:
        usable = np.random.default_rng(seed).choice(usable, LEFT_OUT, replace=False)
    return np.sort(usable)


def _without_own(graph: Any, scores: Floats, targets: Floats, chosen: Ints, groups: Ints) -> Floats:
    """Scores ``[m, c]`` of the ``chosen`` pictures without their own labels and those of their copies."""
    if not len(chosen):
        return np.empty((0, targets.shape[1]), np.float32)
    units = np.zeros((len(groups), len(chosen)), np.float32)
    units[chosen, np.arange(len(chosen))] = 1
    influence = _solve(graph, units)  # [n, m]: K is symmetric
    own = groups[:, None] == groups[chosen]
    without = scores[chosen] - (influence * own).T @ targets
    # What is left of rounding is no score.
    return np.where(without > 1e-5 * scores[chosen].max(axis=1, keepdims=True), without, 0)


def _lead(scores: Floats) -> Floats:
    """Logarithm of the best class's share over all others' ``[n]``, -5..5; 5 where no other class reaches."""
    best = scores.max(axis=1)
    rest = scores.sum(axis=1) - best
    return np.asarray(np.clip(np.log(np.maximum(best, 1e-9) / np.maximum(rest, 1e-9)), -5, 5), np.float32)


@dataclass(frozen=True)
class _Platt:
    """Probability ``1 / (1 + exp(-(slope x + offset)))`` that an answer with lead x is right."""

    slope: float
    offset: float

    def __call__(self, lead: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(self.slope * lead + self.offset))), np.float32)

    @classmethod
    def fit(cls, lead: Floats, right: NDArray[np.bool_]) -> "_Platt":
        """To left-out answers, with Platt's targets: n right answers in a row are trusted (n + 1) / (n + 2)."""
        from scipy.optimize import minimize

        good, bad = int(right.sum()), int((~right).sum())
        wanted = np.where(right, (good + 1) / (good + 2), 1 / (bad + 2))
        # Two answers more, one right and one wrong, at the mean lead: with no labelled pictures at all it is 1/2.
        middle = float(lead.mean()) if len(lead) else 0.0
        x = np.append(lead, [middle, middle]).astype(np.float64)
        y = np.append(wanted, [1.0, 0.0])

        def loss(parameters: NDArray[np.float64]) -> float:
            z = parameters[0] * x + parameters[1]
            return float((np.logaddexp(0, z) - y * z).sum() + 0.05 * parameters[0] ** 2)

        found = minimize(loss, np.zeros(2), bounds=[(0, None), (None, None)], method="L-BFGS-B").x
        return cls(float(found[0]), float(found[1]))


def _nothing() -> tuple[Ints, NDArray[np.bool_], Floats]:
    return np.empty(0, np.int64), np.empty(0, bool), np.empty(0, np.float32)

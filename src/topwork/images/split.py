"""Splits that keep groups whole and classes in proportion; arrays in, arrays out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import UsageError

IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]

LEAVE_ONE_OUT_LIMIT = 40
"""Up to so many groups, every group is a fold of its own: cheap, and on few pictures the least biased."""

TEN_FOLD_LIMIT = 400
"""Up to so many groups there are ten folds, which train on 90 % of the pictures instead of 80 %."""


class _Cells:
    """How many samples of each class each group has, without the zeros.

    Groups and classes are numbered from 0 in sorted order. ``size``: ``[g]``; ``total``: ``[c]``; ``group``,
    ``label``, ``count``: ``[cells]``, sorted by group; the cells of group i are ``start[i]:start[i + 1]``.
    """

    def __init__(self, labels: IntArray, groups: IntArray) -> None:
        labels, groups = np.asarray(labels), np.asarray(groups)
        if labels.ndim != 1 or labels.shape != groups.shape or not len(labels):
            raise UsageError(
                f"labels and groups must be two arrays [n] of one length, at least 1, "
                f"not {list(labels.shape)} and {list(groups.shape)}"
            )
        classes, label_of = np.unique(labels, return_inverse=True)
        names, self.group_of = np.unique(groups, return_inverse=True)
        self.n_groups, self.n_classes = len(names), len(classes)
        self.size = np.bincount(self.group_of)
        self.total = np.bincount(label_of)
        cells, self.count = np.unique(self.group_of * self.n_classes + label_of, return_counts=True)
        self.group, self.label = np.divmod(cells, self.n_classes)
        self.start = np.searchsorted(self.group, np.arange(self.n_groups + 1))

    def main_label(self) -> NDArray[np.intp]:
        """The class most frequent in each group, ``[g]``."""
        order = np.lexsort((-self.count, self.group))
        main: NDArray[np.intp] = self.label[order][self.start[:-1]]
        return main

    def shuffled(self, seed: int) -> NDArray[np.intp]:
        """All groups, in random order."""
        return np.random.default_rng(seed).permutation(self.n_groups)


def stratified_group_folds(labels: IntArray, groups: IntArray, n_folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each sample, ``[n]`` in 0..n_folds - 1; a group is never parted, every fold has a group.

    Greedy: large groups first, each to the fold where the class shares become most even, that is, where
    ``sum_f sum_c (x_fc / T_c)^2`` grows least (``x_fc``: samples of class c in fold f, ``T_c``: in all); ties
    go to the smaller fold. Without groups, both the folds' sizes and their counts of a class differ by at
    most 1. With as many folds as groups this is leave-one-group-out. UsageError if there are fewer groups
    than folds.

    >>> folds = stratified_group_folds(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 4]), 2, seed=0)
    >>> bool(folds[0] == folds[1]), np.bincount(folds).tolist()
    (True, [3, 3])
    """
    cells = _Cells(labels, groups)
    if n_folds < 2:
        raise UsageError(f"the number of folds must be at least 2, not {n_folds}")
    if n_folds > cells.n_groups:
        raise UsageError(
            f"{n_folds} folds need at least as many groups, but there are {cells.n_groups}; use fewer folds"
        )
    fold_of = cells.shuffled(seed) if n_folds == cells.n_groups else _deal(cells, np.full(n_folds, 1 / n_folds), seed)
    return fold_of[cells.group_of].astype(np.int64)


def choose_folds(labels: IntArray, groups: IntArray) -> int:
    """How many outer folds suit: leave-one-group-out with at most 40 groups, 10 with at most 400, else 5.

    The smaller the set, the more it costs to train on less of it. Above 40 groups, fewer if a class has fewer groups,
    so that each fold can have one of it, but at least 3 (a class may then be missing from the training part of a
    fold). UsageError below 2 groups.

    >>> [choose_folds(np.repeat([0, 1], n), np.arange(2 * n)) for n in (10, 50, 500)]
    [20, 10, 5]
    """
    cells = _Cells(labels, groups)
    if cells.n_groups < 2:
        raise UsageError("cross-validation needs at least 2 groups of pictures, but there is 1; add pictures")
    if cells.n_groups <= LEAVE_ONE_OUT_LIMIT:
        return cells.n_groups
    return int(np.clip(np.bincount(cells.label).min(), 3, 10 if cells.n_groups <= TEN_FOLD_LIMIT else 5))


def holdout(labels: IntArray, groups: IntArray, fraction: float, seed: int) -> BoolArray:
    """True for the samples held out, ``[n]``: about ``fraction`` of every class, in whole groups.

    Every class keeps at least one group for training; one with two or more also has one held out where that
    parts no other class from its last training group. UsageError below 2 groups, or if ``fraction`` is not in
    (0, 1).

    >>> held = holdout(np.repeat([0, 1], 50), np.arange(100), 0.2, seed=0)
    >>> int(held[:50].sum()), int(held[50:].sum())
    (10, 10)
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the fraction to hold out must be between 0 and 1, such as 0.2, not {fraction}")
    cells = _Cells(labels, groups)
    if cells.n_groups < 2:
        raise UsageError("a hold-out needs at least 2 groups of pictures, but there is 1; add pictures")
    held = _deal(cells, np.array([fraction, 1 - fraction]), seed) == 0
    _train_every_class(cells, held)
    _hold_out_every_class(cells, held)
    if not held.any():  # every class is a single group: one must go untrained, or nothing is measured
        held[np.argmin(cells.size)] = True
    samples: BoolArray = held[cells.group_of]
    return samples


def stratified_sample(labels: IntArray, groups: IntArray, limit: int, seed: int) -> NDArray[np.int64]:
    """Sorted indices of at most ``limit`` samples: whole groups, classes in proportion.

    Every class keeps at least two groups (or its only one); UsageError if ``limit`` does not allow that.

    >>> stratified_sample(np.array([0, 0, 0, 0, 1, 1]), np.arange(6), 4, seed=0).size
    4
    """
    cells = _Cells(labels, groups)
    if len(cells.group_of) <= limit:
        return np.arange(len(cells.group_of), dtype=np.int64)
    order = cells.shuffled(seed)
    kept = _two_of_each_class(cells, order)
    if cells.size[kept].sum() > limit:
        kept = _two_of_each_class(cells, np.argsort(cells.size, kind="stable"))
    if (least := int(cells.size[kept].sum())) > limit:
        raise UsageError(
            f"a sample of {limit} pictures cannot hold two groups of each of {cells.n_classes} classes, "
            f"which are {least} pictures; raise the limit"
        )
    _fill(cells, kept, order, limit)
    return np.flatnonzero(kept[cells.group_of]).astype(np.int64)


def _deal(cells: _Cells, shares: NDArray[np.float64], seed: int) -> NDArray[np.intp]:
    """The fold of each group, ``[g]``, when fold f should get ``shares[f]`` of every class.

    Minimises ``sum_f sum_c (x_fc - s_f T_c)^2 / (s_f T_c^2)``, for equal shares the sum in
    `stratified_group_folds`. A group with ``g_c`` samples of class c adds ``sum_c g_c (2 x_fc + g_c) / (s_f
    T_c^2)``, up to what is the same in all folds.
    """
    shuffled = cells.shuffled(seed)
    main = cells.main_label()
    # Singletons class by class: then ties, which go to the smaller fold, even out the folds' sizes exactly.
    order = shuffled[np.lexsort((main[shuffled], -cells.size[shuffled]))]
    weight = 1 / cells.total.astype(float) ** 2  # [c]
    filled = np.zeros((cells.n_classes, len(shares)))  # [c, k]
    totals = np.zeros(len(shares))  # [k]
    fold_of = np.empty(cells.n_groups, np.intp)
    for group in order:
        part = slice(cells.start[group], cells.start[group + 1])
        label, count = cells.label[part], cells.count[part][:, None]  # [m], [m, 1]
        cost = (weight[label, None] * count * (2 * filled[label] + count)).sum(axis=0) / shares  # [k]
        # The tolerance: sums of the same numbers may differ in the last bit.
        tied = np.flatnonzero(cost <= cost.min() * (1 + 1e-9))
        fold = tied[np.argmin(totals[tied] / shares[tied])]
        fold_of[group] = fold
        filled[label, fold] += count[:, 0]
        totals[fold] += cells.size[group]
    return fold_of


def _train_every_class(cells: _Cells, held: BoolArray) -> None:
    """Move the smallest group of each class that is held out entirely to training."""
    for label in range(cells.n_classes):
        with_it = cells.group[cells.label == label]
        if held[with_it].all():
            held[with_it[np.argmin(cells.size[with_it])]] = False


def _hold_out_every_class(cells: _Cells, held: BoolArray) -> None:
    """Move the smallest group that may go of each class that is not held out at all to the hold-out."""
    in_training = np.bincount(cells.label[~held[cells.group]], minlength=cells.n_classes)  # groups, [c]
    for label in range(cells.n_classes):
        with_it = cells.group[cells.label == label]
        if held[with_it].any():
            continue
        for group in with_it[np.argsort(cells.size[with_it], kind="stable")]:
            its_labels = cells.label[cells.start[group] : cells.start[group + 1]]
            if (in_training[its_labels] >= 2).all():
                held[group] = True
                in_training[its_labels] -= 1
                break


def _two_of_each_class(cells: _Cells, order: NDArray[np.intp]) -> BoolArray:
    """The first two groups in ``order`` of each class, ``[g]``."""
    position = np.empty_like(order)
    position[order] = np.arange(len(order))
    by_class = np.lexsort((position[cells.group], cells.label))
    start = np.searchsorted(cells.label[by_class], np.arange(cells.n_classes))
    rank = np.arange(len(by_class)) - start[cells.label[by_class]]
    kept = np.zeros(cells.n_groups, bool)
    kept[cells.group[by_class[rank < 2]]] = True
    return kept


def _fill(cells: _Cells, kept: BoolArray, order: NDArray[np.intp], limit: int) -> None:
    """Keep more groups while they fit, always of the class of which the smallest share has been taken."""
    main = cells.main_label()
    first = order[np.lexsort((~kept[order], main[order]))]  # class by class, those kept already in front
    ends = np.cumsum(cells.size[first])
    starts = np.searchsorted(main[first], np.arange(cells.n_classes))
    before = np.concatenate([[0], ends])[starts]  # samples in the classes before, [c]
    of_class = np.bincount(main, weights=cells.size, minlength=cells.n_classes)
    share = (ends - before[main[first]] - cells.size[first] / 2) / of_class[main[first]]
    room = limit - int(cells.size[kept].sum())
    for group in first[np.argsort(share, kind="stable")]:
        if not kept[group] and cells.size[group] <= room:
            kept[group] = True
            room -= int(cells.size[group])

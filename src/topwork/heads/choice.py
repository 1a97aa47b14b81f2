"""Choosing a head and measuring the choice, without letting one leak into the other.

Nested cross-validation (Varma & Simon 2006). For outer fold i the choice is made on pictures outside i only: heads are
trained without folds i and j and scored on j. A fit without i and j serves outer fold i (scored on j) and outer fold j
(scored on i), so half as many fits do. The winner of fold i, trained without i, is measured on i.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.calibration import fit_temperature
from topwork.evaluation.vectors import normalized
from topwork.heads.basis import Basis, Floats, principal_axes
from topwork.heads.candidates import HEADS, Candidate
from topwork.progress import Progress, Silent, step

Ints = NDArray[np.int64]
Views = Mapping[tuple[str, str], Floats]
"""(geometry, features) -> input matrix ``[n, d]``."""

Scored = tuple[Ints, Floats]
"""Rows and their class scores."""

_MAX_PAIRS = 200
_NEGLIGIBLE_GAIN = 1e-3
_MANY = 500  # pictures beyond which every fold is validated on two others instead of all


@dataclass(frozen=True)
class Choice:
    """The outcome of nested cross-validation."""

    winner: Candidate
    """The setting for the final head: the best over all inner scores."""
    table: tuple[tuple[Candidate, float, float], ...]
    """Every candidate with its inner accuracy and Brier score, the lowest Brier score first."""
    fold_winners: tuple[Candidate, ...]
    """What each outer fold chose without seeing itself."""
    nested: Floats
    """``[n, c]`` scores of each picture by its fold's own winner, which never saw it: for measuring."""
    inner: tuple[tuple[Ints, Floats], ...]
    """For each outer fold the rows and scores that its winner was chosen on: for calibrating honestly."""
    scores: Floats
    """``[n, c]`` out-of-fold scores of ``winner``: for calibrating the final head."""


@dataclass(frozen=True)
class LinearHead:
    """Class scores ``x @ weight + bias`` of an input ``x``, which is scaled to length 1 first if ``normalize``."""

    kind: str
    features: str
    normalize: bool
    weight: Floats
    """``[d, c]``."""
    bias: Floats
    """``[c]``."""

    def scores(self, inputs: Floats) -> Floats:
        """Scores ``[n, c]`` of raw features or logits ``[n, d]``."""
        return (normalized(inputs) if self.normalize else inputs) @ self.weight + self.bias


class HeadStage:
    """Everything that is fitted on one labelled set, sharing its factorisations.

    ``views`` hold the inputs ``[n, d]`` for each (geometry, features), ``labels`` ``[n]`` are 0..c-1 and ``folds``
    ``[n]`` are 0..K-1. Pooled features are scaled to length 1, logits are taken as they are. Memory is about
    ``3 n d + 20 d^2`` floats a view.
    """

    def __init__(self, views: Views, labels: Ints, folds: Ints, n_classes: int, *, threads: int = 1) -> None:
        self._labels, self._folds, self._threads = labels, folds, threads
        self._n_folds = int(folds.max()) + 1
        self._targets: Floats = np.eye(n_classes, dtype=np.float32)[labels]
        seen = [normalized(inputs) if view[1] == "pooled" else inputs for view, inputs in views.items()]
        with ThreadPoolExecutor(threads) as pool:
            self._bases = dict(zip(views, pool.map(principal_axes, seen), strict=True))

    def choose(
        self,
        candidates: Sequence[Candidate],
        validation: tuple[Views, Ints] | None = None,
        *,
        progress: Progress | None = None,
    ) -> Choice:
        """Nested choice among ``candidates``; with ``validation`` (its views and labels) that set decides instead."""
        progress = progress or Silent()
        with step(progress, "choosing the head", total=len(candidates)):
            if validation is None:
                inner = self._inner_scores(candidates, progress)
            else:
                inner = self._validated(candidates, *validation, progress)
        labels = self._labels if validation is None else validation[1]
        quality = {
            candidate: [(rows, _quality(labels[rows], scores)) for rows, scores in parts]
            for candidate, parts in inner.items()
        }
        fold_winners = [
            candidates[_best([quality[candidate][fold][1] for candidate in candidates])]
            for fold in range(self._n_folds)
        ]
        overall = [_by_picture(quality[candidate], len(labels)) for candidate in candidates]
        winner = candidates[_best(overall)]
        accuracies = [_accuracy(labels, inner[candidate]) for candidate in candidates]
        order = np.argsort([-quality.mean() for quality in overall], kind="stable")
        nested = self.out_of_fold(fold_winners)
        agreed = set(fold_winners) == {winner}
        return Choice(
            winner=winner,
            table=tuple((candidates[i], accuracies[i], 2 - 2 * float(overall[i].mean())) for i in order),
            fold_winners=tuple(fold_winners),
            nested=nested,
            inner=tuple(inner[candidate][fold] for fold, candidate in enumerate(fold_winners)),
            scores=nested if agreed else self.out_of_fold([winner] * self._n_folds),
        )

    def out_of_fold(self, chosen: Sequence[Candidate], subsets: NDArray[np.bool_] | None = None) -> Floats:
        """Scores ``[n, c]`` of every picture by a head that was trained without its fold.

        ``chosen`` is the setting for each fold; ``subsets`` ``[n, K]`` restricts the training pictures of each fold.
        """
        mask = self._folds[:, None] != np.arange(self._n_folds)
        if subsets is not None:
            mask &= subsets
        scores = np.empty((len(self._labels), self._targets.shape[1]), np.float32)
        for candidate in dict.fromkeys(chosen):
            own = [fold for fold, other in enumerate(chosen) if other == candidate]
            weight, bias = self._fit(candidate, mask[:, own].astype(np.float32))
            for k, fold in enumerate(own):
                rows = self._folds == fold
                scores[rows] = self._bases[candidate.view].coordinates[rows] @ weight[k] + bias[k]
        return scores

    def with_folds(self, folds: Ints) -> "HeadStage":
        """The same set with other folds, sharing the factorisations."""
        other = object.__new__(HeadStage)
        other.__dict__.update(self.__dict__)
        other._folds, other._n_folds = folds, int(folds.max()) + 1
        return other

    def final(self, candidate: Candidate) -> LinearHead:
        """The head trained on every picture."""
        weight, bias = self._fit(candidate, np.ones((len(self._labels), 1), np.float32))
        weight_d, bias_d = self._bases[candidate.view].restore(weight[0], bias[0])
        return LinearHead(candidate.head, candidate.features, candidate.features == "pooled", weight_d, bias_d)

    def _fit(self, candidate: Candidate, mask: Floats) -> tuple[Floats, Floats]:
        kind = HEADS.get(candidate.head)
        return kind.fit(self._bases[candidate.view].coordinates, self._targets, mask, candidate.strength)

    def _inner_scores(self, candidates: Sequence[Candidate], progress: Progress) -> dict[Candidate, list[Scored]]:
        """For each candidate and outer fold: rows outside the fold, and their scores without fold and row's fold."""
        pairs = inner_pairs(self._n_folds, len(self._labels))
        mask = np.stack([(self._folds != i) & (self._folds != j) for i, j in pairs], axis=1).astype(np.float32)
        rows = [np.flatnonzero(self._folds == fold) for fold in range(self._n_folds)]

        def scored(candidate: Candidate) -> list[Scored]:
            coordinates = self._bases[candidate.view].coordinates
            weight, bias = self._fit(candidate, mask)
            parts: list[list[Scored]] = [[] for _ in rows]
            for k, (i, j) in enumerate(pairs):
                for outer, validated in ((i, j), (j, i)):
                    inside = rows[validated]
                    parts[outer].append((inside, coordinates[inside] @ weight[k] + bias[k]))
            return [(np.concatenate([r for r, _ in part]), np.concatenate([s for _, s in part])) for part in parts]

        return self._each(candidates, scored, progress)

    def _validated(
        self, candidates: Sequence[Candidate], views: Views, labels: Ints, progress: Progress
    ) -> dict[Candidate, list[Scored]]:
        """The same with a validation set of its own in the place of inner folds."""
        rows = np.arange(len(labels))
        mask = (self._folds[:, None] != np.arange(self._n_folds)).astype(np.float32)

        def scored(candidate: Candidate) -> list[Scored]:
            basis: Basis = self._bases[candidate.view]
            inputs = views[candidate.view]
            inputs = normalized(inputs) if candidate.features == "pooled" else inputs
            coordinates = (inputs - basis.mean) @ basis.axes
            weight, bias = self._fit(candidate, mask)
            return [(rows, coordinates @ weight[k] + bias[k]) for k in range(self._n_folds)]

        return self._each(candidates, scored, progress)

    def _each(
        self, candidates: Sequence[Candidate], scored: Callable[[Candidate], list[Scored]], progress: Progress
    ) -> dict[Candidate, list[Scored]]:
        found = {}
        with ThreadPoolExecutor(self._threads) as pool:
            for candidate, parts in zip(candidates, pool.map(scored, candidates), strict=True):
                found[candidate] = parts
                progress.advance("choosing the head")
        return found


def inner_pairs(n_folds: int, n: int) -> list[tuple[int, int]]:
    """Pairs of folds that are left out together, so that every fold meets equally many others.

    All pairs where that is cheap, neighbours on a circle otherwise.

    >>> inner_pairs(5, 5000)
    [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
    >>> len(inner_pairs(5, 100))
    10
    """
    shifts = 1 if n > _MANY else max(1, min((n_folds - 1) // 2, _MAX_PAIRS // n_folds))
    return [(i, (i + shift) % n_folds) for shift in range(1, shifts + 1) for i in range(n_folds)]


def _quality(labels: Ints, scores: Floats) -> NDArray[np.float64]:
    """``1 - Brier / 2`` of each picture after calibration, in [0, 1]: less noisy than right or wrong."""
    misses = fit_temperature(scores, labels)(scores)
    misses[np.arange(len(labels)), labels] -= 1
    return np.asarray(1 - np.square(misses).sum(axis=1) / 2)


def _best(qualities: Sequence[NDArray[np.float64]]) -> int:
    """The best candidate, the first one unless another beats it by more than the noise (2.5 standard errors).

    It must also beat it by something that matters, a tenth of a point.

    Choosing the highest score of many on a small set mostly chooses luck.

    >>> _best([np.array([0.5, 0.5, 0.5]), np.array([0.9, 0.1, 0.6])]), _best([np.zeros(3), np.ones(3)])
    (0, 1)
    """
    gains = np.stack(qualities) - qualities[0]
    sure = gains.mean(axis=1) - 2.5 * gains.std(axis=1) / np.sqrt(gains.shape[1])
    sure[1:] -= _NEGLIGIBLE_GAIN
    return int(sure.argmax())  # the first candidate's own gain is 0 for sure


def _by_picture(parts: Sequence[tuple[Ints, NDArray[np.float64]]], n: int) -> NDArray[np.float64]:
    """Mean quality of each picture that was scored; folds share pictures."""
    rows, quality = np.concatenate([r for r, _ in parts]), np.concatenate([q for _, q in parts])
    counts = np.bincount(rows, minlength=n)
    return np.asarray((np.bincount(rows, quality, minlength=n) / np.maximum(counts, 1))[counts > 0])


def _accuracy(labels: Ints, parts: Sequence[Scored]) -> float:
    return float(np.mean([(scores.argmax(axis=1) == labels[rows]).mean() for rows, scores in parts]))

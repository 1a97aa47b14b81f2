"""Scores to probabilities that mean what they say, and how well they do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

_BISECTIONS = 24  # leave a millionth of the range
_SMALLEST, _LARGEST = 1e-4, 1e4  # inverse temperatures; scores far outside are not calibrated but broken


@dataclass(frozen=True)
class Temperature:
    """Probabilities ``softmax(scale * scores)``: temperature scaling (Guo et al. 2017), ``scale`` = 1 / temperature.

    The best class stays the best class.
    """

    scale: float

    def __call__(self, scores: Floats) -> NDArray[np.float64]:
        """Probabilities ``[n, c]`` of scores ``[n, c]``."""
        return softmax(self.scale * scores.astype(np.float64))


def softmax(scores: Floats) -> NDArray[np.float64]:
    """``exp(s) / sum exp(s)`` over the last axis, safe for large scores."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def fit_temperature(scores: Floats, labels: Ints) -> Temperature:
    """The scale that makes out-of-fold ``scores`` ``[n, c]`` most likely.

    Labels are trusted ``(n + 1) / (n + 2)`` as in Platt (1999): without it a small set without mistakes would call for
    certainty. The rest goes to the best other class; spread over all, one far-away class would rule. With 20 pictures
    the confidence ends up near 95 % at most, with 1,000 near 99.9 %.

    >>> scores = np.array([[2.0, 0.0], [0.0, 1.0], [1.5, 0.0], [1.0, 0.5]])
    >>> 0 < fit_temperature(scores, np.array([0, 1, 0, 1])).scale < 2
    True
    """
    scores = scores.astype(np.float64)
    # A picture whose class had no other picture to learn from says nothing about confidence.
    learned = np.isfinite(scores[np.arange(len(labels)), labels])
    scores, labels = scores[learned], labels[learned]
    n, c = scores.shape
    if n == 0:
        return Temperature(1.0)
    # A class without a picture in a fold's training part scores -inf there: taken as the least likely other one.
    possible = np.isfinite(scores)
    scores = np.where(possible, scores, np.where(possible, scores, np.inf).min(axis=1, keepdims=True))
    trust = (n + 1) / (n + 2)
    rows = np.arange(n)
    runner_up = np.where(np.arange(c) == labels[:, None], -np.inf, scores).max(axis=1)
    expected = trust * scores[rows, labels] + (1 - trust) * runner_up

    def slope(scale: float) -> float:
        """Derivative of the mean loss in the scale; it grows with the scale, since the loss is convex in it."""
        return float((softmax(scale * scores) * scores).sum(axis=1).mean() - expected.mean())

    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return Temperature(float(np.exp((low + high) / 2)))


@dataclass(frozen=True)
class Bin:
    """Pictures whose confidence lies in ``[low, high)``."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean confidence."""
    accuracy: float
    """The share of them that is right."""


def reliability(probabilities: Floats, labels: Ints, n_bins: int = 10) -> list[Bin]:
    """Bins of equal width over the confidence (largest probability); empty ones are left out.

    >>> [(b.count, b.accuracy) for b in reliability(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]))]
    [(1, 0.0), (1, 1.0)]
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    bins = []
    for k in np.unique(place):
        inside = place == k
        mean, share = float(confidence[inside].mean()), float(right[inside].mean())
        bins.append(Bin(int(k) / n_bins, (int(k) + 1) / n_bins, int(inside.sum()), mean, share))
    return bins


def expected_calibration_error(probabilities: Floats, labels: Ints, n_bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by count (Naeini et al. 2015).

    >>> round(expected_calibration_error(np.array([[0.8, 0.2]] * 4), np.array([0, 0, 0, 1])), 3)
    0.05
    """
    bins = reliability(probabilities, labels, n_bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / len(labels)


def brier_score(probabilities: Floats, labels: Ints) -> float:
    """Mean over pictures of ``sum_c (p_c - [c = label])^2`` (Brier 1950): 0 is perfect, 2 is the worst.

    >>> brier_score(np.array([[0.5, 0.5]]), np.array([0]))
    0.5
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.square(probabilities - truth).sum(axis=1).mean())


def log_loss(probabilities: Floats, labels: Ints) -> float:
    """Mean of ``-log p[label]``, p bounded below by 1e-12."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def summary(probabilities: Floats, labels: Ints, *, method: str) -> dict[str, Any]:
    """All figures of this module as plain values."""
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        "log_loss": log_loss(probabilities, labels),
        "method": method,
        "bins": [vars(b) for b in reliability(probabilities, labels)],
        "note": None
        if len(labels) >= 100
        else f"Measured on {len(labels)} pictures only: a rough picture, not a proof.",
    }

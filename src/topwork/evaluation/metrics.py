"""Accuracy and its relatives, each with its doubt."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A share with its confidence interval, all in [0, 1]."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """``value``, ``low`` and ``high``."""
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(right: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval (1927) of ``right`` out of ``n``; neither need be whole.

    >>> interval = wilson(19, 20)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.764, 0.991)
    """
    if n <= 0:
        return Interval(math.nan, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding may push a bound past the value at 0 and 1, where they are equal.
    return Interval(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def effective_number(groups: Ints) -> float:
    """How many independent pictures ``groups`` ``[n]`` are worth: ``n^2 / sum of squared group sizes`` (Kish 1965).

    Members of a group count as standing or falling together, which is what near-duplicates do.

    >>> effective_number(np.array([0, 1, 2, 3])), effective_number(np.array([0, 0, 1, 1]))
    (4.0, 2.0)
    """
    if len(groups) == 0:
        return 0.0
    sizes = np.unique(groups, return_counts=True)[1].astype(float)
    return float(len(groups) ** 2 / np.square(sizes).sum())


def share_interval(right: NDArray[np.bool_], groups: Ints, confidence: float = CONFIDENCE) -> Interval:
    """The share of ``right`` ``[n]`` with Wilson's interval at the effective number of pictures.

    >>> right = np.array([True, True, True, False])
    >>> share_interval(right, np.arange(4)) == wilson(3, 4)
    True
    """
    n = effective_number(groups)
    return wilson(float(right.mean()) * n, n, confidence) if len(right) else wilson(0, 0, confidence)


def confusion_matrix(labels: Ints, predicted: Ints, n_classes: int) -> Ints:
    """Counts ``[c, c]``: row true class, column predicted class."""
    flat = np.bincount(labels * n_classes + predicted, minlength=n_classes * n_classes)
    return flat.reshape(n_classes, n_classes)


def balanced_accuracy(confusion: Ints) -> float:
    """Mean recall of the classes that occur.

    >>> balanced_accuracy(np.array([[90, 0], [5, 5]]))
    0.75
    """
    support = confusion.sum(axis=1)
    present = support > 0
    return float((confusion.diagonal()[present] / support[present]).mean())


def per_class(labels: Ints, predicted: Ints, groups: Ints, names: list[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall (each with interval), F1 and support by class name; NaN becomes None.

    Precision is over the pictures predicted as the class, recall over those that are of it.
    """
    table = {}
    for k, name in enumerate(names):
        claimed, actual = predicted == k, labels == k
        precision = share_interval(labels[claimed] == k, groups[claimed])
        recall = share_interval(predicted[actual] == k, groups[actual])
        hits = int((claimed & actual).sum())
        total = int(claimed.sum() + actual.sum())
        table[name] = {
            "precision": none_if_nan(precision.value),
            "precision_low": precision.low,
            "precision_high": precision.high,
            "recall": none_if_nan(recall.value),
            "recall_low": recall.low,
            "recall_high": recall.high,
            "f1": 2 * hits / total if total else None,
            "support": int(actual.sum()),
        }
    return table


def none_if_nan(value: float) -> float | None:
    """JSON has no NaN: what was not measured is null."""
    return None if math.isnan(value) else value

"""Pictures whose label is probably wrong."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Suspect:
    """A picture (its row) whose label the others contradict."""

    row: int
    suggested: int
    probability: float
    """Out-of-fold probability of the suggested class."""
    label_probability: float
    """Out-of-fold probability of the given label."""


def suspects(probabilities: Floats, labels: Ints) -> list[Suspect]:
    """Confident learning (Northcutt, Jiang & Chuang 2021) on out-of-fold probabilities ``[n, c]``.

    A picture is suspect when another class is its best one, and is given at least the probability that pictures
    labelled so have on average. The most clear-cut come first.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.95], [0.03, 0.97]])
    >>> [s.row for s in suspects(p, np.array([0, 0, 1, 1, 0]))]
    [4]
    """
    c = probabilities.shape[1]
    usual = np.array([probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in range(c)])
    best = probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    doubtful = (best != labels) & (probabilities[rows, best] >= usual[best])
    found = [
        Suspect(int(i), int(best[i]), float(probabilities[i, best[i]]), float(probabilities[i, labels[i]]))
        for i in np.flatnonzero(doubtful)
    ]
    return sorted(found, key=lambda s: s.label_probability - s.probability)

"""Pictures whose label is probably wrong.

A mistake of the model is no wrong label: a weak model makes many. So a label counts as wrong only where a model that is
mostly right finds it less likely than its own doubt explains. Tried on sets as they are, and with labels of one picture
in twenty exchanged before the fit; in brackets what confident learning (Northcutt, Jiang & Chuang 2021) named:

====================  =====  ========  ===================  ==========================================
set                   right  mistakes  named, labels as     named, of them exchanged ones, of so many
                                       given
====================  =====  ========  ===================  ==========================================
forks (40)            100 %  0         0 (0)                0 (2, 2 of 2)
flowers (200)         91 %   18        0 (5)                0 (10, 5 of 10)
clothing (200)        85 %   31        1 (9)                5, 5 of 10 (21, 9)
clothing (1,100)      85 %   162       1 (32)               25, 23 of 55 (73, 36)
solar cells (400)     82 %   71        0 (25)               0 (38, 9 of 20)
drawings (400)        53 %   188       0 (93)               0 (100, 15 of 20)
====================  =====  ========  ===================  ==========================================
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

FALSE = 0.5
"""Largest share of the named pictures whose label is right after all, as far as the probabilities can be believed."""
ABLE = 0.75
"""Share of right answers below which a model judges no label."""


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
    """The labels that calibrated out-of-fold probabilities ``[n, c]`` do not explain, the least explained first.

    Were the label drawn by the model's own probabilities, one so unlikely or more so would come with the probability
    ``sum of p_k over classes k with p_k <= p_label``: a p-value. Of them those that hold the share of false alarms
    below ``FALSE`` (Benjamini & Hochberg 1995) are named, if the model takes the picture for another class. A model
    that agrees with fewer than ``ABLE`` of the labels names none.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.05, 0.95], [0.97, 0.03]])
    >>> [s.row for s in suspects(p, np.array([0, 0, 1, 1, 1]))]
    [4]

    A model that is not sure of itself accuses nobody:

    >>> suspects(np.array([[0.6, 0.4], [0.7, 0.3], [0.4, 0.6], [0.6, 0.4]]), np.array([0, 0, 1, 1]))
    []
    """
    best = probabilities.argmax(axis=1)
    if not len(labels) or (best == labels).mean() < ABLE:
        return []
    rows = np.arange(len(labels))
    given = probabilities[rows, labels][:, None]
    doubt = np.where(probabilities <= given, probabilities, 0).sum(axis=1)
    order = np.argsort(doubt, kind="stable")
    within = np.flatnonzero(doubt[order] <= FALSE * (np.arange(len(labels)) + 1) / len(labels))
    named = order[: within[-1] + 1] if len(within) else order[:0]
    return [
        Suspect(int(i), int(best[i]), float(probabilities[i, best[i]]), float(probabilities[i, labels[i]]))
        for i in named
        if best[i] != labels[i]
    ]

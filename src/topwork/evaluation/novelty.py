"""How unlike the training pictures an input is.

Novelty is the distance from the features, scaled to length 1, to the nearest class mean: 0 is a class's centre, 2 is
opposite. Of the distances tried (Mahalanobis with several shrinkages, relative Mahalanobis, nearest neighbour), this
simplest one told foreign pictures apart as well as any, and it needs one vector a class.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.metrics import effective_number
from topwork.evaluation.vectors import normalized

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def class_means(features: Floats, labels: Ints, n_classes: int) -> Floats:
    """Mean of the features ``[n, d]``, scaled to length 1, of each class: ``[c, d]``; NaN for an absent class."""
    unit = normalized(features)
    means = np.full((n_classes, features.shape[1]), np.nan, np.float32)
    for k in np.unique(labels):
        means[k] = unit[labels == k].mean(axis=0)
    return means


def distances(features: Floats, means: Floats) -> Floats:
    """Novelty ``[n]`` in [0, 2] of raw features ``[n, d]``.

    >>> distances(np.array([[2.0, 0.0]], np.float32), np.array([[1, 0], [0, 1]], np.float32)).tolist()
    [0.0]
    """
    unit, present = normalized(features), means[~np.isnan(means[:, 0])]
    squared = 2 * (unit @ -present.T) + np.square(present).sum(axis=1) + np.square(unit).sum(axis=1)[:, None]
    return np.asarray(np.sqrt(np.maximum(squared.min(axis=1), 0)), np.float32)


def out_of_fold(features: Floats, labels: Ints, folds: Ints, n_classes: int) -> Floats:
    """Novelty ``[n]`` of every picture against the class means of the other folds."""
    found = np.empty(len(labels), np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        found[inside] = distances(features[inside], class_means(features[~inside], labels[~inside], n_classes))
    return found


@dataclass(frozen=True)
class Threshold:
    """Where ``known`` ends."""

    value: float
    """A picture with a larger novelty is not known."""
    target: float
    """Share of pictures like the training ones that should be known."""
    guaranteed: float
    """Share that this many pictures can promise: a new one is known with at least this probability."""
    coverage: float
    """Share of pictures that are known."""
    n: int
    """Independent pictures it rests on."""

    def summary(self) -> dict[str, Any]:
        """Plain values, with an honest word where the set is too small for its target."""
        note = None
        if self.guaranteed < self.target:
            needed = math.ceil(self.target / (1 - self.target))
            few = "1 picture is" if self.n == 1 else f"{self.n} pictures are"
            note = (
                f"{few} too few to promise that {100 * self.target:g} % of such pictures count as known: "
                f"they support {_below(self.guaranteed, self.target)}; {needed} would do."
            )
        return {
            "threshold": self.value,
            "coverage": self.coverage,
            "target": self.target,
            "guaranteed": self.guaranteed,
            "n": self.n,
            "method": "distance to the nearest class mean; conformal threshold on out-of-fold pictures",
            "note": note,
        }


def _below(share: float, target: float) -> str:
    """A percentage with as many digits as tell it from a larger one.

    >>> _below(0.75, 0.95), _below(18 / 19, 0.95)
    ('75 %', '94.7 %')
    """
    texts = (f"{100 * share:.{digits}f}" for digits in range(9))
    return f"{next((text for text in texts if float(text) < 100 * target), f'{100 * share}')} %"


def measured_threshold(novelty: Floats, folds: Ints, groups: Ints, target: float) -> Threshold:
    """The conformal threshold of all pictures, with the coverage that the other folds' thresholds had on each fold.

    ``novelty`` ``[n]`` out-of-fold, ``folds`` and ``groups`` ``[n]``. Members of a group count as one picture in what
    can be promised.

    >>> novelty = np.arange(1, 11, dtype=np.float32)
    >>> measured_threshold(novelty, np.arange(10), np.arange(10), 0.95).coverage
    0.9
    """
    known = np.empty(len(novelty), bool)
    for fold in np.unique(folds):
        inside = folds == fold
        others = novelty[~inside]
        known[inside] = novelty[inside] <= (conformal_threshold(others, target).value if len(others) else np.inf)
    found = conformal_threshold(novelty, target)
    independent = effective_number(groups)
    guaranteed = min(target, independent / (independent + 1))
    return replace(found, coverage=float(known.mean()), guaranteed=guaranteed, n=round(independent))


def conformal_threshold(novelty: Floats, target: float) -> Threshold:
    """The threshold below which a new picture like these falls with probability ``target``.

    It is the ``ceil((n + 1) target)``-th smallest out-of-fold novelty (split conformal prediction, Vovk et al. 2005),
    the largest one where there are too few pictures.

    >>> conformal_threshold(np.arange(1, 100, dtype=np.float32), 0.95).value
    95.0
    >>> round(conformal_threshold(np.array([1, 2, 3], np.float32), 0.95).guaranteed, 2)
    0.75
    """
    n = len(novelty)
    rank = min(math.ceil((n + 1) * target - 1e-9), n)
    value = float(np.sort(novelty)[rank - 1])
    return Threshold(value, target, min(target, n / (n + 1)), float((novelty <= value).mean()), n)

"""Two classifiers on the same pictures: what one is better by, and how sure that is."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.metrics import CONFIDENCE, Interval, Ints, effective_number


@dataclass(frozen=True)
class Gain(Interval):
    """A difference of accuracies with its interval, all in [-1, 1]."""

    def points(self) -> str:
        """In words.

        >>> Gain(0.041, 0.02, 0.062).points()
        '4.1 points (interval 2.0 to 6.2)'
        """
        return f"{100 * self.value:.1f} points (interval {100 * self.low:.1f} to {100 * self.high:.1f})"


def gain(right: NDArray[np.bool_], baseline: NDArray[np.bool_], groups: Ints, confidence: float = CONFIDENCE) -> Gain:
    """How much more often ``right`` ``[n]`` is true than ``baseline`` ``[n]`` on the same pictures.

    The interval for matched pairs of Agresti & Min (2005): half a picture is added to each of the four outcomes, so
    that a few pictures without a difference do not look like certainty. Pictures count as many as ``groups`` ``[n]``
    are worth.

    >>> right, baseline = np.ones(100, bool), np.arange(100) >= 10
    >>> found = gain(right, baseline, np.arange(100))
    >>> round(found.value, 2), found.low > 0
    (0.1, True)
    """
    n = effective_number(groups)
    if n == 0:
        return Gain(0.0, -1.0, 1.0)
    better, worse = (n * float(share.mean()) + 0.5 for share in (right & ~baseline, ~right & baseline))
    total = n + 2
    centre = (better - worse) / total
    half = (
        NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(better + worse - (better - worse) ** 2 / total) / total
    )
    value = float(right.mean() - baseline.mean())
    return Gain(value, max(-1.0, min(centre - half, value)), min(1.0, max(centre + half, value)))

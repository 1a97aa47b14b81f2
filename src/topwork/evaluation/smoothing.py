"""Answers along time, steadied: a centred moving average, and the stretches with one answer."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_ROUNDING = 1e-6  # seconds; times are given to the microsecond


def moving_average(rows: Iterable[tuple[float, Floats]], seconds: float) -> Iterator[Floats]:
    """For each ``(time, values [c])``, in order of time, the mean of those at most ``seconds / 2`` before or after.

    Each row counts alike; at both ends there are fewer. Only the rows within ``seconds`` are held. 0 changes nothing.

    The mean of probabilities, and not their product as in a hidden Markov model: that takes each frame for new
    evidence, but frames of one view share their errors, so that it would be sure of whatever is seen long enough.

    >>> values = [(0.0, np.array([1.0])), (0.5, np.array([0.0])), (1.0, np.array([0.0]))]
    >>> [row.round(3).tolist() for row in moving_average(values, 1.0)]
    [[0.5], [0.333], [0.0]]
    """
    half = seconds / 2 + _ROUNDING
    held: deque[tuple[float, Floats]] = deque()  # all that may still count
    waiting: deque[float] = deque()  # times of rows that were not given yet
    for time, values in rows:
        while waiting and time > waiting[0] + half:
            yield _mean_around(held, waiting.popleft(), half)
        held.append((time, values))
        waiting.append(time)
    while waiting:
        yield _mean_around(held, waiting.popleft(), half)


def _mean_around(held: deque[tuple[float, Floats]], time: float, half: float) -> Floats:
    while held[0][0] < time - half:
        held.popleft()
    near = [values for at, values in held if at <= time + half]
    mean: Floats = np.mean(near, axis=0)
    return mean


@dataclass(frozen=True)
class Stretch:
    """Rows ``first`` to ``last``, both included, with one label."""

    first: int
    last: int
    label: str


def stretches(labels: Sequence[str]) -> list[Stretch]:
    """The runs of equal labels.

    >>> stretches(["ant", "ant", "bee"])
    [Stretch(first=0, last=1, label='ant'), Stretch(first=2, last=2, label='bee')]
    """
    starts = [i for i, label in enumerate(labels) if i == 0 or label != labels[i - 1]]
    ends = [*(start - 1 for start in starts[1:]), len(labels) - 1]
    return [Stretch(first, last, labels[first]) for first, last in zip(starts, ends, strict=False)]

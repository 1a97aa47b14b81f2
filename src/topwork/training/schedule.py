"""How learning rates change over the steps, and which rate each stage gets."""

import math
from collections.abc import Sequence

_START, _END = 1 / 25, 1e-4  # shares of the highest rate at the first and the last step (Smith & Topin 2018)


def share(step: int, steps: int, *, schedule: str, warmup: float) -> float:
    """The share of the highest rate at ``step`` of ``steps``.

    ``one-cycle`` rises on a cosine from 1/25 over the warm-up, then falls on one to almost nothing (Smith & Topin,
    "Super-convergence", 2018); ``cosine`` rises straight from almost 0, then falls the same way (Loshchilov & Hutter
    2017).

    >>> [round(share(i, 5, schedule="one-cycle", warmup=0.5), 2) for i in range(5)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    rising = warmup * (steps - 1)
    if step < rising:
        part = step / rising
        return part + 1 / steps * (1 - part) if schedule == "cosine" else _cosine(_START, 1.0, part)
    return _cosine(1.0, _END, (step - rising) / max(1.0, steps - 1 - rising))


def _cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


def stage_factors(n_stages: int, *, decay: float, factors: Sequence[float] = ()) -> list[float]:
    """The share of the rate that each stage learns at, the first stage first.

    The last stage has the whole rate and each one before it ``decay`` of the next ("discriminative" rates, Howard &
    Ruder 2018); or ``factors`` for equal parts of the stages.

    >>> stage_factors(3, decay=0.5)
    [0.25, 0.5, 1.0]
    >>> stage_factors(4, decay=1.0, factors=(0.1, 1.0))
    [0.1, 0.1, 1.0, 1.0]
    """
    if factors:
        return [factors[i * len(factors) // n_stages] for i in range(n_stages)]
    return [decay ** (n_stages - 1 - i) for i in range(n_stages)]

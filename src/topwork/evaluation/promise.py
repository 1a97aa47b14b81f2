"""Whether a measurement on new pictures is what the fit had measured, and where the difference comes from."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from topwork.evaluation.metrics import Interval

_AS_PROMISED = 0.005
"""Difference in accuracy that nobody would remark."""


@dataclass(frozen=True)
class Promise:
    """What the fit measured, beside what was found on other pictures."""

    accuracy: dict[str, float]
    """The fit's: ``value``, ``low``, ``high``."""
    expected: float
    """The accuracy that the fit's recall of each class gives for the classes as they are mixed in the new pictures."""
    because: str | None
    """``chance``, ``class mix`` or ``difference``: explains the new accuracy; None where nothing has to."""
    sentence: str
    """The same for a person."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compared(metrics: Mapping[str, Any], found: Mapping[str, Any]) -> Promise | None:
    """The promise of a fit (``metrics`` of the model) beside what was ``found``; None where either is missing.

    Differences are judged by the 95 % interval of Newcombe's method 10 (1998); the mix of the classes is exchanged by
    weighing each class's recall by its share of the new pictures, with the interval of Zou and Donner (2008).

    >>> fit = {"accuracy": {"value": 0.75, "low": 0.7, "high": 0.8}, "per_class": {
    ...     "ant": {"recall": 0.9, "recall_low": 0.85, "recall_high": 0.95, "support": 100},
    ...     "bee": {"recall": 0.6, "recall_low": 0.5, "recall_high": 0.7, "support": 100}}}
    >>> new = {"accuracy": {"value": 0.88, "low": 0.84, "high": 0.91},
    ...        "per_class": {"ant": {"support": 450}, "bee": {"support": 50}}}
    >>> compared(fit, new).because, round(compared(fit, new).expected, 2)
    ('class mix', 0.87)
    """
    try:
        before, after = _interval(metrics["accuracy"]), _interval(found["accuracy"])
        mixed = _on_mix(metrics["per_class"], {k: row["support"] for k, row in found["per_class"].items()})
        shares = _largest_shift(metrics["per_class"], found["per_class"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return None
    difference = after.value - before.value
    if abs(difference) < _AS_PROMISED:
        because = None
    elif _may_be_equal(before, after):
        because = "chance"
    else:
        because = "class mix" if _may_be_equal(mixed, after) else "difference"
    return Promise(before.as_dict(), mixed.value, because, _sentence(because, before, mixed, difference, shares))


def _interval(facts: Mapping[str, Any]) -> Interval:
    values = [float(facts[name]) for name in ("value", "low", "high")]
    if not all(map(math.isfinite, values)):
        raise ValueError("not measured")
    return Interval(*values)


def _on_mix(per_class: Mapping[str, Any], counts: Mapping[str, int]) -> Interval:
    total, value, below, above = sum(counts.values()), 0.0, 0.0, 0.0
    for name, count in counts.items():
        if count:
            row, share = per_class[name], count / total
            value += share * row["recall"]
            below += (share * (row["recall"] - row["recall_low"])) ** 2
            above += (share * (row["recall_high"] - row["recall"])) ** 2
    return Interval(value, value - math.sqrt(below), value + math.sqrt(above))


def _may_be_equal(a: Interval, b: Interval) -> bool:
    difference = b.value - a.value
    low = difference - math.hypot(b.value - b.low, a.high - a.value)
    high = difference + math.hypot(b.high - b.value, a.value - a.low)
    return low <= 0 <= high


def _largest_shift(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, float, float]:
    """The class whose share differs most, with both shares."""
    totals = [sum(row["support"] for row in rows.values()) for rows in (before, after)]
    shares = {name: (before[name]["support"] / totals[0], row["support"] / totals[1]) for name, row in after.items()}
    name = max(shares, key=lambda each: abs(shares[each][1] - shares[each][0]))
    return (name, *shares[name])


def _sentence(
    because: str | None, fit: Interval, mixed: Interval, difference: float, shift: tuple[str, float, float]
) -> str:
    said = f"The fit had measured {100 * fit.value:.1f} % ({100 * fit.low:.1f} to {100 * fit.high:.1f} %)"
    if because is None:
        return f"{said}, which holds here too."
    if because == "chance":
        return f"{said}; a difference of {_points(difference)} can be chance."
    if because == "class mix":
        name, before, after = shift
        return (
            f"{said}. The classes are mixed in another way here ({100 * after:.0f} % of the pictures are {name}, "
            f"{100 * before:.0f} % were): with this mix it would have been {100 * mixed.value:.1f} %, and the rest "
            "can be chance."
        )
    if difference < 0:
        return (
            f"{said}. Neither chance nor the mix of the classes explains that it is {_points(difference)} lower here: "
            "these pictures are unlike those of the fit; add some of them to its pictures, and fit again."
        )
    return (
        f"{said}. Neither chance nor the mix of the classes explains that it is {_points(difference)} higher here: "
        "these pictures are easier than those of the fit, or too much like the ones it was trained on."
    )


def _points(difference: float) -> str:
    return f"{100 * abs(difference):.1f} points"

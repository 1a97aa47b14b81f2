"""How the strategies compared, as the template of a fit wants it."""

from typing import Any

from topwork.report import charts, words
from topwork.report.common import Facts, View, block, rows, safe
from topwork.report.drawing import share_floor
from topwork.report.words import number, percent

MINUS = "\u2212"
GLOSS = {
    "features": "frozen network, linear head",
    "top": "last stages fine-tuned",
    "full": "whole network fine-tuned",
    "scratch": "new weights",
}
REFIT = (
    "The figures are those of the model trained without the held-out pictures; the shipped one was then trained on"
    " them too and was not measured itself."
)
REFIT_TESTED = REFIT.replace("was not measured itself", "was measured on the separate test pictures only")


def refit_note(facts: Facts) -> str:
    """What the figures mean when the shipped model was trained once more, on all pictures; empty when it was not.

    >>> refit_note({"training": {"refit": True}})[:60]
    'The figures are those of the model trained without the held-'
    >>> refit_note({"training": {"refit": False}}), refit_note({})
    ('', '')
    """
    if block(facts, "training").get("refit") is not True:
        return ""
    tested = number(block(block(facts, "test"), "accuracy").get("value")) is not None
    return REFIT_TESTED if tested else REFIT


def comparison_view(comparison: Facts) -> View | None:
    """The strategies in the order they were tried, the chosen one marked; what was found, and by which rule."""
    candidates = rows(comparison, "candidates")
    if not candidates:
        return None
    gains = [end for row in candidates for end in _gain(row) or ()]
    reach = max([0.01, *map(abs, gains)])  # a scale of no width has no middle
    known = (number(block(row, "accuracy").get(key)) for row in candidates for key in ("value", "low"))
    floor = share_floor(min((value for value in known if value is not None), default=0.0))
    n, budget = number(comparison.get("n")), number(comparison.get("budget"))
    on = comparison.get("method") or (words.count(int(n), "picture") if n else "")
    return {
        "sentence": _sentence(str(comparison.get("sentence") or "")),
        "rule": _rule(str(on), comparison.get("requested")),
        "budget": "" if budget is None else f"The whole fit was given {words.roughly(budget)}.",
        "scale": f"from {percent(floor)} to {percent(1)}",
        "rows": [_candidate(row, floor, reach) for row in candidates],
    }


def signed_points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign.

    >>> signed_points(0.041), signed_points(-0.02)
    ('+4.1', '-2.0')
    """
    return f"{100 * difference:+.1f}"


def _sentence(text: str) -> str:
    """Starts with its own letters (they may be a strategy's name), ends with a full stop."""
    return text if not text or text[-1] in ".!?" else f"{text}."


def _rule(on: str, requested: Any) -> str:
    same = f"All figures are of the same held-out pictures{f' ({on})' if on else ''}."
    if requested in (None, "auto"):
        return f"{same} The simpler strategy stays unless another wins by more than the noise."
    return f"{same} “{requested}” was asked for, so it is what ships, whether it won or not."


def _candidate(row: Facts, floor: float, reach: float) -> View:
    name, status = str(row.get("strategy") or "?"), str(row.get("status") or "measured")
    accuracy, gain = _accuracy(row, name, floor), _gain(row)
    seconds = number(row.get("seconds"))
    return {
        "name": name,
        "gloss": GLOSS.get(name, ""),
        "chosen": row.get("chosen") is True,
        "accuracy": accuracy,
        "gain": _gain_cell(gain, reach, name) if gain else None,
        "outcome": ": ".join(part for part in ("" if accuracy else status, _reason(row)) if part),
        "time": "" if seconds is None else words.duration(seconds),
    }


def _accuracy(row: Facts, name: str, floor: float) -> View | None:
    """The accuracy on a scale from ``floor`` to 100 %: from 0 % on, most strategies would look the same."""
    accuracy = block(row, "accuracy")
    value, low, high = (number(accuracy.get(key)) for key in ("value", "low", "high"))
    if value is None:
        return None
    text, span = percent(value, 1), words.span(low, high, 1)
    title = f"{name}: {text}" + (f" ({span})" if span else "")
    place, first, last = (None if share is None else (share - floor) / (1 - floor) for share in (value, low, high))
    return {"text": text, "span": span, "bar": safe(charts.bar(place or 0.0, 1, title, low=first, high=last))}


def _gain(row: Facts) -> tuple[float, float, float] | None:
    """Value, low and high of the difference to features."""
    value, low, high = (number(block(row, "gain").get(key)) for key in ("value", "low", "high"))
    return None if value is None or low is None or high is None else (value, low, high)


def _gain_cell(gain: tuple[float, float, float], reach: float, name: str) -> View:
    text, low, high = (signed_points(end).replace("-", MINUS) for end in gain)
    span = f"{low} to {high}"
    title = f"{name} against features: {text} points ({span})"
    return {"text": text, "span": span, "bar": safe(charts.gain_bar(*gain, reach, title))}


def _reason(row: Facts) -> str:
    """Why a strategy has no figures, or none that are complete; the time it would have taken where nothing is said."""
    estimate = number(row.get("estimate"))
    if row.get("reason") or row.get("accuracy") or estimate is None:
        return str(row.get("reason") or "")
    return f"would take about {words.roughly(estimate)}"

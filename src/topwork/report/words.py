"""Numbers to words, for readers who are no statisticians.

Two rules run through this module: a figure is never rounded to a certainty it does not have (0.9996 is not
"100 %", 0.0004 is not "0 of 100"), and a figure carries no more digits than its interval supports.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

NBSP = "\u00a0"  # keeps a number and its unit on one line
EXACT = 1e-9  # rounding errors of an interval's formula are not doubt
MISSING = "not measured"


def number(value: Any) -> float | None:
    """``value`` as a finite float, or None for whatever is not one (null, NaN, text, true).

    >>> number(1), number("1"), number(float("nan"))
    (1.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def percent(value: float | None, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage with at least ``digits`` decimals; more where rounding would lie.

    >>> [percent(v).replace(NBSP, " ") for v in (0.95, 1.0, 0.996, 0.9996, 0.999999, 0.0004, 0.0)]
    ['95 %', '100 %', '99.6 %', '99.96 %', 'over 99.99 %', '0.04 %', '0 %']
    >>> percent(None)
    'not measured'
    """
    if value is None:
        return MISSING
    return f"{_hundredths(value, digits)}{NBSP}%"


def span(low: float | None, high: float | None, digits: int = 0) -> str:
    """An interval of shares in [0, 1] in words; empty when an end is missing.

    >>> span(0.76, 0.99).replace(NBSP, " ")
    '76 to 99 %'
    >>> span(0.76, None)
    ''
    """
    if low is None or high is None:
        return ""
    return f"{_hundredths(low, digits)} to {percent(high, digits)}"


def out_of(value: float) -> str:
    """A share in [0, 1] as a count out of 100, or of 1,000 or 10,000 where 100 would round to all or none.

    >>> [out_of(v) for v in (0.95, 1.0, 0.996, 0.9996, 0.004, 0.0)]
    ['95 of 100', '100 of 100', '996 of 1,000', '9,996 of 10,000', '4 of 1,000', '0 of 100']
    >>> out_of(0.999999), out_of(0.000001)
    ('more than 9,999 of 10,000', 'fewer than 1 of 10,000')
    """
    for whole in (100, 1_000, 10_000):
        part = round(value * whole)
        if (part < whole or value > 1 - EXACT) and (part > 0 or value < EXACT):
            return f"{part:,} of {whole:,}"
    return "more than 9,999 of 10,000" if value > 0.5 else "fewer than 1 of 10,000"


def decimals(low: float | None, high: float | None) -> int:
    """How many decimals of a percentage an interval supports: one when it is narrower than 4 points.

    >>> decimals(0.76, 0.99), decimals(0.951, 0.957)
    (0, 1)
    """
    return 1 if low is not None and high is not None and high - low < 0.04 else 0


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "picture"), count(1200, "picture"), count(2, "class", "classes")
    ('1 picture', '1,200 pictures', '2 classes')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, without its sign.

    >>> [points(d).replace(NBSP, " ") for d in (0.02, -0.01, 0.004, 0.0004, 0.12)]
    ['2 points', '1 point', '0.4 points', 'less than 0.1 points', '12 points']
    """
    size = abs(difference) * 100
    if 0 < size < 0.05:
        return f"less than 0.1{NBSP}points"
    shown = f"{size:.0f}" if size >= 0.95 else f"{size:.1f}"
    return f"{shown}{NBSP}{'point' if shown == '1' else 'points'}"


def duration(seconds: float) -> str:
    """A time in the unit a person would use.

    >>> [duration(s).replace(NBSP, " ") for s in (0.004, 0.24, 8.23, 75, 3_720)]
    ['under 0.1 s', '0.2 s', '8.2 s', '1 min 15 s', '1 h 2 min']
    """
    if seconds < 0.1:
        text = "0 s" if seconds <= 0 else "under 0.1 s"
    elif seconds < 59.95:
        text = f"{seconds:.1f} s"
    elif round(seconds) < 3600:
        text = "{} min {} s".format(*divmod(round(seconds), 60))
    else:
        text = "{} h {} min".format(*divmod(round(seconds / 60), 60))
    return text.replace(" s", f"{NBSP}s").replace(" min", f"{NBSP}min").replace(" h", f"{NBSP}h")


def roughly(seconds: float) -> str:
    """A planned time, which is no more exact than its largest unit.

    >>> [roughly(s).replace(NBSP, " ") for s in (0.2, 45, 600, 1_500, 9_000)]
    ['1 s', '45 s', '10 min', '25 min', '2.5 h']
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))}{NBSP}s"
    return f"{round(seconds / 60)}{NBSP}min" if seconds < 5_400 else f"{seconds / 3600:.3g}{NBSP}h"


def amount(n: float) -> str:
    """A large number as it would be spoken.

    >>> [amount(n).replace(NBSP, " ") for n in (0, 700_000, 2_800_000, 4_000_000, 1_260_000_000)]
    ['0', '700,000', '2.8 million', '4 million', '1.3 billion']
    """
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if n >= unit:
            return f"{f'{n / unit:.1f}'.removesuffix('.0')}{NBSP}{name}"
    return f"{n:,.0f}"


def plain(value: float) -> str:
    """A number to three significant digits, without an exponent.

    >>> plain(2e-05), plain(0.12345), plain(3), plain(0.0)
    ('0.00002', '0.123', '3', '0')
    """
    return f"{Decimal(f'{value:.3g}'):f}"


def day(created: str) -> str:
    """The date of an ISO 8601 time; text that is none comes back as it is.

    >>> day("2026-11-22T10:00:00Z"), day("yesterday")
    ('22 November 2026', 'yesterday')
    """
    from datetime import datetime

    try:
        date = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{date.day} {date:%B %Y}"


def more(n: int, file: str = "report.json") -> str:
    """The line under a list that was cut; empty when nothing was.

    >>> more(120), more(0)
    ('and 120 more, in report.json', '')
    """
    return f"and {n:,} more, in {file}" if n > 0 else ""


def headline(accuracy: Mapping[str, Any], subject: str = "new pictures like these") -> str:
    """What an accuracy with its interval means, in one or two sentences.

    >>> facts = {"value": 0.95, "low": 0.76, "high": 0.99, "n": 20}
    >>> headline(facts).replace(NBSP, " ")
    'About 95 of 100 new pictures like these will be right. With 20 pictures measured, the true figure could
    be anywhere from 76 to 99 %.'
    """
    value, low, high = (number(accuracy.get(key)) for key in ("value", "low", "high"))
    n = number(accuracy.get("n"))
    if value is None:
        return "The accuracy was not measured."
    with_n = f"With {count(int(n), 'picture')} measured" if n else "With the pictures at hand"
    digits = decimals(low, high)
    if value >= 1:
        first = f"All {count(int(n), 'picture')} were right." if n and n > 1 else "Every picture was right."
        doubt = f"the true figure could be as low as {percent(low, digits)}" if low is not None else ""
        return _two(first + " That does not mean it never errs.", with_n, doubt)
    if value <= 0:
        doubt = f"the true figure could be as high as {percent(high, digits)}" if high is not None else ""
        return _two("Not one picture was right.", with_n, doubt)
    first = f"About {out_of(value)} {subject} will be right."
    doubt = span(low, high, digits)
    return _two(first, with_n, f"the true figure could be anywhere from {doubt}" if doubt else "")


def guessing(classes: Mapping[str, int]) -> tuple[float, str] | None:
    """The share of the largest class, which the laziest answer reaches, and how to name that answer.

    >>> guessing({"a": 30, "b": 10}), guessing({"a": 10, "b": 10})
    ((0.75, 'always answering “a”, the largest class,'), (0.5, 'guessing'))
    """
    total = sum(classes.values())
    if total <= 0:
        return None
    label = max(classes, key=lambda key: classes[key])
    even = len(classes) > 1 and len(set(classes.values())) == 1
    return classes[label] / total, "guessing" if even else f"always answering “{label}”, the largest class,"


def against_guessing(accuracy: Mapping[str, Any], classes: Mapping[str, int]) -> str:
    """How a measured accuracy stands beside the laziest answer; empty when either is unknown.

    >>> facts = {"value": 0.95, "low": 0.76, "high": 0.99}
    >>> against_guessing(facts, {"a": 10, "b": 10}).replace(NBSP, " ")
    'That is clearly better than guessing, which would be right 50 % of the time.'
    """
    value, low, lazy = number(accuracy.get("value")), number(accuracy.get("low")), guessing(classes)
    if value is None or lazy is None or len(classes) < 2:
        return ""
    share, name = lazy
    ending = f"{name} which would be right {percent(share)} of the time".replace("guessing which", "guessing, which")
    if low is not None and low > share:
        return f"That is clearly better than {ending}."
    if value > share:
        return f"That is better than {ending}, but on so few pictures the difference may still be luck."
    return f"That is no better than {ending}: the model has not learned to tell these classes apart."


def naive_gap(accuracy: Mapping[str, Any]) -> str:
    """Why the careless figure differs from the honest one; empty when it does not.

    >>> naive_gap({"value": 0.95, "naive": 0.97}).replace(NBSP, " ")
    'A careless measurement would have said 97 %: ...'
    >>> naive_gap({"value": 0.95, "naive": 0.95})
    ''
    """
    value, naive = number(accuracy.get("value")), number(accuracy.get("naive"))
    if value is None or naive is None or abs(naive - value) < 5e-4:
        return ""
    shown = percent(naive, 1 if abs(naive - value) < 0.02 else 0)
    if naive < value:
        return f"Measured without keeping near-duplicates together it comes to {shown}; a difference of chance."
    return (
        f"A careless measurement would have said {shown}: it lets pictures that belong together, such as"
        " near-duplicates, stand in both the training and the check, where the answer is half known."
        f" Here they are kept together, and the figure is {points(naive - value)} lower and honest."
    )


def no_test(n_leaked: int) -> str:
    """Why a test split gives no figure: all of it was left out, or there was nothing.

    >>> no_test(2)
    'All 2 test pictures are near-duplicates of training or validation pictures, so nothing could be measured on them.'
    """
    if not n_leaked:
        return "There was no usable test picture, so nothing could be measured."
    if n_leaked == 1:
        return "The only test picture is a near-duplicate of another picture of the set, so nothing could be measured."
    return (
        f"All {count(n_leaked, 'test picture')} are near-duplicates of training or validation pictures,"
        " so nothing could be measured on them."
    )


def with_leaked(accuracy: Mapping[str, Any]) -> str:
    """What the near-duplicates that were left out would have done to the figure; empty when nothing.

    >>> with_leaked({"value": 0.9, "naive": 0.95}).replace(NBSP, " ")
    'With them the figure would have been 95 %.'
    """
    value, naive = number(accuracy.get("value")), number(accuracy.get("naive"))
    if value is None or naive is None or abs(naive - value) < 5e-4:
        return ""
    return f"With them the figure would have been {percent(naive, 1 if abs(naive - value) < 0.02 else 0)}."


def verdict(ece: float) -> str:
    """How far probabilities may be believed, by their mean error.

    >>> verdict(0.03), verdict(0.08), verdict(0.2)
    ('at face value', 'roughly right', 'with caution')
    """
    return "at face value" if ece <= 0.05 else "roughly right" if ece <= 0.1 else "with caution"


def title(classes: Mapping[str, int]) -> str:
    """What a model does, as a heading.

    >>> title({"good": 3, "defective": 3}), title({"ant": 1, "bee": 1, "fly": 1}), title(dict.fromkeys("abcdefg", 1))
    ('Telling good from defective', 'Telling ant, bee and fly apart', 'Telling 7 classes apart')
    """
    names = list(classes)
    if len(names) < 2:
        return "A topwork model"
    if len(names) > 5 or sum(map(len, names)) > 60:
        return f"Telling {len(names):,} classes apart"
    if len(names) == 2:
        return f"Telling {names[0]} from {names[1]}"
    return f"Telling {', '.join(names[:-1])} and {names[-1]} apart"


def calibration(facts: Mapping[str, Any]) -> str:
    """Whether the stated probabilities can be believed; empty without the calibration error.

    >>> calibration({"ece": 0.03}).replace(NBSP, " ")
    'The probabilities can be taken at face value: on average they are 3 points off what really happened.'
    """
    ece = number(facts.get("ece"))
    if ece is None:
        return ""
    said = {
        "at face value": "The probabilities can be taken at face value",
        "roughly right": "The probabilities are roughly right",
        "with caution": "Take the probabilities with caution",
    }
    return f"{said[verdict(ece)]}: on average they are {points(ece)} off what really happened.{_direction(facts)}"


def novelty(facts: Mapping[str, Any]) -> str:
    """What the novelty threshold does, in words; empty when there is none.

    ``coverage`` is what was measured, across the folds or on test pictures; it may stay below ``target``.

    >>> novelty({"threshold": 1.3, "target": 0.95, "coverage": 0.9}).replace(NBSP, " ")
    'The threshold is set to let about 95 of 100 pictures like the training ones pass. Measured on pictures it was
    not set by, 90 % passed, fewer than intended.'
    """
    if number(facts.get("threshold")) is None:
        return ""
    target, coverage = number(facts.get("target")), number(facts.get("coverage"))
    guaranteed = number(facts.get("guaranteed"))
    text = "The threshold separates pictures like the training ones from others."
    if target is not None:
        text = f"The threshold is set to let about {out_of(target)} pictures like the training ones pass."
    if coverage is not None:
        short = ", fewer than intended" if target is not None and coverage < target - EXACT else ""
        text += f" Measured on pictures it was not set by, {percent(coverage)} passed{short}."
    if guaranteed is not None and target is None:
        text += f" The method aims at {percent(guaranteed)} for new pictures of the same kind."
    elif guaranteed is not None and target is not None and guaranteed < target - EXACT:
        text += f" With so few pictures the method aims at only {percent(guaranteed)} for new ones of the same kind."
    return text


def geometry(facts: Mapping[str, Any]) -> str:
    """What is to be known of how the network gets the pictures of a fit; empty where nothing is.

    >>> geometry({"geometry_choice": {"compared": [], "text": "Geometry crop: ..."}, "cut_away": {"text": None}})
    ''
    """
    choice, cut = facts.get("geometry_choice") or {}, facts.get("cut_away") or {}
    return str((choice.get("text") if choice.get("compared") else cut.get("text")) or "")


def _direction(facts: Mapping[str, Any]) -> str:
    """Whether the model is too sure or too careful, when it leans by more than two points."""
    bins = [bin for bin in facts.get("bins") or [] if bin.get("count")]
    rows = [(bin["count"], number(bin.get("confidence")), number(bin.get("accuracy"))) for bin in bins]
    known = [(n, stated, true) for n, stated, true in rows if stated is not None and true is not None]
    if not known:
        return ""
    lean = sum(n * (stated - true) for n, stated, true in known) / sum(n for n, _, _ in known)
    if abs(lean) <= 0.02:
        return ""
    return " It tends to be too sure of itself." if lean > 0 else " It tends to be too careful."


def _hundredths(value: float, digits: int) -> str:
    for places in range(digits, max(digits, 2) + 1):
        text = f"{abs(value) * 100:.{places}f}"  # abs: no "-0"
        if (float(text) < 100 or value > 1 - EXACT) and (float(text) > 0 or value < EXACT):
            return text
    return "over 99.99" if value > 0.5 else "under 0.01"


def _two(first: str, start: str, doubt: str) -> str:
    return f"{first} {start}, {doubt}." if doubt else first

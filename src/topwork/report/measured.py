"""One measurement as its template wants it: a fit, its test split, an evaluation; facts as in ``accuracy`` and beside.

``measured_view`` takes the facts of any of them, ``measured.html.j2`` has a macro for each part.
"""

from collections.abc import Mapping
from typing import Any

from topwork.report import charts, words
from topwork.report.common import Facts, View, block, cut, map_cut, picture, rows, safe
from topwork.report.performance import class_rows, confusion
from topwork.report.pictures import Thumb
from topwork.report.words import number, percent

CARELESS = "measured carelessly"
WITH_COPIES = "with near-duplicates"


def measured_view(
    facts: Facts, mistakes: View | None, pictures: Mapping[str, Thumb], *, careless: str = CARELESS
) -> View:
    """Headline, classes, confusion and mistakes of a measurement.

    ``mistakes``: rows of the facts, cut by ``shown``; ``careless`` names the careless figure in the chart.

    >>> view = measured_view({"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 50}}, None, {})
    >>> view["headline"]["figure"].replace(words.NBSP, " "), view["confusion"], view["mistakes"]
    ('90 %', None, None)
    """
    return {
        "headline": headline(block(facts, "accuracy"), facts, careless),
        "classes": class_rows(block(facts, "per_class"), {}),
        "confusion": confusion(block(facts, "confusion")),
        "mistakes": mistakes_view(mistakes, pictures),
    }


def headline(accuracy: Facts, facts: Facts, careless: str = CARELESS) -> View:
    """The accuracy in a figure, a chart and words; there even without a figure, to say so."""
    value, low, high = (number(accuracy.get(key)) for key in ("value", "low", "high"))
    classes = block(facts, "classes")
    view: View = {
        "figure": None if value is None else percent(value, words.decimals(low, high)),
        "meaning": words.headline(accuracy),
        "guessing": words.against_guessing(accuracy, classes),
        "naive": words.naive_gap(accuracy),
        "balanced": _balanced(value, number(facts.get("balanced_accuracy"))),
        "method": accuracy.get("method"),
        "score": _score(accuracy),
        "bar": None,
    }
    if value is not None:
        marks = _marks(view, facts, careless)
        view["bar"] = safe(charts.interval_bar(value, low, high, _bar_title(value, low, high), marks=marks))
    return view


def test_view(test: Facts, mistakes: View | None, pictures: Mapping[str, Thumb]) -> View | None:
    """The measurement on pictures that were set aside, near-duplicates of training pictures left out and named.

    The facts are those of ``test`` of a fit, or of an evaluation; None where there are none.

    >>> test_view({}, None, {}) is None
    True
    """
    if not test:
        return None
    accuracy, leaked = block(test, "accuracy"), rows(test, "leaked")
    known = number(accuracy.get("value")) is not None
    support = {label: int(number(row.get("support")) or 0) for label, row in block(test, "per_class").items()}
    view = measured_view({**test, "classes": support}, mistakes, pictures, careless=WITH_COPIES)
    top = view.pop("headline")
    shown = {
        **top,
        **view,
        "calibration": words.calibration(block(test, "calibration")),
        "novelty": words.novelty(block(test, "novelty")) if known else "",
        "leaked": cut(leaked) if leaked else None,
        "with_leaked": words.with_leaked(accuracy) if leaked else "",
        "n": test.get("n_images"),
    }
    nothing: dict[str, Any] = {"classes": [], "confusion": None, "mistakes": None, "score": ""}
    return shown if known else {**shown, **nothing, "meaning": words.no_test(len(leaked))}


def mistakes_view(mistakes: View | None, pictures: Mapping[str, Thumb]) -> View | None:
    """The mistakes as cards, those marked ``doubtful`` with the word that their label looks wrong."""
    if mistakes is None:
        return None

    def card(mistake: Facts) -> View:
        path = str(mistake.get("path", ""))
        return {
            "path": path,
            "picture": picture(path, pictures),
            "verdict": ("called", mistake.get("predicted", "?"), number(mistake.get("probability"))),
            "truth": ("labelled", mistake.get("label", "?"), None),
            "mark": "label looks wrong" if mistake.get("doubtful") else "",
            "tag": "unlike the training pictures" if mistake.get("known") is False else None,
        }

    doubtful = sum(bool(row.get("doubtful")) for row in [*mistakes["shown"], *mistakes["folded"]])
    view = map_cut(mistakes, card)
    cards = [*view["shown"], *view["folded"]]
    heat = any(card["picture"] and card["picture"]["heatmap"] for card in cards)
    return {**view, "heat": heat, "doubtful": doubtful}


def _marks(view: View, facts: Facts, careless: str) -> list[tuple[float, str]]:
    marks = []
    lazy = words.guessing(block(facts, "classes"))
    if lazy and len(block(facts, "classes")) > 1:
        name = "guessing" if lazy[1] == "guessing" else "largest class"
        marks.append((lazy[0], f"{name}: {percent(lazy[0])}"))
    naive = number(block(facts, "accuracy").get("naive"))
    if view["naive"] and naive is not None:
        marks.append((naive, f"{careless}: {percent(naive)}"))
    return marks


def _bar_title(value: float, low: float | None, high: float | None) -> str:
    doubt = words.span(low, high)
    return f"Accuracy {percent(value)}" + (f", interval {doubt}" if doubt else "")


def _balanced(value: float | None, balanced: float | None) -> str:
    if value is None or balanced is None or abs(value - balanced) < 0.02:
        return ""
    return (
        f"Counting every class alike, whatever its size, it is {percent(balanced)} (balanced accuracy):"
        f" {'small classes fare worse' if balanced < value else 'small classes fare better'} than large ones."
    )


def _score(accuracy: Facts) -> str:
    correct, n = number(accuracy.get("correct")), number(accuracy.get("n"))
    return "" if correct is None or n is None else f"{correct:,.0f} of {n:,.0f} pictures right"

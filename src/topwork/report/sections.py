"""The facts of a fit, section by section, as its template wants them: sorted, cut, in words and charts.

A section is a function of the facts; it gives None when its block is missing, and the page leaves it out.
"""

from collections.abc import Mapping
from typing import Any

from topwork.report import charts, words
from topwork.report.choice import choice_view
from topwork.report.common import (
    Facts,
    View,
    album,
    block,
    class_bars,
    contents,
    cut,
    flat,
    map_cut,
    picture,
    rows,
    safe,
)
from topwork.report.performance import class_rows, confusion, reliability
from topwork.report.pictures import Thumb
from topwork.report.shown import picture_lists
from topwork.report.strategies import comparison_view, hint_view, refit_note
from topwork.report.training import training_view
from topwork.report.words import number, percent

TITLES = (
    ("accuracy", "Accuracy"),
    ("test", "Test pictures"),
    ("classes", "Class by class"),
    ("confusion", "What is taken for what"),
    ("mistakes", "Mistakes"),
    ("calibration", "Can its probabilities be believed?"),
    ("novelty", "Pictures unlike the training ones"),
    ("learning", "Would more pictures help?"),
    ("tuning", "Would fine-tuning help?"),
    ("suspects", "Labels to check"),
    ("duplicates", "Near-duplicates"),
    ("excluded", "Pictures left out"),
    ("strategies", "Strategies compared"),
    ("training", "How it learned"),
    ("choice", "How the head was chosen"),
    ("making", "How this model was made"),
)


def fit_view(facts: Facts, pictures: Mapping[str, Thumb]) -> View:
    """Everything ``fit.html.j2`` shows."""
    lists = picture_lists(facts)
    view = {
        "title": str(facts.get("model") or "A topwork model"),
        "subtitle": _subtitle(facts),
        "accuracy": _accuracy(block(facts, "accuracy"), facts),
        "notes": _notes(facts),
        "shipped_is_measured": bool(block(facts, "training")) and not refit_note(facts),
        "test": _test(block(facts, "test"), lists["test_mistakes"], pictures),
        "classes": _classes(facts),
        "confusion": confusion(block(facts, "confusion")),
        "mistakes": _mistakes(lists["mistakes"], pictures),
        "calibration": reliability(block(facts, "calibration")),
        "novelty": _novelty(block(facts, "novelty")),
        "learning": _learning(block(facts, "learning_curve")),
        "tuning": hint_view(block(facts, "hint")),
        "suspects": _suspects(facts, lists["suspects"], pictures),
        "duplicates": _duplicates(facts, lists["duplicates"], pictures),
        "excluded": cut(rows(facts, "excluded")) if rows(facts, "excluded") else None,
        "strategies": comparison_view(block(facts, "comparison")),
        "training": training_view(facts),
        "choice": choice_view(facts),
        "making": _making(facts),
    }
    return {**view, "contents": contents(view, TITLES), "titles": dict(TITLES)}


def _subtitle(facts: Facts) -> list[str]:
    parts = []
    if (n := number(facts.get("n_images"))) is not None:
        parts.append(words.count(int(n), "picture"))
    if classes := block(facts, "classes"):
        parts.append(words.count(len(classes), "class", "classes"))
    if unlabelled := number(facts.get("n_unlabelled")):
        parts.append(f"{words.count(int(unlabelled), 'picture')} without a label")
    if facts.get("created"):
        parts.append(words.day(str(facts["created"])).replace(" ", words.NBSP))
    return parts


def _accuracy(accuracy: Facts, facts: Facts, naive: str = "measured carelessly") -> View:
    """The headline, there even without a figure, to say so; ``naive`` names the careless figure in the chart."""
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
        view["bar"] = safe(
            charts.interval_bar(value, low, high, _bar_title(value, low, high), marks=_marks(view, facts, naive))
        )
    return view


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


def _notes(facts: Facts) -> list[str]:
    """What a reader must know before believing the headline."""
    notes = [sentence for sentence in (refit_note(facts), *map(str, rows(facts, "notes"))) if sentence]
    if n := int(number(facts.get("n_sampled_out")) or 0):
        limit = number(block(facts, "recipe").get("head_limit"))
        of = f" of {limit:,.0f}" if limit else ""
        notes.append(f"{words.count(n, 'picture')} beyond the recipe's head_limit{of} {_were(n)} not used.")
    return notes


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _test(test: Facts, mistakes: View | None, pictures: Mapping[str, Thumb]) -> View | None:
    if not test:
        return None
    accuracy, leaked = block(test, "accuracy"), rows(test, "leaked")
    measured = number(accuracy.get("value")) is not None
    view = {
        **_accuracy(accuracy, {**test, "classes": _support(block(test, "per_class"))}, "with near-duplicates"),
        "classes": class_rows(block(test, "per_class"), {}) if measured else [],
        "confusion": confusion(block(test, "confusion")) if measured else None,
        "calibration": words.calibration(block(test, "calibration")),
        "novelty": words.novelty(block(test, "novelty")) if measured else "",
        "leaked": cut(leaked) if leaked else None,
        "with_leaked": words.with_leaked(accuracy) if leaked else "",
        "mistakes": _mistakes(mistakes, pictures) if measured else None,
        "n": test.get("n_images"),
    }
    return view if measured else {**view, "meaning": words.no_test(len(leaked)), "score": ""}


def _support(per_class: Mapping[str, Facts]) -> dict[str, int]:
    return {label: int(number(row.get("support")) or 0) for label, row in per_class.items()}


def _classes(facts: Facts) -> View | None:
    measured, sizes = block(facts, "per_class"), block(facts, "classes")
    found = class_rows(measured, sizes) if measured else class_bars(sizes)
    if not found:
        return None
    held_out = int(number(facts.get("n_measured")) or 0)
    return {**cut(found, shown=16, folded=1000), "measured": bool(measured), "held_out": held_out}


def _mistakes(mistakes: View | None, pictures: Mapping[str, Thumb]) -> View | None:
    if mistakes is None:
        return None

    def card(mistake: Facts) -> View:
        return {
            "path": str(mistake.get("path", "")),
            "picture": picture(str(mistake.get("path", "")), pictures),
            "verdict": ("called", mistake.get("predicted", "?"), number(mistake.get("probability"))),
            "truth": ("labelled", mistake.get("label", "?"), None),
            "tag": "unlike the training pictures" if mistake.get("known") is False else None,
        }

    return _with_heat(map_cut(mistakes, card))


def _suspects(facts: Facts, suspects: View | None, pictures: Mapping[str, Thumb]) -> View | None:
    """The labels to check, or the reason why none can be named."""
    if not words.can_judge_labels(block(facts, "accuracy"), block(facts, "classes")):
        return {"refused": words.NO_JUDGE} if facts.get("label_suspects") is not None else None
    if suspects is None:
        return None

    def card(suspect: Facts) -> View:
        return {
            "path": str(suspect.get("path", "")),
            "picture": picture(str(suspect.get("path", "")), pictures),
            "verdict": ("looks like", suspect.get("suggested", "?"), number(suspect.get("probability"))),
            "truth": ("labelled", suspect.get("label", "?"), number(suspect.get("label_probability"))),
            "tag": None,
        }

    return {**_with_heat(map_cut(suspects, card)), "refused": ""}


def _with_heat(view: View) -> View:
    """The cards, and whether any has a heat map, which wants explaining."""
    cards = [*view["shown"], *view["folded"]]
    return {**view, "heat": any(card["picture"] and card["picture"]["heatmap"] for card in cards)}


def _novelty(novelty: Facts) -> View | None:
    meaning = words.novelty(novelty)
    if not meaning and not novelty.get("note"):
        return None
    threshold = number(novelty.get("threshold"))
    return {
        "meaning": meaning,
        "threshold": None if threshold is None else f"{threshold:.4g}",
        "method": novelty.get("method"),
        "note": novelty.get("note"),
    }


def _learning(curve: Facts) -> View | None:
    points = [row for row in rows(curve, "points") if number(row.get("n")) and number(row.get("accuracy")) is not None]
    forecast = curve.get("forecast")
    if not points and not curve.get("advice"):
        return None
    title = "Accuracy against the number of training pictures"
    return {
        "chart": safe(charts.learning_curve(points, forecast, title)) if points else None,
        "advice": curve.get("advice"),
        "points": [_learning_row(row, "") for row in points]
        + ([_learning_row(forecast, "forecast")] if forecast else []),
        "gains": _gains(points[-1] if points else {}, forecast or {}),
        "forecast": bool(forecast),
    }


def _learning_row(row: Facts, kind: str) -> View:
    low, high = number(row.get("low")), number(row.get("high"))
    n = int(number(row.get("n")) or 0)
    return {
        "n": n,
        "kind": kind,
        "accuracy": percent(number(row.get("accuracy"))),
        "span": words.span(low, high),
    }


def _gains(last: Facts, forecast: Facts) -> list[tuple[str, str]]:
    """The classes more pictures would help most: label and expected gain."""
    now, then = block(last, "per_class"), block(forecast, "per_class")
    known = [(k, number(now[k]), number(then[k])) for k in now if k in then]
    gains = sorted(((b - a, k) for k, a, b in known if a is not None and b is not None), reverse=True)
    return [(label, words.points(gain)) for gain, label in gains[:5] if gain >= 0.01]


def _duplicates(facts: Facts, found: View | None, pictures: Mapping[str, Thumb]) -> View | None:
    if found is None:
        return None
    groups = block(facts, "groups")
    return {
        **map_cut(found, lambda group: album(group["paths"], pictures, group["total"])),
        "images": groups.get("images") or sum(map(len, rows(groups, "duplicates"))),
        "kept": block(facts, "recipe").get("group_duplicates") is not False,
    }


def _making(facts: Facts) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titled lists of settings; those without a row are left out."""
    summary = ("task", "strategy", "backbone", "head", "features", "geometry", "seed", "topwork", "format")
    recipe = dict(block(facts, "recipe"))
    training = recipe.pop("training", None) or {}
    seconds = {k: number(v) for k, v in block(facts, "seconds").items()}
    tables: list[tuple[str, Mapping[str, Any]]] = [
        ("Model", {key: facts[key] for key in summary if facts.get(key) is not None}),
        ("Recipe", recipe),
        ("Recipe: training", training if facts.get("strategy") != "features" else {}),
        ("Weights", block(facts, "weights")),
        ("Time", {k: words.duration(v) for k, v in seconds.items() if v is not None}),
        ("Feature cache", block(facts, "cache")),
        ("Versions", block(facts, "versions")),
        ("Data", {"fingerprint": facts["data_fingerprint"]} if facts.get("data_fingerprint") else {}),
    ]
    return [(title, flat(values)) for title, values in tables if values]

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
    base_name,
    block,
    class_bars,
    contents,
    cut,
    flat,
    map_cut,
    rows,
    safe,
)
from topwork.report.measured import measured_view, test_view
from topwork.report.next_view import glance, next_view
from topwork.report.performance import class_rows, reliability
from topwork.report.pictures import Thumb
from topwork.report.shown import picture_lists
from topwork.report.strategies import comparison_view, refit_note
from topwork.report.training import training_view
from topwork.report.words import number, percent

TITLES = (
    ("accuracy", "Accuracy"),
    ("next", "What to do next"),
    ("test", "Test pictures"),
    ("classes", "Class by class"),
    ("confusion", "What is taken for what"),
    ("mistakes", "Mistakes"),
    ("calibration", "Can its probabilities be believed?"),
    ("novelty", "Pictures unlike the training ones"),
    ("learning", "Would more pictures help?"),
    ("duplicates", "Near-duplicates"),
    ("excluded", "Pictures left out"),
    ("strategies", "Strategies compared"),
    ("training", "How it learned"),
    ("choice", "How the head was chosen"),
    ("making", "How this model was made"),
)
DOUBTED = "Mistakes, and labels to check"


def fit_view(facts: Facts, pictures: Mapping[str, Thumb]) -> View:
    """Everything ``fit.html.j2`` shows."""
    lists = picture_lists(facts)
    measured = measured_view(facts, lists["mistakes"], pictures)
    view = {
        "title": words.title(block(facts, "classes")),
        "subtitle": _subtitle(facts),
        "measured": measured,
        "accuracy": measured["headline"],
        "notes": _notes(facts),
        "next": next_view(facts),
        "glance": glance(facts),
        "shipped_is_measured": bool(block(facts, "training")) and not refit_note(facts),
        "test": test_view(block(facts, "test"), lists["test_mistakes"], pictures),
        "classes": _classes(facts),
        "confusion": measured["confusion"],
        "mistakes": measured["mistakes"],
        "calibration": reliability(block(facts, "calibration")),
        "novelty": _novelty(block(facts, "novelty")),
        "learning": _learning(block(facts, "learning_curve")),
        "duplicates": _duplicates(facts, lists["duplicates"], pictures),
        "excluded": cut(rows(facts, "excluded")) if rows(facts, "excluded") else None,
        "strategies": comparison_view(block(facts, "comparison")),
        "training": training_view(facts),
        "choice": choice_view(facts),
        "making": _making(facts),
    }
    titles = dict(TITLES)
    if measured["mistakes"] and measured["mistakes"]["doubtful"]:
        titles["mistakes"] = DOUBTED
    return {**view, "contents": contents(view, titles.items()), "titles": titles}


def _subtitle(facts: Facts) -> list[str]:
    parts = [base_name(str(facts["model"]))] if facts.get("model") else []
    if (n := number(facts.get("n_images"))) is not None:
        parts.append(words.count(int(n), "picture"))
    if classes := block(facts, "classes"):
        parts.append(words.count(len(classes), "class", "classes"))
    if unlabelled := number(facts.get("n_unlabelled")):
        parts.append(f"{words.count(int(unlabelled), 'picture')} without a label")
    if facts.get("created"):
        parts.append(words.day(str(facts["created"])).replace(" ", words.NBSP))
    return parts


def _notes(facts: Facts) -> list[str]:
    """What a reader must know before believing the headline."""
    first = (refit_note(facts), *map(str, rows(facts, "notes")), words.geometry(facts))
    notes = [sentence for sentence in first if sentence]
    if n := int(number(facts.get("n_sampled_out")) or 0):
        limit = number(block(facts, "recipe").get("head_limit"))
        of = f" of {limit:,.0f}" if limit else ""
        notes.append(f"{words.count(n, 'picture')} beyond the recipe's head_limit{of} {_were(n)} not used.")
    return notes


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _classes(facts: Facts) -> View | None:
    measured, sizes = block(facts, "per_class"), block(facts, "classes")
    found = class_rows(measured, sizes) if measured else class_bars(sizes)
    if not found:
        return None
    held_out = int(number(facts.get("n_measured")) or 0)
    return {**cut(found, shown=16, folded=1000), "measured": bool(measured), "held_out": held_out}


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

"""The facts of an evaluation as its template wants them: a finished model on pictures that it never saw."""

from collections.abc import Mapping
from typing import Any

from topwork.report import words
from topwork.report.common import Facts, View, base_name, block, contents, cut, rows
from topwork.report.measured import test_view
from topwork.report.performance import reliability
from topwork.report.pictures import Thumb
from topwork.report.shown import MISTAKES
from topwork.report.words import number

TITLES = (
    ("accuracy", "Accuracy"),
    ("left-out", "Near-duplicates left out"),
    ("classes", "Class by class"),
    ("confusion", "What is taken for what"),
    ("mistakes", "Mistakes"),
    ("calibration", "Can its probabilities be believed?"),
    ("novelty", "Pictures unlike the training ones"),
    ("excluded", "Pictures left out"),
)


def evaluation_view(facts: Facts, pictures: Mapping[str, Thumb]) -> View:
    """Everything ``evaluation.html.j2`` shows."""
    measured = test_view({"accuracy": {}, **facts}, _mistakes(facts), pictures)
    assert measured is not None  # there is an accuracy, if an empty one
    view = {
        "title": words.title({row["label"]: row["n"] for row in measured["classes"]} or block(facts, "per_class")),
        "subtitle": _subtitle(facts),
        "accuracy": measured,
        "promise": block(facts, "promise").get("sentence"),
        "near": facts.get("leak_rule") == "near-duplicates",
        "left-out": measured["leaked"],
        "classes": cut(measured["classes"], shown=16, folded=1000) if measured["classes"] else None,
        "confusion": measured["confusion"],
        "mistakes": measured["mistakes"],
        "calibration": reliability(block(facts, "calibration")),
        "novelty": measured["novelty"],
        "foreign": _foreign(block(block(facts, "novelty"), "foreign")),
        "excluded": cut(rows(facts, "excluded")) if rows(facts, "excluded") else None,
    }
    return {**view, "contents": contents(view, TITLES), "titles": dict(TITLES)}


def evaluation_pictures(facts: Facts) -> dict[str, str | None]:
    """The pictures that the page shows: path -> the class whose heat map is wanted.

    >>> evaluation_pictures({"mistakes": [{"path": "a.jpg", "label": "ant", "predicted": "bee"}]})
    {'a.jpg': 'bee'}
    """
    found = _mistakes(facts)
    return {str(row["path"]): row.get("predicted") for row in [*found["shown"], *found["folded"]]}


def _mistakes(facts: Facts) -> View:
    return cut(rows(facts, "mistakes"), *MISTAKES)


def _subtitle(facts: Facts) -> list[str]:
    named = [base_name(str(facts[key]).rstrip("/")) for key in ("model", "source") if facts.get(key)]
    parts = [" on ".join(named)] if named else []
    if (n := number(facts.get("n_images"))) is not None:
        parts.append(words.count(int(n), "picture"))
    return parts


def _foreign(foreign: Mapping[str, Any]) -> str:
    """How many pictures of classes that the model does not know it noticed; empty where there were none."""
    n, noticed = foreign.get("n"), foreign.get("noticed")
    if not n:
        return ""
    are = "is" if n == 1 else "are"
    said = f"{words.count(n, 'picture')} of classes that the model does not know {are} not counted"
    return f"{said}." if noticed is None else f"{said}; {noticed} of them it called unlike the training pictures."

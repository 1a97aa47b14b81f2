"""How the head was chosen, as the template of a fit wants it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from topwork.report import charts, words
from topwork.report.common import Facts, View, block, cut, rows, safe
from topwork.report.words import number, percent

NAMES = {
    "lda": "LDA",
    "ridge": "ridge regression",
    "svm": "SVM",
    "logistic": "logistic regression",
    "nearest-mean": "nearest class mean",
}
_VIEW = ("head", "features", "geometry")
_SETTING = (*_VIEW, "parameter")


def choice_view(facts: Facts) -> View | None:
    """The candidates, the lowest Brier score first, the chosen one marked; how the choice went, in words."""
    choice = block(facts, "choice")
    candidates = sorted(rows(choice, "candidates"), key=_brier)
    if not candidates:
        return None
    chosen = _chosen(choice, facts, candidates)
    n_val = int(number(facts.get("n_val")) or 0)
    folds = Counter(" · ".join(str(row[key]) for key in _VIEW if row.get(key)) for row in rows(choice, "folds"))
    table = [_candidate(row, i == chosen) for i, row in enumerate(candidates)]
    return {
        **cut(table, shown=10, folded=40),
        "how": _measured_on(n_val),
        "rule": _rule(candidates, block(facts, "recipe")),
        "outcome": "" if chosen is None else _outcome(candidates[chosen], chosen, len(candidates)),
        "folds": folds.most_common(5),
        "n_folds": folds.total(),
        "geometries": [_geometry(row, facts) for row in rows(block(facts, "geometry_choice"), "compared")],
        "n_geometries": int(number(block(facts, "geometry_choice").get("n")) or 0),
    }


def _geometry(row: Facts, facts: Facts) -> View:
    """A row of the geometries that were compared."""
    value, low, high = (number(block(row, "accuracy").get(key)) for key in ("value", "low", "high"))
    brier = number(row.get("brier"))
    return {
        "geometry": str(row.get("geometry")),
        "chosen": row.get("geometry") == facts.get("geometry"),
        "accuracy": "" if value is None else percent(value),
        "range": "" if low is None or high is None else f"{percent(low)} to {percent(high)}",
        "brier": "" if brier is None else f"{brier:.3f}",
    }


def _brier(row: Facts) -> tuple[float, float]:
    """What candidates are ordered by; the accuracy decides where no Brier score is known."""
    brier = number(row.get("brier"))
    return inf if brier is None else brier, -(number(row.get("accuracy")) or 0.0)


def _chosen(choice: Facts, facts: Facts, candidates: Sequence[Facts]) -> int | None:
    """Where the winner stands among the candidates.

    Facts from before ``winner`` tell only its head, features and geometry: the most accurate such candidate is taken.
    """
    winner = block(choice, "winner")
    keys, wanted = (_SETTING, winner) if winner else (_VIEW, facts)
    alike = [i for i, row in enumerate(candidates) if all(row.get(key) == wanted.get(key) for key in keys)]
    return max(alike, key=lambda i: number(candidates[i].get("accuracy")) or 0.0, default=None)


def _candidate(row: Facts, chosen: bool) -> View:
    accuracy, brier = number(row.get("accuracy")), number(row.get("brier"))
    return {
        **{key: row.get(key) or "" for key in _VIEW},
        "parameter": _parameter(row),
        "accuracy": percent(accuracy, 1),
        "bar": safe(charts.bar(accuracy, 1, f"Accuracy {percent(accuracy, 1)}")) if accuracy is not None else "",
        "brier": "" if brier is None else f"{brier:.3f}",
        "chosen": chosen,
    }


def _parameter(row: Facts) -> str:
    value = number(row.get("parameter"))
    return "" if value is None else f"{value:.3g}"


def _measured_on(n_val: int) -> str:
    if n_val:
        return (
            f"The {words.count(n_val, 'picture')} of the validation split chose the head: every candidate was measured"
            " on them. They are not among the pictures that the accuracy at the top was measured on."
        )
    return (
        "Every candidate was measured inside the training part alone; the winner was then measured on the part held"
        " back. So the accuracy at the top is not the best of many tries."
    )


def _rule(candidates: Sequence[Facts], recipe: Mapping[str, Any]) -> str:
    if len(candidates) < 2:
        return ""
    first = _first(candidates, recipe)
    return (
        f"The first candidate{f' ({first})' if first else ''} stays unless another beats its Brier score by more than"
        " 2.5 standard errors: the best of many tries on few pictures is often only lucky. The Brier score measures"
        " how far the probabilities were from the truth, so lower is better."
    )


def _first(candidates: Sequence[Facts], recipe: Mapping[str, Any]) -> str:
    """The candidate that need not prove itself, in words; empty for a head that is not topwork's own."""
    named = {key: recipe[key] for key in ("head", "features") if recipe.get(key) not in (None, "auto")}
    head, features = named.get("head", "lda"), named.get("features", "pooled")
    there = any(row.get("head") == head and row.get("features") == features for row in candidates)
    return _name(head, features) if there and head in NAMES else ""


def _name(head: str, features: str) -> str:
    return f"{NAMES.get(head, head)} on {'pooled features' if features == 'pooled' else features}"


def _outcome(row: Facts, place: int, n: int) -> str:
    """The chosen one in words, for it may be folded away when others score better by luck."""
    details = [str(row["geometry"])] if row.get("geometry") else []
    details += [f"parameter {_parameter(row)}"] if _parameter(row) else []
    which = f" ({', '.join(details)})" if details else ""
    where = (
        f"; by Brier score it is number {place + 1} of {n}" if n > 1 and number(row.get("brier")) is not None else ""
    )
    return f"Chosen: {_name(str(row.get('head', '?')), str(row.get('features', '?')))}{which}{where}."

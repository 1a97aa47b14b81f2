"""Tables and charts of how well a model does: class by class, confusion, reliability."""

from collections.abc import Mapping, Sequence
from typing import Any

from topwork.report import charts, words
from topwork.report.common import Facts, View, rows, safe
from topwork.report.words import number, percent

TABLE_CLASSES = 12  # up to here a confusion matrix is a table of numbers
GRID_CLASSES = 60  # up to here it is a grid of shaded squares; beyond, only the pairs are listed
PAIRS = 10


def class_rows(per_class: Mapping[str, Facts], classes: Mapping[str, int]) -> list[View]:
    """A row a class, the one found least reliably first: count, recall and precision with their intervals.

    >>> rows = class_rows({"a": {"recall": 0.9, "support": 10}, "b": {"recall": 0.5, "support": 4}}, {})
    >>> [(row["label"], row["n"]) for row in rows]
    [('b', 4), ('a', 10)]
    """
    sizes = {label: int(number(row.get("support")) or 0) for label, row in per_class.items()} | dict(classes)
    most = max(sizes.values(), default=0)

    def row(label: str) -> View:
        facts, n = per_class.get(label) or {}, sizes[label]
        return {
            "label": label,
            "n": n,
            "bar": safe(charts.bar(n, most, f"{label}: {words.count(n, 'picture')}")),
            "recall": _measure(facts, "recall", f"{label}, found"),
            "precision": _measure(facts, "precision", f"{label}, right when named"),
            "f1": "" if (f1 := number(facts.get("f1"))) is None else f"{f1:.2f}",
        }

    def weakest(label: str) -> tuple[float, int, str]:
        recall = number((per_class.get(label) or {}).get("recall"))
        return 2.0 if recall is None else recall, -sizes[label], label

    return [row(label) for label in sorted(sizes, key=weakest)]


def confusion(facts: Facts) -> View | None:
    """A confusion matrix as a table, a grid, or (for very many classes) the list of confused pairs alone."""
    labels, matrix = [str(label) for label in rows(facts, "labels")], rows(facts, "matrix")
    if not labels or len(matrix) != len(labels):
        return None
    small = len(labels) <= TABLE_CLASSES
    grid = not small and len(labels) <= GRID_CLASSES
    title = f"Confusion matrix of {len(labels)} classes: rows are the true class, columns what the model said"
    return {
        "labels": labels,
        "table": _table(labels, matrix) if small else None,
        "grid": safe(charts.confusion_grid(labels, matrix, title)) if grid else None,
        "upright": len(labels) > 4,
        "pairs": _pairs(labels, matrix) if len(labels) > 2 else [],
    }


def reliability(facts: Facts) -> View | None:
    """The reliability chart, its numbers as a table, and what they mean."""
    bins = [row for row in rows(facts, "bins") if row.get("count")]
    meaning = words.calibration(facts)
    if not bins and not meaning and not facts.get("note"):
        return None
    title = "Reliability: what the model said against how often it was right"
    return {
        "meaning": meaning,
        "note": facts.get("note"),
        "method": facts.get("method"),
        "chart": safe(charts.reliability(bins, title)) if bins else None,
        "bins": [_bin(row) for row in bins],
        "scores": [
            (name, f"{value:.3f}")
            for key, name in (
                ("ece", "expected calibration error"),
                ("brier", "Brier score"),
                ("log_loss", "log loss"),
            )
            if (value := number(facts.get(key))) is not None
        ],
    }


def _measure(facts: Facts, name: str, title: str) -> View | None:
    value, low, high = (number(facts.get(key)) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return None
    span = words.span(low, high)
    shown = f"{title}: {percent(value)}" + (f" ({span})" if span else "")
    return {
        "text": percent(value),
        "span": span,
        "bar": safe(charts.bar(value, 1, shown, low=low, high=high)),
    }


def _table(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[View]:
    table = []
    for i, (label, counts) in enumerate(zip(labels, matrix, strict=True)):
        total = max(1, sum(counts))
        cells = [{"n": n, "shade": _shade(n / total), "right": i == j} for j, n in enumerate(counts)]
        table.append({"label": label, "cells": cells})
    return table


def _shade(share: float) -> str:
    """Opacity of a cell: one picture can be seen, and a full row still leaves its number readable."""
    return f"{0.12 + 0.43 * share:.2f}" if share else "0"


def _pairs(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[View]:
    """The commonest confusions, most pictures first."""
    found = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    found.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [{"label": labels[i], "as": labels[j], "n": n, "of": sum(matrix[i])} for n, i, j in found[:PAIRS]]


def _bin(row: Facts) -> dict[str, Any]:
    low, high = number(row.get("low")), number(row.get("high"))
    stated, true = number(row.get("confidence")), number(row.get("accuracy"))
    return {
        "range": words.span(low, high),
        "stated": percent(stated),
        "true": percent(true),
        "n": row.get("count"),
    }

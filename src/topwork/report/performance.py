"""Tables and charts of how well a model does: class by class, confusion, reliability."""

from collections.abc import Mapping, Sequence
from typing import Any

from topwork.report import charts, words
from topwork.report.common import Facts, View, rows, safe
from topwork.report.names import short_names
from topwork.report.words import number, percent

TABLE_CLASSES = 12  # up to here a confusion matrix is a table of numbers
BLOCK_CLASSES = 20  # of more classes those that are confused most stand on the page, the others are folded away
GRID_CLASSES = 100  # beyond, only the pairs are listed and that block
OTHERS = "others"  # the column of a block for all classes that are not in it
PAIRS = 10


def class_rows(per_class: Mapping[str, Facts], classes: Mapping[str, int]) -> list[View]:
    """A row a class, the one found least reliably first: count, recall and precision with their intervals.

    >>> rows = class_rows({"a": {"recall": 0.9, "support": 10}, "b": {"recall": 0.5, "support": 4}}, {})
    >>> [(row["label"], row["n"]) for row in rows]
    [('b', 4), ('a', 10)]
    """
    sizes = {label: int(number(row.get("support")) or 0) for label, row in per_class.items()} | dict(classes)
    most = max(sizes.values(), default=0)
    uneven = len(set(sizes.values())) > 1

    def row(label: str) -> View:
        facts, n = per_class.get(label) or {}, sizes[label]
        return {
            "label": label,
            "n": n,
            # Bars that are all alike say nothing.
            "bar": safe(charts.bar(n, most, f"{label}: {words.count(n, 'picture')}")) if uneven else "",
            "recall": _measure(facts, "recall", f"{label}, found"),
            "precision": _measure(facts, "precision", f"{label}, right when named"),
            "f1": "" if (f1 := number(facts.get("f1"))) is None else f"{f1:.2f}",
        }

    def weakest(label: str) -> tuple[float, int, str]:
        recall = number((per_class.get(label) or {}).get("recall"))
        return 2.0 if recall is None else recall, -sizes[label], label

    return [row(label) for label in sorted(sizes, key=weakest)]


def confusion(facts: Facts) -> View | None:
    """A confusion matrix, classes that are taken for each other side by side.

    A table for a few classes; for more the block of those that are confused most, and the whole as a grid of squares.
    """
    labels, matrix = [str(label) for label in rows(facts, "labels")], rows(facts, "matrix")
    if not labels or len(matrix) != len(labels):
        return None
    order = confusion_order(matrix) if len(labels) > 4 else list(range(len(labels)))
    labels, matrix = [labels[i] for i in order], [[matrix[i][j] for j in order] for i in order]
    small = len(labels) <= TABLE_CLASSES
    block = [] if small else confused_block(matrix)
    whole = not small and len(labels) <= GRID_CLASSES
    title = f"Confusion matrix of {len(labels)} classes: rows are the true class, columns what the model said"
    return {
        "names": short_names(labels, 16),
        "labels": labels,
        "table": _table(labels, matrix) if small else None,
        "block": _block(labels, matrix, block) if 0 < len(block) < len(labels) else None,
        "grid": safe(charts.confusion_grid(labels, labels, matrix, title)) if whole else None,
        "n": len(labels),
        "upright": len(labels) > 4,
        "pairs": _pairs(labels, matrix) if len(labels) > 2 else [],
    }


def confusion_order(matrix: Sequence[Sequence[int]]) -> list[int]:
    """Places of the classes such that those that are taken for each other stand side by side.

    By average linkage of the share of confusions, leaves ordered (Bar-Joseph et al. 2001).

    >>> confusion_order([[9, 0, 1, 0], [0, 9, 0, 1], [2, 0, 8, 0], [0, 3, 0, 7]]) in ([0, 2, 1, 3], [0, 2, 3, 1])
    True
    """
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    counts = np.asarray(matrix, float)
    if len(counts) < 3:
        return list(range(len(counts)))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    apart = 1 - (shares + shares.T) / 2
    np.fill_diagonal(apart, 0)
    condensed = squareform(apart.clip(min=0), checks=False)
    order: list[int] = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)).tolist()
    return order if order[0] <= order[-1] else order[::-1]


def confused_block(matrix: Sequence[Sequence[int]], most: int = BLOCK_CLASSES) -> list[int]:
    """Places of at most ``most`` classes, in their order: those of the pairs that are confused most.

    >>> confused_block([[5, 4, 0], [3, 6, 0], [0, 1, 9]], 2)
    [0, 1]
    """
    n = len(matrix)
    pairs = sorted(((matrix[i][j] + matrix[j][i], i, j) for i in range(n) for j in range(i)), key=lambda p: -p[0])
    found: set[int] = set()
    for count, i, j in pairs:
        if count < 1 or len(found | {i, j}) > most:
            break
        found |= {i, j}
    return sorted(found)


def _block(labels: Sequence[str], matrix: Sequence[Sequence[int]], block: Sequence[int]) -> View:
    """The rows of a block, with a last column for what was called by a name outside of it."""
    names = [labels[i] for i in block]
    inside = [[*(matrix[i][j] for j in block), sum(matrix[i]) - sum(matrix[i][j] for j in block)] for i in block]
    title = f"Confusion matrix of the {len(block)} classes that are confused most"
    return {"n": len(block), "grid": safe(charts.confusion_grid(names, [*names, OTHERS], inside, title))}


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

"""One labelled measurement as plain values: the same shape for cross-validation, a test split and ``evaluate``."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation import calibration
from topwork.evaluation.metrics import (
    CONFIDENCE,
    Ints,
    balanced_accuracy,
    confusion_matrix,
    none_if_nan,
    per_class,
    share_interval,
)

Floats = NDArray[np.floating[Any]]


def classification(
    probabilities: Floats,
    labels: Ints,
    groups: Ints,
    names: list[str],
    *,
    method: str,
    naive: float | None = None,
) -> dict[str, Any]:
    """``accuracy``, ``balanced_accuracy``, ``per_class``, ``confusion`` and ``calibration`` of unseen pictures.

    Probabilities ``[n, c]``, labels ``[n]``, groups ``[n]`` of pictures that stand or fall together; ``naive`` is the
    accuracy of the careless way of measuring.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    interval = share_interval(right, groups)
    confusion = confusion_matrix(labels, predicted, len(names))
    return {
        "accuracy": {
            "value": none_if_nan(interval.value),
            "low": interval.low,
            "high": interval.high,
            "method": f"{method}, Wilson {CONFIDENCE:.0%} interval",
            "naive": none_if_nan(interval.value) if naive is None else naive,
            "confidence": CONFIDENCE,
            "n": len(labels),
            "correct": int(right.sum()),
        },
        "balanced_accuracy": balanced_accuracy(confusion) if len(labels) else None,
        "per_class": per_class(labels, predicted, groups, names),
        "confusion": {"labels": names, "matrix": confusion.tolist()},
        "calibration": calibration.summary(probabilities, labels, method=method) if len(labels) else None,
    }


def mistakes(
    probabilities: Floats, labels: Ints, known: NDArray[np.bool_], paths: list[str], names: list[str]
) -> list[dict[str, Any]]:
    """The pictures that were classified wrong, the surest ones first."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return [
        {
            "path": paths[i],
            "label": names[labels[i]],
            "predicted": names[predicted[i]],
            "probability": float(probabilities[i, predicted[i]]),
            "known": bool(known[i]),
        }
        for i in wrong
    ]


def held_out_facts(
    probabilities: Floats,
    labels: Ints,
    groups: Ints,
    names: list[str],
    paths: list[str],
    *,
    novelty: Floats,
    threshold: float | None,
    leaked: NDArray[np.bool_],
    method: str,
) -> dict[str, Any]:
    """The measurement of a finished model on pictures it was not trained on.

    Pictures that are ``leaked`` ``[n]`` (copies of training pictures) are named and left out; the naive accuracy has
    them in.
    """
    fresh = ~leaked
    known = novelty <= (np.inf if threshold is None else threshold)
    naive = float((probabilities.argmax(axis=1) == labels).mean()) if len(labels) else None
    fresh_paths = [path for path, kept in zip(paths, fresh, strict=True) if kept]
    return {
        **classification(probabilities[fresh], labels[fresh], groups[fresh], names, method=method, naive=naive),
        "novelty": {
            "threshold": threshold,
            "coverage": float(known[fresh].mean()) if fresh.any() and threshold is not None else None,
            "n": int(fresh.sum()),
        },
        "mistakes": mistakes(probabilities[fresh], labels[fresh], known[fresh], fresh_paths, names),
        "n_images": int(fresh.sum()),
        "leaked": [path for path, copy in zip(paths, leaked, strict=True) if copy],
    }

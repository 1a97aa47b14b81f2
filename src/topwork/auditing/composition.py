"""What a source is made of: classes, sizes, formats, colour modes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from topwork.features.facts import Facts
from topwork.images import Sample

UNEVEN = 1.5
"""Ratio of the largest class to the smallest from which it is worth a word."""
IMBALANCED = 5.0
"""Ratio from which accuracy alone misleads."""


def class_counts(samples: Iterable[Sample], names: Iterable[str]) -> dict[str, int]:
    """Pictures of each class by name, in the order of ``names``; 0 for one that has none.

    >>> class_counts([Sample("b/1", "/b/1", "b")], ["a", "b"])
    {'a': 0, 'b': 1}
    """
    counts = Counter(sample.label for sample in samples)
    return {name: counts[name] for name in names}


def imbalance(classes: Mapping[str, int]) -> dict[str, Any] | None:
    """Largest and smallest of the classes that have pictures; None where they are about equal.

    >>> found = imbalance({"ok": 90, "cracked": 10, "empty": 0})
    >>> found["ratio"], found["largest"], found["smallest"]
    (9.0, 'ok', 'cracked')
    >>> imbalance({"ok": 9, "cracked": 8}) is None
    True
    """
    present = {name: count for name, count in classes.items() if count}
    if len(present) < 2:
        return None
    largest, smallest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    ratio = present[largest] / present[smallest]
    if ratio < UNEVEN:
        return None
    return {"ratio": round(ratio, 2), "largest": largest, "smallest": smallest, "note": _note(ratio, present, largest)}


def _note(ratio: float, present: Mapping[str, int], largest: str) -> str:
    if ratio < IMBALANCED:
        return "That is no obstacle."
    share = present[largest] / sum(present.values())
    return (
        f"Always answering “{largest}” would be right for {share:.0%} of these pictures, "
        "so look at the accuracy of each class."
    )


def sizes(facts: Sequence[Facts]) -> dict[str, dict[str, float]]:
    """Smallest, median and largest width and height in pixels; empty without pictures."""
    if not facts:
        return {}
    sides = {"width": [f.width for f in facts], "height": [f.height for f in facts]}
    return {name: {"min": min(v), "median": median(v), "max": max(v)} for name, v in sides.items()}


def counted(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first.

    >>> counted(["PNG", "JPEG", "BMP", "JPEG"])
    {'JPEG': 2, 'BMP': 1, 'PNG': 1}
    """
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))

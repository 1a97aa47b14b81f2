"""What to do next, and the whole at a glance: what stands beside the headline and on the first printed page."""

import re

from topwork.report import words
from topwork.report.common import Facts, View, block, rows
from topwork.report.words import number, percent

_UNITS = re.compile(r"(\d) (s|min|h|%)(?!\w)")  # a number and its unit stay on one line


def next_view(facts: Facts) -> View | None:
    """The steps with their gains in words; None where the facts have no ``next_steps``.

    >>> steps = [{"sentence": "Collect more pictures.", "gain": 0.021, "basis": "estimated", "command": None}]
    >>> next_view({"next_steps": steps})["steps"][0]["gain"].replace(words.NBSP, " ")
    'about +2 points, estimated'
    """
    if facts.get("next_steps") is None:
        return None
    return {"steps": [_step(row) for row in rows(facts, "next_steps")]}


def gain_words(gain: float | None, basis: str | None) -> str:
    """A gain in points of accuracy, and what it is based on; empty where it is not known.

    >>> gain_words(0.0589, "estimated").replace(words.NBSP, " "), gain_words(None, None)
    ('about +6 points, estimated', '')
    """
    if gain is None:
        return ""
    about = "about " if basis == "estimated" else ""
    return f"{about}+{words.points(gain)}" + (f", {basis}" if basis else "")


def glance(facts: Facts) -> list[tuple[str, str, str, str]]:
    """The main findings as ``(name, value, detail, section)``, for tiles.

    >>> glance({"per_class": {"a": {"recall": 0.5}, "b": {"recall": 0.9}}})[0][:2]
    ('hardest class', 'a')
    """
    found = []
    recalls = {label: number(row.get("recall")) for label, row in block(facts, "per_class").items()}
    known = {label: value for label, value in recalls.items() if value is not None}
    if known and min(known.values()) < 1:
        hardest = min(known, key=lambda label: known[label])
        found.append(("hardest class", hardest, f"found {percent(known[hardest])}", "classes"))
    if pair := _worst_pair(block(facts, "confusion")):
        found.append(("most often confused", *pair, "confusion"))
    if (ece := number(block(facts, "calibration").get("ece"))) is not None:
        found.append(("probabilities", f"{words.points(ece)} off", words.verdict(ece), "calibration"))
    coverage = number(block(facts, "novelty").get("coverage"))
    if coverage is not None:
        found.append(("new pictures it knows", percent(coverage), "of the same kind", "novelty"))
    return found


def _worst_pair(confusion: Facts) -> tuple[str, str] | None:
    labels, matrix = rows(confusion, "labels"), rows(confusion, "matrix")
    pairs = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    if not pairs or len(labels) < 3:
        return None
    n, i, j = max(pairs, key=lambda pair: pair[0])
    return str(labels[i]), f"called {labels[j]}: {n} of {sum(matrix[i])}"


def _step(row: Facts) -> View:
    return {
        "sentence": _UNITS.sub(rf"\1{words.NBSP}\2", str(row.get("sentence") or "")),
        "gain": gain_words(number(row.get("gain")), row.get("basis")),
        "command": row.get("command"),
    }

"""What to do next, as ``topwork fit`` says it."""

from collections.abc import Mapping, Sequence
from typing import Any


def next_lines(facts: Mapping[str, Any], source: str | None = None) -> list[str]:
    """The steps with their gains and commands, ``source`` in the place of PHOTOS; a word where there are none.

    >>> step = {"kind": "pictures", "sentence": "Collect more.", "gain": 0.02, "basis": "estimated", "command": None}
    >>> next_lines({"next_steps": [step]})
    ['What to do next', '  1. Collect more. (about +2 points, estimated)']
    """
    steps = facts.get("next_steps")
    if steps is None:
        return []
    if not steps:
        model = facts.get("model") or "MODEL"
        return [
            "What to do next",
            "  Nothing that could be measured here would clearly help. "
            "Before you rely on it, try it on pictures of another day:",
            f"    topwork evaluate {model} NEW-PHOTOS",
        ]
    return ["What to do next", *_numbered(steps, source)]


def _numbered(steps: Sequence[Mapping[str, Any]], source: str | None) -> list[str]:
    from topwork.auditing.next_steps import NextStep, for_user
    from topwork.report.next_view import gain_words
    from topwork.report.words import NBSP

    lines = []
    for number, facts in enumerate(steps, start=1):
        step = NextStep(**facts) if source is None else for_user(NextStep(**facts), source)
        gain = gain_words(step.gain, step.basis)
        lines.append(f"  {number}. {step.sentence}{f' ({gain})' if gain else ''}".replace(NBSP, " "))
        if step.command:
            lines.append(f"     {step.command}")
    return lines

"""What would help most after a fit: typed steps, the largest gain first.

A gain is in accuracy, 0..1. ``measured``: read off pictures of this set; ``estimated``: carried over from a
measurement, such as a learning curve or other sets. What is worth doing without a known gain comes last.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.label_errors import FALSE
from topwork.features.facts import Facts

MOST = 4
"""Steps that are named; more would not be read."""
WORTH = 0.005
"""Least gain that is worth a step."""
_FEW = 5  # independent pictures of a class; with fewer its accuracy is a guess
_CLEAR = 3.0  # standard errors by which the mistakes of poor pictures must exceed those of the others
_QUARTER = 0.25


@dataclass(frozen=True)
class NextStep:
    """Something to do.

    >>> NextStep("pictures", "Collect more pictures.", gain=0.02, basis="estimated").as_dict()["gain"]
    0.02
    """

    kind: str
    """``classes``, ``geometry``, ``fine-tuning``, ``pictures``, ``labels``, ``light``, ``occasions`` or
    ``unreadable``."""
    sentence: str
    """What to do and why, for a person."""
    gain: float | None = None
    """Accuracy that it may add, 0..1; None where nothing can be said."""
    basis: str | None = None
    """``measured`` or ``estimated``; None without a gain."""
    command: str | None = None
    """What to run, with ``PHOTOS`` for the user's own; None where there is no command for it."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the JSON of a fit."""
        return asdict(self)


@dataclass(frozen=True)
class Seen:
    """What is known of the pictures themselves and not in the facts of a fit; row i of everything is one picture."""

    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    """``[n]``: pictures that are near-duplicates or belong together have one number."""
    right: NDArray[np.float64]
    """``[n]``: 1 where the answer to the unseen picture was right, 0 where wrong, NaN where it was not measured."""
    noted: Sequence[Facts]
    unreadable: Sequence[Mapping[str, str]] = ()
    """``path`` and ``reason`` of each picture that could not be read."""


def next_steps(facts: Mapping[str, Any], seen: Seen, others: Sequence[NextStep | None] = ()) -> list[NextStep]:
    """At most ``MOST`` steps for the facts of a fit, the largest gain first; ``others`` are known already.

    An empty list says that nothing that could be measured would help.

    >>> nothing = Seen(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), [])
    >>> next_steps({"accuracy": {"value": 1.0, "n": 40}, "classes": {"a": 20, "b": 20}}, nothing)
    []
    """
    found = [_apart(facts), *others, _labels(facts), _pictures(facts), _light(seen), _occasions(facts, seen)]
    steps = [step for step in [*found, _unreadable(facts, seen)] if step is not None]
    worth = [step for step in steps if step.gain is None or step.gain >= WORTH]
    return sorted(worth, key=_place)[:MOST]


_FIRST = ("classes", "geometry")
"""What comes first even without a known gain: what cannot be told apart, or is not seen, cannot be learned."""


def _place(step: NextStep) -> tuple[int, float]:
    if step.gain is None and step.kind in _FIRST:
        return _FIRST.index(step.kind), 0.0
    return len(_FIRST), -(step.gain or 0.0)


def _apart(facts: Mapping[str, Any]) -> NextStep | None:
    """Where the model is no better than the laziest answer."""
    low, classes = facts["accuracy"].get("low"), facts["classes"]
    if low is None or len(classes) < 2 or low > max(classes.values()) / sum(classes.values()):
        return None
    return NextStep(
        "classes",
        "Look at some pictures reduced to 224 pixels: can you tell the classes apart in them? This model cannot do it "
        "surely better than guessing, so either what matters is too small or outside of what it sees, or the labels "
        "say something that the pictures do not show.",
    )


def _labels(facts: Mapping[str, Any]) -> NextStep | None:
    n, measured = len(facts.get("label_suspects") or []), facts["accuracy"].get("n")
    if not n or not measured:
        return None
    it = "the label of 1 picture: it contradicts" if n == 1 else f"the labels of {n:,} pictures: they contradict"
    return NextStep(
        "labels",
        f"Check {it} the model far more than its own doubt explains, so most likely the label is wrong. "
        "The report shows what to look at first.",
        gain=(1 - FALSE) * n / measured,
        basis="estimated",
    )


def _pictures(facts: Mapping[str, Any]) -> NextStep | None:
    """More pictures, and of which class: by the learning curve, or by the fewest where there is none."""
    curve = facts.get("learning_curve") or {}
    points, forecast = curve.get("points") or [], curve.get("forecast")
    few = [name for name, n in facts["classes"].items() if n < 2 * _FEW]
    if not forecast:
        if not few or facts["accuracy"]["value"] == 1:
            return None
        return NextStep(
            "pictures", f"Collect more pictures, first of {_named(few)}: with so few little can be learned."
        )
    gain = forecast["accuracy"] - points[-1]["accuracy"]
    gains = {name: value - points[-1]["per_class"][name] for name, value in forecast["per_class"].items()}
    first = sorted((name for name in gains if gains[name] >= 0.01), key=lambda name: -gains[name])[:2]
    recalls = [f"{100 * points[-1]['per_class'][name]:.0f}" for name in first]
    which = f", first of {' and '.join(first)}: found {' and '.join(recalls)} times out of 100" if first else ""
    return NextStep(
        "pictures",
        f"Collect more pictures{which}. "
        f"With twice as many, accuracy should come near {100 * forecast['accuracy']:.0f} %.",
        gain=gain,
        basis="estimated",
    )


@dataclass(frozen=True)
class _Poor:
    """A way in which pictures can be poor: those with the lowest ``sign`` times ``name``."""

    name: str
    sign: int
    limit: float
    """Where the quarter's median is above it, there is nothing to mend: drawings are bright, and ever so bright."""
    what: str
    remedy: str


_WAYS = (
    _Poor("sharpness", 1, 0.3, "least sharp", "focus, hold the camera still, or use more light"),
    _Poor("brightness", 1, 90, "darkest", "use more light or a longer exposure"),
    _Poor("brightness", -1, -170, "brightest", "expose for the subject, avoid glare"),
    _Poor("contrast", 1, 35, "palest", "light the subject from the side, avoid haze"),
)


def _light(seen: Seen) -> NextStep | None:
    """Whether mistakes gather among the blurred, dark, bright or pale: the worst quarter of each class."""
    known = np.flatnonzero(~np.isnan(seen.right))
    if len(known) < 40 or len(seen.noted) != len(seen.right):
        return None
    wrong, labels = 1 - seen.right[known], seen.labels[known]
    found = []
    for way in _WAYS:
        values = way.sign * np.array([float(getattr(seen.noted[int(row)], way.name)) for row in known], np.float64)
        poor = _worst(values, labels)
        if np.median(values[poor]) > way.limit:
            continue
        inside, outside, overall = wrong[poor].mean(), wrong[~poor].mean(), wrong.mean()
        error = (overall * (1 - overall) * (1 / poor.sum() + 1 / (~poor).sum())) ** 0.5
        if error > 0 and (inside - outside) / error > _CLEAR:
            sentence = (
                f"Take pictures like the {way.what} ones again, or leave them out: {way.remedy}. Of the {way.what} "
                f"quarter {100 * inside:.0f} % are named wrongly, of the others {100 * outside:.0f} %."
            )
            found.append(NextStep("light", sentence, gain=float(poor.mean() * (inside - outside)), basis="estimated"))
    return max(found, key=lambda step: step.gain or 0.0, default=None)


def _worst(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The lowest quarter of each class, so that a dark class is not taken for dark pictures."""
    poor = np.zeros(len(values), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        poor[rows[np.argsort(values[rows], kind="stable")][: max(1, round(_QUARTER * len(rows)))]] = True
    return poor


def _occasions(facts: Mapping[str, Any], seen: Seen) -> NextStep | None:
    """Where many pictures are of few occasions: bursts, frames of few videos, few groups."""
    names = list(facts["classes"])
    few = []
    for place, name in enumerate(names):
        rows = seen.labels == place
        independent = len(np.unique(seen.groups[rows]))
        if 0 < independent < _FEW and rows.sum() >= 2 * independent:
            few.append(f"{name} ({int(rows.sum()):,} pictures of {independent})")
    accuracy = facts["accuracy"]
    gap = (accuracy.get("naive") or 0) - (accuracy.get("value") or 0)
    if few:
        return NextStep(
            "occasions",
            f"Photograph on more occasions (days, places, pieces): {_named(few)}. Many pictures of one occasion teach "
            "little more than one, and say little about the next occasion.",
        )
    if gap >= 0.05:
        return NextStep(
            "occasions",
            "Photograph on more occasions (days, places, pieces): the model does "
            f"{100 * gap:.0f} points better where it knows a near-duplicate, so it knows occasions as much as classes.",
        )
    return None


def _unreadable(facts: Mapping[str, Any], seen: Seen) -> NextStep | None:
    n = len(seen.unreadable)
    if not n:
        return None
    share, first = n / (n + facts.get("n_images", 0)), seen.unreadable[0]
    much = f" ({100 * share:.0f} % of all)" if share >= 0.01 else ""
    what = "the picture that" if n == 1 else f"the {n:,} pictures that"
    return NextStep(
        "unreadable",
        f"Replace {what} could not be read{much}, such as {first['path']}: {first['reason']}.",
        command="topwork audit PHOTOS",
    )


def _named(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    if rest > 0:
        return f"{', '.join(names[:most])} and {rest} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def for_user(step: NextStep, source: str) -> NextStep:
    """The step with the user's own pictures in its command.

    >>> for_user(NextStep("unreadable", "", command="topwork audit PHOTOS"), "my pictures").command
    "topwork audit 'my pictures'"
    """
    return step if step.command is None else replace(step, command=step.command.replace("PHOTOS", shlex.quote(source)))

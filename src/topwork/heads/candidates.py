"""What can be chosen from: heads × what they see × how closely they follow the pictures."""

from collections.abc import Collection
from dataclasses import dataclass

from topwork.errors import UsageError
from topwork.heads.linear import Fit, fit_lda, fit_logistic, fit_ridge, fit_svm
from topwork.heads.prototypes import fit_nearest_mean
from topwork.registry import Registry


@dataclass(frozen=True)
class HeadKind:
    """A kind of head and the strengths worth trying."""

    fit: Fit
    strengths: tuple[float, ...]
    sees: tuple[str, ...]
    """What it sees under ``features="auto"``; asked for by name, it may see either."""


# Strengths from 5-fold cross-validation on five sets of 20 to 2,624 pictures: the best of a fine grid lay within
# a point of the better of these two, because strengths are relative to spread and number. The first, LDA with
# shrinkage 0.5, was the safest on small sets; another has to beat it by more than the noise.
HEADS: Registry[HeadKind] = Registry("head")
HEADS.add("lda", lambda: HeadKind(fit_lda, (0.5, 0.1), ("pooled", "logits")))
HEADS.add("ridge", lambda: HeadKind(fit_ridge, (1.0, 6.0), ("pooled",)))
HEADS.add("svm", lambda: HeadKind(fit_svm, (1.0, 6.0), ("pooled", "logits")))
HEADS.add("logistic", lambda: HeadKind(fit_logistic, (5.0, 50.0), ("pooled",)))
HEADS.add("nearest-mean", lambda: HeadKind(fit_nearest_mean, (1.0,), ("pooled",)))


@dataclass(frozen=True)
class Candidate:
    """One setting of the head; the fields are the recipe's words."""

    head: str
    features: str
    geometry: str
    strength: float

    @property
    def view(self) -> tuple[str, str]:
        """Which input matrix the head sees: ``(geometry, features)``."""
        return self.geometry, self.features


def candidates(head: str, features: str, views: Collection[tuple[str, str]]) -> list[Candidate]:
    """The settings that a recipe leaves open, the safest first.

    ``views``: what a head may see, each as in ``Candidate.view``. UsageError where nothing is left.

    >>> [c.strength for c in candidates("svm", "logits", [("crop", "pooled"), ("crop", "logits")])]
    [1.0, 6.0]
    """
    found = []
    for geometry in dict.fromkeys(geometry for geometry, _ in views):
        for name in HEADS.names() if head == "auto" else [head]:
            kind = HEADS.get(name)
            seen = (features,) if features != "auto" else kind.sees
            seen = tuple(view for view in seen if (geometry, view) in views)
            found += [Candidate(name, view, geometry, strength) for view in seen for strength in kind.strengths]
    if not found:
        raise UsageError(f"this network gives no {features}: it came without a classifier; choose pooled features")
    return found

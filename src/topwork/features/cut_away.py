"""How much of the pictures of a set lies outside of what the network sees."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from topwork.backbones.preprocessing import cut_away
from topwork.backbones.spec import Preprocess
from topwork.features.facts import Facts

UNSEEN = 0.5
"""Share of the median picture that must be cut away to be worth a word: of pictures longer than 3:2."""
SQUARE = 1.3
"""Longer by shorter side up to which a picture is nearly square: up to 5:4."""
_NEARLY_ALL = 0.9


@dataclass(frozen=True)
class CutAway:
    """What a geometry cuts away.

    >>> CutAway("crop", median=0.745, mostly=1.0).much
    True
    """

    geometry: str
    median: float
    """Share of the median picture that lies outside, 0..1; the centre crop of a square picture leaves 0.23 out."""
    mostly: float
    """Share of the pictures of which more than half lies outside, 0..1."""

    @property
    def much(self) -> bool:
        """Whether that is worth a word."""
        return self.median > UNSEEN

    @property
    def words(self) -> str:
        """Behind "which": what it does to a picture.

        >>> CutAway("crop", median=0.745, mostly=1.0).words
        'leaves 74 % of a typical picture unseen'
        """
        return f"leaves {100 * self.median:.0f} % of a typical picture unseen"

    def as_dict(self, text: str | None) -> dict[str, Any]:
        """``cut_away`` of the JSON; ``text`` says to a person what to do, where it matters."""
        rounded = {"median": round(self.median, 4), "mostly": round(self.mostly, 4)}
        return {**asdict(self), **rounded, "text": text if self.much else None}


def cut_away_by(preprocess: Preprocess, geometry: str, pictures: Sequence[Facts]) -> CutAway:
    """What a geometry cuts away of these pictures, at least one."""
    shares = np.array([cut_away(preprocess, geometry, each.height, each.width) for each in pictures])
    return CutAway(geometry, float(np.median(shares)), float((shares > UNSEEN).mean()))


def nearly_square(pictures: Sequence[Facts]) -> bool:
    """Whether nearly all of these pictures, at least one, are nearly square, so that no geometry matters."""
    shapes = [max(each.width, each.height) / min(each.width, each.height) for each in pictures]
    return float(np.quantile(shapes, _NEARLY_ALL)) <= SQUARE

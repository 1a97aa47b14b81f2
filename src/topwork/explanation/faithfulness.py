"""How far a map can be believed: what happens to the answer without its strongest places, and with other weights."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.explanation.network import Floats

STEPS = 20
"""Deletion and insertion go in steps of 5 % of the pixels."""
BLUR = 1 / 20
"""Standard deviation of the blur that hides pixels, as a share of the square root of the input's area."""
LARGEST_CORRELATION = 0.7
"""A map whose ranks correlate more with those for shuffled weights does not depend on the weights.

On photographs and the default backbone, guided backpropagation and deconvnet gave 0.88 to 0.99, other methods up to
0.57.
"""


@dataclass(frozen=True)
class Faithfulness:
    """What was measured about one map.

    >>> Faithfulness(deletion=0.2, insertion=0.7, weight_correlation=0.1).trusted
    True
    >>> Faithfulness(deletion=0.2, insertion=0.7, weight_correlation=0.9).reason
    'does not depend on the weights'
    """

    deletion: float
    """Mean probability of the class, 0..1, while the strongest pixels are blurred first: low is good."""
    insertion: float
    """The same while the strongest pixels appear first in a blurred picture: high is good."""
    weight_correlation: float
    """Rank correlation, -1..1, with the maps for shuffled weights in the last layers: near 0 is good."""

    @property
    def reason(self) -> str | None:
        """Why the map is not to be trusted, or None."""
        if self.weight_correlation > LARGEST_CORRELATION:
            return "does not depend on the weights"
        if self.insertion <= self.deletion:
            return "is no better than its own reverse"
        return None

    @property
    def explanation(self) -> str | None:
        """The same as a sentence for somebody who has not read of these checks.

        >>> Faithfulness(deletion=0.4, insertion=0.3, weight_correlation=0.1).explanation[:50]
        'When what the map marks as most important was hidd'
        """
        if self.reason is None:
            return None
        if self.weight_correlation > LARGEST_CORRELATION:
            return (
                "The map stays much the same when the weights of the network are shuffled, so it shows edges of the "
                "picture rather than what the model learned."
            )
        return (
            "When what the map marks as most important was hidden first, the answer fell no faster than when the least "
            "important was hidden first. So the map does not show what the answer depends on."
        )

    @property
    def trusted(self) -> bool:
        """Whether both checks were passed; a map that fails them is wrong, one that passes may still be."""
        return self.reason is None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork explain --json``."""
        return {**asdict(self), "trusted": self.trusted, "reason": self.reason}


def measure(
    probability: Callable[[Floats], Floats], x: Floats, values: Floats, others: Sequence[Floats]
) -> Faithfulness:
    """The faithfulness of the map ``values`` ``[h, w]`` of an input ``x`` ``[3, height, width]``.

    ``probability`` gives the class's, ``[n, 3, height, width]`` -> ``[n]``; ``others`` are the maps of networks with
    shuffled weights.
    """
    deletion, insertion = deletion_and_insertion(probability, x, enlarged(values, *x.shape[1:]))
    correlations = [rank_correlation(values, other) for other in others]
    return Faithfulness(deletion, insertion, float(np.mean(correlations)))


def deletion_and_insertion(probability: Callable[[Floats], Floats], x: Floats, values: Floats) -> tuple[float, float]:
    """Areas under the two curves of probability over the share of pixels (RISE, Petsiuk et al. 2018), 0..1.

    ``values`` ``[h, w]`` order the pixels of ``x`` ``[3, h, w]``. Deletion blurs them from the highest
    value on; insertion shows them, in the same order, in the blurred input. Insertion is the deletion of the reverse
    order, so a map without meaning has both alike on average.

    >>> x = np.zeros((3, 8, 8), np.float32)
    >>> x[:, 2, 3] = 1
    >>> seen = lambda squares: squares[:, 0, 2, 3]
    >>> deletion, insertion = deletion_and_insertion(seen, x, x[0])
    >>> deletion < 0.35 < 0.95 < insertion
    True
    """
    from scipy.ndimage import gaussian_filter

    sigma = max(1.0, BLUR * (x.shape[1] * x.shape[2]) ** 0.5)
    blurred = np.stack([gaussian_filter(channel, sigma) for channel in x])
    order = np.empty(values.size, np.int64)
    order[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size)
    place = order.reshape(values.shape)  # [h, w]: 0 where the value is highest
    shares = np.linspace(0, values.size, STEPS + 1).round()
    areas = []
    for first, then in ((x, blurred), (blurred, x)):
        squares = np.stack([np.where(place < share, then, first) for share in shares])
        areas.append(float(np.trapezoid(probability(squares.astype(np.float32)), dx=1 / STEPS)))
    return areas[0], areas[1]


def rank_correlation(one: Floats, other: Floats) -> float:
    """Spearman's correlation of the strengths, signs left out, of two maps of one shape, -1..1 (Adebayo et al. 2018).

    Places where both are 0 do not count, unless a map has one strength in all others: beyond the receptive field of a
    value every map of it is 0. The result is 0 where one of the maps is the same everywhere.

    >>> rank_correlation(np.array([[1.0, 2.0, -3.0, 0.0]]), np.array([[10.0, 30.0, 70.0, 0.0]]))
    1.0
    """
    everywhere = np.ones_like(one, bool)
    for counted in ((one != 0) | (other != 0), everywhere):
        ranks = [_ranks(np.abs(values[counted])) for values in (one, other)]
        if counted.any() and min(float(np.ptp(rank)) for rank in ranks) > 0:
            return round(float(np.corrcoef(ranks[0], ranks[1])[0, 1]), 6)
    return 0.0


def _ranks(values: Floats) -> NDArray[np.float64]:
    """The place of every value in their order; equal ones share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place.ravel()]
    return ranks


def enlarged(values: Floats, height: int, width: int) -> Floats:
    """A map ``[h, w]`` on a finer grid, linear between the centres of its cells.

    >>> enlarged(np.array([[0.0, 1.0]], np.float32), 1, 4).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    from PIL import Image

    if values.shape == (height, width):
        return values
    picture = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)

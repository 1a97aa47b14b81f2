"""What style transfer keeps low: the distance to one picture's content and to another one's style. Imports torch.

Gatys, Ecker & Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks", CVPR. A loss is an object that
holds what it compares with, so that it can be used alone: ``loss(feature_map)`` is a number with a gradient.
"""

from dataclasses import dataclass

import torch


def gram(maps: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """How a feature map's channels occur together: ``[c, h, w]`` -> ``[c, c]``, ``F F^T / (h w)``.

    The mean over the cells, not the sum, so that pictures of other sizes can be compared. ``weights`` ``[h, w]`` count
    some cells more than others; the mean is theirs then.

    >>> gram(torch.ones(8, 4, 4)).shape, gram(2 * torch.ones(1, 4, 4)).item()
    (torch.Size([8, 8]), 4.0)
    """
    return gram_sum(maps, weights) / cell_count(maps, weights)


def gram_sum(maps: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """``F F^T`` ``[c, c]``: what the parts of a map give can be added up.

    >>> gram_sum(torch.ones(1, 4, 4)).item()
    16.0
    """
    cells = maps.flatten(1)  # [c, h * w]
    return (cells if weights is None else cells * weights.flatten()) @ cells.T


def cell_count(maps: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    """What ``gram_sum`` is divided by: the number of cells, or the sum of their weights."""
    return float(maps.shape[1] * maps.shape[2]) if weights is None else max(float(weights.sum()), 1e-8)


@dataclass(frozen=True, eq=False)
class ContentLoss:
    """Half the squared distance to a feature map: ``1/2 sum (T - C)^2``.

    >>> ContentLoss(torch.zeros(1, 2, 2))(torch.ones(1, 2, 2)).item()
    2.0
    """

    content: torch.Tensor
    """``[c, h, w]``: what the content picture gives."""

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Of a map ``[c, h, w]``."""
        return (maps - self.content).square().sum() / 2

    def scale(self) -> float:
        """Of a map of zeros: what losses of other layers and sizes are compared by."""
        return max(float(self.content.square().sum()) / 2, 1e-12)


@dataclass(frozen=True, eq=False)
class StyleLoss:
    """The squared distance of Gram matrices: ``|G(T) - G(S)|^2``, the sum over all pairs of channels.

    >>> StyleLoss(torch.zeros(1, 1))(2 * torch.ones(1, 4, 4)).item()
    16.0
    """

    style: torch.Tensor
    """``[c, c]``: the Gram matrix of the style picture."""
    weights: torch.Tensor | None = None
    """``[h, w]``: which cells of the map have this style; None for all."""

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Of a map ``[c, h, w]``."""
        return self.of_gram(gram(maps, self.weights))

    def of_gram(self, matrix: torch.Tensor) -> torch.Tensor:
        """Of a Gram matrix ``[c, c]``."""
        return (matrix - self.style).square().sum()

    def scale(self) -> float:
        """Of a map of zeros: what losses of other layers and networks are compared by."""
        return max(float(self.style.square().sum()), 1e-12)

"""The three networks as PyTorch modules: one reads strokes, one sees the picture, one does both.

Each gives ``features`` ``[n, d]`` and, by one linear layer on them, class scores ``[n, c]``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from topwork.backbones.small import SMALL

HIDDEN = 64
"""Units of a GRU in one direction."""

_UNIT = 10.0
"""Offsets are about a tenth of the drawing: times this they are about 1, like the pen's 0 and 1."""


class StrokeTrunk(nn.Module):
    """Two layers of bidirectional GRU (Cho et al. 2014), then each unit's maximum over the steps.

    Backwards is forwards on the sequence turned round within its length, so what stands after the end of a sequence
    changes nothing.

    >>> trunk = StrokeTrunk().eval()
    >>> strokes, lengths = torch.randn(2, 9, 3), torch.tensor([4, 9])
    >>> trunk(strokes, lengths).shape
    torch.Size([2, 128])
    >>> torch.allclose(trunk(strokes, lengths)[:1], trunk(strokes[:1, :4], lengths[:1]), atol=1e-6)
    True
    """

    d = 2 * HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.forwards = nn.ModuleList(nn.GRU(inputs, HIDDEN, batch_first=True) for inputs in (3, self.d))
        self.backwards = nn.ModuleList(nn.GRU(inputs, HIDDEN, batch_first=True) for inputs in (3, self.d))

    def forward(self, strokes: Tensor, lengths: Tensor) -> Tensor:
        """``[n, 2 * HIDDEN]`` from ``[n, t, 3]`` and ``[n]``, each length from 1 to t."""
        steps = torch.arange(strokes.shape[1], device=strokes.device)[None]  # [1, t]
        inside = steps < lengths[:, None]  # [n, t]
        turned = torch.where(inside, lengths[:, None] - 1 - steps, steps)[:, :, None]  # [n, t, 1]
        x = torch.cat([_UNIT * strokes[:, :, :2], strokes[:, :, 2:]], dim=2)
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            ahead, _ = forwards(x)  # [n, t, HIDDEN]
            behind, _ = backwards(torch.gather(x, 1, turned.expand(-1, -1, x.shape[2])))
            x = torch.cat([ahead, torch.gather(behind, 1, turned.expand(-1, -1, HIDDEN))], dim=2)
        return torch.where(inside[:, :, None], x, -1.0).amax(dim=1)  # a GRU's outputs are above -1


class PictureTrunk(nn.Module):
    """The network `simple_cnn` up to its dense layer, on the ink of square pictures.

    >>> PictureTrunk(28)(torch.zeros(1, 28, 28, 3, dtype=torch.uint8)).shape
    torch.Size([1, 128])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.cnn: Any = SMALL["simple_cnn"].build(1, size, 0)
        self.d: int = self.cnn.num_features

    def forward(self, picture: Tensor) -> Tensor:
        """``[n, d]`` from ``[n, size, size, 3]`` in 0..255, dark on white."""
        ink = 1 - picture.float().mean(dim=3)[:, None] / 255  # [n, 1, size, size]
        features: Tensor = self.cnn(ink)
        return features


class Strokes(nn.Module):
    """Scores from strokes alone."""

    inputs = ("strokes", "lengths")

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.trunk = StrokeTrunk()
        self.head = nn.Linear(self.trunk.d, classes)

    def forward(self, strokes: Tensor, lengths: Tensor) -> Tensor:
        """``[n, classes]``."""
        scores: Tensor = self.head(self.trunk(strokes, lengths))
        return scores


class Picture(nn.Module):
    """Scores from the picture alone."""

    inputs = ("picture",)

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.trunk = PictureTrunk(size)
        self.head = nn.Linear(self.trunk.d, classes)

    def forward(self, picture: Tensor) -> Tensor:
        """``[n, classes]``."""
        scores: Tensor = self.head(self.trunk(picture))
        return scores


class Both(nn.Module):
    """Scores from the features of both, side by side, trained together."""

    inputs = ("strokes", "lengths", "picture")

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.strokes, self.picture = StrokeTrunk(), PictureTrunk(size)
        self.head = nn.Linear(self.strokes.d + self.picture.d, classes)

    def forward(self, strokes: Tensor, lengths: Tensor, picture: Tensor) -> Tensor:
        """``[n, classes]``."""
        features = torch.cat([self.strokes(strokes, lengths), self.picture(picture)], dim=1)
        scores: Tensor = self.head(features)
        return scores


def stroke_gru(classes: int) -> Any:
    """A bidirectional GRU on pen movements: ``strokes [n, t, 3]`` and ``lengths [n]`` -> scores ``[n, classes]``.

    >>> sum(parameter.numel() for parameter in stroke_gru(10).parameters())
    102282
    """
    return Strokes(classes)


def picture_cnn(classes: int, size: int) -> Any:
    """A small CNN on ``picture [n, size, size, 3]`` in 0..255 -> scores ``[n, classes]``.

    >>> sum(parameter.numel() for parameter in picture_cnn(10, 28).parameters())
    421642
    """
    return Picture(classes, size)


def stroke_and_picture(classes: int, size: int) -> Any:
    """Both, with one linear layer on all their features.

    >>> stroke_and_picture(10, 28).inputs
    ('strokes', 'lengths', 'picture')
    """
    return Both(classes, size)


NETWORKS: dict[str, Callable[[int, int], Any]] = {
    "picture": picture_cnn,
    "strokes": lambda classes, size: stroke_gru(classes),
    "both": stroke_and_picture,
}
"""By name; each is made with the number of classes and the side of the pictures in pixels."""

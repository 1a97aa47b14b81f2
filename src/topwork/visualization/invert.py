"""The picture that a network cannot tell from a given one at some layer. Imports torch.

Mahendran & Vedaldi 2014, "Understanding Deep Image Representations by Inverting Them", arXiv:1412.0035: minimise

    |layer(x) - layer(x0)|^2 / |layer(x0)|^2  +  (mean of |x|^6) * a  +  (total variation of x) * b

over pictures x, whose values count from mid-grey.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from topwork.backbones.extra import torch_threads
from topwork.errors import UsageError
from topwork.progress import Progress, Silent, step
from topwork.visualization.gradients import layer_function
from topwork.visualization.opened import Opened
from topwork.visualization.parameterization import noise_pictures, total_variation
from topwork.visualization.sheet import Drawn

_NORM = 6  # the paper's alpha: mild for values in range, steep beyond
_BOUND, _SMOOTH = 0.01, 0.1
"""Weights of the paper's two priors, for values of which 1 is the distance from grey to white."""
_RATE = 0.1


@dataclass(frozen=True, eq=False)
class Inverted(Drawn):
    """``picture``: ``[size, size, 3]`` uint8; ``trace``: the distance of the feature maps, 1 as far as from 0."""

    layer: str
    picture: NDArray[np.uint8]
    trace: tuple[float, ...]

    def drawn(self) -> Image.Image:
        """The picture itself."""
        return Image.fromarray(self.picture)


def invert(
    opened: Opened,
    square: NDArray[np.uint8],
    layers: Sequence[str],
    *,
    steps: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Inverted]:
    """For each layer a picture with the same feature map there as ``square`` ``[size, size, 3]`` uint8, from noise.

    UsageError for an unknown layer and for less than one step.

    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> (found,) = invert(opened, np.zeros((32, 32, 3), np.uint8), ["blocks.0"], steps=8)
    >>> found.picture.shape, found.trace[-1] < found.trace[0]
    ((32, 32, 3), True)
    """
    if steps < 1:
        raise UsageError(f"expected at least 1 step, not {steps}; 256 are a good start")
    names, progress = [opened.layer(layer).name for layer in layers], progress or Silent()
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255  # [1, 3, size, size]
    with torch_threads(1), step(progress, "inverting", len(names) * steps):
        return [_inverted(opened, pixels, name, steps, seed, progress) for name in names]


def _inverted(opened: Opened, pixels: torch.Tensor, name: str, steps: int, seed: int, progress: Progress) -> Inverted:
    layer = layer_function(opened, name)
    wanted = layer(pixels)
    length = wanted.square().sum().clamp_min(1e-12)
    pictures = noise_pictures(1, pixels.shape[-1], seed)
    optimizer = torch.optim.Adam([pictures.coefficients], lr=_RATE)
    trace = []
    for _ in range(steps):
        made = pictures.pixels()
        distance = (layer(made) - wanted).square().sum() / length
        around = 2 * made - 1
        priors = _BOUND * around.abs().pow(_NORM).mean() + _SMOOTH * total_variation(around).mean()
        optimizer.zero_grad()
        (distance + priors).backward()
        optimizer.step()
        trace.append(float(distance.detach()))
        progress.advance("inverting")
    final = pictures.pixels().detach()[0].permute(1, 2, 0).numpy()
    return Inverted(name, np.rint(255 * final).astype(np.uint8), tuple(trace))

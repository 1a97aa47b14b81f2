"""Gradient ascent from noise: one or several pictures that excite something ever more. Imports torch.

Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007. The pictures are optimised by
their Fourier coefficients in decorrelated colours (``parameterization``), each step on another view (``views``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from topwork.errors import BackboneError, UsageError
from topwork.progress import Progress
from topwork.visualization.gradients import Layer
from topwork.visualization.parameterization import FourierPictures, total_variation
from topwork.visualization.sheet import Drawn
from topwork.visualization.targets import Target
from topwork.visualization.views import Views, view

ASCENT = "maximizing"
"""The step's name in the progress."""

Objective = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | float]]
"""A view of the pictures ``[n, 3, h, w]`` -> the activations ``[n]`` to be raised, and a number to be lowered."""


@dataclass(frozen=True)
class Settings:
    """How pictures are optimised: Adam on the Fourier coefficients, ``steps`` times, at ``rate``, which falls to 0.

    ``decay``: how fast coefficients fall off with frequency, see ``frequency_scale``; ``smoothness``: weight of the
    total variation, which is taken off the activation. Whatever the ``size``, what excites the network is about as many
    pixels wide, so that in a small picture there are fewer and larger things.
    """

    steps: int = 256
    size: int = 160
    seed: int = 0
    rate: float = 0.1
    decay: float = 1.3
    smoothness: float = 60.0
    views: Views = field(default_factory=Views)


@dataclass(frozen=True, eq=False)
class Maximized(Drawn):
    """``picture``: ``[size, size, 3]`` float32 in 0..1; ``trace``: the activation at each step, in that step's view."""

    target: Target
    picture: NDArray[np.float32]
    trace: tuple[float, ...]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """``[size, size, 3]`` uint8."""
        levels: NDArray[np.uint8] = np.rint(255 * self.picture).astype(np.uint8)
        return levels

    def drawn(self) -> Image.Image:
        """The picture itself."""
        return Image.fromarray(self.pixels)


def ascend(
    objective: Objective,
    targets: Sequence[Target],
    pictures: FourierPictures,
    settings: Settings,
    progress: Progress,
) -> list[Maximized]:
    """Improve the pictures, one a target, step by step; the pictures reached, with their traces."""
    optimizer = torch.optim.Adam([pictures.coefficients], lr=settings.rate)
    # Each step sees another view; without ever smaller steps the last views leave grain in the picture.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    random = torch.Generator().manual_seed(settings.seed)
    traces: list[list[float]] = []
    for _ in range(settings.steps):
        pixels = pictures.pixels()
        reached, penalty = objective(view(pixels, settings.views.draw(random)))
        loss = penalty - reached.sum()
        if settings.smoothness:
            loss = loss + settings.smoothness * total_variation(pixels).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        traces.append(reached.tolist())
        progress.advance(ASCENT)
    final = pictures.pixels().detach().permute(0, 2, 3, 1).numpy()  # [n, size, size, 3]
    rows = zip(targets, final, zip(*traces, strict=True), strict=True)
    return [Maximized(target, picture, trace) for target, picture, trace in rows]


def activations_of(targets: Sequence[Target], values: torch.Tensor) -> torch.Tensor:
    """``[n]``: of each row of a layer's values its target's; UsageError for a neuron beyond the map.

    >>> activations_of([Target("logits", 1), Target("logits", 0)], torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [2.0, 3.0]
    """
    return torch.stack([_reached(target, row) for target, row in zip(targets, values, strict=True)])


def run_layer(layer: Layer, pixels: torch.Tensor) -> torch.Tensor:
    """What the layer gives; BackboneError where the network cannot take pictures of this size."""
    try:
        return layer(pixels)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise BackboneError(
            f"the network cannot take pictures of {pixels.shape[-1]} pixels a side ({reason.rstrip('.')}); "
            "choose the size it was made for"
        ) from error


def _reached(target: Target, values: torch.Tensor) -> torch.Tensor:
    if target.place is not None and any(not 0 <= at < n for at, n in zip(target.place, values.shape[1:], strict=True)):
        height, width = values.shape[1:]
        raise UsageError(
            f"expected a neuron in the {height} x {width} map of {target.layer}, not row {target.place[0]}, column "
            f"{target.place[1]}; count both from 0, or choose a larger --size"
        )
    return target.of(values)


def check_settings(settings: Settings) -> None:
    """UsageError for settings that cannot be.

    >>> check_settings(Settings(steps=0))
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected at least 1 step, not 0; 256 are a good start
    """
    if settings.steps < 1:
        raise UsageError(f"expected at least 1 step, not {settings.steps}; 256 are a good start")
    if settings.smoothness < 0:
        raise UsageError(f"expected a smoothness of at least 0, not {settings.smoothness:g}; 0 leaves it out")

"""A real picture with more of what a layer sees in it (Mordvintsev, Olah & Tyka 2015, "DeepDream"). Imports torch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from topwork.backbones.extra import torch_threads
from topwork.backbones.spec import BackboneSpec
from topwork.errors import UsageError
from topwork.progress import Progress, Silent, step
from topwork.visualization.ascent import run_layer
from topwork.visualization.gradients import Layer, layer_function
from topwork.visualization.opened import Opened
from topwork.visualization.sheet import Drawn

_SMALLEST = 32  # pixels of the shorter side in the coarsest octave


@dataclass(frozen=True)
class DreamSettings:
    """``octaves`` sizes of the picture, each ``factor`` times the one before, ``steps`` on each of about ``rate``.

    ``channel``: of the layer; None for all of them. ``jitter``: pixels to either side by which each step is moved.
    """

    steps: int = 10
    octaves: int = 4
    factor: float = 1.4
    rate: float = 0.01
    channel: int | None = None
    jitter: int = 16
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Dreamt(Drawn):
    """``picture``: ``[h, w, 3]`` uint8; ``trace``: of each octave the objective by step."""

    picture: NDArray[np.uint8]
    trace: tuple[tuple[float, ...], ...]

    def drawn(self) -> Image.Image:
        """The picture itself."""
        return Image.fromarray(self.picture)


def dream(
    opened: Opened,
    image: NDArray[np.uint8],
    layer: str,
    settings: DreamSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Dreamt:
    """Change a picture ``[h, w, 3]`` uint8 so that the mean square of a layer's values, or a channel's mean, rises.

    From coarse to fine: what was added at one size is enlarged and taken on at the next. UsageError for an unknown
    layer or channel, and for settings that cannot be.

    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> grey = np.full((64, 80, 3), 128, np.uint8)
    >>> found = dream(opened, grey, "blocks.1", DreamSettings(steps=2, octaves=2))
    >>> found.picture.shape, len(found.trace)
    ((64, 80, 3), 2)
    """
    settings, progress = settings or DreamSettings(), progress or Silent()
    layer = _checked(opened, layer, settings)
    if min(image.shape[:2]) < _SMALLEST:
        raise UsageError(
            f"expected a picture of at least {_SMALLEST} pixels a side, not {image.shape[1]} x {image.shape[0]}; "
            "choose a larger one"
        )
    function = layer_function(opened, layer, before_activation=True)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255  # [1, 3, h, w]
    random = torch.Generator().manual_seed(settings.seed)
    added, traces = torch.zeros_like(pixels), []
    with torch_threads(1), step(progress, "dreaming", settings.octaves * settings.steps):
        for height, width in _sizes(pixels.shape[2], pixels.shape[3], settings):
            base, added = _resized(pixels, height, width), _resized(added, height, width)
            trace = []
            for _ in range(settings.steps):
                added, reached = _improved(function, base, added, settings, random)
                trace.append(reached)
                progress.advance("dreaming")
            traces.append(tuple(trace))
    final = (pixels + added).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return Dreamt(np.rint(255 * final).astype(np.uint8), tuple(traces))


def middle_stage(spec: BackboneSpec) -> str:
    """The stage at which parts of things are seen: the last one with a cell every 16 pixels or fewer.

    >>> from topwork.backbones.zoo import backbone
    >>> middle_stage(backbone("tf_efficientnet_lite0"))
    'blocks.4'
    """
    fine = [stage.name for stage in spec.stages if stage.stride <= 16]
    return fine[-1] if fine else spec.stages[0].name


def _improved(
    function: Layer, base: torch.Tensor, added: torch.Tensor, settings: DreamSettings, random: torch.Generator
) -> tuple[torch.Tensor, float]:
    """One step: what is added now, and the objective before the step."""
    down, right = (torch.randint(-settings.jitter, settings.jitter + 1, (2,), generator=random)).tolist()
    seen = torch.roll(base + added, (down, right), (2, 3)).requires_grad_()
    values = run_layer(function, seen)
    reached = values.square().mean() if settings.channel is None else values[:, settings.channel].mean()
    (gradient,) = torch.autograd.grad(reached, seen)
    gradient = torch.roll(gradient, (-down, -right), (2, 3))
    moved = base + added + settings.rate * gradient / gradient.abs().mean().clamp_min(1e-12)
    return moved.clamp(0, 1) - base, float(reached.detach())


def _sizes(height: int, width: int, settings: DreamSettings) -> list[tuple[int, int]]:
    """Heights and widths of the octaves, the picture's own last."""
    scales = [settings.factor**-octave for octave in reversed(range(settings.octaves))]
    least = _SMALLEST / min(height, width)
    return [(round(height * max(s, min(least, 1))), round(width * max(s, min(least, 1)))) for s in scales]


def _resized(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    found: torch.Tensor = functional.interpolate(x, (height, width), mode="bilinear", antialias=True)
    return found


def _checked(opened: Opened, layer: str, settings: DreamSettings) -> str:
    """The layer's own name; UsageError for settings that cannot be."""
    stage = opened.layer(layer)
    channels = stage.channels
    if settings.channel is not None and not 0 <= settings.channel < channels:
        raise UsageError(
            f"expected a channel of {layer} from 0 to {channels - 1}, not {settings.channel}; choose one of these"
        )
    if settings.steps < 1 or settings.octaves < 1 or settings.factor <= 1 or settings.jitter < 0:
        raise UsageError(
            f"expected steps and octaves of at least 1, a factor above 1 and a jitter of at least 0, not {settings}; "
            "choose such settings"
        )
    return stage.name

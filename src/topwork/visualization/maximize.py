"""The picture that excites a channel, a neuron or a class most, by gradient ascent from noise. Imports torch.

Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007. The pictures are optimised by
their Fourier coefficients in decorrelated colours (``parameterization``), each step on another view (``views``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from topwork.backbones.extra import torch_threads
from topwork.backbones.graph import stage_of
from topwork.backbones.network import Network
from topwork.backbones.spec import LOGITS, BackboneSpec
from topwork.backbones.zoo import imagenet_classes
from topwork.errors import BackboneError, UsageError
from topwork.progress import Progress, Silent, step
from topwork.registry import closest
from topwork.visualization.gradients import Layer, layer_function
from topwork.visualization.parameterization import FourierPictures, noise_pictures, total_variation
from topwork.visualization.views import Views, view

_TOGETHER = 4
"""Pictures in one batch."""


@dataclass(frozen=True)
class Target:
    """What is to be excited: a channel of a stage, one neuron of it, or a class.

    ``layer``: a stage's name, or ``logits``; ``channel``: of the layer, from 0; ``place``: row and column of a neuron
    in the channel's map; None is the mean of the whole map.
    """

    layer: str
    channel: int
    place: tuple[int, int] | None = None

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """The activation in one row of what the layer gives, ``[c, h, w]`` or ``[k]``.

        >>> maps = torch.arange(8.0).reshape(2, 2, 2)
        >>> Target("toy", 1).of(maps).item(), Target("toy", 1, (0, 1)).of(maps).item()
        (5.5, 5.0)
        """
        found = values[self.channel]
        if found.ndim == 0:
            return found
        return found.mean() if self.place is None else found[self.place]

    def caption(self, spec: BackboneSpec) -> str:
        """A few words.

        >>> from topwork.backbones.zoo import backbone
        >>> spec = backbone("tf_efficientnet_lite0")
        >>> Target("logits", 1).caption(spec), Target("blocks.2", 7, (3, 4)).caption(spec)
        ('goldfish', 'blocks.2 channel 7 at 3,4')
        """
        if self.layer == LOGITS:
            return _class_names(spec)[self.channel] if _class_names(spec) else f"class {self.channel}"
        at = "" if self.place is None else f" at {self.place[0]},{self.place[1]}"
        return f"{self.layer} channel {self.channel}{at}"

    def to_dict(self, spec: BackboneSpec) -> dict[str, Any]:
        """For JSON: ``class`` and its ``name``, or ``layer``, ``channel`` and, of a neuron, ``place``.

        >>> from topwork.backbones.zoo import backbone
        >>> Target("logits", 1).to_dict(backbone("tf_efficientnet_lite0"))
        {'class': 1, 'name': 'goldfish'}
        """
        if self.layer == LOGITS:
            return {"class": self.channel, "name": self.caption(spec)}
        place = {} if self.place is None else {"place": list(self.place)}
        return {"layer": self.layer, "channel": self.channel, **place}


@dataclass(frozen=True)
class Settings:
    """How pictures are optimised: Adam on the Fourier coefficients, ``steps`` times, at ``rate``, which falls to 0.

    ``decay``: how fast coefficients fall off with frequency, see ``frequency_scale``; ``smoothness``: weight of the
    total variation, which is taken off the activation.
    """

    steps: int = 256
    size: int = 224
    seed: int = 0
    rate: float = 0.15
    decay: float = 1.3
    smoothness: float = 0.0
    views: Views = field(default_factory=Views)


@dataclass(frozen=True, eq=False)
class Maximized:
    """``picture``: ``[size, size, 3]`` float32 in 0..1; ``trace``: the activation at each step, in that step's view."""

    target: Target
    picture: NDArray[np.float32]
    trace: tuple[float, ...]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """``[size, size, 3]`` uint8."""
        levels: NDArray[np.uint8] = np.rint(255 * self.picture).astype(np.uint8)
        return levels


def channel_target(spec: BackboneSpec, layer: str, channel: int, place: tuple[int, int] | None = None) -> Target:
    """A channel of a stage, or a neuron of it; UsageError where the network has none such.

    >>> from topwork.backbones.zoo import backbone
    >>> channel_target(backbone("tf_efficientnet_lite0"), "blocks.2", 40)
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a channel of blocks.2 from 0 to 39, not 40; choose one of these
    """
    channels = stage_of(spec, layer).channels
    if not 0 <= channel < channels:
        raise UsageError(f"expected a channel of {layer} from 0 to {channels - 1}, not {channel}; choose one of these")
    return Target(layer, channel, place)


def class_target(spec: BackboneSpec, name: str) -> Target:
    """A class of the original classifier by its number or, of ImageNet's 1,000, its name; UsageError for none.

    >>> from topwork.backbones.zoo import backbone
    >>> class_target(backbone("tf_efficientnet_lite0"), "goldfish")
    Target(layer='logits', channel=1, place=None)
    """
    if not spec.logits_dim:
        raise UsageError(f"{spec.name} has no classifier; choose a channel with --layer and --channel")
    if name.isascii() and name.isdigit() and int(name) < spec.logits_dim:
        return Target(LOGITS, int(name))
    names = _class_names(spec)
    if name not in names:
        hint = closest(name, names) if len(closest(name, names)) < 200 else "see the names of ImageNet's classes"
        raise UsageError(f"expected a class from 0 to {spec.logits_dim - 1} or its name, not {name!r}: {hint}")
    return Target(LOGITS, names.index(name))


def _class_names(spec: BackboneSpec) -> list[str]:
    """The classes in the order of the logits, where they are ImageNet's 1,000."""
    return imagenet_classes() if spec.logits_dim == len(imagenet_classes()) else []


def maximize(
    spec: BackboneSpec,
    network: Network,
    targets: Sequence[Target],
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
) -> list[Maximized]:
    """A picture for each target, all of one layer; each is the one its target would get alone.

    The objective is the activation before an activation function, where the layer ends in one, else it could be flat;
    for a class it is the logit. UsageError for targets, sizes and steps that cannot be.

    >>> from topwork.backbones.network import pretrained_network
    >>> from topwork.backbones.zoo import backbone
    >>> spec = backbone("tf_efficientnet_lite0")
    >>> target = channel_target(spec, "blocks.0", 3)
    >>> (found,) = maximize(spec, pretrained_network(spec), [target], Settings(steps=4, size=32))
    >>> found.pixels.shape, len(found.trace)
    ((32, 32, 3), 4)
    """
    settings, progress = settings or Settings(), progress or Silent()
    _check(targets, settings)
    layer = layer_function(spec, network, targets[0].layer, before_activation=True)
    found: list[Maximized] = []
    groups = [targets[first : first + _TOGETHER] for first in range(0, len(targets), _TOGETHER)]
    # A second thread waits for the first longer than it helps: 30 times slower where a core was busy.
    with torch_threads(1), step(progress, "maximizing", len(groups) * settings.steps):
        for group in groups:
            pictures = noise_pictures(len(group), settings.size, settings.seed, decay=settings.decay)
            traces = []
            for values in _ascend(layer, group, pictures, settings):
                traces.append(values)
                progress.advance("maximizing")
            final = pictures.pixels().detach().permute(0, 2, 3, 1).numpy()  # [n, size, size, 3]
            found += [
                Maximized(t, p, trace) for t, p, trace in zip(group, final, zip(*traces, strict=True), strict=True)
            ]
    return found


def _ascend(
    layer: Layer, targets: Sequence[Target], pictures: FourierPictures, settings: Settings
) -> Iterator[list[float]]:
    """Improve the pictures; after each step the activations that it began with."""
    optimizer = torch.optim.Adam([pictures.coefficients], lr=settings.rate)
    # Each step sees another view; without ever smaller steps the last views leave grain in the picture.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    random = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.steps):
        pixels = pictures.pixels()
        values = _run(layer, view(pixels, settings.views.draw(random)))
        reached = torch.stack([_reached(target, row) for target, row in zip(targets, values, strict=True)])
        loss = settings.smoothness * total_variation(pixels).sum() - reached.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield reached.tolist()


def _run(layer: Layer, pixels: torch.Tensor) -> torch.Tensor:
    try:
        return layer(pixels)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise BackboneError(
            f"the network cannot take pictures of {pixels.shape[-1]} pixels a side ({reason.rstrip('.')}); "
            "choose the size it was made for with --size"
        ) from error


def _reached(target: Target, values: torch.Tensor) -> torch.Tensor:
    if target.place is not None and any(not 0 <= at < n for at, n in zip(target.place, values.shape[1:], strict=True)):
        height, width = values.shape[1:]
        raise UsageError(
            f"expected a neuron in the {height} x {width} map of {target.layer}, not row {target.place[0]}, column "
            f"{target.place[1]}; count both from 0, or choose a larger --size"
        )
    return target.of(values)


def _check(targets: Sequence[Target], settings: Settings) -> None:
    if not targets or len({target.layer for target in targets}) != 1:
        raise UsageError(f"expected targets of one layer, not {len(targets)} of several; maximize each layer by itself")
    if settings.steps < 1:
        raise UsageError(f"expected at least 1 step, not {settings.steps}; 256 are a good start")

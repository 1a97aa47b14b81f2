"""The content of one picture in the style of others, by changing its pixels until the losses are low. Imports torch.

From coarse to fine: a small picture takes the large strokes in few steps, each larger one starts from it and adds what
is smaller.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from topwork.errors import UsageError
from topwork.registry import closest
from topwork.style import colours
from topwork.style.losses import ContentLoss, StyleLoss, gram
from topwork.style.network import SMALLEST, LossNetwork, chosen_layers
from topwork.style.objective import ContentTerm, Objective, StyleTerm, Value
from topwork.visualization.opened import Opened

Floats = NDArray[np.float32]

OPTIMIZERS = ("lbfgs", "adam")
STARTS = ("content", "noise")
COLOURS = ("style", "luminance", "histogram")
_HISTORY = 10  # pairs of steps that L-BFGS remembers, each as large as two pictures
_COARSEST = 192  # pixels of the longer side of the smallest of several sizes
_FINE = 0.3  # share of the steps at the full size


@dataclass(frozen=True)
class Settings:
    """How a picture is made. ``size``: the longer side in pixels; ``steps``: updates of the picture over all sizes.

    ``content_weight`` and ``style_weight`` are the paper's alpha and beta, for losses as `objective` scales them.
    ``style_layers`` and ``content_layers``: None: the network's own. ``scales``: sizes from coarse to fine, 0 chooses.
    ``style_scale``: size of the style pictures, 1 as large as the result. ``tile``: pixels of the parts that a large
    picture is looked at in, 0 for all at once.
    """

    size: int = 512
    steps: int = 300
    content_weight: float = 1.0
    style_weight: float = 100.0
    smoothness: float = 1.0
    style_layers: dict[str, float] | None = None
    content_layers: tuple[str, ...] | None = None
    optimizer: str = "lbfgs"
    rate: float = 0.02
    start: str = "content"
    pooling: str = "average"
    colours: str = "style"
    scales: int = 0
    style_scale: float = 1.0
    tile: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("start", self.start, STARTS),
            ("colours", self.colours, COLOURS),
        ):
            if value not in known:
                raise UsageError(f"{name} cannot be {value!r}: {closest(value, known)}")
        if self.size < SMALLEST or self.steps < 1 or self.scales < 0:
            raise UsageError(
                f"expected a size of at least {SMALLEST} pixels, at least 1 step and no negative scales, got size "
                f"{self.size}, {self.steps} steps and {self.scales} scales"
            )
        if min(self.content_weight, self.style_weight, self.smoothness) < 0 or self.style_scale <= 0:
            raise UsageError("expected weights of at least 0 and a style scale above 0; choose others")


@dataclass(frozen=True)
class Style:
    """A style picture ``[h, w, 3]`` in 0..1, how much it counts, and where: ``mask`` ``[h, w]`` in 0..1."""

    picture: Floats
    weight: float = 1.0
    mask: Floats | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """The state before an update, or after the last one."""

    number: int
    """From 0; the last one is the number of updates."""
    size: tuple[int, int]
    """Height and width of this scale."""
    value: Value
    _pixels: torch.Tensor = field(repr=False)

    @property
    def picture(self) -> Floats:
        """``[h, w, 3]`` in 0..1."""
        return _array(self._pixels)


def transfer_steps(
    opened: Opened, content: Floats, styles: Sequence[Style], settings: Settings | None = None
) -> Iterator[Step]:
    """Make the picture step by step; the last step has the result. ``content`` ``[h, w, 3]`` in 0..1.

    >>> from topwork.visualization.opened import open_network
    >>> random = np.random.default_rng(0)
    >>> pictures = [random.random((48, 64, 3), dtype=np.float32) for _ in range(2)]
    >>> settings = Settings(size=64, steps=3, scales=1)
    >>> *_, last = transfer_steps(open_network("tf_efficientnet_lite0"), pictures[0], [Style(pictures[1])], settings)
    >>> last.number, last.picture.shape
    (3, (48, 64, 3))
    """
    settings = settings or Settings()
    if not styles:
        raise UsageError("expected a style picture, or several, but got none")
    style_layers, content_layers = chosen_layers(opened, settings.style_layers, settings.content_layers)
    network = LossNetwork(opened, [*style_layers, *content_layers], pooling=settings.pooling)
    sizes = scales_of(content.shape[0], content.shape[1], settings)
    made: torch.Tensor | None = None
    done = 0
    for place, (size, steps) in enumerate(zip(sizes, _steps_of(len(sizes), settings.steps), strict=True)):
        here = _resized(_tensor(content), size)
        objective = _objective(network, here, styles, style_layers, content_layers, settings)
        made = _start(here, settings) if made is None else _enlarged(made, small, here)
        region = _region(styles, size)
        for step in _optimised(objective, made, here, region, steps, settings):
            made = step._pixels
            last = step.number == steps
            if not last or place == len(sizes) - 1:
                yield Step(done + step.number, size, step.value, _coloured(made, here, settings))
        done += steps
        small = here


def scales_of(height: int, width: int, settings: Settings) -> list[tuple[int, int]]:
    """Heights and widths from coarse to fine, each half of the next.

    >>> scales_of(600, 800, Settings(size=800))
    [(150, 200), (300, 400), (600, 800)]
    """
    longer = max(height, width)
    sides = [settings.size]
    while len(sides) != settings.scales and sides[0] // 2 >= (_COARSEST if settings.scales == 0 else SMALLEST):
        sides.insert(0, sides[0] // 2)
    sizes = [(round(height * side / longer), round(width * side / longer)) for side in sides]
    if min(sizes[-1]) < SMALLEST:
        raise UsageError(
            f"expected a content picture of at least {SMALLEST} pixels on both sides at size {settings.size}, got "
            f"{sizes[-1][1]} x {sizes[-1][0]}; choose a larger --size or another picture"
        )
    return [size for size in sizes if min(size) >= SMALLEST]


def _steps_of(scales: int, steps: int) -> list[int]:
    """Updates at each scale: most of them where they cost least."""
    if scales == 1:
        return [steps]
    fine = max(1, round(_FINE * steps))
    rest = steps - fine
    each = [rest // (scales - 1)] * (scales - 1)
    each[0] += rest - sum(each)
    return [*each, fine]


def _objective(
    network: LossNetwork,
    content: torch.Tensor,
    styles: Sequence[Style],
    style_layers: dict[str, float],
    content_layers: Sequence[str],
    settings: Settings,
) -> Objective:
    with torch.no_grad():
        wanted = network(content)
    total = sum(style.weight for style in styles)
    terms = [
        StyleTerm(layer, loss, weight * style.weight / total)
        for style in styles
        for layer, weight, loss in _style_losses(network, style, style_layers, content, wanted, settings)
    ]
    return Objective(
        network,
        [ContentTerm(layer, ContentLoss(wanted[layer]), 1 / len(content_layers)) for layer in content_layers],
        terms,
        settings.content_weight,
        settings.style_weight,
        settings.smoothness,
        settings.tile or None,
    )


def _style_losses(
    network: LossNetwork,
    style: Style,
    layers: dict[str, float],
    content: torch.Tensor,
    wanted: dict[str, torch.Tensor],
    settings: Settings,
) -> Iterator[tuple[str, float, StyleLoss]]:
    picture = style.picture
    if settings.colours == "histogram":
        picture = colours.matched(picture, _array(content))
    longer = max(content.shape[-2:]) * settings.style_scale
    scale = longer / max(picture.shape[:2])
    size = (max(SMALLEST, round(picture.shape[0] * scale)), max(SMALLEST, round(picture.shape[1] * scale)))
    with torch.no_grad():
        maps = network(_resized(_tensor(picture), size))
    for layer, weight in layers.items():
        mask = None
        if style.mask is not None:
            mask = _resized(torch.from_numpy(style.mask)[None, None], tuple(wanted[layer].shape[-2:]))[0, 0]
        yield layer, weight, StyleLoss(gram(maps[layer]), mask)


def _start(content: torch.Tensor, settings: Settings) -> torch.Tensor:
    if settings.start == "content":
        return content.clone()
    random = torch.Generator().manual_seed(settings.seed)
    return torch.rand(content.shape, generator=random)


def _enlarged(made: torch.Tensor, small: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """A picture made at another size, with the details that the content picture has at this one."""
    size = tuple(content.shape[-2:])
    return (_resized(made, size) + content - _resized(small, size)).clamp(0, 1)


def _region(styles: Sequence[Style], size: tuple[int, int]) -> torch.Tensor | None:
    """Where the picture may change ``[h, w]``; None for everywhere."""
    masks = [style.mask for style in styles]
    if any(mask is None for mask in masks):
        return None
    each = [_resized(torch.from_numpy(mask)[None, None], size)[0, 0] for mask in masks if mask is not None]
    return torch.stack(each).amax(0)


def _optimised(
    objective: Objective,
    start: torch.Tensor,
    content: torch.Tensor,
    region: torch.Tensor | None,
    steps: int,
    settings: Settings,
) -> Iterator[Step]:
    """The states before each update at one size, and the one after the last."""
    pixels = start.clone().requires_grad_()
    size = (int(start.shape[-2]), int(start.shape[-1]))
    if settings.optimizer == "lbfgs":
        optimizer: torch.optim.Optimizer = torch.optim.LBFGS([pixels], max_iter=1, history_size=_HISTORY)
    else:
        optimizer = torch.optim.Adam([pixels], lr=settings.rate)
    seen: list[Value] = []

    def evaluate() -> float:
        value, gradient = objective(pixels)
        pixels.grad = gradient if region is None else gradient * region
        seen.append(value)
        return value.total

    for number in range(steps):
        before = _within(pixels.detach().clone(), content, region)
        optimizer.step(evaluate)
        with torch.no_grad():
            pixels.copy_(_within(pixels, content, region))
        yield Step(number, size, seen[-1], before)
    value, _ = objective(pixels)
    yield Step(steps, size, value, pixels.detach().clone())


def _within(pixels: torch.Tensor, content: torch.Tensor, region: torch.Tensor | None) -> torch.Tensor:
    """Pixels in 0..1; outside of the region those of the content picture."""
    inside = pixels.clamp(0, 1)
    return inside if region is None else torch.where(region > 0, inside, content)


def _coloured(pixels: torch.Tensor, content: torch.Tensor, settings: Settings) -> torch.Tensor:
    if settings.colours != "luminance":
        return pixels
    return _tensor(colours.with_colours_of(_array(pixels), _array(content)))


def _tensor(picture: Floats) -> torch.Tensor:
    """``[h, w, 3]`` -> ``[1, 3, h, w]``."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]


def _array(pixels: torch.Tensor) -> Floats:
    """``[1, 3, h, w]`` -> ``[h, w, 3]``."""
    return np.ascontiguousarray(pixels.detach()[0].permute(1, 2, 0).numpy())


def _resized(pixels: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    smaller = size[0] < pixels.shape[-2]
    made = functional.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=smaller)
    return made.clamp(0, 1)

"""The content of one picture in the style of others, by changing its pixels until the losses are low. Imports torch.

From coarse to fine: a small picture takes the large strokes in few steps, each larger one starts from it and adds what
is smaller.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from topwork.errors import TrainingError, UsageError
from topwork.registry import closest
from topwork.style import colours
from topwork.style.losses import ContentLoss, StyleLoss
from topwork.style.network import SMALLEST, LossNetwork, chosen_layers
from topwork.style.objective import ContentTerm, Objective, StyleTerm, Value, content_maps, grams
from topwork.style.tiles import MARGIN, STRIDE
from topwork.visualization.opened import Opened

Floats = NDArray[np.float32]

OPTIMIZERS = ("lbfgs", "adam")
STARTS = ("content", "noise")
COLOURS = ("style", "luminance", "histogram")
LARGEST = 10_000
"""Pixels of the longer side of a result."""
_HISTORY = 10  # pairs of steps that L-BFGS remembers, each as large as two pictures
_COARSEST = 192  # pixels of the longer side of the smallest of several sizes
_BOUND = 10_000.0  # weight of what lies outside of 0..1; to cut it off in each step would mislead L-BFGS
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
    smoothness: float = 20.0
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
        if self.size > LARGEST:
            raise UsageError(f"expected a size of up to {LARGEST:,} pixels, got {self.size:,}; choose a smaller one")
        if self.tile and self.tile < 2 * MARGIN + STRIDE:
            raise UsageError(
                f"expected tiles of at least {2 * MARGIN + STRIDE} pixels or 0, got {self.tile}; choose others"
            )
        if self.style_layers is not None and not self.style_layers:
            raise UsageError("expected the weight of at least one style layer, got none; leave them out or name some")
        if self.size < SMALLEST or self.steps < 1 or self.scales < 0:
            raise UsageError(
                f"expected a size of at least {SMALLEST} pixels, at least 1 step and no negative scales, got size "
                f"{self.size}, {self.steps} steps and {self.scales} scales"
            )
        weights = (self.content_weight, self.style_weight, self.smoothness, *(self.style_layers or {}).values())
        if not all(0 <= weight < math.inf for weight in weights) or not 0 < self.style_scale < math.inf:
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
    _shown: torch.Tensor = field(repr=False)
    _pixels: torch.Tensor = field(repr=False)

    @property
    def picture(self) -> Floats:
        """``[h, w, 3]`` in 0..1."""
        return _array(self._shown)

    @property
    def state(self) -> Floats:
        """What to go on from: the picture before it is brought into 0..1 and its colours are exchanged."""
        return _array(self._pixels)


class Transfer:
    """Paints pictures in the same styles, one after the other; keeps what the styles give at each size.

    UsageError where there is no style, or a layer that the network does not have.
    """

    def __init__(self, opened: Opened, styles: Sequence[Style], settings: Settings | None = None) -> None:
        if not styles:
            raise UsageError("expected a style picture, or several, but got none")
        if not all(0 <= style.weight < math.inf for style in styles) or not any(style.weight for style in styles):
            raise UsageError("expected weights of styles of at least 0, and one above 0; choose others")
        self.settings = settings or Settings()
        self.styles = styles
        layers = chosen_layers(opened, self.settings.style_layers, self.settings.content_layers)
        self._style_layers, self._content_layers = layers
        self._network = LossNetwork(opened, [*layers[0], *layers[1]], pooling=self.settings.pooling)
        self._grams: dict[tuple[int, tuple[int, int]], dict[str, torch.Tensor]] = {}

    def like(self, **changes: Any) -> "Transfer":
        """The same with other weights, steps or scales; the network and what the styles give are shared."""
        other = copy.copy(self)
        other.settings = replace(self.settings, **changes)
        return other

    def steps(self, content: Floats, *, start: Floats | None = None, done: int = 0) -> Iterator[Step]:
        """Paint one step by step; the last step has the result. ``content`` ``[h, w, 3]`` in 0..1.

        ``start``: what to begin with, else what the settings say. ``done``: steps that were made before, to go on from
        one of them with its picture as ``start``.
        """
        settings = self.settings
        for style in self.styles:
            _check_mask(style.mask, content)
        sizes = scales_of(content.shape[0], content.shape[1], settings)
        made, small, before = None if start is None else _tensor(start), None, 0
        for size, steps in zip(sizes, _steps_of(len(sizes), settings.steps), strict=True):
            last, before = before, before + steps
            if done > before or (done == before and size != sizes[-1]):
                continue
            here = _resized(_tensor(content), size)
            if made is None:
                made = _noise(here, settings.seed) if settings.start == "noise" else here
            detailed = start is None and settings.start == "content" and settings.content_weight > 0
            made = _resized(made, size) if small is None or not detailed else _enlarged(made, small, here)
            objective, region, first = self._objective(here), _region(self.styles, size), max(last, done)
            for step in _optimised(objective, made, here, region, before - first, settings):
                made, small = step._pixels, here
                if step.number < before - first or size == sizes[-1]:
                    yield Step(first + step.number, size, step.value, _coloured(step._shown, here, settings), made)

    def _objective(self, content: torch.Tensor) -> Objective:
        settings, share = self.settings, 1 / len(self._content_layers)
        wanted, sizes = content_maps(self._network, content, self._content_layers, settings.tile or None)
        total = sum(style.weight for style in self.styles)
        terms = []
        for place, style in enumerate(self.styles):
            for layer, matrix in self._style_grams(place, content).items():
                loss = StyleLoss(matrix, _mask(style, sizes[layer]))
                terms.append(StyleTerm(layer, loss, self._style_layers[layer] * style.weight / total))
        return Objective(
            self._network,
            [ContentTerm(layer, ContentLoss(wanted[layer]), share) for layer in self._content_layers],
            terms,
            settings.content_weight,
            settings.style_weight,
            settings.smoothness,
            settings.tile or None,
        )

    def _style_grams(self, place: int, content: torch.Tensor) -> dict[str, torch.Tensor]:
        """The Gram matrices of a style picture, by layer, brought to the size of a content picture."""
        picture, matched = self.styles[place].picture, self.settings.colours == "histogram"
        scale = max(content.shape[-2:]) * self.settings.style_scale / max(picture.shape[:2])
        size = (max(SMALLEST, round(picture.shape[0] * scale)), max(SMALLEST, round(picture.shape[1] * scale)))
        if matched or (place, size) not in self._grams:
            if matched:
                picture = colours.matched(picture, _array(content))
            pixels = _resized(_tensor(picture), size)
            self._grams[place, size] = grams(
                self._network, pixels, list(self._style_layers), self.settings.tile or None
            )
        return self._grams[place, size]


def transfer_steps(
    opened: Opened, content: Floats, styles: Sequence[Style], settings: Settings | None = None
) -> Iterator[Step]:
    """Paint one picture step by step; the last step has the result. ``content`` ``[h, w, 3]`` in 0..1.

    >>> from topwork.visualization.opened import open_network
    >>> random = np.random.default_rng(0)
    >>> pictures = [random.random((48, 64, 3), dtype=np.float32) for _ in range(2)]
    >>> settings = Settings(size=64, steps=3, scales=1)
    >>> *_, last = transfer_steps(open_network("tf_efficientnet_lite0"), pictures[0], [Style(pictures[1])], settings)
    >>> last.number, last.picture.shape
    (3, (48, 64, 3))
    """
    return Transfer(opened, styles, settings).steps(content)


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


def _check_mask(mask: Floats | None, content: Floats) -> None:
    """UsageError where a mask does not have the shape of the content picture, to a pixel of a smaller copy."""
    if mask is None:
        return
    (height, width), (high, wide) = mask.shape, content.shape[:2]
    if not mask.any():
        raise UsageError("expected white in a mask where the style goes, but it is black all over; make another one")
    if abs(height * wide / high - width) > max(1.0, 0.01 * width):
        raise UsageError(
            f"expected a mask of the shape of the content picture, {wide} x {high}, got {width} x {height}; cut it "
            "to that shape"
        )


def _mask(style: Style, size: tuple[int, int]) -> torch.Tensor | None:
    """Where a style goes among the cells of a layer of that size, ``[h', w']``."""
    if style.mask is None:
        return None
    return _resized(torch.from_numpy(style.mask)[None, None], size)[0, 0]


def _noise(content: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.rand(content.shape, generator=torch.Generator().manual_seed(seed))


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
    least, best = math.inf, pixels.detach()

    def evaluate() -> float:
        value, gradient = objective(pixels)
        if not math.isfinite(value.total):
            raise TrainingError("the losses are no numbers any more; use smaller weights or `--optimizer adam`")
        outside = pixels.detach() - pixels.detach().clamp(0, 1)
        gradient = gradient + (2 * _BOUND / pixels.numel()) * outside
        pixels.grad = gradient if region is None else gradient * region
        seen.append(value)
        return value.total

    for number in range(steps):
        before = pixels.detach().clone()
        optimizer.step(evaluate)
        if seen[-1].total < least:
            least, best = seen[-1].total, before
        yield Step(number, size, seen[-1], _within(before, content, region), before)
    now = _within(pixels.detach(), content, region)
    value, _ = objective(now)
    if value.total > least:  # L-BFGS without a line search may end worse than it was
        again = _within(best, content, region)
        other, _ = objective(again)
        now, value = (again, other) if other.total < value.total else (now, value)
    yield Step(steps, size, value, now, now)


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

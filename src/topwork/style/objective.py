"""Everything that is kept low in one picture, with its gradient, at once or tile by tile. Imports torch.

    total = content_weight * content + style_weight * style + smoothness * total variation

``content`` and ``style`` are sums over the layers, each loss divided by what a map of zeros would have: so the weights
mean the same for every network and size, and a loss of 1 is as far away as no picture at all.

Tile by tile the gradient is the same, in bounded memory. The style of the whole picture needs the Gram matrices of all
tiles first; then each tile's part of the gradient follows from the derivative by those matrices. A tile is looked at
with a margin as wide as half of what its cells see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from topwork.style.losses import ContentLoss, StyleLoss, cell_count, gram_sum
from topwork.style.network import LossNetwork
from topwork.style.tiles import Tile, joined, parts_of, tiles_of
from topwork.visualization.parameterization import total_variation


@dataclass(frozen=True)
class Value:
    """The losses of a picture: unweighted but for ``total``."""

    total: float
    content: float
    style: float

    def rounded(self) -> dict[str, float]:
        """By name, as a trace has them.

        >>> Value(1.23456789, 0.0, 1.0).rounded()
        {'total': 1.234568, 'content': 0.0, 'style': 1.0}
        """
        return {name: round(value, 6) for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class ContentTerm:
    """A content loss of a layer with its weight."""

    layer: str
    loss: ContentLoss
    weight: float = 1.0

    @property
    def factor(self) -> float:
        """What the loss is multiplied by: a map of zeros has a loss of ``weight`` then."""
        return self.weight / self.loss.scale()


@dataclass(frozen=True, eq=False)
class StyleTerm:
    """A style loss of a layer with its weight."""

    layer: str
    loss: StyleLoss
    weight: float = 1.0

    @property
    def factor(self) -> float:
        """What the loss is multiplied by: a map of zeros has a loss of ``weight`` then."""
        return self.weight / self.loss.scale()


def summed(terms: Sequence[ContentTerm] | Sequence[StyleTerm], maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The losses of one picture's maps ``[c, h, w]`` by layer, each with its factor."""
    return sum((term.factor * term.loss(maps[term.layer]) for term in terms), torch.zeros(()))


def _seen(network: LossNetwork, part: Tile, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return network(part.take(pixels))


def content_maps(
    network: LossNetwork, pixels: torch.Tensor, layers: Sequence[str], tile: int | None
) -> tuple[dict[str, torch.Tensor], dict[str, tuple[int, int]]]:
    """The maps of some layers, and height and width of the maps of all, looked at in parts of ``tile`` pixels."""
    tiles = parts_of(pixels.shape[-2], pixels.shape[-1], tile)
    cores: dict[str, list[torch.Tensor]] = {layer: [] for layer in network.layers}
    for part in tiles:
        for layer, maps in _seen(network, part, pixels).items():
            core = part.core(maps)
            cores[layer].append(core.clone() if layer in layers else core[:1].clone())  # a channel tells the size
    whole = {layer: joined(tiles, each) for layer, each in cores.items()}
    sizes = {layer: (int(maps.shape[-2]), int(maps.shape[-1])) for layer, maps in whole.items()}
    return {layer: whole[layer] for layer in layers}, sizes


def grams(
    network: LossNetwork, pixels: torch.Tensor, layers: Sequence[str], tile: int | None
) -> dict[str, torch.Tensor]:
    """The Gram matrices of some layers, looked at in parts of ``tile`` pixels."""
    sums: dict[str, torch.Tensor] = {}
    counts = dict.fromkeys(layers, 0.0)
    for part in parts_of(pixels.shape[-2], pixels.shape[-1], tile):
        maps = _seen(network, part, pixels)
        for layer in layers:
            core = part.core(maps[layer])
            sums[layer] = sums[layer] + gram_sum(core) if layer in sums else gram_sum(core)
            counts[layer] += cell_count(core)
    return {layer: sums[layer] / counts[layer] for layer in layers}


@dataclass(frozen=True, eq=False)
class Objective:
    """The losses of a picture ``[1, 3, h, w]`` in 0..1. ``tile``: side in pixels of the parts it is looked at in."""

    network: LossNetwork
    content: Sequence[ContentTerm]
    style: Sequence[StyleTerm]
    content_weight: float = 1.0
    style_weight: float = 10.0
    smoothness: float = 0.0
    tile: int | None = None

    def __call__(self, pixels: torch.Tensor) -> tuple[Value, torch.Tensor]:
        """The losses, and the gradient ``[1, 3, h, w]`` of their total."""
        pixels = pixels.detach()
        if self.tile is None or max(pixels.shape[-2:]) <= self.tile:
            return self._whole(pixels)
        return self._in_tiles(pixels, tiles_of(pixels.shape[-2], pixels.shape[-1], self.tile))

    def _whole(self, pixels: torch.Tensor) -> tuple[Value, torch.Tensor]:
        made = pixels.clone().requires_grad_()
        maps = self.network(made)
        content, style = (summed(terms, maps) for terms in (self.content, self.style))
        total = self.content_weight * content + self.style_weight * style + self._roughness(made)
        (gradient,) = torch.autograd.grad(total, made)
        return Value(float(total.detach()), float(content.detach()), float(style.detach())), gradient

    def _roughness(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.smoothness * total_variation(pixels).sum()

    def _in_tiles(self, pixels: torch.Tensor, tiles: Sequence[Tile]) -> tuple[Value, torch.Tensor]:
        made = pixels.clone().requires_grad_()
        roughness = self._roughness(made)
        (gradient,) = torch.autograd.grad(roughness, made)
        sums, counts = self._gram_sums(pixels, tiles)
        leaves = [(each / count).requires_grad_() for each, count in zip(sums, counts, strict=True)]
        style = pixels.new_zeros(())
        for term, leaf in zip(self.style, leaves, strict=True):
            style = style + term.factor * term.loss.of_gram(leaf)
        slopes = torch.autograd.grad(self.style_weight * style, leaves)
        content = 0.0
        for tile in tiles:
            part = tile.take(pixels).clone().requires_grad_()
            maps = self.network(part)
            own = part.new_zeros(())
            for each in self.content:
                wanted = ContentLoss(tile.core_of_whole(each.loss.content))
                own = own + each.factor * wanted(tile.core(maps[each.layer]))
            content += float(own.detach())
            aim = self.content_weight * own
            for term, slope, count in zip(self.style, slopes, counts, strict=True):
                aim = aim + (slope * gram_sum(*_in(tile, term, maps))).sum() / count
            tile.take(gradient).add_(torch.autograd.grad(aim, part)[0])
        total = self.content_weight * content + self.style_weight * float(style.detach()) + float(roughness.detach())
        return Value(total, content, float(style.detach())), gradient

    def _gram_sums(self, pixels: torch.Tensor, tiles: Sequence[Tile]) -> tuple[list[torch.Tensor], list[float]]:
        """Of each style term the sum over all tiles that its Gram matrix is made of, and what that is divided by."""
        sums: list[torch.Tensor | float] = [0.0] * len(self.style)
        counts = [0.0] * len(self.style)
        for tile in tiles:
            maps = _seen(self.network, tile, pixels)
            for place, term in enumerate(self.style):
                inner = _in(tile, term, maps)
                sums[place] = sums[place] + gram_sum(*inner)
                counts[place] += cell_count(*inner)
        return [each for each in sums if isinstance(each, torch.Tensor)], counts


def _in(tile: Tile, term: StyleTerm, maps: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The core of a tile's map, and its cells' weights."""
    weights = term.loss.weights
    return tile.core(maps[term.layer]), None if weights is None else tile.core_of_whole(weights)

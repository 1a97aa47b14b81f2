"""A large picture in parts: each is looked at with a margin, and only its core counts. Imports torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from topwork.errors import UsageError

MARGIN = 96
"""Pixels around a core: a cell of VGG's conv5_1 sees 78 to each side."""
STRIDE = 32
"""Cores begin at multiples of it, so that the cells of every layer stay where they are in the whole picture."""


@dataclass(frozen=True)
class Span:
    """The core of a tile along one side of a picture of ``length`` pixels, from ``start`` to before ``end``."""

    start: int
    end: int
    length: int

    @property
    def outer(self) -> slice:
        """With the margin, as far as the picture goes."""
        return slice(max(0, self.start - MARGIN), min(self.length, self.end + MARGIN))

    def cells(self, count: int) -> slice:
        """The core among the ``count`` cells that the tile has in a layer."""
        outer = self.outer
        stride = _stride(outer.stop - outer.start, count)
        return self._slice((self.start - outer.start) // stride, (self.end - outer.start) // stride)

    def of_whole(self, count: int) -> slice:
        """The core among the ``count`` cells that the whole picture has in a layer."""
        stride = _stride(self.length, count)
        return self._slice(self.start // stride, self.end // stride)

    def _slice(self, first: int, last: int) -> slice:
        return slice(first, None if self.end == self.length else last)


@dataclass(frozen=True)
class Tile:
    """A part of a picture.

    >>> tile = tiles_of(640, 640, 512)[-1]
    >>> part = tile.take(torch.zeros(1, 3, 640, 640))
    >>> part.shape[2:], tile.core(part[0]).shape[1:]
    (torch.Size([416, 416]), torch.Size([320, 320]))
    """

    down: Span
    across: Span

    def take(self, pixels: torch.Tensor) -> torch.Tensor:
        """Its pixels with the margin, of ``[..., h, w]``."""
        return pixels[..., self.down.outer, self.across.outer]

    def core(self, maps: torch.Tensor) -> torch.Tensor:
        """What its map ``[c, h', w']`` has without the margin."""
        return maps[..., self.down.cells(maps.shape[-2]), self.across.cells(maps.shape[-1])]

    def core_of_whole(self, maps: torch.Tensor) -> torch.Tensor:
        """The same part of the whole picture's map ``[c, h', w']`` or of weights ``[h', w']``."""
        return maps[..., self.down.of_whole(maps.shape[-2]), self.across.of_whole(maps.shape[-1])]


def tiles_of(height: int, width: int, side: int) -> Sequence[Tile]:
    """Tiles whose cores cover a picture; with their margins they are at most ``side`` pixels wide and high.

    >>> len(tiles_of(2000, 1500, 512))
    35
    """
    core = (side - 2 * MARGIN) // STRIDE * STRIDE
    if core < STRIDE:
        raise UsageError(f"expected tiles of at least {2 * MARGIN + STRIDE} pixels, not {side}; choose larger ones")
    return [Tile(down, across) for down in _spans(height, core) for across in _spans(width, core)]


def _stride(length: int, count: int) -> int:
    """Pixels a cell: a power of 2, but layers that round down have fewer cells than that."""
    return 1 << round(math.log2(max(1.0, length / count)))


def parts_of(height: int, width: int, side: int | None) -> Sequence[Tile]:
    """The whole picture as one tile where it is not larger than ``side``, or that is None; else its tiles."""
    if side is None or max(height, width) <= side:
        return [Tile(Span(0, height, height), Span(0, width, width))]
    return tiles_of(height, width, side)


def joined(tiles: Sequence[Tile], cores: Sequence[torch.Tensor]) -> torch.Tensor:
    """The whole map ``[..., h, w]`` of the cores of tiles.

    >>> tiles, pixels = tiles_of(640, 700, 512), torch.rand(1, 640, 700)
    >>> bool((joined(tiles, [tile.core(tile.take(pixels)) for tile in tiles]) == pixels).all())
    True
    """
    rows: dict[int, list[torch.Tensor]] = {}
    for tile, core in zip(tiles, cores, strict=True):
        rows.setdefault(tile.down.start, []).append(core)
    return torch.cat([torch.cat(row, -1) for row in rows.values()], -2)


def _spans(length: int, core: int) -> list[Span]:
    # What is left of the side, less than a cell of the last layer, joins the tile before it.
    starts = [start for start in range(0, length, core) if start == 0 or length - start >= STRIDE]
    return [Span(start, end, length) for start, end in zip(starts, [*starts[1:], length], strict=True)]

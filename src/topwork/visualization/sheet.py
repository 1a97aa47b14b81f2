"""A sheet of pictures in a grid, each with a caption below it, and a title above them all."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from topwork.images.contact_sheet import cut_to
from topwork.images.sniff import shown

MARGIN, GAP = 12, 8  # pixels around the sheet, and between pictures
TEXT, LINE = 13, 19  # size of the letters, height of a line
_BRIGHT = 0.98
INK, PAPER = (32, 32, 32), (232, 232, 232)


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture ``[h, w]`` or ``[h, w, 3]`` uint8, and the words below it."""

    pixels: NDArray[np.uint8]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Tiles under one title, as many in a row as ``columns``; ``text`` stands above them on a page."""

    title: str
    tiles: Sequence[Tile]
    columns: int
    text: str = ""


def sheet(sections: Sequence[Section], *, side: int) -> Image.Image:
    """All sections below each other as an RGB image; each tile is brought to ``side`` pixels, its aspect kept.

    Small tiles are enlarged without smoothing, so that their pixels are seen. The paper is grey.

    >>> tile = Tile(np.zeros((8, 8), np.uint8), "nothing")
    >>> sheet([Section("two", [tile, tile], columns=2)], side=64).size
    (160, 126)
    """
    font = ImageFont.load_default(TEXT)
    titles = [_lines(section.title, font, _width(section, side)) for section in sections]
    width = max(_width(section, side) for section in sections)
    heights = [_height(section, lines, side) for section, lines in zip(sections, titles, strict=True)]
    image = Image.new("RGB", (width + 2 * MARGIN, sum(heights) + 2 * MARGIN - GAP), PAPER)
    pen, top = ImageDraw.Draw(image), MARGIN
    for section, lines, height in zip(sections, titles, heights, strict=True):
        for number, line in enumerate(lines):
            pen.text((MARGIN, top + number * LINE), line, INK, font)
        _place(image, section, top + LINE * len(lines), side, font)
        top += height
    return image


def scaled(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values as grey levels or colours: the least 0, the largest 255; grey 128 where all are alike.

    >>> scaled(np.array([[-1.0, 0.0], [0.5, 1.0]])).tolist()
    [[0, 128], [191, 255]]
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.full(values.shape, 128, np.uint8)
    levels: NDArray[np.uint8] = np.rint((values - low) * (255 / (high - low))).astype(np.uint8)
    return levels


def around_grey(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values that count from 0 as levels around grey, 128, up to 1 and 255.

    The largest 2 % of the magnitudes that are not 0 all reach them: by a few outliers the others would be left grey.

    >>> around_grey(np.array([[-1.0, 0.0], [0.5, 0.0]])).tolist()
    [[1, 128], [192, 128]]
    """
    magnitudes = np.abs(values)[values != 0]
    most = float(np.quantile(magnitudes, _BRIGHT, method="higher")) if len(magnitudes) else 1.0
    levels: NDArray[np.uint8] = np.rint(128 + 127 * (values / most).clip(-1, 1)).astype(np.uint8)
    return levels


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file.

    >>> png(Image.new("L", (2, 3)))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Drawn:
    """A result that a notebook shows as a picture; each kind says how it is drawn."""

    def drawn(self) -> Image.Image:
        """The picture of it."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes:
        return png(self.drawn())


def _width(section: Section, side: int) -> int:
    return min(section.columns, max(len(section.tiles), 1)) * (side + GAP) - GAP


def _tallest(section: Section, side: int) -> int:
    """The height of its pictures once they are ``side`` pixels wide or high."""
    return max((_fitted_size(tile.pixels, side)[1] for tile in section.tiles), default=0)


def _row_height(section: Section, side: int) -> int:
    return _tallest(section, side) + GAP + (LINE if any(tile.caption for tile in section.tiles) else 0)


def _height(section: Section, lines: Sequence[str], side: int) -> int:
    rows = -(-len(section.tiles) // section.columns)
    return LINE * len(lines) + rows * _row_height(section, side)


def _place(image: Image.Image, section: Section, top: int, side: int, font: "_Font") -> None:
    pen, tallest = ImageDraw.Draw(image), _tallest(section, side)
    for number, tile in enumerate(section.tiles):
        row, column = divmod(number, section.columns)
        left, above = MARGIN + column * (side + GAP), top + row * _row_height(section, side)
        picture = _fitted(tile.pixels, side)
        image.paste(picture, (left + (side - picture.width) // 2, above + (tallest - picture.height) // 2))
        pen.text(
            (left + side / 2, above + tallest + 2), cut_to(side, shown(tile.caption), font), INK, font, anchor="ma"
        )


def _fitted(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    picture = Image.fromarray(pixels).convert("RGB")
    size = _fitted_size(pixels, side)
    return picture.resize(size, Image.Resampling.NEAREST if size > picture.size else Image.Resampling.LANCZOS)


def _fitted_size(pixels: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Width and height of a picture ``[h, w, …]`` whose longer side becomes ``side`` pixels."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _lines(text: str, font: _Font, width: float) -> list[str]:
    """The words of a title in lines of at most ``width``."""
    lines: list[str] = []
    for word in shown(text).split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines

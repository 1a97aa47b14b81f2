"""A contact sheet: a row of pictures a class, with its name."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from topwork.images.sniff import shown

TILE = 96  # pixels; larger pictures are reduced to it
MARGIN, GAP = 12, 6  # pixels around the sheet, and between pictures
TEXT = 15  # size of the letters
WIDEST = 180  # pixels of a name; what is longer is cut
INK, PAPER = (32, 32, 32), (232, 232, 232)


def contact_sheet(rows: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Image.Image:
    """The sheet of ``rows``, name -> pictures ``[h, w]`` or ``[h, w, 3]``, all of one size; as an RGB image.

    The paper is grey, so that the borders of pictures on white and on black are seen.

    >>> tile = np.zeros((96, 96), np.uint8)
    >>> contact_sheet({"ant": [tile, tile], "bee": [tile]}).height
    222
    """
    font = ImageFont.load_default(TEXT)
    names = {name: cut_to(WIDEST, shown(name), font) for name in rows}
    first = next(iter(rows.values()))[0]
    side = min(TILE, *first.shape[:2])
    left = MARGIN + int(max(font.getlength(text) for text in names.values())) + 2 * GAP
    most = max(map(len, rows.values()))
    width, height = left + most * (side + GAP) - GAP + MARGIN, 2 * MARGIN + len(rows) * (side + GAP) - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (name, pictures) in enumerate(rows.items()):
        top = MARGIN + number * (side + GAP)
        pen.text((left - 2 * GAP, top + side / 2), names[name], INK, font, anchor="rm")
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + column * (side + GAP), top))
    return sheet


def cut_to(width: float, text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    """The text, its end replaced by dots where it is wider than ``width`` pixels.

    >>> cut_to(40, "cat", ImageFont.load_default(TEXT)), cut_to(40, "caterpillar", ImageFont.load_default(TEXT))[-1]
    ('cat', '…')
    """
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

"""A sheet that shows what augmentation does: a row a picture, as predicted and as trained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from topwork.errors import ImageError, SourceError
from topwork.images import DecodePolicy, Excluded, Sample, decode
from topwork.images.sample import shown
from topwork.training.augmentation import Augmenter

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

MARGIN = 16  # pixels around the sheet
GAP = 4  # between variants
DIVIDE = 16  # between the picture as predicted and its variants
CAPTION = 28  # height of a line of text, most of it above the letters: they belong to what is below
TEXT = 14  # size of the letters
INK, PAPER = (32, 32, 32), (255, 255, 255)


def augmentation_sheet(
    samples: Sequence[Sample], policy: DecodePolicy, augmenter: Augmenter, *, variants: int = 8
) -> "tuple[Image.Image, list[Excluded]]":
    """The sheet as an RGB image, and the pictures that could not be read, which have no row.

    Left each picture as the network sees it in prediction, then ``variants`` variants as in training, all in the
    network's own pixels. SourceError where no picture can be read.

    >>> import io
    >>> from PIL import Image
    >>> _ = Image.new("RGB", (60, 40)).save(file := io.BytesIO(), "PNG")
    >>> class InMemory(Sample):
    ...     def read(self, limit=None):
    ...         return file.getvalue()
    >>> sheet, excluded = augmentation_sheet(
    ...     [InMemory("a.png", "")], DecodePolicy(), Augmenter("light", 32, seed=0), variants=4
    ... )
    >>> sheet.size, excluded
    ((220, 120), [])
    """
    rows: list[tuple[str, list[NDArray[np.uint8]]]] = []
    excluded: list[Excluded] = []
    for place, sample in enumerate(samples):
        try:
            pixels = decode(sample.read(), policy).pixels
        except ImageError as error:
            excluded.append(Excluded(sample.id, str(error)))
            continue
        rows.append((shown(sample.id), _tiles(pixels, augmenter, place, variants)))
    if not rows:
        why = f" (such as {shown(excluded[0].path)}: {excluded[0].reason})" if excluded else ""
        raise SourceError(f"expected pictures to augment, but none of {len(samples)} could be read{why}; give others")
    return _draw(rows, augmenter), excluded


def _tiles(pixels: NDArray[np.uint8], augmenter: Augmenter, place: int, variants: int) -> list[NDArray[np.uint8]]:
    """The picture as predicted, then its variants, each ``[size, size, 3]``."""
    plain = Augmenter("none", augmenter.size, augmenter.seed, augmenter.crop_fraction, augmenter.geometry)
    return [plain(pixels), *(augmenter(pixels, place, number) for number in range(variants))]


def _draw(rows: list[tuple[str, list[NDArray[np.uint8]]]], augmenter: Augmenter) -> "Image.Image":
    from PIL import Image, ImageDraw

    size, columns = augmenter.size, len(rows[0][1])
    lefts = [MARGIN, *(MARGIN + size + DIVIDE + number * (size + GAP) for number in range(columns - 1))]
    row_height = CAPTION + size
    sheet = Image.new("RGB", (lefts[-1] + size + MARGIN, 2 * MARGIN + CAPTION + len(rows) * row_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, lefts[0], MARGIN, "as predicted", size + DIVIDE)
    _write(pen, lefts[1], MARGIN, f"as trained: {augmenter.preset}", sheet.width - lefts[1])
    for number, (name, tiles) in enumerate(rows):
        top = MARGIN + CAPTION + number * row_height
        _write(pen, MARGIN, top, name, sheet.width - 2 * MARGIN)
        for left, tile in zip(lefts, tiles, strict=True):
            sheet.paste(Image.fromarray(tile), (left, top + CAPTION))
    return sheet


def _write(pen: "ImageDraw.ImageDraw", left: int, top: int, text: str, width: int) -> None:
    """One line of text, its beginning cut off where it is wider than ``width`` pixels: a path ends in the name."""
    from PIL import ImageFont

    font = ImageFont.load_default(TEXT)
    start = 0
    while pen.textlength(line := ("…" if start else "") + text[start:], font) > width and start < len(text):
        start += 1
    pen.text((left, top + CAPTION - TEXT - 6), line, INK, font)

"""Pictures that are parts of a file: where they are, as text like that of a picture in a .zip file, and their bytes.

::

    drawing://OFFSET+LENGTH::FILE          a line of a QuickDraw file
    bitmap://OFFSET+HEIGHTxWIDTH::FILE     a picture of a .npy or idx file

OFFSET and LENGTH in bytes. The file is not looked through again: a picture costs one seek.
"""

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.errors import ImageError
from topwork.images.bitmaps import MAX_PIXELS, read_bitmap
from topwork.images.quickdraw import MAX_LINE, Drawing, parse, render
from topwork.images.storage import read_bytes

SIDE = 256
"""Of a drawing that is read as a picture: networks reduce that to the 224 or 256 pixels they see."""

STROKE_WIDTH = 6.0
"""As `render` draws by default, at twice its size."""

_DRAWING, _BITMAP = "drawing://", "bitmap://"
_PLACE = re.compile(
    r"(?P<kind>drawing|bitmap)://(?P<offset>[0-9]{1,15})\+"
    r"(?:(?P<length>[0-9]{1,15})|(?P<height>[0-9]{1,9})x(?P<width>[0-9]{1,9}))::(?P<file>.+)",
    re.DOTALL,
)


def drawing_location(location: str, offset: int, length: int) -> str:
    """Where a drawing of a file is.

    >>> drawing_location("/tmp/ant.ndjson", 120, 80)
    'drawing://120+80::/tmp/ant.ndjson'
    """
    return f"{_DRAWING}{offset}+{length}::{location}"


def bitmap_location(location: str, offset: int, height: int, width: int) -> str:
    """Where a picture of a file is.

    >>> bitmap_location("/tmp/ant.npy", 128, 28, 28)
    'bitmap://128+28x28::/tmp/ant.npy'
    """
    return f"{_BITMAP}{offset}+{height}x{width}::{location}"


def is_part(location: str) -> bool:
    """Whether this is a place in a file, as the two functions above write it."""
    return location.startswith((_DRAWING, _BITMAP))


def read_part(location: str) -> Drawing | NDArray[np.uint8]:
    """The drawing, or the picture ``[h, w]`` as it is stored; ImageError with the reason if it is not there."""
    found = _PLACE.fullmatch(location)
    if found is None or (found["length"] is None) == (found["kind"] == "drawing"):
        raise ImageError("no place in a file of many pictures")
    file, offset = found["file"], int(found["offset"])
    if found["length"]:
        return parse(read_bytes(file, min(int(found["length"]), MAX_LINE + 1), offset))
    height, width = int(found["height"]), int(found["width"])
    if height * width > MAX_PIXELS:
        raise ImageError(f"{height} x {width} pixels, more than the limit of {MAX_PIXELS:,}")
    return read_bitmap(file, offset, height, width)


def part_as_png(location: str) -> bytes:
    """The bytes of a PNG file: a drawing black on white, ``SIDE`` pixels square; a bitmap as it is stored.

    ImageError with the reason if it cannot be read.
    """
    part = read_part(location)
    pixels = render(part, size=SIDE, stroke_width=STROKE_WIDTH)[:, :, 0] if isinstance(part, Drawing) else part
    return as_png(pixels)


def as_png(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG file with these pixels, ``[h, w]`` or ``[h, w, 3]``.

    >>> as_png(np.zeros((2, 3), np.uint8))[:4]
    b'\\x89PNG'
    """
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=1)
    except ValueError as error:
        raise ImageError(f"cannot be written as PNG: {error}") from error
    return buffer.getvalue()

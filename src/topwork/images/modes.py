"""From the modes in which a picture file may be stored to RGB of 8 bits in sRGB: depth, transparency, colour profile.

Large pictures go through in strips of rows, so that not several copies of them are in memory.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.errors import ImageError
from topwork.images.profiles import to_srgb

Pixels = NDArray[np.uint8]

DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_STRIP = 2**20  # pixels
_PLAIN = {"PA": "RGBA", "P": "RGB", "RGBa": "RGBA", "La": "LA", "RGBX": "RGB", "1": "L", "LAB": "RGB", "YCbCr": "RGB"}


def to_rgb(image: Image.Image, profile: bytes | None = None) -> tuple[Pixels, str | None]:
    """``[h, w, 3]`` from a loaded picture of any mode, and a note if its colour profile could not be used."""
    note = None
    if image.mode in DEEP:
        image = _of_8_bits(image)
    elif "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif image.mode in _PLAIN:
        image = image.convert(_PLAIN[image.mode])
    if profile:
        image, note = to_srgb(image, profile)
    return _pixels(image), note


def rows(height: int, width: int) -> Iterator[slice]:
    """The rows of a picture in strips of about a million pixels."""
    step = max(_STRIP // max(width, 1), 1)
    for top in range(0, height, step):
        yield slice(top, min(top + step, height))


def _pixels(image: Image.Image) -> Pixels:
    width, height = image.size
    if width * height <= _STRIP:
        return np.asarray(_over_white(image))
    made = np.empty((height, width, 3), np.uint8)
    for part in rows(height, width):
        made[part] = np.asarray(_over_white(image.crop((0, part.start, width, part.stop))))
    return made


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode.endswith("A"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _of_8_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F":
        return Image.fromarray(of_float(values))
    grey = Image.fromarray(_of_integers(values))
    if isinstance(image.info.get("transparency"), int):  # the grey value that is seen through
        grey.putalpha(Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey


def _of_integers(grey: NDArray[Any]) -> Pixels:
    """Grey ``[h, w]`` in 0..65535 to 0..255, rounded; Pillow's own conversion would clip it."""
    if grey.dtype.itemsize > 2 and (grey.min() < 0 or grey.max() > 65535):
        raise ImageError(f"32-bit grey in {grey.min()}..{grey.max()}, not in 0..65535")
    return scaled(grey, 65535)


def scaled(values: NDArray[Any], top: int) -> Pixels:
    """Integers ``[h, w, ...]`` in 0..``top`` to 0..255, rounded.

    >>> scaled(np.array([[0, 2048, 4095]]), 4095).tolist()
    [[0, 128, 255]]
    """
    made = np.empty(values.shape, np.uint8)
    for part in rows(*values.shape[:2]):
        made[part] = (values[part].astype(np.uint32) * 255 + top // 2) // top
    return made


def of_float(values: NDArray[Any]) -> Pixels:
    """Floating point ``[h, w, ...]`` to 0..255, rounded, by the range of the values.

    The nominal range is 0..1, 0..255 or 0..65535, the first whose double holds all values: what lies a little outside
    (a twentieth below, up to twice above), as sharpening and resizing leave it, is clipped.

    >>> of_float(np.array([[-0.01, 0.5, 1.02]])).tolist(), of_float(np.array([[0.0, 3.0, 255.0]])).tolist()
    ([[0, 128, 255]], [[0, 3, 255]])
    """
    low, high = float(values.min()), float(values.max())
    top = next((top for top in (1, 255, 65535) if high <= 2 * top), None)
    if top is None or not low >= -top / 20:
        raise ImageError(f"floating-point grey in {low:g}..{high:g}, not in 0..1, 0..255 or 0..65535")
    made = np.empty(values.shape, np.uint8)
    for part in rows(*values.shape[:2]):
        made[part] = np.rint(np.clip(values[part].astype(np.float64) * (255 / top), 0, 255))
    return made

"""Small copies of pictures, made in the one pass, so that an index can show its pictures without them."""

from io import BytesIO

from PIL import Image

from topwork.images.decode import Picture

SIDE = 128
"""The longer side of a thumbnail, in pixels; smaller pictures stay as they are."""
THUMBNAIL_VERSION = "thumbnail-1"
_QUALITY = 80


def thumbnail(picture: Picture) -> bytes:
    """A JPEG whose longer side is ``SIDE`` pixels.

    >>> import numpy as np
    >>> made = thumbnail(Picture(np.zeros((300, 600, 3), np.uint8), "PNG", "RGB", 600, 300))
    >>> Image.open(BytesIO(made)).size
    (128, 64)
    """
    image = picture.source or Image.fromarray(picture.pixels)
    # reduce first: a box filter over whole pixels costs a fraction of the resampling
    factor = max(1, max(image.size) // (2 * SIDE))
    image = image.reduce(factor) if factor > 1 else image.copy()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()

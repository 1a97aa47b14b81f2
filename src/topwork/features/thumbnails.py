"""Small copies of pictures, made in the one pass, so that an index can show its pictures without them."""

from io import BytesIO

from PIL import Image

from topwork.images.decode import Picture

SIDE = 128
"""The longer side of a thumbnail is at most this, in pixels; smaller pictures stay as they are."""
THUMBNAIL_VERSION = "thumbnail-1"
_QUALITY = 80
_ENOUGH = 3  # from this reduction on whole pixels are averaged, in a third of the time; the side is then 96 or more


def thumbnail(picture: Picture) -> bytes:
    """A small JPEG of a picture.

    >>> import numpy as np
    >>> made = thumbnail(Picture(np.zeros((300, 600, 3), np.uint8), "PNG", "RGB", 600, 300))
    >>> Image.open(BytesIO(made)).size
    (120, 60)
    """
    image = picture.image
    factor = -(-max(image.size) // SIDE)
    if factor >= _ENOUGH:
        image = image.reduce(factor)
    elif factor > 1:
        image = image.copy()
        image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()

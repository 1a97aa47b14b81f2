"""Small copies of pictures, made in the one pass, so that an index can show its pictures without them."""

from io import BytesIO

from PIL import Image

from topwork.errors import CacheError
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


def opened(data: bytes, what: str = "a picture") -> Image.Image:
    """A thumbnail as an RGB image; CacheError where it is anything but a small JPEG: an index may be a stranger's.

    Pillow would try every format it knows, and start other programs for some of them.

    >>> opened(b"%!PS-Adobe-3.0 EPSF-3.0")
    Traceback (most recent call last):
    ...
    topwork.errors.CacheError: expected a small JPEG of a picture, but the index holds something else; delete the ...
    """
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            if max(image.size) <= 2 * SIDE:
                return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        pass
    raise CacheError(
        f"expected a small JPEG of {what}, but the index holds something else; delete the index and make it again"
    )

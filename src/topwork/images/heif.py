"""HEIC and HEIF files, through the extra ``heic``: pi-heif, whose wheels hold libheif and libde265 (LGPL).

(Its larger sister pillow-heif also holds x265, which is under the GPL.)
"""

from io import BytesIO

from PIL import Image

from topwork.errors import ImageError

KIND = "HEIF"
_BRANDS = {b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"}


def is_heif(prefix: bytes) -> bool:
    """Whether the first 12 bytes of a file are those of HEIC or HEIF.

    >>> is_heif(b"\\0\\0\\0\\x18ftypheic"), is_heif(b"\\0\\0\\0\\x18ftypisom")
    (True, False)
    """
    return prefix[4:8] == b"ftyp" and prefix[8:12] in _BRANDS


def opened(data: bytes) -> Image.Image:
    """The main picture of a HEIF file, its pixels not decoded yet; it is upright already."""
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise ImageError(
            'it is HEIC, which needs a package of its own; run: pip install "topwork[heic]" (or save it as JPEG)'
        ) from error
    image: Image.Image = HeifImageFile(BytesIO(data))  # not registered with Pillow: what others open is not changed
    return image

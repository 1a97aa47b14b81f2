"""From the bytes of a file to upright RGB pixels; whatever is wrong with the file is said in one line."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Importing a plugin registers it in Image.OPEN; nothing else does so for WebP and TIFF before Image.init().
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from topwork.errors import ImageError, UsageError
from topwork.images.sniff import jpeg_has_end, one_line, what_it_is
from topwork.images.storage import read_bytes
from topwork.shortage import shortage_of

VERSION = 1
"""Of the rules in this file; it grows when the same bytes give other pixels, so that caches start anew."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""What is read, recognised by content; MPO (two pictures of a stereo camera) is read as its first JPEG."""

Pixels = NDArray[np.uint8]

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_ALPHA = {"LA", "PA", "RGBA", "RGBa"}
_GREY_DEEP = {"I", "I;16", "I;16B", "I;16L", "I;16N"}


@dataclass(frozen=True)
class DecodePolicy:
    """What may be decoded, and how large.

    ``max_pixels``: a picture whose header promises more is refused before it is decoded. ``shrink_to``: the
    shorter side that is needed, in pixels; a JPEG at least twice as large is shrunk by 2, 4 or 8 while it is
    loaded (several times faster), its shorter side stays at ``shrink_to`` or more. None: never.

    >>> DecodePolicy(shrink_to=256).describe()
    'decode 1, max_pixels 100000000, shrink_to 256'
    """

    max_pixels: int = 100_000_000
    shrink_to: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_pixels", self.max_pixels), ("shrink_to", self.shrink_to)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number, at least 1, not {value!r}")

    def describe(self) -> str:
        """One line for fingerprints: the version of the rules and every setting."""
        return f"decode {VERSION}, max_pixels {self.max_pixels}, shrink_to {self.shrink_to}"


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright RGB picture.

    ``pixels``: ``[h, w, 3]`` uint8, C-contiguous, possibly read-only; smaller than ``height x width`` if it
    was shrunk while loading. ``format``: of the file (one of FORMATS; "memory" if there was no file).
    ``mode``: Pillow's word for the file's pixels, such as RGB, CMYK, I;16. ``width``, ``height``: as shown,
    after EXIF rotation.
    """

    pixels: Pixels
    format: str
    mode: str
    width: int
    height: int
    source: Image.Image | None = None
    """The Pillow image behind the pixels where it is RGB or grey already: saves whoever needs one a copy."""


_DEFAULT = DecodePolicy()


def decode(data: bytes, policy: DecodePolicy = _DEFAULT) -> Picture:
    """The picture in ``data``; ImageError, with the reason, if it is none or not a whole one.

    Transparency is shown over white. 16-bit grey is divided by 257. Grey in floating point is taken as 0..1,
    0..255 or 0..65535, whichever is the first that holds all values. Of an animation the first frame is read,
    of a TIFF the first page.

    >>> decode(b"GIF89a\\x02")
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: damaged GIF: ...
    """
    if not data:
        raise ImageError("empty file")
    kind = _format_of(data)
    if kind is None:
        raise ImageError(f"not a picture that can be read ({', '.join(FORMATS)}): {what_it_is(data)}")
    with _damage(kind):
        image = _open(data, kind)
        size = image.size
        _check_size(size, policy)
        if kind == "JPEG":
            if not jpeg_has_end(data):
                raise ImageError("truncated JPEG: its end is missing")
            _shrink_on_load(image, policy.shrink_to)
        mode = image.mode
        image.load()
        return _picture(image, size, kind, mode)


def to_pixels(
    image: str | os.PathLike[str] | bytes | Image.Image | NDArray[Any], policy: DecodePolicy = _DEFAULT
) -> Picture:
    """Whatever a caller may call a picture: a path or URL, the bytes of a file, a Pillow image, an array.

    An array is uint8, ``[h, w]``, ``[h, w, 1]``, ``[h, w, 3]`` (RGB) or ``[h, w, 4]`` (RGBA). ``shrink_to``
    counts for paths and bytes only. A thing of another kind raises UsageError, a bad picture ImageError.

    >>> to_pixels(np.zeros((4, 6), np.uint8)).pixels.shape
    (4, 6, 3)
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(bytes(image), policy)
    if isinstance(image, str | os.PathLike):
        return decode(read_bytes(os.fspath(image)), policy)
    if isinstance(image, Image.Image):
        return _from_pillow(image, policy)
    if isinstance(image, np.ndarray):
        return _from_array(image, policy)
    raise UsageError(
        f"a picture must be a path, bytes, a Pillow image or a uint8 array, not {type(image).__name__}; "
        "convert it first, for example with numpy.asarray"
    )


def _from_pillow(image: Image.Image, policy: DecodePolicy) -> Picture:
    kind = "JPEG" if image.format == "MPO" else image.format or "memory"
    _check_size(image.size, policy)
    with _damage(kind):
        image.load()
        return _picture(image, image.size, kind, image.mode)


def _from_array(array: NDArray[Any], policy: DecodePolicy) -> Picture:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not fits:
        raise UsageError(
            f"a picture as an array must be uint8, [h, w], [h, w, 1], [h, w, 3] or [h, w, 4], "
            f"not {array.dtype} {list(array.shape)}; scale it to 0..255 and convert it with .astype('uint8')"
        )
    height, width = array.shape[:2]
    _check_size((width, height), policy)
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels == 1:
        pixels = _grey_to_rgb(array.reshape(height, width))
    elif channels == 4:
        pixels = _as_rgb(Image.fromarray(np.ascontiguousarray(array)))
    else:
        pixels = np.ascontiguousarray(array)
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    return Picture(pixels, "memory", mode, width, height)


def looks_like_a_picture(data: bytes) -> bool:
    """Whether the first bytes of a file, 16 are enough, are those of one of FORMATS.

    >>> looks_like_a_picture(b"GIF89a"), looks_like_a_picture(b"Licence")
    (True, False)
    """
    return _format_of(data) is not None


def _format_of(data: bytes) -> str | None:
    prefix = data[:16]
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        # A plugin that knows the prefix but was built without its library answers with text.
        if accept is not None and accept(prefix) is True:
            return name
    return None


def _open(data: bytes, kind: str) -> Image.Image:
    # Not Image.open: its limit on pixels is a module global, it warns or raises by that global, and neither
    # changing it nor catching its warning is thread-safe. The registry behind it is public and gives the same
    # image unchecked; `_check_size` comes next, before anything is decoded.
    return Image.OPEN[kind][0](io.BytesIO(data), "")


def _check_size(size: tuple[int, int], policy: DecodePolicy) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"a picture without pixels ({width} x {height})")
    if width * height > policy.max_pixels:
        raise ImageError(f"{width * height:,} pixels, more than the limit of {policy.max_pixels:,} (max_pixels)")


def shrink_scale(size: tuple[int, int], shrink_to: int | None) -> int:
    """How much a JPEG of ``size`` is shrunk on loading: the largest of 8, 4, 2, 1 that is allowed.

    >>> shrink_scale((4000, 3000), 256)
    8
    >>> shrink_scale((511, 2000), 256)
    1
    """
    if shrink_to is None:
        return 1
    return next((scale for scale in (8, 4, 2) if min(size) // scale >= shrink_to), 1)


def _shrink_on_load(image: Image.Image, shrink_to: int | None) -> None:
    width, height = image.size
    scale = shrink_scale((width, height), shrink_to)
    if scale == 1:
        return
    image.draft(None, (width // scale, height // scale))
    wanted = (-(-width // scale), -(-height // scale))
    if image.size != wanted:
        raise ImageError(f"shrinking by {scale} while loading gave {image.size}, not {wanted}")


def _picture(image: Image.Image, size: tuple[int, int], kind: str, mode: str) -> Picture:
    """``size``: as stored. To be called after loading, since Pillow turns a TIFF by itself then."""
    orientation = _orientation(image)
    upright = image if orientation == 1 else image.transpose(_UPRIGHT[orientation])
    width, height = size if orientation < 5 else size[::-1]
    source = upright if upright.mode in ("RGB", "L") and "transparency" not in upright.info else None
    return Picture(_as_rgb(upright), kind, mode, width, height, source)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data says nothing about the pixels, which are whole
        return 1
    return value if value in _UPRIGHT else 1


def _as_rgb(image: Image.Image) -> Pixels:
    """``[h, w, 3]`` from a loaded image of any mode."""
    if image.mode in _GREY_DEEP:
        return _grey_to_rgb(_from_16_bit(np.asarray(image)))
    if image.mode == "F":
        return _grey_to_rgb(_from_float(np.asarray(image)))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = _over_white(image)
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return np.asarray(image)


def _over_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _from_16_bit(grey: NDArray[Any]) -> Pixels:
    """Grey ``[h, w]`` in 0..65535 to 0..255, rounded; Pillow's own conversion would clip it."""
    if grey.dtype.itemsize > 2 and (grey.min() < 0 or grey.max() > 65535):
        raise ImageError(f"32-bit grey in {grey.min()}..{grey.max()}, not in 0..65535")
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_float(grey: NDArray[Any]) -> Pixels:
    """Grey ``[h, w]`` in floating point to 0..255, rounded."""
    low, high = float(grey.min()), float(grey.max())
    for top in (1, 255, 65535):
        if low >= 0 and high <= top:
            return np.rint(grey.astype(np.float64) * (255 / top)).astype(np.uint8)
    raise ImageError(f"floating-point grey in {low:g}..{high:g}, not in 0..1, 0..255 or 0..65535")


def _grey_to_rgb(grey: NDArray[Any]) -> Pixels:
    return np.repeat(grey[:, :, None], 3, axis=2)


@contextmanager
def _damage(kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError.

    On damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError,
    TypeError, KeyError, MemoryError and more; no list of them has stayed complete.
    """
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        if short := shortage_of(error):
            raise short from error
        if isinstance(error, MemoryError):
            raise ImageError(f"damaged {kind}: it asks for more memory than a picture takes") from error
        word = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(f"{word} {kind}: {one_line(error)}") from error

"""From the bytes of a file to upright RGB pixels; whatever is wrong with the file is said in one line."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Importing a plugin registers it in Image.OPEN; nothing else does so before Image.init().
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from topwork.errors import ImageError, UsageError
from topwork.images import gif, heif, jpeg, modes, png, tiff
from topwork.images.jpeg import shrink_scale
from topwork.images.libtiff import complaints
from topwork.images.modes import Pixels
from topwork.images.sniff import one_line, what_it_is
from topwork.images.storage import read_bytes
from topwork.shortage import shortage_of

VERSION = 2
"""Of the rules in this folder; it grows when the same bytes give other pixels, so that caches start anew."""

# What they warn about, without the name of the file, is metadata that nobody asked for; wrong pixels raise.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.\w+ImagePlugin")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""What is read, recognised by content; MPO (two pictures of a stereo camera) is read as its first JPEG. HEIC is read
where the extra ``heic`` is installed (`topwork.images.heif`)."""

MAX_PIXELS = 64_000_000
"""Decoded, unless more are asked for: about 0.5 GB while a picture is decoded."""
LARGEST_MAX_PIXELS = 1_000_000_000
"""The highest limit on pixels that may be asked for."""
LARGEST_SHRINK_TO = 65_535

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


@dataclass(frozen=True)
class DecodePolicy:
    """What may be decoded, and how large.

    ``max_pixels``: a picture of which more would be decoded is refused by what its header promises; at most
    ``LARGEST_MAX_PIXELS``. ``shrink_to``: the shorter side that is needed, in pixels; a JPEG at least twice as large is
    shrunk by 2, 4 or 8 while it is loaded (several times faster), its shorter side stays at ``shrink_to`` or more, and
    it counts by what is decoded (as stored it may have `topwork.images.jpeg.STORED` times as many). None: never.

    >>> DecodePolicy(shrink_to=256).describe()
    'decode 2, max_pixels 64000000, shrink_to 256'
    """

    max_pixels: int = MAX_PIXELS
    shrink_to: int | None = None

    def __post_init__(self) -> None:
        _require_count("max_pixels", self.max_pixels, LARGEST_MAX_PIXELS)
        if self.shrink_to is not None:
            _require_count("shrink_to", self.shrink_to, LARGEST_SHRINK_TO)

    def describe(self) -> str:
        """One line for fingerprints: the version of the rules and every setting."""
        return f"decode {VERSION}, max_pixels {self.max_pixels}, shrink_to {self.shrink_to}"


def _require_count(name: str, value: object, largest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        raise UsageError(f"{name} must be a whole number, at least 1 and at most {largest:,}, not {value!r}")


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright RGB picture.

    ``pixels``: ``[h, w, 3]`` uint8, C-contiguous, possibly read-only; smaller than ``height x width`` if it
    was shrunk while loading. ``format``: of the file (one of FORMATS, "HEIF"; "memory" if there was no file).
    ``mode``: Pillow's word for the file's pixels, such as RGB, CMYK, I;16. ``width``, ``height``: as shown,
    after EXIF rotation. ``notes``: what was wrong with the file without harm to its pixels.
    """

    pixels: Pixels
    format: str
    mode: str
    width: int
    height: int
    notes: tuple[str, ...] = ()

    @cached_property
    def image(self) -> Image.Image:
        """The pixels as a Pillow image, which not every picture needs and some need twice."""
        height, width = self.pixels.shape[:2]
        # Image.fromarray copies twice, which takes three times as long.
        return Image.frombuffer("RGB", (width, height), np.ascontiguousarray(self.pixels), "raw", "RGB", 0, 1)


_DEFAULT = DecodePolicy()


def decode(data: bytes, policy: DecodePolicy = _DEFAULT) -> Picture:
    """The picture in ``data``; ImageError, with the reason, if it is none or not a whole one.

    Colours are those of sRGB: a colour profile is followed, as a browser does. Transparency is shown over white.
    Integers are scaled by the range of their type, so 16-bit grey is divided by 257; floating point by the range of
    its values (`topwork.images.modes.of_float`). Of an animation the first frame is read, of a TIFF the first page.

    >>> decode(b"GIF89a\\x02")
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: truncated GIF: ...
    """
    if not data:
        raise ImageError("empty file")
    kind = _format_of(data)
    if kind is None:
        raise ImageError(f"not a picture that can be read ({', '.join(FORMATS)}): {what_it_is(data)}")
    with _damage(kind):
        return _READERS.get(kind, _read_other)(data, kind, policy)


def _read_jpeg(data: bytes, kind: str, policy: DecodePolicy) -> Picture:
    found = jpeg.survey(data)
    size = (found.width, found.height)
    scale = shrink_scale(size, policy.shrink_to)
    jpeg.check(found, scale, policy.max_pixels)
    image = _open(data, kind)
    if image.size != size:
        raise ImageError(f"damaged JPEG: it says that it has {size} and {image.size} pixels")
    mode, profile, orientation = image.mode, _profile(image), _orientation(image)
    loaded = jpeg.load(data, found, image, scale)
    if isinstance(loaded, Image.Image):
        return _picture(loaded, size, kind, mode, orientation, profile)
    if mode == "RGB" and profile is None:
        upright = _turned(loaded, orientation)
        return Picture(upright, kind, mode, *_shown(size, orientation))
    return _picture(Image.fromarray(loaded, mode), size, kind, mode, orientation, profile)


def _read_png(data: bytes, kind: str, policy: DecodePolicy) -> Picture:
    stripped = png.strip(data)
    image = _open(stripped.data, kind)
    _check_size(image.size, policy)
    mode = image.mode
    image.load()
    if "transparency" in image.info:
        image.info["transparency"] = _of_8_bits(image.info["transparency"], image.mode, stripped.depth)
    notes = () if stripped.note is None else (stripped.note,)
    return _picture(image, image.size, kind, mode, _orientation(image), stripped.profile, notes)


def _of_8_bits(seen_through: Any, mode: str, depth: int) -> Any:
    """The value of a PNG that is transparent, as its pixels are after loading: of 8 bits."""
    if isinstance(seen_through, tuple) and depth == 16:
        return tuple(value >> 8 for value in seen_through)
    if mode == "L" and depth < 8 and isinstance(seen_through, int):
        return seen_through * 255 // (2**depth - 1)
    return seen_through


def _read_tiff(data: bytes, kind: str, policy: DecodePolicy) -> Picture:
    page = tiff.first_page(data, policy.max_pixels)
    _check_size(page.size, policy)
    if not page.is_for_pillow:
        with complaints():
            image = tiff.load(data, page)
        return _picture(image, page.size, kind, image.mode, page.orientation, page.profile)
    image = _open(data, kind)
    size, mode = image.size, image.mode
    _check_size(size, policy)
    with complaints():
        image.load()  # which turns it
    return _picture(image, size, kind, mode, _orientation(image), page.profile)


def _read_gif(data: bytes, kind: str, policy: DecodePolicy) -> Picture:
    data, size = gif.from_first_frame(data)
    _check_size(size, policy)  # Pillow warns of large ones as soon as it opens them
    image = _open(data, kind)
    _check_size(image.size, policy)
    assert isinstance(image, ImageFile.ImageFile)
    box, mode = image.tile[0][1], image.mode
    image.load()
    if box != (0, 0, *image.size):  # what the first frame does not cover is seen through
        frame = image.convert("RGBA").crop(box)
        image = Image.new("RGBA", image.size)
        image.paste(frame, box)
    return _picture(image, image.size, kind, mode, 1, None)


def _read_other(data: bytes, kind: str, policy: DecodePolicy) -> Picture:
    image = heif.opened(data) if kind == heif.KIND else _open(data, kind)
    _check_size(image.size, policy, _TIMES.get(kind, 1))
    mode = image.mode
    image.load()
    return _picture(image, image.size, kind, mode, _orientation(image), _profile(image))


_TIMES = {"WEBP": 2}
"""How often a pixel counts: libwebp decodes onto canvases of its own, in twice the memory of the others."""
_READERS = {"JPEG": _read_jpeg, "PNG": _read_png, "TIFF": _read_tiff, "GIF": _read_gif}


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
        return _picture(image, image.size, kind, image.mode, _orientation(image), _profile(image))


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
        pixels = np.repeat(array.reshape(height, width, 1), 3, axis=2)
    elif channels == 4:
        pixels, _ = modes.to_rgb(Image.fromarray(np.ascontiguousarray(array)))
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
    prefix = data[:32]
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        # A plugin that knows the prefix but was built without its library answers with text.
        if accept is not None and accept(prefix) is True:
            return name
    return heif.KIND if heif.is_heif(prefix) else None


def _open(data: bytes, kind: str) -> Image.Image:
    # Not Image.open: its limit on pixels is a module global, it warns or raises by that global, and neither
    # changing it nor catching its warning is thread-safe. The registry behind it is public and gives the same
    # image unchecked; `_check_size` comes next, before anything is decoded.
    return Image.OPEN[kind][0](io.BytesIO(data), "")


def _check_size(size: tuple[int, int], policy: DecodePolicy, times: int = 1) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"a picture without pixels ({width} x {height})")
    if width * height * times > policy.max_pixels:
        most, why = policy.max_pixels // times, "max_pixels" if times == 1 else f"max_pixels / {times} for this format"
        raise ImageError(f"{width * height:,} pixels, more than the limit of {most:,} ({why})")


def _picture(
    image: Image.Image,
    size: tuple[int, int],
    kind: str,
    mode: str,
    orientation: int,
    profile: bytes | None,
    notes: tuple[str, ...] = (),
) -> Picture:
    """``size``: as stored."""
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    pixels, note = modes.to_rgb(upright, profile)
    notes = notes if note is None else (*notes, note)
    return Picture(pixels, kind, mode, *_shown(size, orientation), notes)


def _shown(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size if orientation < 5 else (size[1], size[0])


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """``[h, w, 3]`` upright."""
    if orientation == 1:
        return pixels
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    down = orientation in (3, 4, 7, 8)
    across = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if down else 1, :: -1 if across else 1])


def _profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if isinstance(profile, bytes) and profile else None


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data says nothing about the pixels, which are whole
        return 1
    return value if value in _UPRIGHT else 1


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

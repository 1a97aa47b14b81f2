"""JPEG files: what a look at their markers promises, and their pixels together with what libjpeg thought of them.

libjpeg fills in what is damaged, says so in a warning, and Pillow cannot pass the warning on. simplejpeg, a thin layer
over the same library, can: its pixels equal Pillow's.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.errors import ImageError
from topwork.images.sniff import one_line

try:
    import simplejpeg
except ImportError:  # no wheel for this platform: Pillow decodes, and damage that libjpeg fills in is not noticed
    simplejpeg = None

SEGMENTS = 4096
"""Most segments (metadata, tables, scans) of a file; cameras write fewer than 400."""
SCANS = 100
"""Most scans of a file; encoders write about 10."""
STORED = 4
"""A JPEG that is shrunk while it is loaded may store this many times ``max_pixels``,"""
STORED_IN_SCANS = 2
"""or this many times if it has several scans, since then libjpeg keeps all its coefficients,"""
PASSES = 20
"""and all scans together may go over this many times ``max_pixels``."""
_FILL = 65_536  # bytes between two segments, where there should be none
_EXTRANEOUS = (
    16  # bytes after the last pixel and before the end marker, which some cameras write; of padding any number
)

# In pixel data 0xff is followed by 0 or a restart marker, so no other marker can occur there by chance.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = {0x01, 0xD8}  # markers without a length
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_EXTRA_BYTES = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_COLOURS = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}


@dataclass(frozen=True)
class Survey:
    """What the markers of a JPEG file say; ``width`` and ``height`` are 0 where none says so."""

    width: int
    height: int
    scans: int
    end: int
    """Where the end marker is that follows the pixels, 0 if none does. A file cut off in a download and padded with
    zeros has none, yet libjpeg decodes it, grey, without an error."""


def survey(data: bytes) -> Survey:
    """Walk over the markers of a JPEG file, without decoding; ImageError if they are too many.

    >>> survey(b"\\xff\\xd8\\xff\\xda\\x00\\x02pixels").end
    0
    """
    width = height = scans = segments = 0
    at = 2
    while True:
        found = _MARKER.search(data, at, len(data) if scans else at + _FILL)
        if found is None:
            if not scans and len(data) > at + _FILL:
                raise ImageError(f"damaged JPEG: no marker within {_FILL} bytes of metadata")
            return Survey(width, height, scans, end=0)
        at, marker = found.start(), data[found.start() + 1]
        if marker == _END:
            return Survey(width, height, scans, end=at if scans else 0)
        if marker in _ALONE:
            at += 2
            continue
        segments += 1
        scans += marker == _SCAN
        if segments > SEGMENTS or scans > SCANS:
            raise ImageError(f"a JPEG of more than {SEGMENTS} segments or {SCANS} scans")
        if marker in _FRAMES and not width:
            height, width = (int.from_bytes(data[at + place : at + place + 2], "big") for place in (5, 7))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def check(found: Survey, scale: int, max_pixels: int) -> None:
    """ImageError for a picture that takes too much memory or work when it is shrunk by ``scale``."""
    stored, decoded = found.width * found.height, -(-found.width // scale) * -(-found.height // scale)
    if decoded > max_pixels:
        raise ImageError(f"{decoded:,} pixels, more than the limit of {max_pixels:,} (max_pixels)")
    most = (STORED if found.scans < 2 else STORED_IN_SCANS) * max_pixels
    if stored > most:
        kind = "stored pixels" if found.scans < 2 else "stored pixels in several scans"
        raise ImageError(f"{stored:,} {kind}, more than the limit of {most:,} (a multiple of max_pixels)")
    if found.scans * stored > PASSES * max_pixels:
        raise ImageError(
            f"{found.scans} scans of {stored:,} pixels, more than the limit of {PASSES * max_pixels:,} in all scans "
            "(a multiple of max_pixels)"
        )
    if not found.end:
        raise ImageError("truncated JPEG: its end is missing")


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


def load(data: bytes, found: Survey, image: Image.Image, scale: int) -> Image.Image | NDArray[np.uint8]:
    """The pixels of an opened JPEG, shrunk by ``scale``; ImageError if libjpeg found the file damaged.

    Grey ``[h, w]``, RGB ``[h, w, 3]`` and CMYK ``[h, w, 4]`` (0: no ink, as Pillow has it) come as an array, what
    simplejpeg does not read as the loaded image.
    """
    width, height = (-(-side // scale) for side in image.size)
    pixels = _with_warnings(data, found.end, image.mode, width, height)
    if pixels is not None and pixels.shape[:2] == (height, width):
        return pixels
    if scale > 1:
        image.draft(None, (image.size[0] // scale, image.size[1] // scale))
        if image.size != (width, height):
            raise ImageError(f"shrinking by {scale} while loading gave {image.size}, not {(width, height)}")
    image.load()
    return image


def _with_warnings(data: bytes, end: int, mode: str, width: int, height: int) -> NDArray[np.uint8] | None:
    if simplejpeg is None or mode not in _COLOURS:
        return None
    for strict in (True, False):
        try:
            pixels = simplejpeg.decode_jpeg(data, _COLOURS[mode], min_width=width, min_height=height, strict=strict)
        except ValueError as error:
            said = one_line(error)
            if _is_damage(said, data, end):
                raise ImageError(f"damaged JPEG: {said.removeprefix('Corrupt JPEG data: ')}") from error
            continue  # harmless: the same once more, without stopping at it
        if mode == "CMYK":
            np.subtract(255, pixels, out=pixels)  # Adobe's way round, which Pillow assumes of all
        return np.asarray(pixels[:, :, 0] if mode == "L" else pixels)
    return None


def _is_damage(said: str, data: bytes, end: int) -> bool:
    """Whether one of libjpeg's warnings speaks of pixels that are lost."""
    extra = _EXTRA_BYTES.search(said)
    if extra:
        count = int(extra[1])
        return count > _EXTRANEOUS and len(set(data[end - count : end])) > 1
    return said.startswith(("Corrupt JPEG data", "Premature end of JPEG"))

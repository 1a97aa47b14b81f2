"""PNG files: their chunks looked at before decoding, and only those handed on that say something about the pixels.

Text of any size, animation and private chunks are left out, so they cost nothing and cannot make a whole picture
unreadable (Pillow refuses text that inflates to more than a megabyte).
"""

import zlib
from dataclasses import dataclass

from topwork.errors import ImageError
from topwork.images.profiles import IGNORED, LARGEST, Chromaticities, from_code_points, from_gamma

_CHUNKS = 10_000  # a file may have this many, and one more
_BYTES_A_CHUNK = 1024  # for each of so many bytes: encoders write 8 kB at a time, or rows
_SIGNATURE = 8
_DROPPED = {b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"acTL", b"fcTL", b"fdAT"}
_KEPT = {b"tRNS", b"eXIf"}
_ORIENTED = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts in which the orientation may stand


@dataclass(frozen=True)
class Stripped:
    """A PNG file without what does not belong to its pixels, and what it said about colours."""

    data: bytes
    profile: bytes | None
    """An ICC profile: the file's own, or one made of its chunks cICP or gAMA and cHRM; None for sRGB or nothing."""
    depth: int
    """Bits of a sample."""
    note: str | None = None


def strip(data: bytes) -> Stripped:
    """Leave out of a PNG file what does not belong to its pixels; ImageError if it has too many chunks."""
    most = _CHUNKS + len(data) // _BYTES_A_CHUNK
    kept: list[tuple[int, int]] = [(0, _SIGNATURE)]
    colour: dict[bytes, bytes] = {}
    at = _SIGNATURE
    for _ in range(most):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = min(at + 12 + length, len(data))
        if _is_kept(name, data, at + 8):
            if kept[-1][1] == at:
                kept[-1] = (kept[-1][0], end)
            else:
                kept.append((at, end))
        elif name in _DROPPED and length <= LARGEST:
            colour.setdefault(name, data[at + 8 : end - 4])
        at = end
        if name == b"IEND" or at >= len(data):
            break
    else:
        raise ImageError(f"a PNG of more than {most:,} chunks")
    whole = kept == [(0, len(data))]
    profile, note = _profile(colour)
    depth = data[24] if len(data) > 24 else 8
    return Stripped(data if whole else b"".join(data[a:b] for a, b in kept), profile, depth, note)


def _is_kept(name: bytes, data: bytes, start: int) -> bool:
    if name in _KEPT or not name[:1].islower():
        return True
    return name in (b"zTXt", b"iTXt") and data.startswith(_ORIENTED, start)


def _profile(colour: dict[bytes, bytes]) -> tuple[bytes | None, str | None]:
    """In the order of the specification (third edition): cICP, iCCP, sRGB, gAMA with cHRM."""
    if b"cICP" in colour:
        profile = from_code_points(*colour[b"cICP"][:2])
        return profile, None
    if b"iCCP" in colour:
        return _inflated(colour[b"iCCP"])
    if b"sRGB" in colour or b"gAMA" not in colour:
        return None, None
    gamma = int.from_bytes(colour[b"gAMA"][:4], "big") / 100_000
    corners = colour.get(b"cHRM", b"")
    values = [int.from_bytes(corners[i : i + 4], "big") / 100_000 for i in range(0, 32, 4)]
    return from_gamma(gamma, Chromaticities(*values) if len(corners) >= 32 else None), None


def _inflated(chunk: bytes) -> tuple[bytes | None, str | None]:
    try:
        begin = chunk.index(0) + 2  # after the name and the method, which is 0
        inflater = zlib.decompressobj()
        profile = inflater.decompress(chunk[begin:], LARGEST)
    except (ValueError, zlib.error):
        return None, IGNORED
    if not inflater.eof:
        return None, f"colour profile ignored (cut off, or more than {LARGEST:,} bytes)"
    return profile, None

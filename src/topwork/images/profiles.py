"""ICC profiles: of a file to sRGB, and small ones made of a PNG's numbers.

A browser shows pictures so, and the same model runs in one.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

LARGEST = 4 * 2**20
"""Bytes of a profile; those of printing presses have 0.5 to 3 MB."""
_NO_CACHE = 0x40  # of the last pixel: threads share a transform
_SPACES = {"RGB ": ("RGB", "L"), "GRAY": ("L",), "CMYK": ("CMYK",)}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)

IGNORED = "colour profile ignored (damaged)"


def to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    """A picture (modes L, LA, RGB, RGBA, CMYK) in sRGB, and a note where its profile could not be used.

    A profile for another kind of pixels is ignored in silence, as browsers do; that of RGB counts for grey too.
    """
    transform, note = _transform(profile, image.mode)
    if transform is None:
        return image, note
    wanted = _input_mode(profile, image.mode)
    if wanted == "CMYK":
        image = _without_black(image)
    elif image.mode != wanted:
        image = image.convert(wanted)
    if wanted != "LA":
        return ImageCms.applyTransform(image, transform), None  # type: ignore[return-value]
    grey = ImageCms.applyTransform(image.getchannel("L"), transform)
    assert grey is not None
    grey.putalpha(image.getchannel("A"))
    return grey, None


def _without_black(image: Image.Image) -> Image.Image:
    """A CMYK picture whose black is in the other inks: so browsers (Blink) hand it to the profile."""
    inks = [ImageChops.invert(channel) for channel in image.convert("RGB").split()]
    return Image.merge("CMYK", [*inks, Image.new("L", image.size)])


def _input_mode(profile: bytes, mode: str) -> str:
    alpha = "A" if mode.endswith("A") else ""
    return {b"RGB ": "RGB" + alpha, b"GRAY": "L" + alpha}.get(profile[16:20], mode)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> tuple[Any, str | None]:
    """From a profile to sRGB for pictures of a mode, None if there is nothing to do; and a note."""
    if len(profile) > LARGEST:
        return None, f"colour profile ignored (more than {LARGEST:,} bytes)"
    space = profile[16:20].decode("latin-1")
    if space in _SPACES and mode.removesuffix("A") not in _SPACES[space]:
        return None, None
    if space not in _SPACES:
        return None, IGNORED
    wanted = _input_mode(profile, mode)
    wanted, output = ("L", "RGB") if wanted == "LA" else (wanted, "RGBA" if wanted == "RGBA" else "RGB")
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        made = ImageCms.buildTransform(
            opened,
            ImageCms.ImageCmsProfile(BytesIO(_srgb())),
            wanted,
            output,
            ImageCms.Intent.PERCEPTUAL,
            ImageCms.Flags(_NO_CACHE),
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, IGNORED
    return (None if wanted != "CMYK" and _changes_nothing(made, wanted) else made), None


@lru_cache(maxsize=1)
def _srgb() -> bytes:
    """sRGB as a profile of version 2.4: for version 4 Little CMS adapts the black point, which browsers do not."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:8] + bytes([2, 0x40, 0, 0]) + profile[12:]


def _changes_nothing(transform: Any, mode: str) -> bool:
    """Whether the profile is sRGB already, found by its effect on colours from all over the cube."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    if mode == "L":
        given = np.arange(256, dtype=np.uint8)[None]
        wanted = given[:, :, None]
    else:
        given = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        wanted = given
    image = Image.fromarray(given)
    made = np.asarray(ImageCms.applyTransform(image.convert(mode), transform))[:, :, :3]
    return bool(np.abs(made.astype(int) - wanted).max() <= 3)


@dataclass(frozen=True)
class Chromaticities:
    """Of a display: white and the three primaries, as x and y of CIE 1931."""

    white_x: float
    white_y: float
    red_x: float
    red_y: float
    green_x: float
    green_y: float
    blue_x: float
    blue_y: float

    def to_xyz(self) -> NDArray[np.float64] | None:
        """``[3, 3]``: XYZ of red, green, blue as columns, adapted to D50 (Bradford); None for what is no display."""
        xy = np.array([[self.red_x, self.green_x, self.blue_x], [self.red_y, self.green_y, self.blue_y]])
        if min(xy[1].min(), self.white_y) <= 0:
            return None
        primaries = np.stack([xy[0], xy[1], 1 - xy.sum(axis=0)])
        white = np.array([self.white_x, self.white_y, 1 - self.white_x - self.white_y]) / self.white_y
        if abs(np.linalg.det(primaries)) < 1e-6:
            return None
        columns = primaries * np.linalg.solve(primaries, white)
        cone = _BRADFORD @ white
        if np.abs(cone).min() < 1e-6:
            return None
        return np.asarray(np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / cone) @ _BRADFORD @ columns)


SRGB = Chromaticities(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_PRIMARIES = {  # by their numbers in H.273
    1: SRGB,
    9: Chromaticities(0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    12: Chromaticities(0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}


def from_gamma(gamma: float, corners: Chromaticities | None) -> bytes | None:
    """A profile of a PNG's gAMA (1/2.2 as 0.45455) and cHRM; None where it is about sRGB, or nonsense."""
    if not 0.01 <= gamma <= 10:
        return None
    if abs(gamma - 1 / 2.2) < 0.001 and corners is None:
        return None
    return _made(corners or SRGB, (1 / gamma,))


def from_code_points(primaries: int = 2, transfer: int = 2) -> bytes | None:
    """A profile of the numbers of H.273 for displays with the curve of sRGB; None for sRGB and for others (HDR, film).

    >>> from_code_points(1, 13) is None, len(from_code_points(12, 13))
    (True, 328)
    """
    if transfer != 13 or primaries not in _PRIMARIES or primaries == 1:
        return None
    return _made(_PRIMARIES[primaries], _SRGB_CURVE)


def _made(corners: Chromaticities, curve: tuple[float, ...]) -> bytes | None:
    """An ICC profile, version 4, of a display with three primaries and one curve (ICC.1:2022, 8.3.3)."""
    columns = corners.to_xyz()
    if columns is None:
        return None
    parametric = b"para" + struct.pack(">IHH", 0, 3 if len(curve) > 1 else 0, 0) + _fixed(*curve)
    tags = [(name, _xyz(column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)]
    tags.append((b"wtpt", _xyz(_D50)))
    places, body = [], b""
    start = 128 + 4 + 12 * 7
    for name, data in tags:
        places.append((name, start + len(body), len(data)))
        body += data
    places += [(name, start + len(body), len(parametric)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    body += parametric
    table = struct.pack(">I", len(places)) + b"".join(name + struct.pack(">II", *place) for name, *place in places)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s12s4s", size, bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp")
    return header + bytes(28) + _fixed(*_D50) + bytes(48) + table + body


def _xyz(values: Any) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

"""What the pass over the pixels notes about each picture: size, perceptual hash, sharpness, light.

Measured on a copy reduced to about the size the network sees, because detail beyond that does not matter to it.
"""

import json
from dataclasses import asdict, dataclass

from topwork.images.decode import Picture
from topwork.images.measuring import grey_copy, mean_and_deviation, perceptual_hash, sharpness

FACTS_VERSION = "facts-2"


@dataclass(frozen=True)
class Facts:
    """Facts about one picture."""

    width: int
    height: int
    mode: str
    """Pillow's name of the file's colour mode, such as RGB, L, CMYK, I;16."""
    format: str
    phash: int
    """64-bit perceptual hash: the signs of the 8 by 8 lowest cosine frequencies (constant one left out)."""
    sharpness: float
    """Standard deviation of the Laplacian relative to that of the grey values; below about 0.1 is blurred."""
    brightness: float
    """Mean grey value, 0..255."""
    contrast: float
    """Standard deviation of the grey values, 0..127.5."""
    notes: tuple[str, ...] = ()
    """What was wrong with the file without harm to its pixels, as `topwork.images.Picture.notes`."""

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Facts":
        found = json.loads(data)
        return cls(**{**found, "notes": tuple(found["notes"])})


def measure(picture: Picture) -> Facts:
    """The facts of one decoded picture.

    >>> import numpy as np
    >>> black = Picture(np.zeros((40, 60, 3), np.uint8), "PNG", "RGB", 60, 40)
    >>> facts = measure(black)
    >>> facts.width, facts.height, facts.brightness
    (60, 40, 0.0)
    """
    grey = grey_copy(picture.image)
    brightness, contrast = mean_and_deviation(grey)
    return Facts(
        width=picture.width,
        height=picture.height,
        mode=picture.mode,
        format=picture.format,
        phash=perceptual_hash(grey),
        sharpness=sharpness(grey, contrast),
        brightness=round(brightness, 2),
        contrast=round(contrast, 2),
        notes=picture.notes,
    )


def mirrored_hash(phash: int) -> int:
    """The perceptual hash of the mirror image: odd horizontal frequencies change their sign.

    >>> hex(mirrored_hash(0) ^ mirrored_hash(mirrored_hash(0)))
    '0xaaaaaaaaaaaaaaaa'
    """
    return phash ^ 0xAAAAAAAAAAAAAAAA

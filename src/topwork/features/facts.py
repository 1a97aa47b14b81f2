"""What the pass over the pixels notes about each picture: size, perceptual hash, sharpness, light.

Measured on a copy reduced to about the size the network sees, because detail beyond that does not matter to it.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.images.decode import Picture

FACTS_VERSION = "facts-1"
_SIDE = 160  # pixels; the shorter side of the reduced copy lies between this and twice this
_HASH_SIDE = 32


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

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Facts":
        return cls(**json.loads(data))


def measure(picture: Picture) -> Facts:
    """The facts of one decoded picture.

    >>> black = Picture(np.zeros((40, 60, 3), np.uint8), "PNG", "RGB", 60, 40)
    >>> facts = measure(black)
    >>> facts.width, facts.height, facts.brightness
    (60, 40, 0.0)
    """
    # Grey first: reducing three channels takes five times as long.
    grey = (picture.source or Image.fromarray(picture.pixels)).convert("L")
    factor = max(1, min(grey.size) // _SIDE)
    grey = grey.reduce(factor) if factor > 1 else grey
    values = np.asarray(grey)
    brightness, contrast = _mean_and_deviation(np.array(grey.histogram()))
    return Facts(
        width=picture.width,
        height=picture.height,
        mode=picture.mode,
        format=picture.format,
        phash=_perceptual_hash(grey),
        sharpness=round(_laplacian_deviation(values) / max(contrast, 1.0), 4),
        brightness=round(brightness, 2),
        contrast=round(contrast, 2),
    )


def _mean_and_deviation(histogram: NDArray[np.int64]) -> tuple[float, float]:
    levels = np.arange(len(histogram))
    count = histogram.sum()
    mean = float(histogram @ levels / count)
    variance = float(histogram @ (levels * levels) / count) - mean * mean
    return mean, max(variance, 0.0) ** 0.5


def mirrored_hash(phash: int) -> int:
    """The perceptual hash of the mirror image: odd horizontal frequencies change their sign.

    >>> hex(mirrored_hash(0) ^ mirrored_hash(mirrored_hash(0)))
    '0xaaaaaaaaaaaaaaaa'
    """
    return phash ^ 0xAAAAAAAAAAAAAAAA


def _perceptual_hash(grey: Image.Image) -> int:
    small = np.asarray(grey.resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX), np.float32)
    signs = (_cosines() @ small @ _cosines().T) > 0
    signs[0, 0] = False
    weights = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64)).reshape(8, 8)
    return int(weights[signs].sum(dtype=np.uint64))


@cache
def _cosines() -> NDArray[np.float32]:
    """The 8 lowest rows of the type-II discrete cosine transform, ``[8, 32]``."""
    frequency, position = np.arange(8)[:, None], np.arange(_HASH_SIDE)[None]
    return np.cos(np.pi * frequency * (2 * position + 1) / (2 * _HASH_SIDE)).astype(np.float32)


def _laplacian_deviation(values: NDArray[np.uint8]) -> float:
    if min(values.shape) < 3:
        return 0.0
    v = values.astype(np.int16)
    laplacian = v[:-2, 1:-1] + v[2:, 1:-1]
    laplacian += v[1:-1, :-2]
    laplacian += v[1:-1, 2:]
    laplacian -= 4 * v[1:-1, 1:-1]
    flat = laplacian.ravel().astype(np.float32)
    variance = float(flat @ flat) / flat.size - float(flat.mean()) ** 2
    return math.sqrt(max(variance, 0.0))

"""What is measured on a small grey copy of a picture: a perceptual hash, sharpness.

The copy is about the size the network sees, because detail beyond that does not matter to it.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 160  # pixels; the shorter side of the reduced copy lies between this and twice this
_HASH_SIDE = 32


def grey_copy(image: Image.Image) -> Image.Image:
    """The picture in grey, reduced by a whole number.

    >>> grey_copy(Image.new("RGB", (1000, 500))).size
    (334, 167)
    """
    # Grey first: reducing three channels takes five times as long.
    grey = image.convert("L")
    factor = max(1, min(grey.size) // _SIDE)
    return grey.reduce(factor) if factor > 1 else grey


def mean_and_deviation(grey: Image.Image) -> tuple[float, float]:
    """Mean grey value, 0..255, and the standard deviation."""
    histogram = np.array(grey.histogram())
    levels = np.arange(len(histogram))
    count = histogram.sum()
    mean = float(histogram @ levels / count)
    variance = float(histogram @ (levels * levels) / count) - mean * mean
    return mean, max(variance, 0.0) ** 0.5


def sharpness(grey: Image.Image, contrast: float) -> float:
    """Standard deviation of the Laplacian relative to that of the grey values; below about 0.1 is blurred."""
    return round(_laplacian_deviation(np.asarray(grey)) / max(contrast, 1.0), 4)


def perceptual_hash(grey: Image.Image) -> int:
    """64-bit perceptual hash: the signs of the 8 by 8 lowest cosine frequencies (constant one left out)."""
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

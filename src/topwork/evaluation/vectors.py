"""Rows of length 1: what heads, novelty and near-duplicates compare."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def normalized(inputs: Floats) -> Floats:
    """Rows scaled to length 1; a row of zeros stays.

    >>> normalized(np.array([[3, 4], [0, 0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(inputs, axis=1, keepdims=True)
    return np.asarray(inputs / np.maximum(lengths, 1e-12), np.float32)

"""The colours of the content picture in a picture of another style: arrays ``[h, w, 3]`` in 0..1.

Gatys, Bethge, Hertzmann & Shechtman 2016, "Preserving Color in Neural Artistic Style Transfer", arXiv:1606.05897.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_LEAST = 1e-5  # added to variances: a grey picture has none across its colours


def with_colours_of(picture: Floats, content: Floats) -> Floats:
    """The luminance of one picture with the colours of another of the same size.

    >>> red, grey = np.full((1, 1, 3), (1, 0, 0), np.float32), np.full((1, 1, 3), 0.5, np.float32)
    >>> with_colours_of(grey, grey).round(2).tolist()
    [[[0.5, 0.5, 0.5]]]
    """
    difference = (picture - content) @ _LUMINANCE  # [h, w]
    return np.clip(content + difference[..., None], 0, 1).astype(np.float32)


def matched(style: Floats, content: Floats) -> Floats:
    """A style picture with the mean and the covariance of the content picture's colours, by the symmetric square roots.

    >>> matched(np.zeros((2, 2, 3), np.float32), np.full((2, 2, 3), 0.25, np.float32))[0, 0].round(2).tolist()
    [0.25, 0.25, 0.25]
    """
    s, c = style.reshape(-1, 3).astype(np.float64), content.reshape(-1, 3).astype(np.float64)
    turn = _root(_covariance(c)) @ np.linalg.inv(_root(_covariance(s)))
    moved = (s - s.mean(0)) @ turn.T + c.mean(0)
    return np.asarray(np.clip(moved, 0, 1).reshape(style.shape), np.float32)


def _covariance(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cov(colours.T, bias=True) + _LEAST * np.eye(3))


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)

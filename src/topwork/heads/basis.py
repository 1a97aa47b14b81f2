"""Coordinates in which every head is cheap to fit.

All heads here are unchanged when their inputs are shifted and rotated, so they are fitted in the principal axes of the
whole set: at most min(n, d) coordinates, sorted by variance. One factorisation then serves every head, fold and
regularisation. It sees no labels and drops nothing, so it leaks nothing from a fold into another.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_NEGLIGIBLE = 1e-7  # share of the largest eigenvalue below which an axis is rounding error


@dataclass(frozen=True)
class Basis:
    """A set in its principal axes: ``coordinates = (inputs - mean) @ axes``."""

    coordinates: Floats
    """``[n, r]``, r <= min(n, d)."""
    axes: Floats
    """``[d, r]``, orthonormal columns."""
    mean: Floats
    """``[d]``."""

    def restore(self, weight: Floats, bias: Floats) -> tuple[Floats, Floats]:
        """Weights ``[r, c]`` and bias ``[c]`` in these coordinates, as ``[d, c]`` and ``[c]`` on the inputs."""
        original = (self.axes @ weight).astype(np.float32)
        return original, (bias - self.mean @ original).astype(np.float32)


def principal_axes(inputs: Floats) -> Basis:
    """The basis of ``inputs`` ``[n, d]``.

    >>> points = np.array([[0, 0], [2, 2], [4, 4]], np.float32)
    >>> basis = principal_axes(points)
    >>> basis.coordinates.shape, bool(np.allclose(basis.coordinates @ basis.axes.T + basis.mean, points, atol=1e-5))
    ((3, 1), True)
    """
    from scipy.linalg import eigh

    mean = inputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = inputs - mean
    n, d = centred.shape
    values, vectors = eigh(centred @ centred.T if n < d else centred.T @ centred, driver="evd", overwrite_a=True)
    kept = values > max(float(values[-1]), 0.0) * _NEGLIGIBLE
    if not kept.any():  # all inputs are equal: one axis, along which nothing happens
        return Basis(np.zeros((n, 1), np.float32), np.zeros((d, 1), np.float32), mean)
    values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
    if n < d:
        lengths = np.sqrt(values)
        axes = np.ascontiguousarray(centred.T @ (vectors / lengths))
        return Basis(np.ascontiguousarray(vectors * lengths), axes, mean)
    return Basis(centred @ vectors, np.ascontiguousarray(vectors), mean)

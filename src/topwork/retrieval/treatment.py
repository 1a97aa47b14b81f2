"""How features become the vectors that are compared: of length 1, moved so that their mean is 0, on principal axes.

Features of one network lie in a narrow cone: every one of them has a large part in common, which says nothing about a
picture. Taking the mean away leaves what tells pictures apart. docs/search.md has what each treatment brings, measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import CacheError
from topwork.evaluation.vectors import normalized

Floats = NDArray[np.float32]

TREATMENTS = {"centred": ("mean",), "plain": (), "pca": ("mean", "axes"), "whitened": ("mean", "axes", "scale")}
"""By name, the default first: what each takes from the collection."""
FEWEST = 20
"""Pictures below which there is no mean worth the name: their vectors are the plain ones."""
AXES = 128
"""Principal axes that ``pca`` and ``whitened`` keep, at most."""
_PICTURES_AN_AXIS = 4  # with as many axes as pictures, whitening would make all of them equally far from each other
_FLOOR = 1e-3  # of the largest standard deviation; whitening would make noise of what is below


@dataclass(frozen=True)
class Treatment:
    """A mean ``[d]`` that is taken away and axes ``[d, m]`` that are looked along; neither where it is None."""

    mean: Floats | None = None
    axes: Floats | None = None
    fitted_on: int = 0
    """Pictures that mean and axes come from."""

    def __call__(self, features: Floats) -> Floats:
        """Vectors ``[n, m]`` of length 1 from features ``[n, d]``; CacheError where it was made for another length.

        >>> Treatment(mean=np.array([0.6, 0.0], np.float32))(np.array([[3, 4]], np.float32)).tolist()
        [[0.0, 1.0]]
        """
        vectors = normalized(features)
        made_for = {len(each) for each in (self.mean, self.axes) if each is not None}
        if not made_for <= {vectors.shape[1]}:
            raise _damaged(f"it takes {made_for.pop():,} features, not {vectors.shape[1]:,}")
        if self.mean is not None:
            vectors = vectors - self.mean
        if self.axes is not None:
            vectors = vectors @ self.axes
        return normalized(vectors)

    def width(self, features: int) -> int:
        """Length of the vectors from features of length d."""
        return features if self.axes is None else self.axes.shape[1]

    def to_bytes(self) -> bytes:
        """For `from_bytes`: no pickle."""
        from safetensors.numpy import save

        tensors = {"mean": self.mean, "axes": self.axes, "fitted_on": np.array([self.fitted_on])}
        return bytes(save({name: np.ascontiguousarray(each) for name, each in tensors.items() if each is not None}))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Treatment":
        """What `to_bytes` gave; CacheError for anything else.

        >>> Treatment.from_bytes(Treatment(fitted_on=7).to_bytes()).fitted_on
        7
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors: dict[str, Any] = load(data)
            fitted_on = int(tensors["fitted_on"][0])
        except (SafetensorError, LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise _damaged(str(error)) from error
        mean, axes = tensors.get("mean"), tensors.get("axes")
        for found, dimensions in ((mean, 1), (axes, 2)):
            if found is not None and (found.ndim != dimensions or found.dtype != np.float32):
                raise _damaged("it has tensors of another kind")
            if found is not None and not np.isfinite(found).all():
                raise _damaged("it is no number")
        return cls(mean, axes, fitted_on)


def _damaged(why: str) -> CacheError:
    return CacheError(
        f"expected what an index makes vectors with, but it is damaged ({why}); delete the index and make it again"
    )


def fit(name: str, chunks: Iterable[Floats]) -> Treatment:
    """The treatment of this name, ``TREATMENTS``, for a collection whose features come in chunks ``[m, d]``.

    Sums are kept, not the features, so that memory does not grow with the collection.

    >>> fit("centred", [np.eye(2, dtype=np.float32)] * 10).mean.tolist()
    [0.5, 0.5]
    """
    needed = TREATMENTS[name]
    if not needed:
        return Treatment()
    count, total, products = 0, np.zeros(1), np.zeros((1, 1))
    for chunk in chunks:
        vectors = normalized(chunk).astype(np.float64)
        count += len(vectors)
        total = total + vectors.sum(0)
        if "axes" in needed:
            products = products + vectors.T @ vectors
    if count < FEWEST:
        return Treatment()
    mean = total / count
    axes = _axes(products / count - np.outer(mean, mean), count, needed) if "axes" in needed else None
    return Treatment(mean.astype(np.float32), axes, count)


def _axes(covariance: NDArray[np.float64], count: int, needed: tuple[str, ...]) -> Floats:
    """The principal axes, the strongest first; divided by their standard deviations for ``whitened``."""
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        variances, axes = eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    deviations = np.sqrt(np.maximum(variances, 0))
    kept = min(AXES, count // _PICTURES_AN_AXIS, int((deviations > _FLOOR * deviations[0]).sum()) or 1)
    axes = axes[:, :kept] / (deviations[:kept] if "scale" in needed else 1)
    return np.asarray(axes, np.float32)

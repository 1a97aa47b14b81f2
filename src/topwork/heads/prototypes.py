"""Heads made of prototypes: the nearest class mean (Mensink et al. 2013)."""

import numpy as np

from topwork.heads.basis import Floats
from topwork.heads.linear import each_fit


def fit_nearest_mean(coordinates: Floats, targets: Floats, mask: Floats, _strength: float) -> tuple[Floats, Floats]:
    """Score of a class: minus half the squared distance to its mean, up to a term all classes share.

    Linear, because ``-|z - m|^2 / 2 = z m - |m|^2 / 2 - |z|^2 / 2``.
    """

    def fit_one(rows: Floats, members: Floats, _shares: Floats) -> tuple[Floats, Floats]:
        means = (members.T @ rows) / np.maximum(members.sum(axis=0), 1)[:, None]
        return means.T, -0.5 * np.square(means).sum(axis=1)

    return each_fit(fit_one, coordinates, targets, mask)

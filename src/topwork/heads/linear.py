"""Linear heads: SVM, logistic regression, linear discriminant analysis, ridge regression.

Every head is a function ``fit(coordinates [n, r], targets one-hot [n, c], weights [n, k], strength) -> (W [k, r, c],
b [k, c])``: k fits at once, one for each column of sample weights, where a weight of zero leaves a picture out.
``strength`` is how closely the head follows the pictures; larger fits closer. It is relative to the spread of the
inputs and to the number of pictures, as the C of an SVM is, so one grid serves all sets.
"""

from collections.abc import Callable

import numpy as np

from topwork.heads.basis import Floats
from topwork.heads.solver import Loss, SoftmaxLoss, SquaredHingeLoss, minimize

Fit = Callable[[Floats, Floats, Floats, float], tuple[Floats, Floats]]

_ABSENT = np.float32(-np.inf)
"""Score of a class that had no picture in a fit: it is never chosen."""


def balanced(targets: Floats, mask: Floats) -> Floats:
    """Sample weights ``[n, k]`` that give every class the same total; ``mask`` says which pictures are in each fit.

    >>> targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 1]]
    >>> balanced(targets, np.ones((4, 1), np.float32))[:, 0].astype(float).round(3).tolist()
    [0.167, 0.167, 0.167, 0.5]
    """
    counts = targets.T @ mask
    present = np.maximum((counts > 0).sum(axis=0), 1)
    return np.asarray(mask * (targets @ (1 / np.maximum(counts, 1))) / present, np.float32)


def fit_svm(coordinates: Floats, targets: Floats, mask: Floats, strength: float) -> tuple[Floats, Floats]:
    """One-versus-rest linear SVM with squared hinge loss (Cortes & Vapnik 1995; L2-SVM)."""
    return _minimized(SquaredHingeLoss(), coordinates, targets, mask, strength)


def fit_logistic(coordinates: Floats, targets: Floats, mask: Floats, strength: float) -> tuple[Floats, Floats]:
    """Multinomial logistic regression with an L2 penalty."""
    return _minimized(SoftmaxLoss(), coordinates, targets, mask, strength)


def fit_lda(coordinates: Floats, targets: Floats, mask: Floats, shrinkage: float) -> tuple[Floats, Floats]:
    """Linear discriminant analysis with equal priors and a shrunk covariance (Friedman 1989).

    The within-class covariance is ``(1 - shrinkage) S + shrinkage trace(S) / r I``, shrinkage in (0, 1].
    """

    def fit_one(rows: Floats, members: Floats, shares: Floats) -> tuple[Floats, Floats]:
        means = (members.T @ rows) / np.maximum(members.sum(axis=0), 1)[:, None]
        residuals = (rows - members @ means) * np.sqrt(shares)[:, None]
        covariance = residuals.T @ residuals
        level = float(np.trace(covariance)) / len(covariance) or 1.0
        covariance *= np.float32(1 - shrinkage)
        weight = _solve(_with_ridge(covariance, shrinkage * level), means.T)
        return weight, np.asarray(-0.5 * (means.T * weight).sum(axis=0), np.float32)

    return each_fit(fit_one, coordinates, targets, mask)


def fit_ridge(coordinates: Floats, targets: Floats, mask: Floats, strength: float) -> tuple[Floats, Floats]:
    """Ridge regression (Hoerl & Kennard 1970) on targets +-1, in closed form."""

    def fit_one(rows: Floats, members: Floats, shares: Floats) -> tuple[Floats, Floats]:
        signs = 2 * members - 1
        mean, level = shares @ rows, shares @ signs
        roots = np.sqrt(shares)[:, None]
        centred = (rows - mean) * roots
        penalty = float(_penalties(rows, np.ones((len(rows), 1), np.float32), strength)[0])
        gram = _with_ridge(centred.T @ centred, penalty)
        weight = _solve(gram, centred.T @ ((signs - level) * roots))
        return weight, np.asarray(level - mean @ weight, np.float32)

    return each_fit(fit_one, coordinates, targets, mask)


def each_fit(
    fit_one: Callable[[Floats, Floats, Floats], tuple[Floats, Floats]],
    coordinates: Floats,
    targets: Floats,
    mask: Floats,
) -> tuple[Floats, Floats]:
    """Call ``fit_one(rows, targets, weights) -> (W [r, c], b [c])`` on the pictures of every fit."""
    weights = balanced(targets, mask)
    solutions = []
    for k in range(mask.shape[1]):
        inside = mask[:, k] > 0
        solutions.append(fit_one(coordinates[inside], targets[inside], weights[inside, k]))
    weight = np.stack([weight for weight, _ in solutions]).astype(np.float32)
    return _without_absent(weight, np.stack([bias for _, bias in solutions]), targets, mask)


def _minimized(
    loss: Loss, coordinates: Floats, targets: Floats, mask: Floats, strength: float
) -> tuple[Floats, Floats]:
    penalties = _penalties(coordinates, mask, strength)
    weight, bias = minimize(loss, coordinates, targets, balanced(targets, mask), penalties)
    return _without_absent(weight, bias, targets, mask)


def _penalties(coordinates: Floats, mask: Floats, strength: float) -> Floats:
    """``spread / (strength * number)`` of the pictures in each fit, ``[k]``; the others have no say in it."""
    counts = mask.sum(axis=0)
    means = mask.T @ coordinates / counts[:, None]
    spreads = mask.T @ np.square(coordinates).sum(axis=1) / counts - np.square(means).sum(axis=1)
    return np.asarray(np.where(spreads > 0, spreads, 1) / (strength * counts), np.float32)


def _with_ridge(matrix: Floats, amount: float) -> Floats:
    matrix.flat[:: len(matrix) + 1] += np.float32(amount)
    return matrix


def _solve(matrix: Floats, right: Floats) -> Floats:
    from scipy.linalg import solve

    return np.asarray(solve(matrix, right, assume_a="pos", overwrite_a=True, check_finite=False), np.float32)


def _without_absent(weight: Floats, bias: Floats, targets: Floats, mask: Floats) -> tuple[Floats, Floats]:
    present = (mask.T @ targets) > 0
    return weight * present[:, None, :], np.where(present, bias, _ABSENT).astype(np.float32)

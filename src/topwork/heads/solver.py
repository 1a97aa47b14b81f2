"""Many regularised linear classifiers at once, on the same pictures with different weights.

Cross-validation fits the same head again and again on subsets of the same pictures. A subset is a column of zero and
non-zero sample weights, so all fits share each matrix product. The solver is Nesterov's accelerated gradient with
adaptive restart (O'Donoghue & Candès 2015) in coordinates scaled by the curvature of the whole set, where few steps do.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from topwork.heads.basis import Floats

_BIAS_PENALTY = 1e-6
_POWER_STEPS = 12


class Loss(Protocol):
    """A convex loss of the scores of one picture."""

    @property
    def curvature(self) -> float:
        """Upper bound of the loss's second derivative in the scores."""

    def gradient(self, scores: Floats, targets: Floats) -> Floats:
        """Derivative in the scores ``[n, k, c]`` for one-hot ``targets`` ``[n, c]``; may overwrite scores."""


@dataclass(frozen=True)
class SoftmaxLoss:
    """Multinomial logistic loss, -log softmax(scores)[label]; its curvature bound is Böhning's (1992)."""

    curvature: float = 0.5

    def gradient(self, scores: Floats, targets: Floats) -> Floats:
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=2, keepdims=True)
        scores -= targets[:, None]
        return scores


@dataclass(frozen=True)
class SquaredHingeLoss:
    """One-versus-rest squared hinge, 0.5 * max(0, 1 - t * score)^2 with t = +-1: the linear L2-SVM."""

    curvature: float = 1.0

    def gradient(self, scores: Floats, targets: Floats) -> Floats:
        signs = 2 * targets[:, None] - 1
        scores *= -signs
        scores += 1
        np.maximum(scores, 0, out=scores)
        scores *= -signs
        return scores


def minimize(
    loss: Loss,
    coordinates: Floats,
    targets: Floats,
    weights: Floats,
    penalties: Floats,
    *,
    tolerance: float = 2e-3,
    max_steps: int = 300,
) -> tuple[Floats, Floats]:
    """Minimise ``sum_i s_ik loss(z_i W_k + b_k, y_i) + penalty_k / 2 |W_k|^2`` for every column k of the weights.

    Coordinates ``[n, r]``, one-hot targets ``[n, c]``, weights ``[n, k]`` (each column is scaled to sum 1), penalties
    ``[k]``.
    Returns ``W [k, r, c]`` and ``b [k, c]``; stops when every gradient fell to ``tolerance`` of its start.
    """
    scaled = _Scaled(loss, coordinates, weights, penalties)
    n, k, c = len(coordinates), weights.shape[1], targets.shape[1]
    steps = np.repeat(1 / scaled.lipschitz(), c)
    pull = np.repeat(scaled.penalties, c, axis=1)
    current = np.zeros((scaled.inputs.shape[1], k * c), np.float32)
    ahead, momentum, start = current, 1.0, None
    for _ in range(max_steps):
        slopes = loss.gradient((scaled.inputs @ ahead).reshape(n, k, c), targets)
        slopes *= scaled.weights[:, :, None]
        gradient = scaled.inputs.T @ slopes.reshape(n, k * c) + pull * ahead
        sizes = np.square(gradient).reshape(-1, k, c).sum(axis=(0, 2))
        start = sizes if start is None else start
        if (sizes <= tolerance**2 * start).all():
            break
        following = ahead - gradient * steps
        move = following - current
        if float(np.vdot(gradient, move)) > 0:
            ahead, momentum = following, 1.0
        else:
            grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            ahead = following + np.float32((momentum - 1) / grown) * move
            momentum = grown
        current = following
    return scaled.restore(ahead.reshape(-1, k, c))


class _Scaled:
    """The problem after scaling each coordinate by its curvature; the bias is one more coordinate."""

    def __init__(self, loss: Loss, coordinates: Floats, weights: Floats, penalties: Floats) -> None:
        variances = np.square(coordinates).mean(axis=0)
        self._scales = (1 / np.sqrt(loss.curvature * variances + penalties.mean())).astype(np.float32)
        self._bias_scale = np.float32(1 / np.sqrt(loss.curvature))
        bias = np.full((len(coordinates), 1), self._bias_scale, np.float32)
        self.inputs: Floats = np.concatenate([coordinates * self._scales, bias], axis=1)
        relative = np.square(self._scales)[:, None] * penalties
        self.penalties: Floats = np.vstack([relative, np.full_like(penalties, _BIAS_PENALTY)]).astype(np.float32)
        self.weights: Floats = (weights / weights.sum(axis=0)).astype(np.float32)
        self._curvature = np.float32(loss.curvature)

    def lipschitz(self) -> Floats:
        """An upper bound of the gradient's Lipschitz constant for each fit, by power iteration, ``[k]``."""
        size = self.inputs.shape[1]
        vectors = np.full((size, self.weights.shape[1]), size**-0.5, np.float32)
        for _ in range(_POWER_STEPS):
            product = self.inputs.T @ (self.weights * (self.inputs @ vectors))
            vectors = self._curvature * product + self.penalties * vectors
            lengths = np.linalg.norm(vectors, axis=0)
            vectors /= lengths
        return np.asarray(1.1 * lengths, np.float32)  # the iteration approaches from below

    def restore(self, solution: NDArray[np.float32]) -> tuple[Floats, Floats]:
        weight = solution[:-1] * self._scales[:, None, None]
        return np.ascontiguousarray(weight.transpose(1, 0, 2)), solution[-1] * self._bias_scale

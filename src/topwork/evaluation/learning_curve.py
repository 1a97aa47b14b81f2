"""What more pictures would buy: accuracy against the number of training pictures, and a careful look ahead."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.metrics import share_interval

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FRACTIONS = (0.25, 0.5, 1.0)
_REPEATS = 300
_STEEPEST = 1.0  # errors of linear heads fall no faster than 1 / n


@dataclass(frozen=True)
class Curve:
    """Measured points and the forecast for twice the pictures."""

    points: list[dict[str, Any]]
    forecast: dict[str, Any] | None
    advice: str

    def summary(self) -> dict[str, Any]:
        """Plain values."""
        return {"points": self.points, "forecast": self.forecast, "advice": self.advice}


def subsets(labels: Ints, groups: Ints, folds: Ints, fraction: float, seed: int) -> Bools:
    """Training pictures ``[n, K]`` for each fold, thinned to ``fraction`` of every class, whole groups at a time.

    Every class keeps at least one group in every fold's training set, where it has one.
    """
    random = np.random.default_rng(seed)
    n_folds = int(folds.max()) + 1
    kept = np.zeros((len(labels), n_folds), bool)
    for fold in range(n_folds):
        for k in np.unique(labels):
            members = np.unique(groups[(labels == k) & (folds != fold)])
            if len(members):
                chosen = random.choice(members, max(1, round(fraction * len(members))), replace=False)
                kept[:, fold] |= (labels == k) & np.isin(groups, chosen)
    return kept


def learning_curve(
    right: dict[float, Bools], labels: Ints, groups: Ints, names: list[str], *, folds: int, seed: int
) -> Curve:
    """The curve from out-of-fold results ``right[fraction]`` ``[n]`` of heads trained on shares of the pictures.

    The error is taken to fall as a power of the number of pictures (Hestness et al. 2017); the interval of the forecast
    for twice as many is a bootstrap over groups, so it is as wide as the measurements are loose.
    """
    full = len(labels) * (folds - 1) / folds
    fractions = sorted(right)
    points = [_point(round(full * f), right[f], labels, groups, names) for f in fractions]
    if len(fractions) < 2:
        return Curve(points, None, "The set is too small to say what more pictures would bring.")
    if right[fractions[-1]].all():
        # Without a mistake there is nothing to extend, and a bootstrap would claim certainty.
        return Curve(
            points,
            None,
            "Every picture was classified right; more pictures would narrow the interval rather than add accuracy.",
        )
    stacked = np.stack([right[f] for f in fractions], axis=1).astype(np.float64)
    weights = _bootstrap(groups, seed)
    forecasts = _extrapolate(1 - weights @ stacked / weights.sum(axis=1, keepdims=True), fractions)
    value = float(_extrapolate(1 - stacked.mean(axis=0)[None], fractions)[0])
    by_class = {
        name: float(_extrapolate(1 - stacked[labels == k].mean(axis=0)[None], fractions)[0])
        for k, name in enumerate(names)
        if (labels == k).any()
    }
    low, high = np.quantile(forecasts, [0.025, 0.975])
    forecast = {
        "n": round(2 * full),
        "accuracy": value,
        "low": float(min(low, value)),
        "high": float(max(high, value)),
        "per_class": by_class,
    }
    return Curve(points, forecast, _advice(points[-1], forecast))


def _point(n: int, right: Bools, labels: Ints, groups: Ints, names: list[str]) -> dict[str, Any]:
    interval = share_interval(right, groups)
    recalls = {name: float(right[labels == k].mean()) for k, name in enumerate(names) if (labels == k).any()}
    return {"n": n, "accuracy": interval.value, "low": interval.low, "high": interval.high, "per_class": recalls}


def _bootstrap(groups: Ints, seed: int) -> NDArray[np.float64]:
    """Weights ``[repeats, n]`` of pictures when whole groups are drawn with replacement."""
    number = np.unique(groups, return_inverse=True)[1]
    size = int(number.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=_REPEATS)
    return drawn[:, number].astype(np.float64)


def _extrapolate(errors: NDArray[np.float64], fractions: list[float]) -> NDArray[np.float64]:
    """Accuracy at twice the pictures from errors ``[m, points]``: the last error times 2^-slope."""
    x = np.log(np.array(fractions))
    y = np.log(np.maximum(errors, 1e-3))
    slopes = -((x - x.mean()) * (y - y.mean(axis=1, keepdims=True))).sum(axis=1) / np.square(x - x.mean()).sum()
    return np.asarray(1 - errors[:, -1] * 2.0 ** -np.clip(slopes, 0, _STEEPEST))


def _advice(last: dict[str, Any], forecast: dict[str, Any]) -> str:
    gain = forecast["accuracy"] - last["accuracy"]
    gains = {name: value - last["per_class"][name] for name, value in forecast["per_class"].items()}
    most = max(gains, key=lambda name: gains[name])
    most_gained = forecast["high"] - last["accuracy"]
    if gain < 0.005 and most_gained < 0.03:
        return "More pictures of the same kind would hardly help; look at the mistakes and the labels instead."
    if gain < 0.005:
        return f"This set cannot tell what more pictures would bring: up to {100 * most_gained:.0f} points, or nothing."
    where = f", most of all for {most} (about {100 * gains[most]:.0f} points)" if gains[most] >= 0.01 else ""
    return f"Twice as many pictures would bring about {100 * gain:.1f} points{where}."

"""The measurements, on functions whose answer is known."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from topwork.explanation.faithfulness import Faithfulness, deletion_and_insertion, measure, rank_correlation


def spot(size: int = 40) -> np.ndarray:
    """[3, size, size]: nothing but a bright square of 8 pixels."""
    x = np.zeros((3, size, size), np.float32)
    x[:, 5:13, 20:28] = 1
    return x


def brightness_of_the_spot(squares: np.ndarray) -> np.ndarray:
    return np.asarray(squares[:, 0, 5:13, 20:28].mean((1, 2)))


def test_the_right_map_beats_its_reverse_and_chance() -> None:
    x = spot()
    right = deletion_and_insertion(brightness_of_the_spot, x, x[0])
    wrong = deletion_and_insertion(brightness_of_the_spot, x, -x[0])
    chance = deletion_and_insertion(
        brightness_of_the_spot, x, np.random.default_rng(0).normal(size=x[0].shape).astype(np.float32)
    )
    assert right[0] < chance[0] < wrong[0]
    assert right[1] > chance[1] > wrong[1]
    assert right == pytest.approx(wrong[::-1], abs=0.06)  # deletion in reverse order is insertion
    assert chance[0] == pytest.approx(chance[1], abs=0.05)


def test_the_areas_in_closed_form() -> None:
    """A score that falls with each pixel alike gives a straight line from the picture's value to the blur's."""
    x = spot()
    score: Callable[[np.ndarray], np.ndarray] = lambda squares: np.asarray((squares == x).all(1).mean((1, 2)))  # noqa: E731
    values = np.random.default_rng(1).normal(size=x[0].shape).astype(np.float32)
    from scipy.ndimage import gaussian_filter

    same = float((gaussian_filter(x[0], 2.0) == x[0]).mean())
    deletion, insertion = deletion_and_insertion(score, x, values)
    assert deletion == pytest.approx((1 + same) / 2, abs=0.02)
    assert insertion == pytest.approx((1 + same) / 2, abs=0.02)


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    one, other = np.random.default_rng(2).normal(size=(2, 7, 7)).astype(np.float32)
    expected = spearmanr(np.abs(one).ravel(), np.abs(other).ravel()).statistic
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-6)
    assert rank_correlation(one, np.zeros_like(other)) == 0
    assert rank_correlation(one, -3 * one) == 1


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (Faithfulness(0.1, 0.8, 0.2), None),
        (Faithfulness(0.1, 0.8, 0.95), "does not depend on the weights"),
        (Faithfulness(0.8, 0.1, 0.2), "is no better than its own reverse"),
    ],
)
def test_verdicts(measured: Faithfulness, reason: str | None) -> None:
    assert measured.reason == reason
    assert measured.trusted is (reason is None)
    assert measured.as_dict()["trusted"] is measured.trusted


def test_a_map_that_ignores_the_weights_is_found() -> None:
    x = spot()
    assert measure(brightness_of_the_spot, x, x[0], [x[0], x[0]]).reason == "does not depend on the weights"
    other = np.random.default_rng(3).normal(size=x[0].shape).astype(np.float32)
    assert measure(brightness_of_the_spot, x, x[0], [other]).trusted


def test_an_edge_detector_is_not_trusted_and_cam_is(fitted: Any) -> None:
    """Guided backpropagation looks alike whatever the last layers hold (Adebayo et al. 2018)."""
    from topwork.explanation import explain

    picture = sorted(fitted.photos.rglob("*.png"))[0]
    [edges] = explain(fitted.folder, picture, method="guided-backprop")
    [cam] = explain(fitted.folder, picture)
    assert edges.faithfulness is not None
    assert cam.faithfulness is not None
    assert edges.faithfulness.reason == "does not depend on the weights"
    assert cam.faithfulness.weight_correlation < edges.faithfulness.weight_correlation - 0.2

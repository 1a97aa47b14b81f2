"""Averages along time, against values by hand."""

import numpy as np
import pytest

from topwork.evaluation.smoothing import Stretch, moving_average, stretches


def average(times: list[float], values: list[float], seconds: float) -> list[float]:
    rows = zip(times, (np.array([value]) for value in values), strict=True)
    return [float(row[0]) for row in moving_average(rows, seconds)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, [1, 0, 0, 1, 1]),
        (1, [1 / 2, 1 / 3, 1 / 3, 2 / 3, 1]),
        (1.9, [1 / 2, 1 / 3, 1 / 3, 2 / 3, 1]),
        (2, [1 / 3, 1 / 2, 3 / 5, 1 / 2, 2 / 3]),
        (100, [3 / 5] * 5),
    ],
)
def test_a_centred_window(seconds: float, expected: list[float]) -> None:
    assert average([0, 0.5, 1, 1.5, 2], [1, 0, 0, 1, 1], seconds) == pytest.approx(expected)


def test_the_window_is_in_seconds_not_in_frames() -> None:
    assert average([0, 0.1, 5, 5.1, 5.2], [1, 0, 0, 0, 3], 1) == pytest.approx([0.5, 0.5, 1, 1, 1])


def test_only_the_window_is_held() -> None:
    asked = []

    def rows():  # type: ignore[no-untyped-def]
        for n in range(1000):
            asked.append(n)
            yield n / 10, np.array([n])

    found = moving_average(rows(), 1.0)
    next(found)
    assert len(asked) == 7  # 0.0 to 0.6: the first one beyond half a second


def test_probabilities_stay_probabilities() -> None:
    random = np.random.default_rng(0)
    rows = [(n / 3, random.dirichlet(np.ones(4))) for n in range(50)]
    smooth = np.stack(list(moving_average(rows, 2.0)))
    assert smooth.shape == (50, 4)
    assert np.allclose(smooth.sum(axis=1), 1)


def test_stretches() -> None:
    assert stretches([]) == []
    assert stretches(["a", "b", "b", "a"]) == [Stretch(0, 0, "a"), Stretch(1, 2, "b"), Stretch(3, 3, "a")]

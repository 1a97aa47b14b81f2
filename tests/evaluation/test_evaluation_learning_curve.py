import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.evaluation.learning_curve import FRACTIONS, learning_curve, subsets
from topwork.evaluation.metrics import share_interval


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_subsets_keep_groups_whole_classes_alive_and_folds_out(seed: int, fraction: float) -> None:
    random = np.random.default_rng(seed)
    n_groups = int(random.integers(6, 40))
    label_of = np.concatenate([[0, 1, 2], random.integers(0, 3, n_groups - 3)])
    sizes = random.integers(1, 5, n_groups)
    groups = np.repeat(np.arange(n_groups) * 5, sizes)
    labels = np.repeat(label_of, sizes)
    folds = np.repeat(np.concatenate([np.arange(3), random.integers(0, 3, n_groups - 3)]), sizes)
    kept = subsets(labels, groups, folds, fraction, seed)
    assert kept.shape == (len(labels), 3)
    for fold in range(3):
        assert not kept[folds == fold, fold].any()
        for group in np.unique(groups):
            assert len(set(kept[groups == group, fold].tolist())) == 1
        for k in range(3):
            there = np.unique(groups[(labels == k) & (folds != fold)])
            taken = np.unique(groups[(labels == k) & kept[:, fold]])
            assert len(taken) == (max(1, round(fraction * len(there))) if len(there) else 0)
    np.testing.assert_array_equal(kept, subsets(labels, groups, folds, fraction, seed))
    if fraction == 1.0:
        np.testing.assert_array_equal(kept, folds[:, None] != np.arange(3))


def results(n: int, errors: dict[float, float]) -> dict[float, np.ndarray]:
    """Exactly these error rates; who fails with many pictures fails with few as well."""
    return {fraction: np.arange(n) >= round(error * n) for fraction, error in errors.items()}


@pytest.mark.parametrize("slope", [0.2, 0.5, 1.0])
def test_forecast_of_an_exact_power_law(slope: float) -> None:
    n, a = 100_000, 0.05
    right = results(n, {f: a * f**-slope for f in FRACTIONS})
    curve = learning_curve(right, np.zeros(n, int), np.arange(n) // 500, ["a"], folds=5, seed=0)
    assert curve.forecast is not None
    assert curve.forecast["accuracy"] == pytest.approx(1 - a * 2**-slope, abs=1e-3)
    assert curve.forecast["n"] == round(2 * 0.8 * n)
    assert [point["n"] for point in curve.points] == [20_000, 40_000, 80_000]
    assert [point["accuracy"] for point in curve.points] == pytest.approx(
        [1 - a * f**-slope for f in FRACTIONS], abs=1e-5
    )


def test_errors_fall_no_faster_than_one_over_n() -> None:
    right = results(1000, {0.25: 0.5, 0.5: 0.2, 1.0: 0.02})
    curve = learning_curve(right, np.zeros(1000, int), np.arange(1000), ["a"], folds=5, seed=0)
    assert curve.forecast is not None
    assert curve.forecast["accuracy"] == pytest.approx(0.99)


@pytest.mark.parametrize("errors", [(0.2, 0.2, 0.2), (0.1, 0.15, 0.2)])
def test_flat_or_rising_errors_promise_nothing(errors: tuple[float, ...]) -> None:
    right = results(1000, dict(zip(FRACTIONS, errors, strict=True)))
    curve = learning_curve(right, np.arange(1000) % 2, np.arange(1000), ["a", "b"], folds=5, seed=0)
    assert curve.forecast is not None
    assert curve.forecast["accuracy"] == pytest.approx(0.8)
    assert "would hardly help" in curve.advice


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_the_interval_contains_the_value_and_all_are_shares(seed: int) -> None:
    random = np.random.default_rng(seed)
    n = int(random.integers(8, 60))
    labels, groups = np.arange(n) % 2, random.integers(0, n, n)
    right = {f: random.random(n) < random.random() for f in FRACTIONS}
    curve = learning_curve(right, labels, groups, ["a", "b"], folds=4, seed=seed)
    forecast = curve.forecast
    if right[1.0].all():
        assert forecast is None
        return
    assert forecast is not None
    assert 0 <= forecast["low"] <= forecast["accuracy"] <= forecast["high"] <= 1
    assert forecast["accuracy"] >= curve.points[-1]["accuracy"] - 1e-9
    for fraction, point in zip(FRACTIONS, curve.points, strict=True):
        expected = share_interval(right[fraction], groups)
        assert (point["accuracy"], point["low"], point["high"]) == (expected.value, expected.low, expected.high)
        assert point["per_class"] == {
            name: pytest.approx(right[fraction][labels == k].mean()) for k, name in enumerate(["a", "b"])
        }
    assert curve.summary() == learning_curve(right, labels, groups, ["a", "b"], folds=4, seed=seed).summary()


def test_the_interval_is_wider_with_fewer_independent_pictures() -> None:
    random = np.random.default_rng(0)
    groups = np.arange(400) // 10
    hard = random.random(40)[groups]
    right = {f: hard > 0.4 * f**-0.5 * 0.5 for f in FRACTIONS}

    def width(own: np.ndarray) -> float:
        forecast = learning_curve(right, np.zeros(400, int), own, ["a"], folds=5, seed=0).forecast
        assert forecast is not None
        return float(forecast["high"] - forecast["low"])

    assert width(groups) > 2 * width(np.arange(400))


def test_advice_names_the_class_that_gains_most() -> None:
    labels = np.arange(1000) % 2
    right = {f: np.where(labels == 0, True, np.arange(1000) >= 1000 * 0.2 / f**0.8 / 2) for f in FRACTIONS}
    curve = learning_curve(right, labels, np.arange(1000), ["easy", "hard"], folds=5, seed=0)
    assert "most of all for hard" in curve.advice
    assert curve.forecast is not None
    assert curve.forecast["per_class"]["easy"] == 1.0


def test_a_perfect_or_tiny_set_gets_no_promise() -> None:
    perfect = results(100, dict.fromkeys(FRACTIONS, 0.0))
    curve = learning_curve(perfect, np.zeros(100, int), np.arange(100), ["a"], folds=5, seed=0)
    assert curve.forecast is None
    assert curve.advice.startswith("Every picture was classified right")
    tiny = learning_curve({1.0: np.array([True, False])}, np.array([0, 1]), np.arange(2), ["a", "b"], folds=2, seed=0)
    assert tiny.forecast is None
    assert len(tiny.points) == 1

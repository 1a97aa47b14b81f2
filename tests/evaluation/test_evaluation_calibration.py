import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from topwork.evaluation.calibration import (
    Temperature,
    brier_score,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    softmax,
    summary,
)


def drawn(random: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """A label for each row with these probabilities."""
    return np.asarray((probabilities.cumsum(axis=1) < random.random((len(probabilities), 1))).sum(axis=1))


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, (4, 3), elements=st.floats(-1e300, 1e300)), st.floats(-100, 100))
def test_softmax_is_stable(scores: np.ndarray, shift: float) -> None:
    found = softmax(scores)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[np.arange(4), scores.argmax(axis=1)] == found.max(axis=1)).all()
    small = scores / 1e300
    np.testing.assert_allclose(softmax(small + shift), softmax(small), atol=1e-12)
    np.testing.assert_allclose(softmax(small), np.exp(small) / np.exp(small).sum(axis=1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("truth", [0.02, 0.5, 1.0, 7.0, 300.0])
@pytest.mark.parametrize("c", [2, 5])
def test_temperature_recovers_a_known_scale(truth: float, c: int) -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0, 2 / truth, (20_000, c))
    labels = drawn(random, softmax(truth * scores))
    assert fit_temperature(scores, labels).scale == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_temperature_minimises_the_log_loss_on_large_sets(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(5000, 4))
    labels = drawn(random, softmax(1.7 * scores))
    best = min(log_loss(Temperature(s)(scores), labels) for s in np.geomspace(0.2, 10, 200))
    assert log_loss(fit_temperature(scores, labels)(scores), labels) <= best + 1e-4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-4, 1e4))
def test_temperature_never_changes_the_best_class(seed: int, scale: float) -> None:
    scores = np.random.default_rng(seed).normal(size=(20, 4)).astype(np.float32)
    probabilities = Temperature(scale)(scores)
    np.testing.assert_array_equal(probabilities[np.arange(20), scores.argmax(axis=1)], probabilities.max(axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(("n", "expected"), [(4, 5 / 6), (20, 21 / 22), (1000, 1001 / 1002)])
def test_a_small_set_without_mistakes_does_not_give_certainty(n: int, expected: float) -> None:
    """Equal margins: the confidence is exactly Platt's trust, whatever the size of the margin."""
    labels = np.arange(n) % 2
    for margin in (0.1, 1.0, 50.0):
        probabilities = fit_temperature(margin * np.eye(2)[labels], labels)(margin * np.eye(2)[labels])
        assert probabilities.max() == pytest.approx(expected, abs=1e-3)


def test_scores_without_meaning_give_no_confidence() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(3000, 3)), random.integers(0, 3, 3000)
    assert fit_temperature(scores, labels)(scores).max() < 0.45


@pytest.mark.parametrize("c", [3, 5])
def test_a_class_that_was_absent_from_a_fold_does_not_upset_the_scale(c: int) -> None:
    """It scores -inf in some rows; the scale must stay about what it is without them."""
    random = np.random.default_rng(0)
    scores = random.normal(0, 2, (400, c))
    labels = drawn(random, softmax(2 * scores))
    before = fit_temperature(scores, labels).scale
    holes = scores.copy()
    holes[(np.arange(400) % 8 == 0) & (labels != 0), 0] = -np.inf
    found = fit_temperature(holes, labels)
    assert found.scale == pytest.approx(before, rel=0.15)
    assert np.isfinite(found(holes)).all()
    missed = scores.copy()
    absent = np.flatnonzero(labels == 0)[:3]
    missed[absent, 0] = -np.inf  # their own class could not be learned: they say nothing
    without = fit_temperature(np.delete(scores, absent, axis=0), np.delete(labels, absent)).scale
    assert fit_temperature(missed, labels).scale == without


def test_a_far_away_class_does_not_rule_the_scale() -> None:
    """Two classes near each other are as sure as before when a third one is easy to tell."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    near = np.stack([1.0 - labels, labels], axis=1) * 4 + random.normal(0, 1, (200, 2))
    far = np.column_stack([near, np.full(200, -500.0)])
    assert fit_temperature(far, labels).scale == pytest.approx(fit_temperature(near, labels).scale, rel=0.01)


def test_reliability_by_hand() -> None:
    confidence = np.array([0.55, 0.58, 0.72, 0.95, 0.99, 1.0])
    probabilities = np.column_stack([confidence, 1 - confidence])
    labels = np.array([0, 1, 1, 0, 0, 0])
    bins = reliability(probabilities, labels)
    assert [(b.low, b.high, b.count, b.accuracy) for b in bins] == [
        (0.5, 0.6, 2, 0.5),
        (0.7, 0.8, 1, 0.0),
        (0.9, 1.0, 3, 1.0),
    ]
    assert [b.confidence for b in bins] == pytest.approx([0.565, 0.72, 0.98])
    expected = (2 * 0.065 + 1 * 0.72 + 3 * 0.02) / 6
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


def test_calibrated_probabilities_have_a_small_error_and_overconfident_ones_a_large_one() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0, 1, (20_000, 3))
    labels = drawn(random, softmax(scores))
    assert expected_calibration_error(softmax(scores), labels) < 0.015
    assert expected_calibration_error(softmax(4 * scores), labels) > 0.2


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_scores_equal_their_definitions(seed: int, c: int) -> None:
    random = np.random.default_rng(seed)
    probabilities, labels = softmax(random.normal(0, 3, (30, c))), random.integers(0, c, 30)
    brier = (
        sum(
            (p - (k == label)) ** 2 for row, label in zip(probabilities, labels, strict=True) for k, p in enumerate(row)
        )
        / 30
    )
    assert brier_score(probabilities, labels) == pytest.approx(brier)
    metrics = pytest.importorskip("sklearn.metrics")
    assert log_loss(probabilities, labels) == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(c)))


def test_certain_mistakes_have_a_finite_log_loss() -> None:
    assert log_loss(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(1e-12))
    assert brier_score(np.array([[1.0, 0.0]]), np.array([1])) == 2


@pytest.mark.parametrize(("n", "noted"), [(99, True), (100, False)])
def test_a_small_set_is_noted(n: int, noted: bool) -> None:
    facts = summary(np.tile([0.7, 0.3], (n, 1)), np.zeros(n, int), method="folds")
    assert (facts["note"] is not None) == noted
    assert facts["bins"][0]["count"] == n
    assert facts["ece"] == pytest.approx(0.3)

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.evaluation.metrics import (
    balanced_accuracy,
    confusion_matrix,
    effective_number,
    per_class,
    share_interval,
    wilson,
)
from topwork.evaluation.summary import classification, held_out_facts, mistakes


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # Newcombe (1998), table I, method 3: Wilson's score interval without continuity correction.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_equals_published_values(right: int, n: int, low: float, high: float) -> None:
    interval = wilson(right, n)
    assert interval.value == right / n
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 1), st.floats(0.5, 1e6), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_bounds_are_the_roots_of_the_score_equation(share: float, n: float, confidence: float) -> None:
    interval = wilson(share * n, n, confidence)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    z = {0.8: 1.2815515655, 0.95: 1.9599639845, 0.99: 2.5758293035}[confidence]
    for p in (interval.low, interval.high):
        assert (share - p) ** 2 == pytest.approx(z * z * p * (1 - p) / n, abs=1e-6 + 1e-6 * z * z / n)
    flipped = wilson((1 - share) * n, n, confidence)
    assert flipped.low == pytest.approx(1 - interval.high, abs=1e-9)


def test_wilson_of_nothing() -> None:
    interval = wilson(0, 0)
    assert math.isnan(interval.value)
    assert (interval.low, interval.high) == (0.0, 1.0)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=15))
def test_effective_number(sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)) * 3 + 7, sizes)
    found = effective_number(groups)
    assert found == pytest.approx(sum(sizes) ** 2 / sum(size**2 for size in sizes))
    assert 1 - 1e-9 <= found <= len(sizes) + 1e-9
    if len(set(sizes)) == 1:
        assert found == pytest.approx(len(sizes))


def test_effective_number_of_nothing() -> None:
    assert effective_number(np.array([], int)) == 0
    assert math.isnan(share_interval(np.array([], bool), np.array([], int)).value)


def test_intervals_cover_the_truth_where_naive_ones_do_not() -> None:
    """60 sources with 1 to 8 copies each that stand and fall together."""
    random = np.random.default_rng(0)
    truth, runs = 0.85, 2000
    honest = naive = 0
    for _ in range(runs):
        sizes = random.integers(1, 9, 60)
        groups = np.repeat(np.arange(60), sizes)
        right = (random.random(60) < truth)[groups]
        grouped, careless = share_interval(right, groups), wilson(right.sum(), len(right))
        assert grouped.value == pytest.approx(careless.value)
        honest += grouped.low <= truth <= grouped.high
        naive += careless.low <= truth <= careless.high
    assert honest / runs > 0.935
    assert naive / runs < 0.75


def test_independent_pictures_are_covered_as_promised() -> None:
    random = np.random.default_rng(1)
    for truth in (0.6, 0.9, 0.97):
        hits = [wilson(k, 100) for k in random.binomial(100, truth, 3000)]
        assert np.mean([i.low <= truth <= i.high for i in hits]) > 0.93


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 60))
def test_figures_equal_scikit_learn(seed: int, c: int, n: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    labels, predicted = random.integers(0, c, n), random.integers(0, c, n)
    names = [f"class {k}" for k in range(c)]
    confusion = confusion_matrix(labels, predicted, c)
    np.testing.assert_array_equal(confusion, metrics.confusion_matrix(labels, predicted, labels=range(c)))
    present = np.unique(labels)
    recalls = metrics.recall_score(labels, predicted, labels=present, average=None, zero_division=0)
    assert balanced_accuracy(confusion) == pytest.approx(recalls.mean())
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(c), zero_division=np.nan
    )
    table = per_class(labels, predicted, np.arange(n), names)
    for k, name in enumerate(names):
        row = table[name]
        assert row["support"] == support[k]
        for found, expected in ((row["precision"], precision[k]), (row["recall"], recall[k])):
            assert (found is None) if math.isnan(expected) else found == pytest.approx(expected)
        if row["f1"] is not None:
            assert row["f1"] == pytest.approx(np.nan_to_num(f1[k]))
        else:
            assert support[k] == 0
            assert not (predicted == k).any()


def test_per_class_intervals_use_the_groups_of_the_class() -> None:
    labels, predicted = np.array([0] * 10 + [1] * 10), np.array([0] * 8 + [1] * 12)
    alone = per_class(labels, predicted, np.arange(20), ["a", "b"])
    paired = per_class(labels, predicted, np.arange(20) // 2, ["a", "b"])
    assert (alone["a"]["recall"], alone["a"]["precision"]) == (0.8, 1.0)
    assert (alone["a"]["recall_low"], alone["a"]["recall_high"]) == (wilson(8, 10).low, wilson(8, 10).high)
    assert (paired["a"]["recall_low"], paired["a"]["recall_high"]) == (wilson(4, 5).low, wilson(4, 5).high)
    assert paired["b"]["precision_low"] == pytest.approx(wilson(5, 6).low)


PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]])


def test_summary_of_a_measurement() -> None:
    facts = classification(PROBABILITIES, np.array([0, 1, 1, 1]), np.arange(4), ["a", "b"], method="folds", naive=0.9)
    assert facts["accuracy"]["value"] == 0.75
    assert (facts["accuracy"]["correct"], facts["accuracy"]["n"], facts["accuracy"]["naive"]) == (3, 4, 0.9)
    assert facts["accuracy"]["method"] == "folds, Wilson 95% interval"
    assert facts["confusion"] == {"labels": ["a", "b"], "matrix": [[1, 0], [1, 2]]}
    assert facts["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    plain = classification(PROBABILITIES, np.array([0, 1, 1, 1]), np.arange(4), ["a", "b"], method="folds")
    assert plain["accuracy"]["naive"] == 0.75


def test_mistakes_are_sorted_by_how_sure_they_were() -> None:
    found = mistakes(
        PROBABILITIES, np.array([1, 0, 1, 1]), np.array([True, False, True, True]), list("wxyz"), ["a", "b"]
    )
    assert [(m["path"], m["label"], m["predicted"], m["probability"], m["known"]) for m in found] == [
        ("w", "b", "a", 0.9, True),
        ("x", "a", "b", 0.8, False),
        ("y", "b", "a", 0.7, True),
    ]


def test_copies_of_training_pictures_do_not_count_in_a_held_out_measurement() -> None:
    labels = np.array([0, 1, 1, 1])
    facts = held_out_facts(
        PROBABILITIES,
        labels,
        np.arange(4),
        ["a", "b"],
        list("wxyz"),
        novelty=np.array([0.1, 0.2, 0.3, 0.9]),
        threshold=0.5,
        leaked=np.array([False, True, False, False]),
        method="test split",
    )
    assert facts["leaked"] == ["x"]
    assert (facts["n_images"], facts["accuracy"]["n"]) == (3, 3)
    assert facts["accuracy"]["value"] == pytest.approx(2 / 3)
    assert facts["accuracy"]["naive"] == 0.75
    assert facts["novelty"]["coverage"] == pytest.approx(2 / 3)
    assert [m["path"] for m in facts["mistakes"]] == ["y"]

"""A difference of two accuracies on the same pictures: its value, its interval, what groups do to it."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.evaluation.paired import Gain, gain


def pairs(both: int, better: int, worse: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """right, baseline and groups of a table of matched pairs; no picture belongs with another."""
    right = np.repeat([True, True, False, False], [both, better, worse, neither])
    baseline = np.repeat([True, False, True, False], [both, better, worse, neither])
    return right, baseline, np.arange(len(right))


def test_the_formula_of_agresti_and_min() -> None:
    """12 pairs better, 5 worse of 100: half a pair added to each of four cells, then Wald's interval."""
    found = gain(*pairs(70, 12, 5, 13))
    b, c, n = 12.5, 5.5, 102
    z = NormalDist().inv_cdf(0.975)
    half = z * math.sqrt((b + c) / n - ((b - c) / n) ** 2) / math.sqrt(n)
    assert found.value == pytest.approx(0.07)
    assert (found.low, found.high) == pytest.approx(((b - c) / n - half, (b - c) / n + half))


@pytest.mark.parametrize(("better", "worse"), [(30, 12), (60, 25), (15, 15), (9, 40)])
def test_a_bootstrap_finds_the_same_interval(better: int, worse: int) -> None:
    right, baseline, groups = pairs(200, better, worse, 100)
    difference = right.astype(float) - baseline
    random = np.random.default_rng(0)
    drawn = difference[random.integers(0, len(difference), (4000, len(difference)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = gain(right, baseline, groups)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.008)


def test_the_decision_is_that_of_an_exact_test_or_more_cautious() -> None:
    """Where the interval leaves zero out, McNemar's exact test agrees at about the same level; and far off it does."""
    for discordant in range(1, 60):
        for better in range(discordant + 1):
            tail = sum(math.comb(discordant, k) for k in range(better, discordant + 1)) / 2**discordant
            found = gain(*pairs(100, better, discordant - better, 40))
            if found.low > 0:
                assert tail < 0.05
            if tail < 0.005:
                assert found.low > 0


@pytest.mark.parametrize("n", [20, 60, 300])
@pytest.mark.parametrize("shares", [(0.75, 0.15, 0.05, 0.05), (0.9, 0.04, 0.04, 0.02), (0.97, 0.03, 0, 0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(n: int, shares: tuple[float, ...]) -> None:
    random = np.random.default_rng([n, int(100 * shares[0])])
    counts = random.multinomial(n, shares, size=1500)
    table, repeats = np.unique(counts, axis=0, return_counts=True)
    truth = shares[1] - shares[2]
    held = [(found := gain(*pairs(*row))).low <= truth <= found.high for row in table]
    coverage = float(np.average(held, weights=repeats))
    assert coverage >= 0.925
    if n == 300 and shares[1] > 0.1:
        assert coverage <= 0.97


def test_pictures_in_groups_count_less() -> None:
    """Every picture three times in one group: the interval of the single ones; three times apart: a narrower one."""
    right, baseline, groups = pairs(40, 12, 3, 10)
    single = gain(right, baseline, groups)
    right, baseline = np.repeat(right, 3), np.repeat(baseline, 3)
    together, apart = gain(right, baseline, np.repeat(groups, 3)), gain(right, baseline, np.arange(len(right)))
    assert (together.value, together.low, together.high) == pytest.approx((single.value, single.low, single.high))
    assert together.high - together.low > 1.5 * (apart.high - apart.low)
    assert apart.value == pytest.approx(single.value)


@settings(max_examples=200, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(lambda counts: sum(counts) > 0), st.integers(1, 5))
def test_exchanging_the_two_turns_the_sign(counts: tuple[int, int, int, int], size: int) -> None:
    right, baseline, rows = pairs(*counts)
    there, back = gain(right, baseline, rows // size), gain(baseline, right, rows // size)
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low))
    assert -1 <= there.low <= there.value <= there.high <= 1
    assert there.value == pytest.approx((counts[1] - counts[2]) / sum(counts))


def test_no_difference_is_never_certainty() -> None:
    for n in (1, 5, 50):
        found = gain(*pairs(n, 0, 0, 0))
        assert found.value == 0
        assert found.low < 0 < found.high
    assert gain(*pairs(5, 0, 0, 0)).high > 3 * gain(*pairs(50, 0, 0, 0)).high


def test_nothing_measured_says_nothing() -> None:
    empty = np.empty(0, bool)
    assert gain(empty, empty, np.empty(0, np.int64)) == Gain(0.0, -1.0, 1.0)
    assert Gain(0.1, -0.05, 0.25).as_dict() == {"value": 0.1, "low": -0.05, "high": 0.25}
    assert Gain(-0.02, -0.05, 0.01).points() == "-2.0 points (interval -5.0 to 1.0)"

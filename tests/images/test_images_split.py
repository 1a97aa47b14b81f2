import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.errors import UsageError
from topwork.images import choose_folds, holdout, stratified_group_folds, stratified_sample

fast = settings(max_examples=150, deadline=None)


@st.composite
def grouped(draw, min_groups=2):
    """Labels and groups [n]; labels may be mixed within a group, names are arbitrary numbers."""
    n_groups = draw(st.integers(min_groups, 30))
    extra = draw(st.lists(st.integers(0, n_groups - 1), max_size=60))
    groups = np.array([*range(n_groups), *extra]) * 7 - 3
    labels = np.array(draw(st.lists(st.integers(-2, 4), min_size=len(groups), max_size=len(groups))))
    order = np.array(draw(st.permutations(range(len(groups)))))
    return labels[order], groups[order]


@st.composite
def singletons(draw):
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[np.random.default_rng(draw(st.integers(0, 99))).permutation(len(labels))]


def straddles(parts: np.ndarray, groups: np.ndarray) -> bool:
    return any(len(set(parts[groups == group].tolist())) > 1 for group in set(groups.tolist()))


@fast
@given(grouped(), st.integers(2, 8), st.integers(0, 5))
def test_folds_keep_groups_whole_and_are_never_empty(data, n_folds, seed):
    labels, groups = data
    n_folds = min(n_folds, len(set(groups.tolist())))
    folds = stratified_group_folds(labels, groups, n_folds, seed)
    assert folds.shape == labels.shape
    assert set(folds.tolist()) == set(range(n_folds))
    assert not straddles(folds, groups)
    assert (folds == stratified_group_folds(labels, groups, n_folds, seed)).all()


@fast
@given(singletons(), st.integers(2, 8), st.integers(0, 5))
def test_folds_without_groups_differ_by_at_most_one(labels, n_folds, seed):
    if len(labels) <= n_folds:
        return
    folds = stratified_group_folds(labels, np.arange(len(labels)), n_folds, seed)
    assert np.ptp(np.bincount(folds, minlength=n_folds)) <= 1
    for label in set(labels.tolist()):
        assert np.ptp(np.bincount(folds[labels == label], minlength=n_folds)) <= 1


@fast
@given(st.integers(0, 1000), st.integers(2, 6))
def test_folds_of_small_pure_groups_are_balanced_within_a_group(seed, n_folds):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, size=60)
    groups = np.repeat(np.arange(60), sizes)
    labels = np.repeat(rng.integers(0, 3, size=60), sizes)
    folds = stratified_group_folds(labels, groups, n_folds, seed)
    for label in range(3):
        # each group goes to the emptiest fold, so no two folds are further apart than the largest group
        assert np.ptp(np.bincount(folds[labels == label], minlength=n_folds)) <= 4


def test_seed_decides_the_folds():
    labels, groups = np.repeat([0, 1], 30), np.arange(60)
    assert (stratified_group_folds(labels, groups, 5, 0) != stratified_group_folds(labels, groups, 5, 1)).any()


def test_as_many_folds_as_groups_leaves_one_group_out():
    groups = np.array([5, 5, 1, 9, 9, 9])
    folds = stratified_group_folds(np.zeros(6, int), groups, 3, 0)
    assert len({(group, fold) for group, fold in zip(groups.tolist(), folds.tolist(), strict=True)}) == 3
    assert sorted(set(folds.tolist())) == [0, 1, 2]


def test_many_samples_are_dealt_fast_and_evenly():
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 50, 20_000), rng.integers(0, 100_000, 20_000)
    begun = time.perf_counter()
    folds = stratified_group_folds(labels, groups, 5, 0)
    assert time.perf_counter() - begun < 3  # 0.4 s on an idle core; the bound is for busy ones
    assert np.ptp(np.bincount(folds)) <= 10
    table = np.stack([np.bincount(labels[folds == fold], minlength=50) for fold in range(5)])
    assert np.ptp(table, axis=0).max() <= 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stratified_group_folds(np.zeros(4, int), np.array([0, 0, 1, 1]), 3, 0), "3 folds need"),
        (lambda: stratified_group_folds(np.zeros(4, int), np.arange(4), 1, 0), "at least 2"),
        (lambda: stratified_group_folds(np.zeros(4, int), np.arange(5), 2, 0), "one length"),
        (lambda: stratified_group_folds(np.zeros(0, int), np.zeros(0, int), 2, 0), "one length"),
        (lambda: choose_folds(np.zeros(4, int), np.zeros(4, int)), "at least 2 groups"),
        (lambda: holdout(np.zeros(4, int), np.zeros(4, int), 0.5, 0), "at least 2 groups"),
        (lambda: holdout(np.zeros(4, int), np.arange(4), 1.0, 0), "between 0 and 1"),
        (lambda: stratified_sample(np.arange(9), np.arange(9), 8, 0), "raise the limit"),
    ],
)
def test_errors_are_one_sentence(call, words):
    with pytest.raises(UsageError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("per_class", "folds"),
    [
        ([20, 20], 40),
        ([1, 1], 2),
        ([20, 21], 10),
        ([50, 3], 3),
        ([50, 1], 3),
        ([50, 5], 5),
        ([200, 200], 10),
        ([200, 201], 5),
    ],
)
def test_choose_folds(per_class, folds):
    labels = np.repeat(np.arange(len(per_class)), per_class)
    assert choose_folds(labels, np.arange(len(labels))) == folds


def test_choose_folds_counts_groups_not_samples():
    labels = np.array([0] * 60 + [1] * 60)
    groups = np.array([*range(60), *([60, 61, 62] * 20)])
    assert choose_folds(labels, groups) == 3


@fast
@given(grouped(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_holdout_keeps_groups_whole_and_both_sides_used(data, fraction, seed):
    labels, groups = data
    held = holdout(labels, groups, fraction, seed)
    assert held.dtype == bool
    assert held.any()
    assert not held.all()
    assert not straddles(held, groups)
    assert (held == holdout(labels, groups, fraction, seed)).all()


@fast
@given(singletons(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_holdout_takes_the_fraction_of_every_class(labels, fraction, seed):
    counts = np.bincount(labels)
    if len(labels) < 2 or counts.max() < 2:
        return
    held = holdout(labels, np.arange(len(labels)), fraction, seed)
    for label, count in enumerate(counts):
        taken = int(held[labels == label].sum())
        if count == 1:
            assert taken == 0
        else:
            assert 1 <= taken <= count - 1
            assert abs(taken - fraction * count) <= 1


@fast
@given(grouped(), st.integers(1, 100), st.integers(0, 5))
def test_sample_is_whole_groups_within_the_limit(data, limit, seed):
    labels, groups = data
    try:
        chosen = stratified_sample(labels, groups, limit, seed)
    except UsageError:
        assert limit < len(labels)
        return
    assert len(chosen) <= limit
    assert (np.diff(chosen) > 0).all()
    assert not straddles(np.isin(np.arange(len(labels)), chosen), groups)
    for label in set(labels.tolist()):
        available = len(set(groups[labels == label].tolist()))
        kept = len(set(groups[chosen][labels[chosen] == label].tolist()))
        assert kept >= min(available, 2)
    assert (chosen == stratified_sample(labels, groups, limit, seed)).all()


def test_sample_keeps_proportions():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    chosen = stratified_sample(labels, np.arange(1000), 100, 0)
    assert len(chosen) == 100
    assert np.abs(np.bincount(labels[chosen]) - [60, 30, 10]).max() <= 1


def test_sample_keeps_rare_classes():
    labels = np.repeat([0, 1, 2], [2000, 3, 1])
    chosen = stratified_sample(labels, np.arange(2004), 50, 0)
    assert len(chosen) == 50
    assert np.bincount(labels[chosen])[1] >= 2
    assert np.bincount(labels[chosen])[2] == 1


def test_sample_within_the_limit_is_everything():
    assert stratified_sample(np.array([0, 1, 1]), np.array([0, 1, 2]), 3, 0).tolist() == [0, 1, 2]


def test_sample_falls_back_to_the_smallest_groups():
    # a class of one huge and two small groups still fits
    groups = np.array([0] * 90 + [1] * 5 + [2] * 5)
    for seed in range(5):
        assert groups[stratified_sample(np.zeros(100, int), groups, 10, seed)].tolist() == [1] * 5 + [2] * 5

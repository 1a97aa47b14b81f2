"""What to label next."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.retrieval import suggesting
from topwork.retrieval.suggesting import doubts, suggest


def clusters(sizes: list[int], d: int = 32, spread: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 around axes at right angles, and the number of each one's axis."""
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(len(sizes), d)[of] + random.normal(0, spread, (len(of), d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


def coverage(vectors: np.ndarray, rows: np.ndarray) -> float:
    return float(np.maximum(vectors @ vectors[rows].T, 0).max(axis=1).sum())


def test_the_largest_groups_come_first_and_each_once() -> None:
    vectors, of = clusters([5, 40, 20, 10])
    found = suggest(vectors, 4)
    assert of[found.rows].tolist() == [1, 2, 3, 0]
    assert found.stands_for.tolist() == [40, 20, 10, 5]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_lazy_choice_is_the_greedy_one_and_near_the_best(seed: int, count: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(12, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = suggest(vectors, count).rows
    plain: list[int] = []
    for _ in range(count):
        rest = [row for row in range(12) if row not in plain]
        plain.append(max(rest, key=lambda row: coverage(vectors, np.array([*plain, row]))))
    assert len(set(rows.tolist())) == count
    assert coverage(vectors, rows) == pytest.approx(coverage(vectors, np.array(plain)), rel=1e-4)


def test_what_is_labelled_and_its_copies_are_not_suggested() -> None:
    vectors, of = clusters([10, 10, 10])
    labels = np.full(30, -1)
    labels[0] = 0
    groups = np.arange(30)
    groups[:10] = 0  # copies of the labelled one
    groups[10:20] = 10  # copies of each other
    rows = suggest(vectors, 30, labels=labels, groups=groups).rows
    assert 10 in rows
    assert sorted(of[rows].tolist()) == [1, *[2] * 10]
    assert of[rows[0]] != 0


def test_doubtful_pictures_come_before_clear_ones() -> None:
    between = np.array([[np.cos(a), np.sin(a)] for a in (0.75, 0.78, 0.80)])
    clear = np.array([[np.cos(a), np.sin(a)] for a in (0.05, 0.06, 1.5, 1.51)])
    vectors = np.concatenate([[[1, 0], [0, 1], [1, 0], [0, 1]], between, clear]).astype(np.float32)
    labels = np.array([0, 1, 0, 1, *[-1] * 7])
    assert suggest(vectors, 1, labels=labels).rows[0] in (4, 5, 6)
    found = doubts(vectors, labels)
    assert found[4:7].min() > 0.7 > 0.01 > found[7:].max()
    assert doubts(vectors, np.array([0, 0, *[-1] * 9])).tolist() == [1] * 11  # one class
    assert doubts(vectors, np.array([0, 1, 0, *[-1] * 8])).tolist() == [1] * 11  # one label of the other


def test_it_covers_groups_that_a_random_choice_misses() -> None:
    vectors, of = clusters([100, 60, 30, 15, 8, 5], spread=0.07)
    ours = len(np.unique(of[suggest(vectors, 6).rows]))
    random = [len(np.unique(of[np.random.default_rng(seed).choice(len(of), 6, replace=False)])) for seed in range(20)]
    assert ours == 6
    assert np.mean(random) < 4


def test_of_many_pictures_a_random_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = clusters([50, 50])
    monkeypatch.setattr(suggesting, "POOL", 20)
    found = suggest(vectors, 2, seed=1)
    assert found.rows.tolist() == suggest(vectors, 2, seed=1).rows.tolist()
    assert 80 <= found.stands_for.sum() <= 120
    assert len(suggest(vectors, 100).rows) == 20


@pytest.mark.parametrize("n", [0, 1])
def test_few_pictures(n: int) -> None:
    vectors = np.ones((n, 1), np.float32)
    assert suggest(vectors, 5).rows.tolist() == [0] * n
    assert suggest(vectors, 5, labels=np.zeros(n, np.int64)).rows.tolist() == []

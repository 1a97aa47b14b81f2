import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.evaluation.duplicates import duplicate_groups, duplicate_pairs, hash_distance, merged_groups
from topwork.features.facts import mirrored_hash


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two numberings group alike."""
    return len({*zip(a.tolist(), b.tolist(), strict=True)}) == len(set(a.tolist())) == len(set(b.tolist()))


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=20))
def test_hash_distance_equals_brute_force(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
    expected = [min((x ^ y).bit_count(), (x ^ mirrored_hash(y)).bit_count()) for x, y in pairs]
    assert hash_distance(a, b).tolist() == expected
    assert hash_distance(b, a).tolist() == expected


class _Union:
    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        self.parent[self.find(i)] = self.find(j)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 25), st.integers(1, 3), st.integers(0, 10_000))
def test_merged_groups_equal_a_union_find(n: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    partitions = [random.integers(-3, random.integers(1, 2 * n + 1), n) for _ in range(count)]
    union = _Union(n)
    for partition in partitions:
        for i in range(n):
            for j in range(i):
                if partition[i] == partition[j]:
                    union.join(i, j)
    expected = np.array([union.find(i) for i in range(n)])
    found = merged_groups(*partitions)
    assert same_partition(found, expected)
    assert same_partition(merged_groups(found, *partitions), found)


def planted(n: int, copies: int, seed: int, d: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [n + copies, d], hashes and the true groups: the last ``copies`` are slightly changed earlier ones."""
    random = np.random.default_rng(seed)
    features = np.abs(random.normal(size=(n, d))) + 0.5 * np.abs(random.normal(size=d))
    hashes = random.integers(0, 2**64, n, dtype=np.uint64) & ~np.uint64(1)
    of = random.choice(n, copies, replace=False)
    changed = features[of] + 0.05 * random.normal(size=(copies, d))
    near = hashes[of].copy()
    for k in range(copies):
        for bit in random.choice(np.arange(1, 64), random.integers(0, 4), replace=False):
            near[k] ^= np.uint64(1) << np.uint64(bit)
        if k % 3 == 0:
            near[k] = mirrored_hash(int(near[k]))
    truth = np.concatenate([np.arange(n), of])
    order = random.permutation(n + copies)
    return (
        np.concatenate([features, changed])[order].astype(np.float32),
        np.concatenate([hashes, near])[order],
        truth[order],
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n", "copies"), [(40, 5), (300, 30), (900, 20)])
def test_planted_copies_are_found_and_nothing_else(n: int, copies: int, seed: int) -> None:
    features, hashes, truth = planted(n, copies, seed)
    assert same_partition(duplicate_groups(features, hashes), truth)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_length_of_features_does_not_matter(scale: float) -> None:
    features, hashes, truth = planted(100, 10, 0)
    assert same_partition(duplicate_groups(features * scale, hashes), truth)


def test_pairs_are_ordered_and_groups_are_their_closure() -> None:
    features, hashes, _ = planted(700, 60, 1)
    union = _Union(len(features))
    for i, j in duplicate_pairs(features, hashes):
        assert (i < j).all()
        for a, b in zip(i.tolist(), j.tolist(), strict=True):
            union.join(a, b)
    groups = duplicate_groups(features, hashes)
    assert same_partition(groups, np.array([union.find(i) for i in range(len(features))]))


def test_a_chain_of_copies_is_one_group() -> None:
    """Each is like the next one only: first and last differ in many bits."""
    features, hashes, _ = planted(200, 0, 0)
    chain = [int(hashes[0])]
    for step in range(8):
        chain.append(chain[-1] ^ (0b111 << (1 + 7 * step)))
    features = np.concatenate([features, np.repeat(features[:1], 8, axis=0)])
    hashes = np.concatenate([hashes, np.array(chain[1:], np.uint64)])
    assert hash_distance(hashes[:1], hashes[-1:])[0] > 15
    groups = duplicate_groups(features, hashes)
    assert (groups[-8:] == groups[0]).all()
    assert (groups == groups[0]).sum() == 9


def test_one_of_both_is_not_enough() -> None:
    """The same hash with opposite features, and the same features with an unrelated hash, are not copies."""
    features, hashes, _ = planted(200, 0, 3)
    random = np.random.default_rng(0)
    hashes[1] = hashes[0]
    features[1] = 0
    features[1, :2] = 1  # far from all others
    features[3] = features[2] + 0.02 * random.normal(size=features.shape[1])
    hashes[3] = hashes[2] ^ np.uint64(0x0F0F0F0F0F0F0F0E)
    groups = duplicate_groups(features, hashes)
    assert groups[0] != groups[1]
    assert groups[2] != groups[3]


def test_copies_in_different_blocks_are_found() -> None:
    features, hashes, _ = planted(3000, 0, 5, d=32)
    features[2999], hashes[2999] = features[0], hashes[0]
    groups = duplicate_groups(features, hashes)
    assert groups[0] == groups[2999]


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_sets(n: int) -> None:
    features, hashes, truth = planted(n, 0, 0)
    assert same_partition(duplicate_groups(features, hashes), truth)


def test_memory_does_not_grow_with_the_square() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(6000, 64)).astype(np.float32)
    hashes = random.integers(0, 2**64, 6000, dtype=np.uint64)
    tracemalloc.start()
    duplicate_groups(features, hashes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # all pairs as float32 are 144 MB, before any step on them

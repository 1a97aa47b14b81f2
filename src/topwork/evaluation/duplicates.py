"""Near-duplicates: the same picture again, mirrored, resized, recompressed, slightly cropped or turned.

Two pictures count as near-duplicates when both of these say so:

* their features (scaled to length 1) are closer than nearly all pairs of this set are: what is close among photographs
  of flowers is ordinary among photographs of solar cells, so the set itself is the yardstick;
* their perceptual hashes, or that of the mirror image, agree: the closer the features, the less the hash must.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

_MIRROR = np.uint64(0xAAAAAAAAAAAAAAAA)
_SAMPLED_PAIRS = 200_000
_ORDINARY = 0.01  # share of pairs; closer than this share of all pairs is not ordinary
_FARTHEST = 0.35  # largest cosine distance that is still the same picture, whatever the set
_SAME_HASH, _SIMILAR_HASH = 5, 20  # bits of 63 that differ; unrelated photographs differ in 14 to 40
_VERY_CLOSE = 0.25  # share of the ordinary distance below which a similar hash is enough
_BLOCK = 1024


def duplicate_groups(features: Floats, hashes: Hashes) -> Ints:
    """Group number of each picture, ``[n]``; near-duplicates share one.

    ``features`` ``[n, d]`` raw pooled features, ``hashes`` ``[n]`` 64-bit perceptual hashes. Time grows with n^2 d,
    memory is bounded by blocks of 1,024 rows.

    >>> features = np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]
    >>> hashes = np.array([1, 2**20 - 1, 2**60 - 1, 2**60 - 1], np.uint64)
    >>> duplicate_groups(features, hashes).tolist()
    [0, 1, 2, 2]
    """
    pairs = list(duplicate_pairs(features, hashes))
    return _components(len(features), [i for i, _ in pairs], [j for _, j in pairs])


def merged_groups(*partitions: Ints) -> Ints:
    """The finest grouping ``[n]`` in which whatever shares a group in any of the ``partitions`` ``[n]`` still does.

    >>> merged_groups(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    links = [_links(partition) for partition in partitions]
    return _components(len(partitions[0]), [i for i, _ in links], [j for _, j in links])


def duplicate_pairs(features: Floats, hashes: Hashes) -> Iterator[tuple[Ints, Ints]]:
    """Near-duplicate pairs ``(i, j)``, i < j, block by block."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    ordinary = ordinary_distance(unit)
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        near = np.argwhere(block @ unit[start:].T >= 1 - ordinary)
        near = near[near[:, 0] < near[:, 1]] + start
        i, j = near[:, 0], near[:, 1]
        distance = _distances(unit, i, j)
        differing = hash_distance(hashes[i], hashes[j])
        same = (differing <= _SAME_HASH) | ((distance <= _VERY_CLOSE * ordinary) & (differing <= _SIMILAR_HASH))
        yield i[same], j[same]


def ordinary_distance(unit: Floats) -> float:
    """The cosine distance that only one pair in a hundred of this set falls below, at most 0.35.

    In small sets a few duplicates are already more than one pair in a hundred, so twice the share that one duplicate
    of each picture would make up is left out.
    """
    n = len(unit)
    if n < 3:
        return _FARTHEST
    random = np.random.default_rng(0)
    if n * (n - 1) // 2 <= _SAMPLED_PAIRS:
        i, j = np.triu_indices(n, 1)
    else:
        i, j = random.integers(0, n, _SAMPLED_PAIRS), random.integers(0, n, _SAMPLED_PAIRS)
        i, j = i[i != j], j[i != j]
    distance = _distances(unit, i, j)
    return min(float(np.quantile(distance, min(max(_ORDINARY, 2 / n), 0.5))), _FARTHEST)


def hash_distance(a: Hashes, b: Hashes) -> Ints:
    """Bits that differ between hashes ``[n]``, or between one and the other's mirror image, if fewer.

    >>> hash_distance(np.array([0b1011], np.uint64), np.array([0b0001], np.uint64)).tolist()
    [2]
    """
    straight = a ^ b
    return np.asarray(np.minimum(np.bitwise_count(straight), np.bitwise_count(straight ^ _MIRROR)), np.int64)


def _distances(unit: Floats, i: Ints, j: Ints) -> Floats:
    """Cosine distances of pairs, in pieces so that memory stays bounded."""
    pieces = [
        1 - np.einsum("nd,nd->n", unit[i[s : s + 20_000]], unit[j[s : s + 20_000]]) for s in range(0, len(i), 20_000)
    ]
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


def _links(partition: Ints) -> tuple[Ints, Ints]:
    """Each member of a group linked to the next one."""
    order = np.argsort(partition, kind="stable")
    same = partition[order][1:] == partition[order][:-1]
    return order[:-1][same], order[1:][same]


def _components(n: int, first: list[Ints], second: list[Ints]) -> Ints:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)

"""Near-duplicates: the same picture again, mirrored, resized, recompressed, slightly cropped or turned.

Two pictures count as near-duplicates when either

* their perceptual hashes, or that of the mirror image, are all but equal, and their features do not object; or
* their features are far closer than pairs of this set usually are, and their hashes do not object.

What is close among photographs of flowers is ordinary among photographs of solar cells, for hashes as for features, so
the set itself is the yardstick of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.vectors import normalized
from topwork.progress import Progress, Silent, step

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Hashes = NDArray[np.uint64]

_MIRROR = np.uint64(0xAAAAAAAAAAAAAAAA)
_SAMPLED_PAIRS = 40_000
_NONE = np.empty(0, np.int64)
_BLOCK = 256  # rows of the pair matrix that exist at a time

_SAME_HASH = 5  # of 63 bits; unrelated photographs differ in 14 to 40
_NO_OBJECTION = 0.5  # cosine distance of features; recompressing costs up to 0.35
_VERY_CLOSE = 0.25  # share of the ordinary distance of features
_FARTHEST = 0.35  # largest distance of features that counts as ordinary, whatever the set
_OBVIOUS_DISTANCE, _OBVIOUS_HASH = 0.2, 10  # both below: a copy in any set (one pair of 1,000 solar cells)
_SIMILAR_HASH = 4  # times as many bits as all but equal ones


@dataclass(frozen=True, eq=False)
class DuplicateKeys:
    """What near-duplicates of pictures are told by; row i of both is one picture."""

    features: NDArray[np.floating[Any]]
    """``[n, d]``, raw pooled features of the default backbone."""
    hashes: Hashes
    """``[n]``, 64-bit perceptual hashes."""

    def __len__(self) -> int:
        return len(self.hashes)

    def take(self, rows: NDArray[np.bool_]) -> "DuplicateKeys":
        """The pictures whose place in ``rows`` ``[n]`` is true."""
        return DuplicateKeys(self.features[rows], self.hashes[rows])


def seen_before(new: DuplicateKeys, old: DuplicateKeys) -> tuple[Ints, NDArray[np.bool_]]:
    """Groups ``[n]`` of the ``new`` pictures, and whether ``[n]`` a group has a near-duplicate among the ``old`` ones.

    The same rule as in ``duplicate_groups`` of all of them together; pairs of old pictures are not compared.

    >>> old = DuplicateKeys(np.eye(4)[[0, 1]], np.array([1, 2**20 - 1], np.uint64))
    >>> new = DuplicateKeys(np.eye(4)[[2, 1]], np.array([2**60 - 1, 2**20 - 1], np.uint64))
    >>> seen_before(new, old)[1].tolist()
    [False, True]
    """
    features = np.concatenate([new.features, old.features]).astype(np.float32)
    pairs = list(duplicate_pairs(features, np.concatenate([new.hashes, old.hashes]), first=len(new)))
    groups = _components(len(features), [i for i, _ in pairs], [j for _, j in pairs])
    return groups[: len(new)], np.isin(groups[: len(new)], groups[len(new) :])


def duplicate_groups(features: Floats, hashes: Hashes, *, progress: Progress | None = None) -> Ints:
    """Group number of each picture, ``[n]``; near-duplicates share one.

    ``features`` ``[n, d]`` raw pooled features, ``hashes`` ``[n]`` 64-bit perceptual hashes. Time grows with n^2 d,
    memory is bounded by blocks of 256 rows.

    >>> features = np.eye(4, dtype=np.float32)[[0, 1, 2, 2]]
    >>> hashes = np.array([1, 2**20 - 1, 2**60 - 1, 2**60 - 1], np.uint64)
    >>> duplicate_groups(features, hashes).tolist()
    [0, 1, 2, 2]
    """
    progress = progress or Silent()
    pairs = []
    with step(progress, "comparing pictures", total=len(features)):
        for found in duplicate_pairs(features, hashes):
            pairs.append(found)
            progress.advance("comparing pictures", min(_BLOCK, len(features)))
    return _components(len(features), [i for i, _ in pairs], [j for _, j in pairs])


def merged_groups(*partitions: Ints) -> Ints:
    """The finest grouping ``[n]`` in which whatever shares a group in any of the ``partitions`` ``[n]`` still does.

    >>> merged_groups(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    links = [_links(partition) for partition in partitions]
    return _components(len(partitions[0]), [i for i, _ in links], [j for _, j in links])


def duplicate_pairs(features: Floats, hashes: Hashes, *, first: int | None = None) -> Iterator[tuple[Ints, Ints]]:
    """Near-duplicate pairs ``(i, j)``, i < j, block by block; with ``first`` those with i below it only."""
    unit = normalized(features)
    close, same = _yardsticks(unit, hashes)
    end = len(unit) if first is None else first
    for start in range(0, end, _BLOCK):
        block = slice(start, min(start + _BLOCK, end))
        distance = 1 - unit[block] @ unit[start:].T
        differing = hash_distance(hashes[block, None], hashes[None, start:])
        near = (differing <= same) & (distance <= _NO_OBJECTION)
        near |= (distance <= close) & (differing <= _SIMILAR_HASH * same)
        i, j = np.nonzero(np.triu(near, 1))
        yield i + start, j + start


def _yardsticks(unit: Floats, hashes: Hashes) -> tuple[float, float]:
    """The distance of features that is very close, and the number of bits that is all but equal, in this set."""
    n = len(unit)
    if n * (n - 1) // 2 <= _SAMPLED_PAIRS:
        i, j = np.triu_indices(n, 1)
    else:
        i, j = np.random.default_rng(0).integers(0, n, (2, _SAMPLED_PAIRS))
        i, j = i[i != j], j[i != j]
    if not len(i):
        return 0.0, 0.0
    distance, differing = _distances(unit, i, j), hash_distance(hashes[i], hashes[j])
    # Copies must not set the measure by which they are found: a set may hold many of each picture.
    different = (distance > _OBVIOUS_DISTANCE) | (differing > _OBVIOUS_HASH)
    if not different.any():
        return _VERY_CLOSE * _FARTHEST, _SAME_HASH
    usual = float(np.quantile(distance[different], max(0.01, 1 / n)))
    alike = float(np.quantile(differing[different], max(0.001, 1 / n)))
    return _VERY_CLOSE * min(usual, _FARTHEST), min(_SAME_HASH, alike / 3)


def hash_distance(a: Hashes, b: Hashes) -> NDArray[np.uint8]:
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

    i, j = np.concatenate([_NONE, *first]), np.concatenate([_NONE, *second])
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)

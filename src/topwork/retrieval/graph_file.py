"""Whether a file of vectors can be mapped: USearch believes every number in it, and would read wherever they lead.

What is looked at is the format 2 of USearch as this package writes it (inner products, float16, keys of 64 bits):

- rows and bytes a row, two uint32, then the vectors ``[rows, width] float16``
- 64 bytes that say what they are: ``usearch``, version, metric, kinds of numbers, how many are there
- the graph (HNSW): five uint64, size, links a node, links at its lowest level, highest level, first node; a level for
  each node, int16; then the nodes: key, level, and for each level from the lowest how many links, and which

A file is whole if its length follows from these, and if every link of every node leads to a node that has that level.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MATRIX, _HEAD, _GRAPH = struct.Struct("<II"), struct.Struct("<7sHHHBBBBQQQB"), struct.Struct("<QQQQQ")
_HEAD_SIZE = 64
_MAJOR, _KINDS = 2, (105, 12, 14, 15)  # inner product, float16, keys uint64, links uint32
_MOST = 2**31  # of anything
_NODE, _COUNT = 10, 4  # bytes of key and level, and of a number of links
_LEVELS = 64  # a graph of 16 links a node has one of 1/16 of its nodes each
_AT_ONCE = 16_384  # nodes


def why_not(path: Path) -> str | None:
    """Why a file of vectors cannot be mapped, in a few words; None where it can."""
    try:
        return _why_not(np.memmap(path, np.uint8, "r"))
    except (ValueError, struct.error):  # an empty or short file
        return "it is cut off"


def _why_not(content: NDArray[np.uint8]) -> str | None:
    rows, row_bytes = _MATRIX.unpack_from(content.data, 0)
    if not 0 < rows < _MOST or not 0 < row_bytes < _MOST or _MATRIX.size + rows * row_bytes > len(content):
        return "its numbers contradict each other"
    head = _MATRIX.size + rows * row_bytes
    magic, major, _, _, *kinds, present, deleted, dimensions, multi = _HEAD.unpack_from(content.data, head)
    if (magic, major, tuple(kinds), 2 * dimensions, multi) != (b"usearch", _MAJOR, _KINDS, row_bytes, 0):
        return "it is of another kind"
    size, links, lowest, top, first = _GRAPH.unpack_from(content.data, head + _HEAD_SIZE)
    counts_fit = present + deleted == size == rows and 0 < links < 1_000 and 0 < lowest < 1_000
    if not counts_fit or top >= _LEVELS or first >= size:
        return "its numbers contradict each other"
    start = head + _HEAD_SIZE + _GRAPH.size
    levels = content[start : start + 2 * size].view("<i2").astype(np.int64)
    if len(levels) < size or levels.min() < 0 or levels.max() > top or levels[first] != top:
        return "its levels contradict each other"
    base, upper = _COUNT + 4 * lowest, _COUNT + 4 * links
    ends = start + 2 * size + np.cumsum(_NODE + base + levels * upper)
    if ends[-1] != len(content):
        return "it is cut off"
    nodes = np.concatenate([[start + 2 * size], ends[:-1]])
    for begin in range(_MATRIX.size, head, _AT_ONCE * row_bytes):
        if not np.isfinite(content[begin : min(begin + _AT_ONCE * row_bytes, head)].view("<f2")).all():
            return "it has a vector that is no number"
    return _why_no_graph(content, nodes, levels, (lowest, links))


def _why_no_graph(
    content: NDArray[np.uint8], nodes: NDArray[np.int64], levels: NDArray[np.int64], most: tuple[int, int]
) -> str | None:
    """``nodes``: where each begins; ``most``: how many links it may have at the lowest level, and above."""
    for begin in range(0, len(nodes), _AT_ONCE):
        at, own = nodes[begin : begin + _AT_ONCE], levels[begin : begin + _AT_ONCE]
        if (_numbers(content, at + 8, "<i2", 1)[:, 0] != own).any():
            return "its levels contradict each other"
        place = at + _NODE
        for level in range(int(own.max()) + 1):
            place, own = place[own >= level], own[own >= level]
            allowed = most[min(level, 1)]
            counts = _numbers(content, place, "<u4", 1)
            links = _numbers(content, place + _COUNT, "<u4", allowed)
            used = np.arange(allowed) < counts
            if (counts > allowed).any() or (links[used] >= len(levels)).any() or (levels[links[used]] < level).any():
                return "its links lead nowhere"
            place = place + _COUNT + 4 * allowed
    return None


def _numbers(content: NDArray[np.uint8], places: NDArray[np.int64], kind: str, count: int) -> NDArray[np.int64]:
    """``[n, count]`` numbers of this kind, from where they begin ``[n]``."""
    size = count * np.dtype(kind).itemsize
    raw = content[places[:, None] + np.arange(size)]
    return np.asarray(raw.view(kind), np.int64)

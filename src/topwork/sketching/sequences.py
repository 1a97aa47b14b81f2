"""Drawings as sequences of pen movements, and back.

A step is ``(dx, dy, lifted)``: where the pen went from the point before, and whether it is lifted after this point
(Ha & Eck, "A Neural Representation of Sketch Drawings", 2017). The longer side of a drawing's bounding box is 1, x
grows to the right, y down; the first step is ``(0, 0, ...)``, so neither the place nor the size of a drawing matters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topwork.errors import UsageError
from topwork.images.quickdraw import Drawing

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

LENGTH = 100
"""Steps of a sequence at most; of 3,750 simplified drawings of 345 things 97 in 100 have no more."""

TOLERANCE = 2 / 255
"""How far, in longer sides of the drawing, a line may be moved by leaving out points: what QuickDraw's own simplified
files were made with, so raw drawings become like them."""

_COARSEST = 8 * TOLERANCE


def sequence_of(drawing: Drawing, *, length: int = LENGTH, tolerance: float = TOLERANCE) -> Floats:
    """The pen movements of a drawing, ``[t, 3]`` with t from 1 to ``length``: dx, dy, and 1 where the pen is lifted.

    Points are left out while the line stays within ``tolerance`` of them (Ramer 1972, Douglas & Peucker 1973); 0 keeps
    every point. A drawing of more steps than ``length`` is made coarser, at most to 8 times `TOLERANCE`; what is
    still too long loses its end. UsageError where ``length`` is below 1 or ``tolerance`` below 0.

    >>> hook = Drawing("hook", (np.array([[10, 10], [30, 10], [50, 10], [50, 30]], np.float32),))
    >>> sequence_of(hook).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 1.0]]
    """
    if length < 1 or not tolerance >= 0:
        raise UsageError(
            f"expected a length of at least 1 step and a tolerance of 0 or more, not {length} and {tolerance}; "
            "leave them out to take the usual ones"
        )
    strokes = unit_strokes(drawing)
    shorter = strokes if tolerance == 0 else [simplified(stroke, tolerance) for stroke in strokes]
    while sum(map(len, shorter)) > length and tolerance < _COARSEST:
        tolerance = min(2 * max(tolerance, TOLERANCE), _COARSEST)
        shorter = [simplified(stroke, tolerance) for stroke in strokes]
    lifted = np.concatenate([np.arange(len(stroke)) == len(stroke) - 1 for stroke in shorter])[:length]
    lifted[-1] = True
    points = np.concatenate(shorter)[:length]
    moves = np.diff(points, axis=0, prepend=points[:1])
    return np.column_stack([moves, lifted]).astype(np.float32)


def strokes_of(sequence: Floats) -> list[Floats]:
    """The strokes of a sequence ``[t, 3]``, each ``[points, 2]``, the first point at the origin.

    >>> [stroke.tolist() for stroke in strokes_of(np.array([[0, 0, 0], [1, 0, 1], [0, 0.5, 1]], np.float32))]
    [[[0.0, 0.0], [1.0, 0.0]], [[1.0, 0.5]]]
    """
    points = np.cumsum(sequence[:, :2], axis=0, dtype=np.float64).astype(np.float32)
    ends = np.flatnonzero(sequence[:, 2]) + 1
    return [stroke for stroke in np.split(points, ends) if len(stroke)]


def padded(sequences: Sequence[Floats]) -> tuple[Floats, Ints]:
    """A batch ``[n, t, 3]``, t of the longest, zeros after the end of each; and the lengths ``[n]``.

    >>> batch, lengths = padded([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)])
    >>> batch.shape, lengths.tolist(), batch[1, 1].tolist()
    ((2, 2, 3), [2, 1], [0.0, 0.0, 0.0])
    """
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    batch = np.zeros((len(sequences), int(lengths.max(initial=0)), 3), np.float32)
    for row, sequence in zip(batch, sequences, strict=True):
        row[: len(sequence)] = sequence
    return batch, lengths


def unit_strokes(drawing: Drawing) -> list[Doubles]:
    """The strokes ``[points, 2]`` with the longer side of their bounding box 1 and its corner at the origin.

    A drawing without extent stays without.

    >>> [stroke.tolist() for stroke in unit_strokes(Drawing("dot", (np.array([[7, 7]], np.float32),)))]
    [[[0.0, 0.0]]]
    """
    strokes = [stroke[:, :2].astype(np.float64) for stroke in drawing.strokes]
    low = np.min([stroke.min(axis=0) for stroke in strokes], axis=0)
    high = np.max([stroke.max(axis=0) for stroke in strokes], axis=0)
    extent = float((high - low).max()) or 1.0
    return [(stroke - low) / extent for stroke in strokes]


def simplified(stroke: Doubles, tolerance: float) -> Doubles:
    """The points ``[m, 2]`` that Ramer's method keeps of a stroke ``[n, 2]``, the first and the last among them; of a
    stroke that stays in its place one.

    Every point that is left out lies within ``tolerance`` of the line through those that stay.

    >>> simplified(np.array([[0, 0], [1, 0.1], [2, 0], [2, 2.0]]), 0.2).tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]
    """
    kept = np.zeros(len(stroke), bool)
    kept[[0, -1]] = True
    open_parts = [(0, len(stroke) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        distances = _distances(stroke[first + 1 : last], stroke[first], stroke[last])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            kept[middle] = True
            open_parts += [(first, middle), (middle, last)]
    if kept.sum() == 2 and (stroke[0] == stroke[-1]).all():  # a dot
        kept[-1] = False
    return stroke[kept]


def _distances(points: Doubles, start: Doubles, end: Doubles) -> Doubles:
    """Of each point ``[n, 2]`` to a segment, ``[n]``."""
    along = end - start
    squared = float(along @ along)
    offsets = points - start
    share = np.clip(offsets @ along / squared, 0, 1) if squared > 0 else np.zeros(len(points))
    distances: Doubles = np.hypot(*(offsets - share[:, None] * along).T)
    return distances

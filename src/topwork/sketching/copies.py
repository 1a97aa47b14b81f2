"""Which drawings are copies of each other, so that no copy is held out of what a network was trained on."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topwork.evaluation.duplicates import merged_groups
from topwork.images.quickdraw import Drawing
from topwork.sketching.sequences import unit_strokes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEAR = 0.01
"""Largest distance of corresponding points of copies, in longer sides of the drawing: whole numbers from 0 to 255 are
within half of that, another person's drawing hardly ever."""

_POINTS = 8  # that stand for a stroke


def copy_groups(drawings: Sequence[Drawing]) -> Ints:
    """Group number of each drawing, ``[n]``: the same ``key_id``, or the same strokes within `NEAR`, share one.

    Place and size do not count; the number, order and direction of the strokes do.

    >>> line = Drawing("line", (np.array([[0, 0], [10, 3]], np.float32),))
    >>> moved = Drawing("stick", (np.array([[50, 50], [70, 56]], np.float32),))
    >>> turned = Drawing("line", (np.array([[10, 3], [0, 0]], np.float32),))
    >>> copy_groups([line, moved, turned]).tolist()
    [0, 0, 1]
    """
    named = {drawing.key_id: place for place, drawing in reversed(list(enumerate(drawings))) if drawing.key_id}
    by_name = np.array([named.get(drawing.key_id, place) for place, drawing in enumerate(drawings)], np.int64)
    return merged_groups(by_name, _alike(drawings))


def _alike(drawings: Sequence[Drawing]) -> Ints:
    """Groups ``[n]`` of drawings whose strokes are the same; only those of as many strokes are compared."""
    by_count: dict[int, list[int]] = defaultdict(list)
    for place, drawing in enumerate(drawings):
        by_count[len(drawing.strokes)].append(place)
    groups = np.arange(len(drawings))
    for places in by_count.values():
        marks = np.array([_marks(drawings[place]) for place in places])  # [m, strokes * 16]
        groups[places] = np.array(places)[_near(marks)]
    return groups


def _near(marks: Floats) -> Ints:
    """For each row the first row that is linked to it by steps of at most `NEAR` in every coordinate."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # A thousand equal rows would be half a million pairs.
    rows, which = np.unique(marks, axis=0, return_inverse=True)
    pairs = cKDTree(rows).query_pairs(NEAR, p=np.inf, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(rows), len(rows)))
    component = connected_components(graph, directed=False)[1][which]
    first: Ints = np.unique(component, return_index=True)[1][component]
    return first


def _marks(drawing: Drawing) -> Floats:
    """Points at even distances along each stroke, ``[strokes * 16]``."""
    return np.concatenate([_along(stroke) for stroke in unit_strokes(drawing)]).ravel()


def _along(stroke: Floats) -> Floats:
    """``[8, 2]`` from ``[points, 2]``."""
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    at = np.linspace(0, walked[-1], _POINTS)
    return np.column_stack([np.interp(at, walked, stroke[:, axis]) for axis in (0, 1)])

"""Copies of drawings find each other, drawings of other people do not."""

import numpy as np

from topwork.images.quickdraw import Drawing
from topwork.sketching.copies import copy_groups


def scribble(seed, n_strokes=3):
    random = np.random.default_rng(seed)
    return [np.cumsum(random.normal(size=(9, 2)), axis=0) + random.normal(0, 4, 2) for _ in range(n_strokes)]


def drawing_of(strokes, key_id=""):
    return Drawing("any", tuple(np.asarray(stroke, np.float32) for stroke in strokes), key_id)


def test_changed_in_place_size_and_rounding():
    strokes = scribble(0)
    low = np.min([stroke.min(axis=0) for stroke in strokes], axis=0)
    extent = max(np.max([stroke.max(axis=0) for stroke in strokes], axis=0) - low)
    as_stored = [np.rint((stroke - low) / extent * 255) for stroke in strokes]
    everyone = [drawing_of(strokes), drawing_of([3 * stroke + 7 for stroke in strokes]), drawing_of(as_stored)]
    assert copy_groups([*everyone, drawing_of(scribble(1))]).tolist() == [0, 0, 0, 1]


def test_other_order_direction_or_number_of_strokes_is_no_copy():
    strokes = scribble(0)
    others = [strokes[::-1], [stroke[::-1] for stroke in strokes], strokes[:2]]
    assert len(set(copy_groups([drawing_of(strokes), *map(drawing_of, others)]).tolist())) == 4


def test_moved_by_more_than_a_hundredth_is_no_copy():
    frame = [[0, 0], [100, 0], [100, 100]]
    at = [drawing_of([frame, [[20, y], [80, y]]]) for y in (50, 50.9, 53)]
    assert copy_groups(at).tolist() == [0, 0, 1]


def test_the_same_key_is_the_same_drawing():
    first, second, third = (scribble(seed) for seed in range(3))
    found = copy_groups([drawing_of(first, "7"), drawing_of(second), drawing_of(third, "7"), drawing_of(second, "8")])
    assert found.tolist() == [0, 1, 0, 1]


def test_many_equal_ones_and_dots():
    dots = [drawing_of([[[5, seed]]]) for seed in range(3000)]
    assert set(copy_groups([*dots, drawing_of(scribble(0))]).tolist()) == {0, 1}


def test_five_hundred_scribbles_are_five_hundred():
    assert len(set(copy_groups([drawing_of(scribble(seed, 1 + seed % 4)) for seed in range(500)]).tolist())) == 500

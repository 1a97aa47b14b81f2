"""Pen movements: what a drawing becomes, and that its strokes come back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import approximate_polygon

from topwork.errors import UsageError
from topwork.images.quickdraw import Drawing
from topwork.sketching.sequences import LENGTH, TOLERANCE, padded, sequence_of, simplified, strokes_of, unit_strokes

LONG = 1_000_000


def drawing_of(strokes):
    """Strokes as lists of [x, y] or [x, y, time]."""
    return Drawing("any", tuple(np.array(stroke, np.float32) for stroke in strokes))


def stroke_lists(numbers, columns=2):
    return st.lists(st.lists(st.tuples(*[numbers] * columns), min_size=1, max_size=12), min_size=1, max_size=6)


whole = st.integers(-1000, 1000)
any_number = st.floats(-1e6, 1e6, width=32)


def distance_to(points, line):
    """Of each point [n, 2] to the nearest of the segments through [m, 2]."""
    best = np.full(len(points), np.inf)
    for start, end in pairwise(line):
        along = end - start
        share = np.clip((points - start) @ along / max(along @ along, 1e-30), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - start - share[:, None] * along, axis=1))
    return np.minimum(best, np.linalg.norm(points - line[0], axis=1))


@given(stroke_lists(whole), whole, whole, st.sampled_from([0.125, 0.5, 2.0, 64.0]))
def test_place_and_size_do_not_matter(strokes, right, down, scale):
    moved = [[(scale * (x + right), scale * (y + down)) for x, y in stroke] for stroke in strokes]
    np.testing.assert_array_equal(sequence_of(drawing_of(moved)), sequence_of(drawing_of(strokes)))


@given(stroke_lists(any_number))
def test_strokes_come_back(strokes):
    drawing = drawing_of(strokes)
    found = strokes_of(sequence_of(drawing, length=LONG, tolerance=0))
    expected = unit_strokes(drawing)
    assert len(found) == len(expected)
    for stroke, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(stroke, wanted - expected[0][0], atol=1e-5)


@given(stroke_lists(any_number, 3), st.integers(1, 40))
def test_any_drawing_has_a_sequence(strokes, length):
    sequence = sequence_of(drawing_of(strokes), length=length)
    assert sequence.dtype == np.float32
    assert 1 <= len(sequence) <= length
    assert np.isfinite(sequence).all()
    assert np.abs(sequence[:, :2]).max() <= 1
    assert sequence[0, :2].tolist() == [0, 0]
    assert sequence[-1, 2] == 1
    assert set(sequence[:, 2].tolist()) <= {0, 1}


@given(st.lists(st.tuples(any_number, any_number), min_size=1, max_size=60), st.floats(0.001, 0.3))
def test_what_is_left_out_lies_near_the_line(points, tolerance):
    (stroke,) = unit_strokes(drawing_of([points]))
    line = simplified(stroke, tolerance)
    assert (line[0] == stroke[0]).all()
    assert (line[-1] == stroke[-1]).all()
    assert (distance_to(stroke, line) <= tolerance + 1e-9).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 80), st.floats(0.005, 0.3))
def test_simplified_as_in_scikit_image(seed, n, tolerance):
    stroke = np.cumsum(np.random.default_rng(seed).normal(size=(n, 2)), axis=0)
    np.testing.assert_array_equal(simplified(stroke, tolerance), approximate_polygon(stroke, tolerance))


def test_the_longer_side_is_1_and_the_aspect_stays():
    sequence = sequence_of(drawing_of([[[5, 5], [5, 25]], [[9, 25], [15, 25]]]))
    np.testing.assert_allclose(sequence, [[0, 0, 0], [0, 1, 1], [0.2, 0, 0], [0.3, 0, 1]], atol=1e-7)


@pytest.mark.parametrize(
    ("strokes", "expected"),
    [
        ([[[3, 4]]], [[0, 0, 1]]),
        ([[[3, 4]] * 5], [[0, 0, 1]]),
        ([[[3, 4]], [[3, 4], [3, 4]]], [[0, 0, 1], [0, 0, 1]]),
        ([[[0, 0]], [[2, 0]]], [[0, 0, 1], [1, 0, 1]]),
    ],
)
def test_dots(strokes, expected):
    assert sequence_of(drawing_of(strokes)).tolist() == expected


def test_raw_becomes_like_simplified():
    corners = np.array([[0, 0], [255, 20], [240, 200], [30, 180]])
    shares = np.linspace(0, 1, 50, endpoint=False)[:, None]
    raw = np.concatenate([a + shares * (b - a) for a, b in pairwise(corners)] + [corners[-1:]])
    timed = np.column_stack([3.7 * raw + 12, np.arange(len(raw))])
    shaken = timed + np.random.default_rng(0).uniform(-1, 1, timed.shape)
    simple = sequence_of(drawing_of([corners]))
    assert len(simple) == 4
    np.testing.assert_allclose(sequence_of(drawing_of([timed])), simple, atol=1e-6)
    np.testing.assert_allclose(sequence_of(drawing_of([shaken])), simple, atol=0.02)


def test_a_long_drawing_is_made_coarser_and_keeps_its_end():
    turn = np.linspace(0, 12 * np.pi, 3000)
    spiral = np.column_stack([turn * np.cos(turn), turn * np.sin(turn)])
    free = sequence_of(drawing_of([spiral]), length=LONG)
    short = sequence_of(drawing_of([spiral]), length=60)
    assert len(short) <= 60 < len(free)
    np.testing.assert_allclose(short[:, :2].sum(axis=0), free[:, :2].sum(axis=0), atol=1e-5)
    (whole_line,), (line,) = unit_strokes(drawing_of([spiral])), strokes_of(short)
    assert distance_to(whole_line - whole_line[0], line).max() <= 8 * TOLERANCE + 1e-6


def test_a_thousand_strokes_lose_their_end():
    strokes = [[[x, 0], [x, 900]] for x in range(1000)]
    sequence = sequence_of(drawing_of(strokes))
    everything = sequence_of(drawing_of(strokes), length=LONG)
    assert len(sequence) == LENGTH
    assert len(everything) == 2000
    np.testing.assert_array_equal(sequence, everything[:LENGTH])
    odd = sequence_of(drawing_of(strokes), length=5)
    assert [len(stroke) for stroke in strokes_of(odd)] == [2, 2, 1]


def test_padding_is_zeros():
    sequences = [np.full((n, 3), n, np.float32) for n in (2, 5, 1)]
    batch, lengths = padded(sequences)
    assert (batch.shape, batch.dtype, lengths.tolist()) == ((3, 5, 3), np.float32, [2, 5, 1])
    for row, n in zip(batch, (2, 5, 1), strict=True):
        assert (row[:n] == n).all()
        assert (row[n:] == 0).all()


@pytest.mark.parametrize("options", [{"length": 0}, {"tolerance": -0.1}, {"tolerance": float("nan")}])
def test_wrong_options(options):
    with pytest.raises(UsageError, match="expected a length of at least 1"):
        sequence_of(drawing_of([[[0, 0], [1, 1]]]), **options)

"""Thumbnails keep shape; heat lands where it belongs."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from topwork.errors import UsageError
from topwork.report.pictures import COLOURS, Thumb, _bilinear, colourise, overlay

GREY = np.full((200, 300, 3), 100, np.uint8)


def decode(jpeg: bytes) -> np.ndarray:
    image = Image.open(BytesIO(jpeg))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB")).astype(int)


def heat_at(row: int, column: int, cells: int = 5) -> np.ndarray:
    heat = np.full((cells, cells), -3.0)
    heat[row, column] = 8.0
    return heat


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((200, 300), (128, 192)), ((300, 200), (192, 128)), ((7, 7), (192, 192)), ((3, 3000), (1, 192))],
)
def test_the_longest_side_is_the_size_asked_for(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    assert decode(Thumb.of(pixels).picture).shape[:2] == expected
    assert decode(overlay(pixels, np.ones((2, 2)))).shape[:2] == expected


def test_a_thumbnail_shows_the_picture() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, 50:] = (200, 100, 50)
    small = decode(Thumb.of(pixels, size=50).picture)
    assert np.abs(small[25, 40] - (200, 100, 50)).max() < 8
    assert small[25, 10].max() < 8


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (4, 2)])
def test_heat_lies_over_its_cell(row: int, column: int) -> None:
    drawn = decode(overlay(GREY, heat_at(row, column), size=150))  # 100 x 150: cells of 20 x 30
    change = np.abs(drawn - 100).sum(axis=2)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert (y // 20, x // 30) == (row, column)
    far = change[(row * 20 + 50) % 100, (column * 30 + 75) % 150]
    assert far < 10


def test_heat_follows_the_box_and_the_rest_is_dimmed() -> None:
    drawn = decode(overlay(GREY, heat_at(2, 2), box=(50, 0, 250, 200), size=300))
    assert np.abs(drawn[100, 150] - COLOURS[-1]).max() < 50  # the centre of the box is hot
    assert np.abs(drawn[100, 20] - 35).max() < 6  # left of it: 100 x 0.35
    assert np.abs(drawn[20, 70] - 100).max() < 6  # inside, without heat: as it was


def test_a_box_beyond_the_picture_keeps_its_scale() -> None:
    # a 300 x 200 picture padded to 300 x 300: the middle cell of the map is the middle of the picture
    drawn = decode(overlay(GREY, heat_at(2, 2), box=(0, -50, 300, 250), size=300))
    change = np.abs(drawn - 100).sum(axis=2)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert abs(int(y) - 100) <= 30
    assert abs(int(x) - 150) <= 30


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), np.full((3, 3), -1.0), np.full((3, 3), np.nan)])
def test_no_positive_heat_leaves_the_picture_alone(heat: np.ndarray) -> None:
    assert np.abs(decode(overlay(GREY, heat)) - 100).max() < 4


def test_only_the_shape_of_the_heat_matters_not_its_unit() -> None:
    heat = np.random.default_rng(0).random((4, 4))
    assert overlay(GREY, heat) == overlay(GREY, heat * 1000)


def test_bilinear_weights_are_those_of_a_linear_ramp() -> None:
    weights, inside = _bilinear(8, 80, (0, 80), 4)  # two pixels a cell
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights @ np.arange(4) == pytest.approx([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    assert inside.all()


def test_the_colours_rise_in_luminance() -> None:
    luminance = colourise(np.linspace(0, 1, 50)) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 3)),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
    ],
)
def test_other_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="expected pixels"):
        Thumb.of(pixels)


def test_other_heat_or_boxes_are_refused() -> None:
    with pytest.raises(UsageError, match="heat map"):
        overlay(GREY, np.zeros((2, 2, 2)))
    with pytest.raises(UsageError, match="box"):
        overlay(GREY, np.zeros((2, 2)), box=(5, 5, 5, 9))

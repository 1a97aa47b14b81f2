"""Thumbnails keep shape; heat lands where it belongs, in the colour of its sign."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from topwork.errors import UsageError
from topwork.report.heat import AGAINST, FOR, map_over
from topwork.report.pictures import Thumb

GREY = np.full((200, 300, 3), 100, np.uint8)


def decode(jpeg: bytes) -> np.ndarray:
    image = Image.open(BytesIO(jpeg))
    assert image.format == "JPEG"
    return np.asarray(image.convert("RGB")).astype(int)


def drawn(heat: np.ndarray, size: int = 150, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    return np.asarray(map_over(GREY, heat, box, side=size)[0]).astype(int)


def heat_at(row: int, column: int, value: float = 8.0, cells: int = 5) -> np.ndarray:
    heat = np.zeros((cells, cells))
    heat[row, column] = value
    return heat


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((200, 300), (128, 192)), ((300, 200), (192, 128)), ((7, 7), (192, 192)), ((3, 3000), (1, 192))],
)
def test_the_longest_side_is_the_size_asked_for(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    thumb = Thumb.of(np.zeros((*shape, 3), np.uint8), np.ones((2, 2)))
    assert decode(thumb.picture).shape[:2] == expected
    assert thumb.heatmap is not None
    assert decode(thumb.heatmap).shape[:2] == expected


def test_a_thumbnail_shows_the_picture() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[:, 50:] = (200, 100, 50)
    small = decode(Thumb.of(pixels, size=50).picture)
    assert np.abs(small[25, 40] - (200, 100, 50)).max() < 8
    assert small[25, 10].max() < 8


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (4, 2)])
@pytest.mark.parametrize(("value", "near", "far"), [(8.0, FOR, AGAINST), (-8.0, AGAINST, FOR)])
def test_heat_lies_over_its_cell_in_its_colour(
    row: int, column: int, value: float, near: tuple[int, ...], far: tuple[int, ...]
) -> None:
    picture = drawn(heat_at(row, column, value))  # 100 x 150: cells of 20 x 30
    change = np.abs(picture - 100).sum(axis=2)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert (y // 20, x // 30) == (row, column)
    assert np.abs(picture[y, x] - near).sum() < np.abs(picture[y, x] - far).sum()
    assert change[(row * 20 + 50) % 100, (column * 30 + 75) % 150] < 10


def test_heat_follows_the_box_and_the_rest_is_dimmed() -> None:
    picture = drawn(heat_at(2, 2), 300, (50, 0, 250, 200))
    assert np.abs(picture[100, 150] - FOR).max() < 60  # the centre of the box is hot
    assert np.abs(picture[100, 20] - 35).max() < 6  # left of it: 100 x 0.35
    assert np.abs(picture[20, 70] - 100).max() < 6  # inside, without heat: as it was


def test_a_box_beyond_the_picture_keeps_its_scale() -> None:
    # a 300 x 200 picture padded to 300 x 300: the middle cell of the map is the middle of the picture
    change = np.abs(drawn(heat_at(2, 2), 300, (0, -50, 300, 250)) - 100).sum(axis=2)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert abs(int(y) - 100) <= 30
    assert abs(int(x) - 150) <= 30


@pytest.mark.parametrize("heat", [np.zeros((3, 3)), np.full((3, 3), np.nan)])
def test_no_heat_leaves_the_picture_alone(heat: np.ndarray) -> None:
    assert np.abs(drawn(heat) - 100).max() < 4


def test_only_the_shape_of_the_heat_matters_not_its_unit() -> None:
    heat = np.random.default_rng(0).normal(size=(4, 4))
    assert np.abs(drawn(heat) - drawn(heat * 1000)).max() <= 1


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
        drawn(np.zeros((2, 2, 2)))
    with pytest.raises(UsageError, match="box"):
        drawn(np.zeros((2, 2)), box=(5, 5, 5, 9))

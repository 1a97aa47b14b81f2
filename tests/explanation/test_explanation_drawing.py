"""Overlays show the values where they are, in the colour of their sign; files keep them as they are."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from topwork.errors import UsageError
from topwork.explanation import Explanation, Faithfulness
from topwork.explanation.drawing import captioned, npz, overlay, sheet
from topwork.report.heat import AGAINST, FOR


def explanation(values: np.ndarray, box: tuple[float, float, float, float], **changes: Any) -> Explanation:
    facts: dict[str, Any] = {
        "path": "a.jpg",
        "label": "cat",
        "target": "cat",
        "against": None,
        "probability": 0.9,
        "score": 2.5,
        "method": "cam",
        "layer": "last_map",
        "values": values.astype(np.float32),
        "size": 64,
        "box": box,
        "pixels": np.full((80, 120, 3), 128, np.uint8),
        "faithfulness": Faithfulness(0.1, 0.8, 0.0),
    }
    return Explanation(**{**facts, **changes})


def nearer(pixel: np.ndarray, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return bool(np.abs(pixel - np.array(one)).sum() < np.abs(pixel - np.array(other)).sum())


def test_signs_have_their_colours_and_places() -> None:
    values = np.array([[5.0, -5.0], [0.0, 0.0]])
    picture, full = overlay(explanation(values, (0, 0, 120, 80)), side=120)
    drawn = np.asarray(picture, float)
    assert drawn.shape == (80, 120, 3)
    assert full == pytest.approx(5)
    assert nearer(drawn[5, 10], FOR, AGAINST)
    assert nearer(drawn[5, 110], AGAINST, FOR)
    np.testing.assert_allclose(drawn[75, [10, 110]], 128, atol=2)


def test_what_the_network_did_not_see_is_dimmed_and_bare() -> None:
    values = np.ones((4, 4))
    drawn = np.asarray(overlay(explanation(values, (20, 0, 100, 80)), side=240)[0], float)
    np.testing.assert_allclose(drawn[80, 20], 0.35 * 128, atol=2)
    assert nearer(drawn[80, 120], FOR, AGAINST)
    beyond = np.asarray(overlay(explanation(values, (0, -20, 120, 100)), side=120)[0], float)
    assert (beyond[:, :, 0] > beyond[:, :, 2] + 50).all()  # a padded square covers the whole picture


def test_a_map_of_nothing_leaves_the_picture() -> None:
    picture, full = overlay(explanation(np.zeros((3, 3)), (0, 0, 120, 80)), side=120)
    assert full == 0
    np.testing.assert_allclose(np.asarray(picture), 128, atol=2)


def test_captions_and_sheets_have_room_for_everything() -> None:
    found = explanation(np.eye(3), (0, 0, 120, 80), target="a class with a name that is far too long for its tile")
    one = captioned(found, side=200)
    assert one.width == 216
    bad = explanation(np.eye(3), (0, 0, 120, 80), error="broken")
    bad = replace(bad, values=None)
    whole = sheet([found, bad, found, found], columns=2, side=200)
    assert whole.size == (2 * one.width, 2 * one.height)
    assert np.asarray(whole.crop((one.width, one.height, *whole.size))).min() == 255  # the free place
    with pytest.raises(UsageError, match="none of the pictures could be read"):
        sheet([bad])
    with pytest.raises(UsageError, match=r"a\.jpg has none: broken"):
        overlay(bad)


def test_the_file_of_values_is_lossless_and_unpickled() -> None:
    values = np.random.default_rng(0).normal(size=(7, 7))
    found = explanation(values, (1.0, 2.0, 3.0, 4.0))
    with np.load(io.BytesIO(npz(found)), allow_pickle=False) as opened:
        np.testing.assert_array_equal(opened["values"], found.values)
        np.testing.assert_array_equal(opened["on_input"], found.on_input)
        assert opened["on_input"].shape == (64, 64)
        assert opened["box"].tolist() == [1, 2, 3, 4]
        assert (str(opened["target"]), str(opened["method"]), str(opened["layer"])) == ("cat", "cam", "last_map")


def test_an_enlarged_map_keeps_its_corner(toy: Callable[..., Any]) -> None:
    values = np.zeros((7, 7))
    values[0, 6] = 1
    on_input = explanation(values, (0, 0, 120, 80)).on_input
    assert on_input is not None
    assert on_input.argmax() % 64 > 54
    assert on_input.argmax() // 64 < 10

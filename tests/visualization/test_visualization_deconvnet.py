"""The deconvnet on a network whose answer can be written down: transposed kernels, negative signals cut off."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import helper
from PIL import Image

from topwork.images import ImageSource
from topwork.visualization.deconvnet import depends_on_picture, reconstruction
from topwork.visualization.gradients import layer_function
from topwork.visualization.opened import Opened
from topwork.visualization.patches import patch_arrays, top_patches
from topwork.visualization.sheet import around_grey

FIRST = np.array([[20.0, -3, 0.5], [-40, 2, 1], [1, 1, -9]]).reshape(3, 3, 1, 1)  # from colours to three hidden maps
SECOND = np.random.default_rng(0).normal(size=(2, 3, 3, 3))
RECTIFIERS = {
    "ReLU": lambda x, y: helper.make_node("Relu", [x], [y]),
    "ReLU6": lambda x, y: helper.make_node("Clip", [x, "low", "high"], [y]),
    "none": lambda x, y: helper.make_node("HardSwish", [x], [y]),
}


@pytest.fixture(params=RECTIFIERS)
def network(request: pytest.FixtureRequest, opened_toy: Callable[..., Opened]) -> tuple[str, Opened]:
    """Two convolutions, a rectifier behind each."""
    rectifier = RECTIFIERS[request.param]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"]),
        rectifier("a", "hidden"),
        helper.make_node("Conv", ["hidden", "second"], ["b"]),
        rectifier("b", "last"),
    ]
    arrays = {"first": FIRST, "second": SECOND, "low": np.array(0.0), "high": np.array(6.0)}
    return request.param, opened_toy(nodes, arrays, {"hidden": 3, "last": 2}, size=16)


def test_the_signal_is_the_closed_form(network: tuple[str, Opened]) -> None:
    rectifier, opened = network
    square = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    maps = layer_function(opened, "last")(torch.from_numpy(square / np.float32(255)).permute(2, 0, 1)[None])[0]
    channel, row, column = (int(each) for each in np.unravel_index(int(maps.argmax()), maps.shape))
    found = reconstruction(opened, square, "last", channel, (row, column))
    if rectifier == "none":
        assert found is None
        return
    assert found is not None
    # Back through the second convolution, cut off below 0 whatever went in, back through the first.
    hidden = np.maximum(SECOND[channel], 0)  # [3, 3, 3]: hidden map, rows, columns
    expected = np.zeros((16, 16, 3))
    expected[row : row + 3, column : column + 3] = np.einsum("hij,hc->ijc", hidden, FIRST[:, :, 0, 0])
    np.testing.assert_allclose(found, float(maps.max()) * expected, rtol=1e-4, atol=1e-6)


def test_it_is_not_the_gradient(network: tuple[str, Opened]) -> None:
    rectifier, opened = network
    if rectifier == "none":
        return
    square = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    pixels = torch.from_numpy(square / np.float32(255)).permute(2, 0, 1)[None].requires_grad_()
    maps = layer_function(opened, "last")(pixels)[0]
    at = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
    (gradient,) = torch.autograd.grad(maps[0][at], pixels, maps[0][at].detach())
    found = reconstruction(opened, square, "last", 0, (int(at[0]), int(at[1])))
    assert np.abs(found - gradient[0].permute(1, 2, 0).numpy()).max() > 1


def test_patches_have_their_signal_where_there_is_one(network: tuple[str, Opened], tmp_path: object) -> None:
    rectifier, opened = network
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(f"{tmp_path}/{number}.png")
    found, _ = top_patches(opened, ImageSource.open(str(tmp_path)).samples, "last", 0, count=2)
    arrays = patch_arrays(found)
    for number, patch in enumerate(found):
        assert patch.pixels.shape == (3, 3, 3)
        assert np.array_equal(arrays[f"patch_{number}"], patch.pixels)
        if rectifier == "none":
            assert patch.signal is None
            assert patch.tile.pixels.shape == (3, 3, 3)
            continue
        left, top, right, bottom = patch.box
        square = np.array(Image.open(f"{tmp_path}/{patch.place.sample.id}"))
        whole = reconstruction(opened, square, "last", 0, patch.place.at)
        assert np.array_equal(patch.signal, whole[top:bottom, left:right])
        assert np.array_equal(arrays[f"signal_{number}"], patch.signal)
        assert np.array_equal(patch.tile.pixels, np.concatenate([patch.pixels, around_grey(patch.signal)], axis=1))
    assert arrays["activations"].tolist() == sorted(arrays["activations"], reverse=True)


def test_signals_count_from_grey() -> None:
    assert around_grey(np.array([[-4.0, 0.0, 2.0]])).tolist() == [[1, 128, 192]]
    assert around_grey(np.zeros((1, 2))).tolist() == [[128, 128]]
    outlier = np.array([[1.0] * 99 + [1000.0]])
    assert set(around_grey(outlier).ravel()) == {255}


@pytest.mark.parametrize("pooled", [False, True])
def test_only_pooling_makes_a_deconvnet_depend_on_the_picture(pooled: bool, opened_toy: Callable[..., Opened]) -> None:
    pool = helper.make_node("MaxPool", ["hidden"], ["pooled"], kernel_shape=[2, 2], strides=[1, 1])
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["hidden"]),
        pool if pooled else helper.make_node("Identity", ["hidden"], ["pooled"]),
        helper.make_node("Conv", ["pooled", "second"], ["last"]),
    ]
    opened = opened_toy(nodes, {"first": FIRST, "second": np.abs(SECOND)}, {"hidden": 3, "last": 2}, size=16)
    squares = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)
    for rule in ("deconvnet", "guided"):
        one, other = (reconstruction(opened, square, "last", 0, (5, 5), rule=rule) for square in squares)
        same = np.abs(one / np.abs(one).max() - other / np.abs(other).max()).max() < 1e-5
        assert same != depends_on_picture(opened, rule)

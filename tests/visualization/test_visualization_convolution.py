import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import generic_filter
from scipy.signal import convolve2d, correlate2d

from topwork.errors import UsageError
from topwork.visualization.convolution import KERNELS, convolve, output_size, pool
from topwork.visualization.steps import worked_example

LECTURE = np.array([[2, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 3, 0, 0]])
SIDES = st.tuples(st.integers(1, 9), st.integers(1, 9))
NUMBERS = st.integers(-50, 50).map(float)


def of_shape(shapes: Any) -> Any:
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=NUMBERS))


def test_the_worked_example() -> None:
    kernel = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert convolve(LECTURE, kernel).tolist() == [[3, 2], [3, 1]]
    assert pool(LECTURE, 2).tolist() == [[2, 1], [3, 1]]
    assert pool(LECTURE, 2, "average").tolist() == [[0.75, 0.5], [0.75, 0.25]]
    assert convolve(LECTURE, kernel, 2, "same").tolist() == convolve(LECTURE, kernel, stride=2, padding="same").tolist()
    assert convolve(LECTURE, kernel, flip=True).tolist() == convolve2d(LECTURE, kernel, "valid").tolist()


@settings(deadline=None)
@given(of_shape(SIDES), of_shape(SIDES), st.integers(1, 4), st.booleans())
def test_grey_pictures_equal_scipy(image: np.ndarray, kernel: np.ndarray, stride: int, flip: bool) -> None:
    reference = convolve2d if flip else correlate2d
    same = reference(image, kernel, "same")[::stride, ::stride]
    np.testing.assert_array_equal(convolve(image, kernel, padding="same", stride=stride, flip=flip), same)
    if all(k <= n for n, k in zip(image.shape, kernel.shape, strict=True)):
        valid = reference(image, kernel, "valid")[::stride, ::stride]
        np.testing.assert_array_equal(convolve(image, kernel, stride=stride, flip=flip), valid)


@settings(deadline=None)
@given(of_shape(st.tuples(st.integers(3, 8), st.integers(3, 8), st.just(3))), of_shape(SIDES), st.integers(0, 4))
def test_colour_pictures_by_channel_and_as_a_sum(image: np.ndarray, kernel: np.ndarray, zeros: int) -> None:
    kernel = kernel[:3, :3]
    framed = np.pad(image, ((zeros, zeros), (zeros, zeros), (0, 0)))
    each = [correlate2d(framed[:, :, channel], kernel, "valid") for channel in range(3)]
    np.testing.assert_array_equal(convolve(image, kernel, padding=zeros), np.stack(each, axis=2))
    slices = np.stack([kernel, 2 * kernel, -kernel], axis=2)
    np.testing.assert_array_equal(convolve(image, slices, padding=zeros), each[0] + 2 * each[1] - each[2])


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 6), st.sampled_from(["valid", "same", 0, 1, 5]))
def test_sizes_are_those_of_the_arrays(n: int, kernel: int, stride: int, padding: Any) -> None:
    image, window = np.ones((n, n)), np.ones((kernel, kernel))
    if padding != "same" and kernel > n + 2 * (0 if padding == "valid" else padding):
        with pytest.raises(UsageError, match="expected a kernel of at most"):
            convolve(image, window, stride=stride, padding=padding)
        return
    size = output_size(n, kernel, stride, padding)
    assert convolve(image, window, stride=stride, padding=padding).shape == (size, size)
    if padding == "same":
        assert size == math.ceil(n / stride)


@settings(deadline=None)
@given(
    of_shape(st.tuples(st.integers(4, 9), st.integers(4, 9), st.just(3))),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["max", "average"]),
)
def test_pooling_equals_a_filter_of_scipy(image: np.ndarray, size: int, stride: int, kind: Any) -> None:
    function = np.max if kind == "max" else np.mean
    for channel in range(3):
        filtered = generic_filter(image[:, :, channel], function, size, mode="constant", origin=-(size // 2))
        # The filter's window begins at its pixel then; those that reach beyond the picture do not count.
        inside = filtered[: image.shape[0] - size + 1, : image.shape[1] - size + 1]
        np.testing.assert_allclose(
            pool(image, size, kind=kind, stride=stride)[:, :, channel], inside[::stride, ::stride]
        )
    np.testing.assert_array_equal(pool(image, size, kind=kind), pool(image, size, kind=kind, stride=size))


def test_networks_compute_the_same() -> None:
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).normal(size=(17, 13, 3))
    kernel = np.random.default_rng(1).normal(size=(5, 5, 3))
    x, w = (torch.from_numpy(value).permute(2, 0, 1)[None] for value in (image, kernel))
    reference = torch.nn.functional.conv2d(x, w, stride=2, padding=2)[0, 0].numpy()
    np.testing.assert_allclose(convolve(image, kernel, stride=2, padding=2), reference, atol=1e-12)
    np.testing.assert_allclose(convolve(image, kernel, stride=2, padding="same"), reference, atol=1e-12)
    pooled = torch.nn.functional.max_pool2d(x, 3, 2)[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pool(image, 3, stride=2), pooled)


def test_named_kernels_do_what_they_are_called() -> None:
    flat = np.full((6, 6), 7.0)
    step = np.repeat([[0.0, 0, 0, 9, 9, 9]], 6, axis=0)
    assert not convolve(flat, KERNELS["edge"]).any()
    assert not convolve(flat, KERNELS["sobel"]).any()
    np.testing.assert_allclose(convolve(flat, KERNELS["sharpen"]), 7.0)
    np.testing.assert_allclose(convolve(flat, KERNELS["blur"]), 7.0)
    assert convolve(step, KERNELS["sobel"])[0].tolist() == [0, 36, 36, 0]
    assert not convolve(step.T, KERNELS["sobel"]).any()
    np.testing.assert_allclose(convolve(step, KERNELS["blur"])[0], [0, 3, 6, 9])
    assert convolve(step, KERNELS["sharpen"])[0].tolist() == [0, -9, 18, 9]
    assert convolve(step, KERNELS["edge"])[0].tolist() == [0, -27, 27, 0]
    with pytest.raises(ValueError, match="read-only"):
        KERNELS["blur"][0, 0] = 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: convolve(np.ones(5), np.ones((1, 1))), r"expected a grey picture .* not an array of shape \[5\]"),
        (lambda: convolve(np.ones((5, 5, 4)), np.ones((3, 3))), r"shape \[5, 5, 4\]; give one picture"),
        (lambda: pool(np.ones((0, 5)), 1), r"shape \[0, 5\]"),
        (lambda: convolve(LECTURE, np.ones((2, 2, 3))), r"not \[2, 2, 3\] for a picture of \[4, 4\]"),
        (lambda: convolve(LECTURE, np.ones(3)), r"expected a kernel of shape \[h, w\]"),
        (lambda: convolve(LECTURE, np.ones((5, 5))), "at most 4 pixels, .* not 5; take a smaller kernel"),
        (lambda: convolve(LECTURE, np.ones((3, 3)), stride=0), "expected stride to be a whole number .* not 0"),
        (lambda: convolve(LECTURE, np.ones((3, 3)), stride=True), "stride"),
        (lambda: convolve(LECTURE, np.ones((3, 3)), padding="some"), "not 'some': did you mean same"),  # type: ignore[arg-type]
        (lambda: convolve(LECTURE, np.ones((3, 3)), padding=-1), "expected padding to be .* not -1"),
        (lambda: convolve([[1, 2], [3]], np.ones((1, 1))), "expected image to be an array of numbers"),
        (lambda: pool(LECTURE, 5), "at most 4 pixels"),
        (lambda: pool(LECTURE, 2, kind="mean"), "expected kind to be max or average, not 'mean'"),  # type: ignore[arg-type]
        (lambda: pool(LECTURE, 2, stride=0), "expected stride"),
    ],
)
def test_wrong_calls_are_told_what_to_do(call: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        call()


@given(
    arrays(np.float64, (9, 11), elements=NUMBERS), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.data()
)
@settings(max_examples=60, deadline=None)
def test_the_example_that_is_worked_out_adds_up(image: Any, high: int, wide: int, stride: int, data: Any) -> None:
    """The numbers that are shown are those of the picture and the kernel; their products sum up to the value."""
    kernel = data.draw(arrays(np.float64, (high, wide), elements=st.integers(-3, 3).map(float)))
    padding, flip = data.draw(st.sampled_from(["valid", "same"])), data.draw(st.booleans())
    values = convolve(image, kernel, stride, padding, flip=flip)
    lines = worked_example(image, kernel, values, stride=stride, padding=padding, flip=flip)
    assert lines or wide > 3
    if not lines:
        return
    head, *rows = lines
    numbers = [[float(part) for part in row.split("=")[0].replace("x", "").replace("->", "").split()] for row in rows]
    patch, weights, products = np.split(np.array(numbers), 3, axis=1)
    np.testing.assert_array_equal(weights, kernel[::-1, ::-1] if flip else kernel)
    np.testing.assert_array_equal(patch * weights, products)
    (total,) = [float(row.split("= ")[1]) for row in rows if "=" in row]
    assert products.sum() == total == values.flat[np.abs(values).argmax()]
    assert all(len(line) <= 78 for line in (head, *rows))

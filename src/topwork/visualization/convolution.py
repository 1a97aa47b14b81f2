"""Convolution and pooling on one picture, in NumPy, to see what a layer of a network does.

A network's layers compute the same numbers with far more kernels at once; the arithmetic of shapes is the same.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from topwork.errors import UsageError
from topwork.registry import closest

Floats = NDArray[np.float64]
Padding = Literal["valid", "same"] | int
"""Zeros around the picture: none, as many as keep its size, or so many on each side."""
Kind = Literal["max", "average"]

_NAMED = ("valid", "same")


def _kernel(rows: Sequence[Sequence[float]], divisor: float = 1.0) -> Floats:
    kernel = np.array(rows, np.float64) / divisor
    kernel.setflags(write=False)  # shared by all who import it
    return kernel


KERNELS: dict[str, Floats] = {
    "edge": _kernel([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
    "sobel": _kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "sharpen": _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    "blur": _kernel([[1, 1, 1], [1, 1, 1], [1, 1, 1]], 9),
}
"""Kernels ``[3, 3]`` by name.

``edge`` is 0 where all nine pixels are alike. ``sobel`` answers to vertical edges: above 0 where it gets brighter
to the right; its transpose answers to horizontal ones. ``sharpen`` adds to a pixel what it differs from its
neighbours. ``blur`` is the mean.
"""


def output_size(n: int, kernel: int, stride: int = 1, padding: Padding = "valid") -> int:
    """Length of what a kernel gives along one side of a picture: ``floor((n + p - kernel) / stride) + 1``.

    ``p`` counts the zeros added on both sides together: 0 for ``valid``, ``kernel - 1`` for ``same``, ``2 * padding``
    for a number. The same for pooling. UsageError where the kernel does not fit.

    >>> output_size(28, 5), output_size(28, 5, padding="same"), output_size(28, 2, stride=2)
    (24, 28, 14)
    >>> output_size(224, 11, stride=4, padding=2)  # the first layer of AlexNet
    55
    """
    for name, value, least in (("n", n, 1), ("kernel", kernel, 1), ("stride", stride, 1)):
        _check_count(name, value, least)
    padded = n + sum(zeros(kernel, padding))
    if kernel > padded:
        raise UsageError(
            f"expected a kernel of at most {padded} pixels, the side of the picture with its padding, not {kernel}; "
            'take a smaller kernel or padding="same"'
        )
    return (padded - kernel) // stride + 1


def convolve(
    image: ArrayLike, kernel: ArrayLike, stride: int = 1, padding: Padding = "valid", *, flip: bool = False
) -> Floats:
    """Slide a kernel over a picture: at each place the sum of the products of kernel and pixels.

    ``image``: ``[h, w]`` or ``[h, w, 3]``. A kernel ``[a, b]`` takes each channel by itself and gives ``[h', w']`` or
    ``[h', w', 3]``. A kernel ``[a, b, 3]`` has a slice for each channel and gives their sum ``[h', w']``, as each
    filter of a network's layer does. ``h'`` and ``w'``: see ``output_size``.

    Without ``flip`` it is what networks call convolution, a cross-correlation; with ``flip`` the kernel is turned by
    180 degrees first, which is the convolution of signal processing::

        out[i, j] = sum over u, v of kernel[u, v] * image[i * stride + u, j * stride + v]

    A stride of s keeps every s-th row and column. UsageError for shapes and settings that do not fit.

    >>> image = [[2, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 3, 0, 0]]
    >>> convolve(image, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    array([[3., 2.],
           [3., 1.]])
    >>> convolve(np.ones((28, 28, 3)), np.ones((5, 5, 3)), padding="same", stride=2).shape
    (14, 14)
    """
    pixels, weights = _image(image), _numbers("kernel", kernel)
    if (
        weights.ndim not in (2, 3)
        or 0 in weights.shape
        or (weights.ndim == 3 and weights.shape[2:] != pixels.shape[2:])
    ):
        raise UsageError(
            f"expected a kernel of shape [h, w], or [h, w, 3] for an RGB picture, not {list(weights.shape)} for a "
            f"picture of {list(pixels.shape)}; give it two sides, and a slice for each channel or none"
        )
    sides = weights.shape[:2]
    for n, k in zip(pixels.shape, sides, strict=False):
        output_size(n, k, stride, padding)
    if flip:
        weights = weights[::-1, ::-1]
    # An even kernel has no middle; where the kernel is turned, so are the zeros of "same".
    around = [zeros(k, padding)[:: -1 if flip else 1] for k in sides]
    padded = np.pad(pixels, [*around, *[(0, 0)] * (pixels.ndim - 2)])
    windows = sliding_window_view(padded, sides, axis=(0, 1))[::stride, ::stride]  # [h', w', (3,) a, b]
    channels = "c" if pixels.ndim == 3 else ""
    slices = "c" if weights.ndim == 3 else ""
    kept = "" if slices else channels
    found: Floats = np.einsum(f"hw{channels}ab,ab{slices}->hw{kept}", windows, weights)
    return found


def pool(image: ArrayLike, size: int, kind: Kind = "max", *, stride: int | None = None) -> Floats:
    """The ``max`` or ``average`` of each window of ``size`` by ``size`` pixels, each channel by itself.

    ``image``: ``[h, w]`` or ``[h, w, 3]``. ``stride``: pixels from one window to the next; None takes ``size``, so that
    windows do not overlap. What is left at the right and bottom is dropped, as in ``output_size``. UsageError for
    windows that do not fit.

    >>> image = [[2, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 3, 0, 0]]
    >>> pool(image, 2)
    array([[2., 1.],
           [3., 1.]])
    >>> pool(image, 2, kind="average")
    array([[0.75, 0.5 ],
           [0.75, 0.25]])
    """
    pixels = _image(image)
    if kind not in get_args(Kind):
        raise UsageError(f"expected kind to be max or average, not {kind!r}: {closest(str(kind), get_args(Kind))}")
    _check_count("size", size, 1)
    step = size if stride is None else stride
    for n in pixels.shape[:2]:
        output_size(n, size, step)
    windows = sliding_window_view(pixels, (size, size), axis=(0, 1))[::step, ::step]  # [h', w', (3,) size, size]
    found: Floats = windows.max(axis=(-2, -1)) if kind == "max" else windows.mean(axis=(-2, -1))
    return found


def zeros(kernel: int, padding: Any) -> tuple[int, int]:
    """How many zeros stand before and after a side of a picture, for a kernel of so many pixels.

    >>> zeros(3, "same"), zeros(2, "same"), zeros(5, "valid")
    ((1, 1), (0, 1), (0, 0))
    """
    if isinstance(padding, str):
        if padding not in _NAMED:
            raise UsageError(
                f"expected padding to be valid, same or a number of pixels, not {padding!r}: {closest(padding, _NAMED)}"
            )
        return ((kernel - 1) // 2, kernel // 2) if padding == "same" else (0, 0)
    _check_count("padding", padding, 0)
    return padding, padding


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UsageError(f"expected {name} to be a whole number of at least {least}, not {value!r}; give such a number")


def _image(image: ArrayLike) -> Floats:
    pixels = _numbers("image", image)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or pixels.shape[2:] not in ((), (3,)):
        raise UsageError(
            f"expected a grey picture [h, w] or an RGB picture [h, w, 3], not an array of shape {list(pixels.shape)}; "
            "give one picture at a time, without an alpha channel"
        )
    return pixels


def _numbers(name: str, value: ArrayLike) -> Floats:
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"expected {name} to be an array of numbers, but {error}; give rows of the same length"
        ) from error

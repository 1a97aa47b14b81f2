"""What a kernel, then pooling, makes of one picture, with the arithmetic of the shapes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from topwork.errors import UsageError
from topwork.registry import closest
from topwork.visualization import convolution
from topwork.visualization.sheet import Drawn, Tile, scaled

Floats = NDArray[np.float64]
POOL = 2
"""Side of the pooling windows, in pixels; they do not overlap."""
_FEW = 8  # values a side up to which they are written out


@dataclass(frozen=True, eq=False)
class Step(Drawn):
    """``values``: ``[h, w]`` or ``[h, w, 3]``; ``arithmetic``: how height and width came about, a line each."""

    name: str
    values: Floats
    arithmetic: tuple[str, ...] = ()
    example: tuple[str, ...] = ()
    """One of the values, worked out."""

    @property
    def shape(self) -> str:
        """Height and width, and the channels where there are three."""
        return " x ".join(map(str, self.values.shape))

    @property
    def lines(self) -> list[str]:
        """For people: name, shape, arithmetic, range; the values themselves where they are few."""
        low, high = self.values.min(), self.values.max()
        head = f"{self.name}: {self.shape}, values {low:g} to {high:g}"
        words = [f"  {line}" for line in (*self.arithmetic, *self.example)]
        return [head, *words, *_written_out(self.values)]

    @property
    def tile(self) -> Tile:
        """The picture: colours as they are in the input, else from the least value (black) to the largest (white)."""
        if self.name == "image":
            return Tile(self.values.round().clip(0, 255).astype(np.uint8), f"{self.name} {self.shape}")
        return Tile(scaled(self.values), f"{self.name} {self.shape}")

    def drawn(self) -> Image.Image:
        """The picture of its tile."""
        return Image.fromarray(self.tile.pixels)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; ``values`` only where they are few."""
        few = max(self.values.shape[:2]) <= _FEW
        return {
            "name": self.name,
            "shape": list(self.values.shape),
            "arithmetic": list(self.arithmetic),
            "example": list(self.example),
            "range": [float(self.values.min()), float(self.values.max())],
            "values": self.values.tolist() if few else None,
        }


def convolution_steps(
    image: ArrayLike, kernel: ArrayLike, *, stride: int = 1, padding: str = "valid", pool: str | None = None, flip: bool
) -> list[Step]:
    """The picture ``[h, w]`` or ``[h, w, 3]``, what the kernel gives, and what pooling leaves.

    ``pool``: ``max`` or ``average`` over windows of 2 by 2. UsageError for what does not fit.

    >>> found = convolution_steps(np.ones((28, 28)), np.ones((5, 5)), pool="max", flip=False)
    >>> for step in found:
    ...     print("; ".join(step.lines[:3]))
    image: 28 x 28, values 1 to 1
    convolved: 24 x 24, values 25 to 25;   height: (28 + 0 - 5) / 1 + 1 = 24;   width:  (28 + 0 - 5) / 1 + 1 = 24
    max of 2 x 2: 12 x 12, values 25 to 25;   height: (24 + 0 - 2) / 2 + 1 = 12;   width:  (24 + 0 - 2) / 2 + 1 = 12
    """
    given, weights = Step("image", np.asarray(image, np.float64)), np.asarray(kernel, np.float64)
    zeros = cast(convolution.Padding, padding)
    values = convolution.convolve(given.values, weights, stride=stride, padding=zeros, flip=flip)
    same = padding == "same"
    words = _arithmetic(given.values, values, weights.shape, stride, same=same)
    example = worked_example(given.values, weights, values, stride=stride, padding=padding, flip=flip)
    found = [given, Step("convolved", values, words, example)]
    if pool is not None:
        pooled = convolution.pool(values, POOL, kind=cast(convolution.Kind, pool))
        words = _arithmetic(values, pooled, (POOL, POOL), POOL, same=False)
        found.append(Step(f"{pool} of {POOL} x {POOL}", pooled, words))
    return found


def worked_example(
    image: Floats, kernel: Floats, convolved: Floats, *, stride: int, padding: str, flip: bool
) -> tuple[str, ...]:
    """The strongest of the values, as the products of pixels and kernel and their sum; lines of up to 80 characters.

    Nothing where it would not fit, for kernels of more than 5 rows, and for those with a slice for each colour.

    >>> image = np.array([[10.0, 20], [30, 90]])
    >>> kernel = np.array([[1.0, 0], [0, -1]])
    >>> values = convolution.convolve(image, kernel)
    >>> print("\\n".join(worked_example(image, kernel, values, stride=1, padding="valid", flip=False)))
    the strongest value, at row 0, column 0: pixels x kernel, summed up
      10  20     1   0      10    0
      30  90  x  0  -1  ->   0  -90  = -80
    """
    if kernel.ndim != 2 or max(kernel.shape) > _WORKED_OUT:
        return ()
    weights = kernel[::-1, ::-1] if flip else kernel
    place = np.unravel_index(np.abs(convolved).argmax(), convolved.shape)
    row, column = int(place[0]), int(place[1])
    channel = f", {_COLOURS[int(place[2])]}" if len(place) == 3 else ""
    plane = image[..., int(place[2])] if len(place) == 3 else image
    before = [convolution.zeros(k, cast(convolution.Padding, padding))[1 if flip else 0] for k in kernel.shape]
    around = np.pad(plane, [(before[0], kernel.shape[0]), (before[1], kernel.shape[1])])
    top, left = row * stride, column * stride
    patch = around[top : top + kernel.shape[0], left : left + kernel.shape[1]]
    columns = [_column(values) for values in (patch, weights, patch * weights + 0.0)]  # no -0
    signs = [
        ("", "x", "->", f"= {convolved[place]:.6g}") if at == len(patch) // 2 else ("",) * 4 for at in range(len(patch))
    ]
    head = f"the strongest value, at row {row}, column {column}{channel}: pixels x kernel, summed up"
    lines = [
        f"  {columns[0][at]}  {sign[1]:1}  {columns[1][at]}  {sign[2]:2}  {columns[2][at]}  {sign[3]}".rstrip()
        for at, sign in enumerate(signs)
    ]
    return () if max(map(len, lines)) > _WIDEST else (head, *lines)


_WORKED_OUT, _WIDEST = 5, 78  # rows and columns of a kernel; characters of a line, which is indented by 2
_COLOURS = ("red", "green", "blue")


def _column(values: Floats) -> list[str]:
    """Rows of numbers, all as wide."""
    texts = [[f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}" for value in row] for row in values]
    wide = max(len(text) for row in texts for text in row)
    return ["  ".join(text.rjust(wide) for text in row) for row in texts]


def kernel_of(text: str) -> Floats:
    """A kernel by its name, or rows of numbers as JSON; UsageError with the closest name for what is neither.

    >>> kernel_of("[[1, 0], [0, -1]]").tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """
    if text in convolution.KERNELS:
        return convolution.KERNELS[text]
    if not text.lstrip().startswith("["):
        raise UsageError(
            f"expected the kernel to be one of {', '.join(convolution.KERNELS)}, or rows such as [[1,0],[0,-1]], not "
            f"{text!r}: {closest(text, convolution.KERNELS)}"
        )
    try:
        return np.array(json.loads(text), np.float64)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"expected the kernel as rows of numbers of one length, such as [[1,0],[0,-1]], not {text!r}; write it so"
        ) from error


def _arithmetic(before: Floats, after: Floats, kernel: Sequence[int], stride: int, *, same: bool) -> tuple[str, ...]:
    """``floor((n + p - k) / s) + 1`` with its numbers, for height and width."""
    lines = []
    for name, n, k, result in zip(("height:", "width: "), before.shape, kernel, after.shape, strict=False):
        zeros = k - 1 if same else 0
        rest = ", rounded down" if (n + zeros - k) % stride else ""
        lines.append(f"{name} ({n} + {zeros} - {k}) / {stride} + 1 = {result}{rest}")
    return tuple(lines)


def _written_out(values: Floats) -> list[str]:
    if values.ndim != 2 or max(values.shape) > _FEW:
        return []
    texts = [[f"{value:g}" for value in row] for row in values]
    wide = max(len(text) for row in texts for text in row)
    return ["  " + "  ".join(text.rjust(wide) for text in row) for row in texts]

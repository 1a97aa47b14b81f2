"""Preprocessing inside the graph: uint8 RGB pictures of any size to the network's input.

Three geometries make a square of a picture, the fourth keeps its shape:

crop
    the centre square that holds ``crop_fraction`` of the shorter side
pad
    the whole picture, its surroundings filled with the mean colour
stretch
    the whole picture, squashed to a square
whole
    the whole picture in about its own shape, with about as many pixels as the square has. Its sides differ from the
    square's by multiples of ``GRID``, so that a network of this stride pads every layer as it does for the square. Only
    for networks that are convolutions up to the pooling: ``BackboneSpec.any_shape``.

Resizing is cubic (or linear, where weights want it) and antialiased on uint8 and equals Pillow's within one level of
255, rows first, then columns
(Pillow 13 chooses the order by the shape, which shows where a pass overshoots 0..255).
"""

from typing import Any

import numpy as np

from topwork.backbones.nodes import Nodes
from topwork.backbones.spec import Preprocess
from topwork.errors import UsageError

GEOMETRIES = ("crop", "pad", "stretch", "whole")
GRID = 32
"""Pixels between the sides that ``whole`` may have: the stride of the last feature map."""
MOST_PIXELS = 2
"""Times the square's pixels that ``whole`` has at most, however long and narrow a picture is."""

_KERNELS: dict[str, dict[str, Any]] = {
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
    "bilinear": {"mode": "linear"},
}


def build(preprocess: Preprocess, geometry: str, nodes: Nodes, image: str) -> str:
    """Append preprocessing of ``image`` ``[n, h, w, 3] uint8``; returns ``[n, 3, size, size] float32``.

    For ``whole`` it is ``[n, 3, h', w']``, see ``input_shape``.
    """
    if geometry not in GEOMETRIES:
        raise UsageError(f"geometry must be one of {', '.join(GEOMETRIES)}, not {geometry!r}")
    geometries = {"crop": _crop, "pad": _pad, "stretch": _stretch, "whole": _whole}
    x = geometries[geometry](preprocess, nodes, image)
    x = nodes.add("Cast", [x], to=1)
    if len(set(preprocess.mean)) == 1 and len(set(preprocess.std)) == 1:
        mean, scale = nodes.constant(preprocess.mean[0]), nodes.constant(1 / preprocess.std[0])
    else:
        mean = nodes.constant(np.array(preprocess.mean, np.float32).reshape(1, 3, 1, 1))
        scale = nodes.constant((1 / np.array(preprocess.std, np.float32)).reshape(1, 3, 1, 1))
    return nodes.add("Mul", [nodes.add("Sub", [x, mean]), scale])


def seen_box(preprocess: Preprocess, geometry: str, height: int, width: int) -> tuple[float, float, float, float]:
    """The part of a picture that the network's input shows: ``(left, top, right, bottom)`` in pixels.

    For ``pad`` it reaches beyond the picture.

    >>> lite0 = Preprocess(size=224, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3)
    >>> seen_box(lite0, "crop", 80, 100)
    (15, 5, 85, 75)
    >>> seen_box(lite0, "pad", 80, 100)
    (0.0, -10.0, 100.0, 90.0)
    """
    if geometry in ("stretch", "whole"):
        return (0, 0, width, height)
    if geometry == "pad":
        side = max(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        return (left, top, left + side, top + side)
    side = _crop_side(preprocess, min(height, width))
    left_px, top_px = (width - side) // 2, (height - side) // 2
    return (left_px, top_px, left_px + side, top_px + side)


def cut_away(preprocess: Preprocess, geometry: str, height: int, width: int) -> float:
    """The share of a picture, 0..1, that lies outside of what the network sees.

    >>> lite0 = Preprocess(size=224, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3)
    >>> [round(cut_away(lite0, "crop", 400, width), 2) for width in (400, 600, 1200)]
    [0.23, 0.49, 0.74]
    >>> cut_away(lite0, "pad", 400, 1200)
    0.0
    """
    left, top, right, bottom = seen_box(preprocess, geometry, height, width)
    seen = (min(right, width) - max(left, 0)) * (min(bottom, height) - max(top, 0))
    return 1 - seen / (height * width)


def input_shape(preprocess: Preprocess, geometry: str, height: int, width: int) -> tuple[int, int]:
    """Height and width of the network's input for a picture of this size.

    >>> lite0 = Preprocess(size=224, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3)
    >>> [input_shape(lite0, "whole", *shape) for shape in ((300, 300), (400, 533), (100, 900), (9, 9000))]
    [(224, 224), (192, 256), (64, 576), (32, 3136)]
    >>> input_shape(lite0, "crop", 400, 533)
    (224, 224)
    """
    if geometry != "whole":
        return preprocess.size, preprocess.size
    shorter, longer = min(height, width), max(height, width)
    steps = sum(preprocess.size**2 * shorter >= bound**2 * longer for bound in _bounds(preprocess))
    side, rest = _least(preprocess) + GRID * steps, preprocess.size % GRID
    found = (rest + GRID * ((side * at - (rest - GRID // 2) * shorter) // (GRID * shorter)) for at in (height, width))
    new_height, new_width = (min(each, _most(preprocess)) for each in found)
    return new_height, new_width


def _least(preprocess: Preprocess) -> int:
    """The smallest side of ``whole``: at least a cell of the last feature map."""
    return preprocess.size - GRID * max(0, (preprocess.size - GRID) // GRID)


def _most(preprocess: Preprocess) -> int:
    """The largest side of ``whole``: a picture that is even longer is squashed."""
    limit = MOST_PIXELS * preprocess.size**2 // _least(preprocess)
    return limit - (limit - preprocess.size) % GRID


def _bounds(preprocess: Preprocess) -> list[int]:
    """Shorter sides in pixels, halfway between two that ``whole`` may have."""
    return list(range(_least(preprocess) + GRID // 2, preprocess.size, GRID))


def _crop_side(preprocess: Preprocess, shorter: int) -> int:
    """The integer arithmetic of the graph below, in Python."""
    return max(1, (shorter * _thousandths(preprocess) + 500) // 1000)


def _thousandths(preprocess: Preprocess) -> int:
    return round(preprocess.crop_fraction * 1000)


class _Integers:
    """Integer arithmetic on 1-element tensors of a graph."""

    def __init__(self, nodes: Nodes, image: str) -> None:
        self._nodes = nodes
        self._shape = nodes.add("Shape", [image])

    def value(self, number: int) -> str:
        return self._nodes.constant(np.array([number], np.int64))

    def dimension(self, axis: int) -> str:
        return self._nodes.add("Gather", [self._shape, self.value(axis)], axis=0)

    def __call__(self, op: str, a: str, b: str) -> str:
        return self._nodes.add(op, [a, b])


def _crop(preprocess: Preprocess, nodes: Nodes, image: str) -> str:
    integer = _Integers(nodes, image)
    one, two, height, width = integer.value(1), integer.value(2), integer.dimension(1), integer.dimension(2)
    side = integer("Mul", integer("Min", height, width), integer.value(_thousandths(preprocess)))
    side = integer("Div", integer("Add", side, integer.value(500)), integer.value(1000))
    side = integer("Max", side, one)
    top, left = (integer("Div", integer("Sub", length, side), two) for length in (height, width))
    starts = nodes.add("Concat", [top, left], axis=0)
    ends = nodes.add("Concat", [integer("Add", top, side), integer("Add", left, side)], axis=0)
    # Cropping before resizing: fewer pixels to resize (6.0 -> 3.7 ms for a 400 x 533 photograph).
    cropped = nodes.add("Slice", [image, starts, ends, nodes.constant(np.array([1, 2], np.int64))])
    side = integer.value(preprocess.size)
    return _resize(preprocess, nodes, cropped, integer, side, side)


def _stretch(preprocess: Preprocess, nodes: Nodes, image: str) -> str:
    integer = _Integers(nodes, image)
    side = integer.value(preprocess.size)
    return _resize(preprocess, nodes, image, integer, side, side)


def _whole(preprocess: Preprocess, nodes: Nodes, image: str) -> str:
    """``input_shape`` in the graph, in whole numbers, so that every runtime finds the same sides."""
    integer = _Integers(nodes, image)
    height, width = integer.dimension(1), integer.dimension(2)
    shorter, longer = integer("Min", height, width), integer("Max", height, width)
    # One step for each bound whose square, in the picture's shape, has no more pixels than the network's square.
    squares = nodes.constant(np.array([bound**2 for bound in _bounds(preprocess)], np.int64))
    area = integer("Mul", integer.value(preprocess.size**2), shorter)
    reached = integer("Min", integer.value(1), integer("Div", area, integer("Mul", squares, longer)))  # 0 or 1 each
    steps = nodes.add("ReduceSum", [reached, integer.value(0)], keepdims=1)
    side = integer("Add", integer.value(_least(preprocess)), integer("Mul", integer.value(GRID), steps))
    rest = integer.value(preprocess.size % GRID)
    rounding = integer("Mul", integer.value(preprocess.size % GRID - GRID // 2), shorter)
    cells = integer("Mul", integer.value(GRID), shorter)
    new_height, new_width = (
        integer(
            "Min",
            integer.value(_most(preprocess)),
            integer(
                "Add",
                rest,
                integer(
                    "Mul",
                    integer.value(GRID),
                    integer("Div", integer("Sub", integer("Mul", side, length), rounding), cells),
                ),
            ),
        )
        for length in (height, width)
    )
    return _resize(preprocess, nodes, image, integer, new_height, new_width)


def _pad(preprocess: Preprocess, nodes: Nodes, image: str) -> str:
    integer = _Integers(nodes, image)
    size, one, two = integer.value(preprocess.size), integer.value(1), integer.value(2)
    height, width = integer.dimension(1), integer.dimension(2)
    longer = integer("Max", height, width)
    half = integer("Div", longer, two)
    new_height, new_width = (
        integer("Max", one, integer("Div", integer("Add", integer("Mul", length, size), half), longer))
        for length in (height, width)
    )
    resized = _resize(preprocess, nodes, image, integer, new_height, new_width)
    top, left = (integer("Div", integer("Sub", size, length), two) for length in (new_height, new_width))
    bottom = integer("Sub", integer("Sub", size, new_height), top)
    right = integer("Sub", integer("Sub", size, new_width), left)
    zero = integer.value(0)
    pads = nodes.add("Concat", [zero, zero, top, left, zero, zero, bottom, right], axis=0)
    fill = nodes.constant(np.array(round(sum(preprocess.mean) / 3), np.uint8))
    return nodes.add("Pad", [resized, pads, fill], mode="constant")


def _resize(preprocess: Preprocess, nodes: Nodes, image: str, integer: _Integers, height: str, width: str) -> str:
    planes = nodes.add("Transpose", [image], perm=[0, 3, 1, 2])
    # All four sizes: the form with `axes` fails in ONNX Runtime's optimiser after a uint8 Transpose.
    sizes = nodes.add("Concat", [integer.dimension(0), integer.value(3), height, width], axis=0)
    return nodes.add(
        "Resize",
        [planes, "", "", sizes],
        antialias=1,
        exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
        **_KERNELS[preprocess.interpolation],
    )

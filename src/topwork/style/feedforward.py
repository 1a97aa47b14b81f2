"""The network of a fast style, one pass from a photograph to the styled picture, as an ONNX graph.

Johnson, Alahi & Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV: a
convolution, two that halve the size, residual blocks, and back; with instance norm (Ulyanov, Vedaldi & Lempitsky 2016,
arXiv:1607.08022). Sizes are doubled by repeating pixels before a convolution, which leaves no checkerboard (Odena,
Dumoulin & Olah 2016, Distill), and borders are mirrored, which leaves no frame.

The graph that is trained is the graph that is shipped: the conversions from and to uint8 stand around it.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from topwork.backbones.nodes import Nodes, image_input

PIXELS, STYLED = "pixels", "styled"
"""The values between which the network is trained."""
PICTURE = "picture"
SMALLEST = 16
"""Pixels of the shorter side of a picture that the network takes."""
STRIDE = 4
"""What the network halves twice comes back as large only in multiples of it."""
_EPSILON = 1e-5
_FAINT = 0.05  # the strength of the last layer's first weights


def network(width: int = 16, blocks: int = 5, *, seed: int = 0) -> onnx.ModelProto:
    """``image`` uint8 ``[n, h, w, 3]`` -> ``picture`` uint8 ``[n, h, w, 3]``, for every size from 16 pixels on.

    With random weights: ``width`` channels at full size, four times as many in the ``blocks``. What is trained is the
    part between ``pixels`` and ``styled``, float32 ``[n, 3, h, w]`` in 0..1.

    >>> model = network(width=4, blocks=1)
    >>> [each.name for each in (*model.graph.input, *model.graph.output)]
    ['image', 'picture']
    """
    layers = _Layers(seed)
    nodes = layers.nodes
    planes = nodes.add("Transpose", ["image"], perm=[0, 3, 1, 2])
    axes = nodes.constant(np.array([2, 3], np.int64))
    size = nodes.add("Gather", [nodes.add("Shape", [planes]), axes], axis=0)
    # The network doubles what it halved twice: rows and columns are repeated up to the next multiple of 4.
    missing = nodes.add("Mod", [nodes.add("Neg", [size]), nodes.constant(np.array([STRIDE], np.int64))])
    pads = nodes.add("Concat", [nodes.constant(np.zeros(6, np.int64)), missing], axis=0)
    x = nodes.add("Cast", [nodes.add("Pad", [planes, pads], mode="edge")], to=onnx.TensorProto.FLOAT)
    x = nodes.add("Mul", [x, nodes.constant(1 / 255)], output=PIXELS)
    x = layers.convolution(x, 3, width, 9)
    x = layers.convolution(x, width, 2 * width, 3, stride=2)
    x = layers.convolution(x, 2 * width, 4 * width, 3, stride=2)
    for _ in range(blocks):
        inner = layers.convolution(x, 4 * width, 4 * width, 3)
        x = nodes.add("Add", [x, layers.convolution(inner, 4 * width, 4 * width, 3, rectified=False)])
    x = layers.convolution(layers.doubled(x), 4 * width, 2 * width, 3)
    x = layers.convolution(layers.doubled(x), 2 * width, width, 3)
    x = layers.last(x, width)
    x = nodes.add("Slice", [x, nodes.constant(np.array([0, 0], np.int64)), size, axes])
    x = nodes.add("Mul", [x, nodes.constant(255.0)])
    x = nodes.add("Cast", [nodes.add("Round", [x])], to=onnx.TensorProto.UINT8)
    nodes.add("Transpose", [x], output=PICTURE, perm=[0, 2, 3, 1])
    output = helper.make_tensor_value_info(PICTURE, onnx.TensorProto.UINT8, ["n", "h", "w", 3])
    return nodes.model([image_input()], [output], name="style")


def with_weights(model: onnx.ModelProto, weights: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """The same graph with other values of some of its weights, by name."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return changed


class _Layers:
    """Adds the layers of the network to a graph."""

    def __init__(self, seed: int) -> None:
        self.nodes = Nodes()
        self._random = np.random.default_rng(seed)
        self._number = 0

    def convolution(
        self, x: str, inside: int, outside: int, side: int, *, stride: int = 1, rectified: bool = True
    ) -> str:
        """A convolution with mirrored borders, instance norm, and a rectifier."""
        weight = self._weight(inside, outside, side)  # no bias: the norm would take it away
        x = self.nodes.add("Conv", [self._mirrored(x, side // 2), weight], strides=[stride, stride])
        scale, shift = (
            self.nodes.constant(np.full(outside, value, np.float32), name=self._name(kind))
            for kind, value in (("scale", 1), ("shift", 0))
        )
        x = self.nodes.add("InstanceNormalization", [x, scale, shift], epsilon=_EPSILON)
        return self.nodes.add("Relu", [x]) if rectified else x

    def last(self, x: str, inside: int) -> str:
        """The convolution to colours, grey at first and never outside of 0..1: wild colours have losses in millions."""
        bias = self.nodes.constant(np.zeros(3, np.float32), name=self._name("bias"))
        x = self.nodes.add("Conv", [self._mirrored(x, 4), self._weight(inside, 3, 9, _FAINT), bias])
        return self.nodes.add("Sigmoid", [x], output=STYLED)

    def doubled(self, x: str) -> str:
        """Twice as high and wide."""
        scales = self.nodes.constant(np.array([1, 1, 2, 2], np.float32))
        return self.nodes.add(
            "Resize", [x, "", scales], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def _mirrored(self, x: str, border: int) -> str:
        pads = self.nodes.constant(np.array([0, 0, border, border] * 2, np.int64))
        return self.nodes.add("Pad", [x, pads], mode="reflect")

    def _weight(self, inside: int, outside: int, side: int, strength: float = 1.0) -> str:
        self._number += 1
        deviation = strength * (2 / (inside * side * side)) ** 0.5
        values = self._random.normal(0, deviation, (outside, inside, side, side)).astype(np.float32)
        return self.nodes.constant(values, name=self._name("weight"))

    def _name(self, kind: str) -> str:
        return f"layer{self._number}.{kind}"

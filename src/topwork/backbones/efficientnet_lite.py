"""EfficientNet-Lite as ONNX nodes, built directly from the weights: no torch involved.

EfficientNet without squeeze-and-excitation, with ReLU6 instead of swish, and with an unscaled stem and head
(Tan & Le, "EfficientNet: Rethinking Model Scaling for CNNs", ICML 2019; the Lite variants, Google 2020). The
network is convolutions, batch norms (folded here), ReLU6 and residual additions.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.nodes import Nodes
from topwork.backbones.spec import CLASSIFIER_WEIGHT, FEATURES, LAST_MAP, LOGITS, Stage
from topwork.errors import BackboneError
from topwork.weights.legacy_torch import Tensors

_BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class _Group:
    """A row of the architecture: ``repeats`` blocks, the first with ``stride``."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_GROUPS = (
    _Group(1, 3, 1, 1, 16),
    _Group(2, 3, 2, 6, 24),
    _Group(2, 5, 2, 6, 40),
    _Group(3, 3, 2, 6, 80),
    _Group(3, 5, 1, 6, 112),
    _Group(4, 5, 2, 6, 192),
    _Group(1, 3, 1, 6, 320),
)
_STEM_CHANNELS, _HEAD_CHANNELS = 32, 1280


@dataclass(frozen=True)
class Scaling:
    """How a variant widens and deepens the network, and its input size in pixels.

    >>> [group.channels for group in Scaling(1.1, 1.2, 260).groups()]
    [16, 24, 48, 88, 120, 208, 352]
    """

    width: float
    depth: float
    size: int

    def groups(self) -> list[_Group]:
        """The architecture's rows after scaling; the first and the last keep their number of blocks."""
        last = len(_GROUPS) - 1
        return [
            _Group(
                group.repeats if i in (0, last) else math.ceil(group.repeats * self.depth),
                group.kernel,
                group.stride,
                group.expansion,
                _round_channels(group.channels * self.width),
            )
            for i, group in enumerate(_GROUPS)
        ]

    def stages(self) -> tuple[Stage, ...]:
        """The cuts that can be asked for, by name: one after each row, and the last map."""
        stages, stride = [], 2
        for i, group in enumerate(self.groups()):
            stride *= group.stride
            stages.append(Stage(f"blocks.{i}", stride, group.channels))
        return (*stages, Stage(LAST_MAP, stride, _HEAD_CHANNELS))


def _round_channels(channels: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def build(tensors: Tensors, scaling: Scaling, nodes: Nodes, x: str) -> tuple[str, str, str]:
    """Append the network to ``nodes``: input ``x`` ``[n, 3, size, size]``.

    Returns the names of the last map ``[n, 1280, h, w]``, the pooled features ``[n, 1280]`` and the logits
    ``[n, 1000]``. Weights are taken in the order of the file (the order of the architecture), and every
    shape is checked.
    """
    layers = _Layers(tensors, nodes)
    size = scaling.size
    x, size = layers.convolution(x, size, 3, _STEM_CHANNELS, kernel=3, stride=2), math.ceil(size / 2)
    channels = _STEM_CHANNELS
    for i, group in enumerate(scaling.groups()):
        for j in range(group.repeats):
            stride = group.stride if j == 0 else 1
            x = layers.block(x, size, channels, group, stride)
            size, channels = math.ceil(size / stride), group.channels
        x = nodes.rename(x, f"blocks.{i}")
    x = layers.convolution(x, size, channels, _HEAD_CHANNELS, kernel=1, stride=1)
    last_map = nodes.rename(x, LAST_MAP)
    features = nodes.add("ReduceMean", [last_map, nodes.constant(np.array([2, 3]))], keepdims=0, output=FEATURES)
    logits = layers.classifier(features)
    layers.finish()
    return last_map, features, logits


class _Layers:
    """Takes tensors in file order and appends the layers they belong to."""

    def __init__(self, tensors: Tensors, nodes: Nodes) -> None:
        wanted = [(name, array) for name, array in tensors.items() if not name.endswith("num_batches_tracked")]
        self._tensors: Iterator[tuple[str, NDArray[np.float32]]] = iter(wanted)
        self._nodes = nodes

    def convolution(
        self,
        x: str,
        size: int,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        stride: int,
        groups: int = 1,
        relu: bool = True,
    ) -> str:
        """Convolution with SAME padding, its batch norm folded in, then ReLU6 where asked."""
        weight = self._take((outputs, inputs // groups, kernel, kernel))
        gamma, beta, mean, variance = (self._take((outputs,)) for _ in range(4))
        scale = gamma / np.sqrt(variance + np.float32(_BATCH_NORM_EPSILON))
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        x = self._nodes.add(
            "Conv",
            [x, self._nodes.constant(weight * scale[:, None, None, None]), self._nodes.constant(beta - mean * scale)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        return self._nodes.relu6(x) if relu else x

    def block(self, x: str, size: int, inputs: int, group: _Group, stride: int) -> str:
        """Inverted residual (Sandler et al. 2018): expand 1×1, depthwise, project 1×1, add where shapes agree."""
        shortcut, hidden = x, inputs * group.expansion
        if group.expansion != 1:
            x = self.convolution(x, size, inputs, hidden, kernel=1, stride=1)
        x = self.convolution(x, size, hidden, hidden, kernel=group.kernel, stride=stride, groups=hidden)
        x = self.convolution(x, math.ceil(size / stride), hidden, group.channels, kernel=1, stride=1, relu=False)
        if stride == 1 and inputs == group.channels:
            x = self._nodes.add("Add", [x, shortcut])
        return x

    def classifier(self, features: str) -> str:
        weight, bias = self._take((1000, _HEAD_CHANNELS)), self._take((1000,))
        inputs = [features, self._nodes.constant(weight, name=CLASSIFIER_WEIGHT), self._nodes.constant(bias)]
        return self._nodes.add("Gemm", inputs, transB=1, output=LOGITS)

    def finish(self) -> None:
        if (left := next(self._tensors, None)) is not None:
            raise BackboneError(f"the weights hold more than the network needs, first {left[0]}; install them again")

    def _take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        name, array = next(self._tensors, ("nothing", np.empty(0)))
        if array.shape != shape:
            raise BackboneError(
                f"the weights do not fit the network: expected a tensor {list(shape)}, "
                f"got {name} {list(array.shape)}; install the weights again"
            )
        return array.astype(np.float32, copy=False)

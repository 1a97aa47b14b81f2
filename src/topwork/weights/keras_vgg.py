"""Keras' VGG weights under the names, and in the layout, of timm's ``vgg16`` and ``vgg19``.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015. The weights are
the authors' own, made with Caffe: the network takes BGR minus a mean colour, values 0..255. Here the input channels of
the first convolution are turned round, so that it takes RGB.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import BackboneError

Tensors = dict[str, NDArray[Any]]

MEAN = (123.68, 116.779, 103.939)
"""RGB, 0..255; what the weights want subtracted."""
STD = (1.0, 1.0, 1.0)

_CONVOLUTIONS = {
    13: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    16: (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
"""Number of convolutions -> their places in timm's ``features``."""
_DENSE = ("pre_logits.fc1", "pre_logits.fc2", "head.fc")
_CELLS = 7 * 7
"""Of the last map, which the first dense layer takes row by row, all channels of a cell together."""


def convert(tensors: Mapping[str, NDArray[Any]]) -> Tensors:
    """timm's tensors from those of a Keras file, as ``formats.read`` gives them.

    Kernels ``[h, w, in, out]`` become ``[out, in, h, w]``; dense kernels ``[in, out]`` become convolutions, the first
    one's ``in`` being ``h * w * channels`` in that order. A file without dense layers gives the convolutions alone.
    Side outputs, which are 1×1 convolutions, and an optimiser's state are left out. BackboneError where the file has
    another number of layers.

    >>> layer = {"kernel:0": np.zeros((3, 3, 4, 4)), "bias:0": np.zeros(4)}
    >>> file = {f"block{i}_conv1/{name}": array for i in range(13) for name, array in layer.items()}
    >>> list(convert(file))[-2:], convert(file)["features.0.weight"].shape
    (['features.28.weight', 'features.28.bias'], (4, 4, 3, 3))
    """
    layers = _layers(tensors)
    convolutions = [pair for pair in layers if pair[0].ndim == 4 and pair[0].shape[:2] == (3, 3)]
    dense = [pair for pair in layers if pair[0].ndim == 2]
    if len(convolutions) not in _CONVOLUTIONS or len(dense) not in (0, len(_DENSE)):
        raise BackboneError(
            f"expected the 13 or 16 convolutions of a Keras VGG and no or 3 dense layers, got {len(convolutions)} and "
            f"{len(dense)}; of Keras files, only those of VGG16 and VGG19 can be used"
        )
    found: Tensors = {}
    for place, (kernel, bias) in zip(_CONVOLUTIONS[len(convolutions)], convolutions, strict=True):
        turned = kernel[:, :, ::-1] if place == 0 else kernel
        found |= {f"features.{place}.weight": turned.transpose(3, 2, 0, 1), f"features.{place}.bias": bias}
    for name, (kernel, bias) in zip(_DENSE, dense, strict=False):
        found |= {f"{name}.weight": _dense(name, kernel), f"{name}.bias": bias}
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def _layers(tensors: Mapping[str, NDArray[Any]]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Kernel and bias of each layer, in the order of the network."""
    groups: dict[str, list[NDArray[Any]]] = {}
    # h5 lists conv2d_10 before conv2d_2, and a bias before its kernel.
    for name in sorted(tensors, key=_natural):
        if not name.startswith("optimizer"):
            groups.setdefault(name.rpartition("/")[0], []).append(tensors[name])
    pairs = (sorted(group, key=lambda array: -array.ndim) for group in groups.values() if len(group) == 2)
    return [(kernel, bias) for kernel, bias in pairs if bias.ndim == 1]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key under which numbers count by their value, and ``conv2d`` comes before ``conv2d_1``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)|/", name) if part]


def _dense(name: str, kernel: NDArray[Any]) -> NDArray[Any]:
    inputs, outputs = kernel.shape
    if name == "head.fc":
        return kernel.T
    if name == "pre_logits.fc2":
        return kernel.T[:, :, None, None]
    if inputs % _CELLS:
        raise BackboneError(f"expected a first dense layer behind 7 by 7 cells, got {inputs} inputs; give another file")
    return kernel.reshape(7, 7, inputs // _CELLS, outputs).transpose(3, 2, 0, 1)

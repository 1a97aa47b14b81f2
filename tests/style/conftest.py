"""A network of VGG19's shape with few channels, and pictures."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

BLOCKS = (2, 2, 4, 4, 4)  # convolutions of VGG19
CHANNELS = (6, 8, 8, 8, 8)


@pytest.fixture(scope="session")
def tiny_vgg() -> Any:
    """Stands for an `Opened`: 16 random convolutions with rectifiers, 5 poolings."""
    random = np.random.default_rng(3)
    nodes, tensors, value, inside = [], [], "x", 3
    for block, (count, channels) in enumerate(zip(BLOCKS, CHANNELS, strict=True), start=1):
        for number in range(1, count + 1):
            name = f"b{block}c{number}"
            weight = random.normal(0, (2 / (9 * inside)) ** 0.5, (channels, inside, 3, 3)).astype(np.float32)
            bias = np.full(channels, 0.05, np.float32)
            tensors += [numpy_helper.from_array(weight, name + "w"), numpy_helper.from_array(bias, name + "b")]
            nodes.append(helper.make_node("Conv", [value, name + "w", name + "b"], [name], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [name], [name + "r"]))
            value, inside = name + "r", channels
        pooled = f"pool{block}"
        nodes.append(helper.make_node("MaxPool", [value], [pooled], kernel_shape=[2, 2], strides=[2, 2]))
        value = pooled
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, None, None])
        for name, channels in (("x", 3), (value, CHANNELS[-1]))
    ]
    model = helper.make_model(helper.make_graph(nodes, "tiny", ends[:1], ends[1:], tensors))
    preprocess = SimpleNamespace(mean=(124.0, 117.0, 104.0), std=(58.0, 57.0, 57.0))
    spec = SimpleNamespace(name="tiny", preprocess=preprocess, stages=())
    return SimpleNamespace(spec=spec, network=SimpleNamespace(model=model))


def smooth(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    """A smooth coloured picture ``[h, w, 3]`` in 0..1."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 16
    waves = [np.sin(random.uniform(-2, 2, 3) * y[..., None] + random.uniform(-2, 2, 3) * x[..., None]) for _ in "abc"]
    return (0.5 + sum(waves) / 8).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def picture() -> Any:
    return smooth

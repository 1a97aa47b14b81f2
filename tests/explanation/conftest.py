"""Toy classifiers in the shipped format, small enough that every map can be written down."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from topwork import assembly, folder
from topwork.backbones.network import Network
from topwork.backbones.nodes import Nodes, float_output
from topwork.backbones.spec import FEATURES, INPUT, LAST_MAP, BackboneSpec, Preprocess
from topwork.explanation.network import ClassifierNetwork
from topwork.heads.choice import LinearHead

SIZE = 8
LABELS = ["left", "right"]
PREPROCESS = Preprocess(size=SIZE, crop_fraction=1.0, mean=(128.0,) * 3, std=(16.0,) * 3)


def toy_graph(
    kernels: list[np.ndarray],
    weight: np.ndarray,
    *,
    rectifier: str = "Relu",
    normalize: bool = False,
    pool: bool = True,
) -> bytes:
    """The graph of convolutions ``[out, in, k, k]`` with a rectifier each, stages ``s0, s1 ... last_map``, and a head.

    Without ``pool`` the last map is averaged after another rectifier, so there is no closed form.
    """
    nodes = Nodes()
    x, stages = INPUT, []
    for place, kernel in enumerate(kernels):
        side = kernel.shape[2]
        x = nodes.add("Conv", [x, nodes.constant(kernel.astype(np.float32))], pads=[side // 2] * 4)
        x = nodes.relu6(x) if rectifier == "Relu6" else nodes.add(rectifier, [x])
        name = LAST_MAP if place == len(kernels) - 1 else f"s{place}"
        x = nodes.rename(x, name)
        stages.append(float_output(name, ["n", len(kernel), "h", "w"]))
    if not pool:
        x = nodes.add("Mul", [x, x])
    nodes.add("ReduceMean", [x, nodes.constant(np.array([2, 3]))], keepdims=0, output=FEATURES)
    d = weight.shape[0]
    value = helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    network = Network(nodes.model([value], [*stages, float_output(FEATURES, ["n", d])], name="toy"))
    spec = BackboneSpec("toy", "toy", PREPROCESS, d, 0, 0, (), None, pool, False, "", "")
    head = LinearHead("toy", "pooled", normalize, weight.astype(np.float32), np.array([0.5, -0.25], np.float32))
    means = np.eye(len(LABELS), d, dtype=np.float32)
    return assembly.classifier(spec, "stretch", head, 0.7, means, assembly.metadata(LABELS, None), network)


@pytest.fixture
def toy() -> Callable[..., ClassifierNetwork]:
    def make(*arguments: Any, **options: Any) -> ClassifierNetwork:
        return ClassifierNetwork(onnx.load_from_string(toy_graph(*arguments, **options)))

    return make


@pytest.fixture
def toy_model(tmp_path: Path) -> Callable[..., Path]:
    """The folder of a toy classifier."""

    def make(*arguments: Any, **options: Any) -> Path:
        manifest = {
            "task": "classify",
            "labels": LABELS,
            "thresholds": {"novelty": None},
            "geometry": "stretch",
            "decoding": {"shrink_to": None},
            "preprocess": asdict(PREPROCESS),
        }
        folder.write(tmp_path / "toy.topwork", manifest, {"model.onnx": toy_graph(*arguments, **options)})
        return tmp_path / "toy.topwork"

    return make


@pytest.fixture
def x() -> np.ndarray:
    """[3, 8, 8]: an input on both sides of 0 and of 6."""
    return np.random.default_rng(3).uniform(-4, 10, (3, SIZE, SIZE)).astype(np.float32)

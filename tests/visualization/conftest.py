"""Toy networks whose pictures are known in closed form."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from topwork.backbones.network import Network
from topwork.backbones.spec import BackboneSpec, Preprocess, Stage
from topwork.visualization.opened import Opened


@pytest.fixture(scope="session")
def opened_toy() -> Callable[..., Opened]:
    """A network of these nodes from ``x`` on, pixels in 0..1 as they are, with its stages and their channels."""

    def make(
        nodes: Sequence[onnx.NodeProto], arrays: dict[str, np.ndarray], stages: dict[str, int], size: int = 32
    ) -> Opened:
        ports = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", channels, "h", "w"])
            for name, channels in {"x": 3, **stages}.items()
        ]
        tensors = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()]
        for number, node in enumerate(nodes):
            node.name = f"n{number}"  # ONNX Runtime wants names that differ
        graph = helper.make_graph(nodes, "toy", ports[:1], ports[1:], initializer=tensors)
        preprocess = Preprocess(size=size, crop_fraction=1.0, mean=(0.0,) * 3, std=(255.0,) * 3)
        cuts = tuple(Stage(name, 1, channels) for name, channels in stages.items())
        spec = BackboneSpec("toy", "toy", preprocess, 2, 0, 8, cuts, None, False, False, "", "")
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
        model.ir_version = 8
        return Opened(spec, Network(model))

    return make

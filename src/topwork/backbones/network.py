"""A network alone, without preprocessing and head, as an ONNX graph that can be cut, changed and put together again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from topwork import fingerprint
from topwork.backbones import efficientnet_lite, weights
from topwork.backbones.nodes import Nodes, float_output
from topwork.backbones.spec import BackboneSpec
from topwork.backbones.zoo import lite_scaling
from topwork.errors import BackboneError

INPUT, LAST_MAP, FEATURES = "x", "last_map", "features"


@dataclass(frozen=True)
class Network:
    """``x`` ``[n, 3, size, size]`` -> stages by name, ``last_map [n, c, h, w]`` and ``features [n, d]``."""

    model: onnx.ModelProto

    @property
    def fingerprint(self) -> str:
        """Changes with the architecture and with every weight."""
        return fingerprint.of_bytes(self.model.SerializeToString(deterministic=True))

    def weights(self) -> dict[str, NDArray[Any]]:
        """The weights by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def with_weights(self, changed: Mapping[str, NDArray[np.float32]]) -> "Network":
        """The same network with some weights replaced; shapes must agree."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        for tensor in model.graph.initializer:
            if tensor.name in changed:
                array = np.ascontiguousarray(changed[tensor.name], np.float32)
                if list(array.shape) != list(tensor.dims):
                    raise BackboneError(
                        f"expected {tensor.name} of shape {list(tensor.dims)}, got {list(array.shape)}; train again"
                    )
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return Network(model)

    def append(self, nodes: Nodes, x: str) -> tuple[str, str]:
        """Append the network behind the value ``x``; returns the names of the last map and the features."""
        nodes.include(self.model.graph, {INPUT: x}, keep=(LAST_MAP, FEATURES))
        return LAST_MAP, FEATURES


def lite_network(name: str, tensors: weights.Tensors, feature_dim: int) -> Network:
    """An EfficientNet-Lite with these weights, batch norms folded into the convolutions."""
    nodes = Nodes()
    scaling = lite_scaling(name)
    efficientnet_lite.build(tensors, scaling, nodes, INPUT)
    return Network(_model(nodes, scaling.size, feature_dim))


def pretrained_network(spec: BackboneSpec) -> Network:
    """The network of a spec with its pretrained weights; raises as ``weights.verified`` where they are missing."""
    return lite_network(spec.name, weights.read_legacy_torch(weights.verified(spec.weights)), spec.feature_dim)


def _model(nodes: Nodes, size: int, feature_dim: int) -> onnx.ModelProto:
    x = helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 3, size, size])
    outputs = [float_output(LAST_MAP, ["n", feature_dim, "h", "w"]), float_output(FEATURES, ["n", feature_dim])]
    return nodes.model([x], outputs, name="network")

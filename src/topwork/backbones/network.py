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
from topwork.backbones.allowed import checked
from topwork.backbones.kept import kept
from topwork.backbones.nodes import Nodes, float_output
from topwork.backbones.spec import CLASSIFIER_WEIGHT, FEATURES, INPUT, LAST_MAP, LOGITS, BackboneSpec
from topwork.backbones.zoo import lite_scaling
from topwork.errors import BackboneError
from topwork.weights.legacy_torch import Tensors, read_legacy_torch

_EXPORT_VERSION = 1
"""Raised whenever the same weights would give another graph."""


@dataclass(frozen=True)
class Network:
    """``x`` ``[n, 3, size, size]`` -> stages by name, ``last_map [n, c, h, w]`` and ``features [n, d]``.

    Pretrained ones have ``logits [n, k]`` too, where the network has a classifier.
    """

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

    def append(self, nodes: Nodes, x: str) -> tuple[str, str, str]:
        """Append the network behind the value ``x``; returns the names of the last map, the features and the logits.

        The name of what it does not have is empty.
        """
        outputs = [output.name for output in self.model.graph.output]
        nodes.include(self.model.graph, {INPUT: x}, keep=(*outputs, CLASSIFIER_WEIGHT))
        last_map, features, logits = (name if name in outputs else "" for name in (LAST_MAP, FEATURES, LOGITS))
        return last_map, features, logits


def lite_network(name: str, tensors: Tensors, feature_dim: int, *, with_logits: bool = False) -> Network:
    """An EfficientNet-Lite with these weights, batch norms folded into the convolutions."""
    nodes = Nodes()
    scaling = lite_scaling(name)
    _, _, logits = efficientnet_lite.build(tensors, scaling, nodes, INPUT)
    outputs = [float_output(stage.name, ["n", stage.channels, "h", "w"]) for stage in scaling.stages()]
    outputs.append(float_output(FEATURES, ["n", feature_dim]))
    if with_logits:
        outputs.append(float_output(logits, ["n", "k"]))
    x = helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 3, scaling.size, scaling.size])
    return Network(nodes.model([x], outputs, name="network"))


def pretrained_network(spec: BackboneSpec) -> Network:
    """The network of a spec with its pretrained weights; raises as ``weights.verified`` where they are missing.

    Networks of PyTorch are exported once; after that their graph is in the cache folder and PyTorch is not needed.
    """
    path = weights.verified(spec)
    if spec.family == "efficientnet_lite":
        return lite_network(spec.name, read_legacy_torch(path), spec.feature_dim, with_logits=True)
    assert spec.weights is not None  # else it would not be verified
    key = fingerprint.of_object([_EXPORT_VERSION, spec.name, spec.weights.sha256])[:16]
    return Network(checked(kept(f"{spec.name}-{key}.network.onnx", lambda: _exported(spec)).read_bytes()))


def exported_network(module: Any, size: int) -> Network:
    """A PyTorch network, with or without its classifier, as a graph for square pictures of ``size`` pixels."""
    from topwork.backbones.anatomy import anatomy
    from topwork.backbones.export import exported

    return Network(exported(module, anatomy(module, size), size))


def _exported(spec: BackboneSpec) -> bytes:
    from topwork.backbones.pretrained import pretrained_module

    return bytes(exported_network(pretrained_module(spec), spec.preprocess.size).model.SerializeToString())

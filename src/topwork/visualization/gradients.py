"""A network from pixels to one of its layers, with gradients for the pixels. Imports torch."""

from collections.abc import Callable

import onnx
import torch

from topwork.backbones.spec import INPUT, Preprocess
from topwork.backbones.torch_graph import graph_module
from topwork.visualization.opened import Opened

_ACTIVATIONS = ("Clip", "Relu", "LeakyRelu", "HardSwish", "Sigmoid", "Elu")

Layer = Callable[[torch.Tensor], torch.Tensor]
"""Pixels ``[n, 3, h, w]`` in 0..1 -> what the layer gives for them, ``[n, c, h', w']`` or ``[n, k]``."""


def layer_function(opened: Opened, layer: str, *, before_activation: bool = False) -> Layer:
    """The network up to a stage or to ``logits``, with its preprocessing; its weights get no gradients.

    ``before_activation``: of a layer that ends in an activation function, what goes into it. A channel that is silent
    has no gradient behind a ReLU; before it there is always one.

    >>> from topwork.visualization.opened import open_network
    >>> layer_function(open_network("tf_efficientnet_lite0"), "blocks.2")(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 40, 8, 8])
    """
    target = _before_activation(opened.network.model, layer) if before_activation else layer
    module = graph_module(opened.network.model, INPUT, target).requires_grad_(False).eval()
    mean, std = _constants(opened.spec.preprocess)

    def function(pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module((pixels - mean) / std)
        return found

    return function


def _constants(preprocess: Preprocess) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation ``[3, 1, 1]`` of pixels in 0..1."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) / 255 for values in (preprocess.mean, preprocess.std))
    return mean, std


def _before_activation(model: onnx.ModelProto, layer: str) -> str:
    made = {output: node for node in model.graph.node for output in node.output}
    node = made.get(layer)
    return str(node.input[0]) if node is not None and node.op_type in _ACTIVATIONS else layer

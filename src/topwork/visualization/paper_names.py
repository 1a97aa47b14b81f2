"""Layers of VGG under the names of the papers: ``conv3_2`` is what the rectifier behind the second convolution of the
third block gives."""

from dataclasses import dataclass

import onnx
from onnx import helper

from topwork.backbones.spec import INPUT

_ONE_TO_ONE = ("Conv", "Relu", "MaxPool", "AveragePool")
_FEWEST = 4  # blocks of a network that is taken for a VGG


@dataclass(frozen=True)
class PaperLayer:
    """``value``: of the network's graph; ``stride``: pixels of the input a cell."""

    value: str
    stride: int
    channels: int


def paper_layers(model: onnx.ModelProto) -> dict[str, PaperLayer]:
    """``conv1_1`` … for a chain of convolutions with rectifiers in blocks that end with pooling; empty for others.

    >>> from topwork.backbones.zoo import backbone
    >>> from topwork.backbones.network import pretrained_network
    >>> paper_layers(pretrained_network(backbone("tf_efficientnet_lite0")).model)
    {}
    """
    found: dict[str, PaperLayer] = {}
    block, number, stride, channels, value = 1, 0, 1, 0, INPUT
    consumers = {name: node for node in model.graph.node for name in node.input}
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    while (node := consumers.get(value)) is not None and node.op_type in _ONE_TO_ONE:
        value = node.output[0]
        strides = [list(helper.get_attribute_value(each)) for each in node.attribute if each.name == "strides"]
        stride *= strides[0][0] if strides else 1
        if node.op_type == "Conv":
            number, channels = number + 1, next((weights[name][0] for name in node.input if name in weights), 0)
        elif node.op_type == "Relu":
            found[f"conv{block}_{number}"] = PaperLayer(value, stride, channels)
        else:
            block, number = block + 1, 0
    return found if block >= _FEWEST else {}


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """The same graph with other names for some of its values; ``names``: from the old ones."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        for values in (node.input, node.output):
            for place, value in enumerate(values):
                values[place] = names.get(value, value)
    return changed

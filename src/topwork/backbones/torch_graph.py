"""An ONNX network as a PyTorch module: the shipped graph itself gets gradients, so nothing can drift apart from it."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from topwork.errors import BackboneError

if TYPE_CHECKING:
    import torch

Attributes = Mapping[str, Any]


def graph_module(model: onnx.ModelProto, source: str, target: str) -> Any:
    """The part of a network between two of its values as a ``torch.nn.Module``.

    ``source`` is an input or any value inside, ``target`` what the module returns. Its parameters are the weights and
    biases of convolutions and dense layers, called as in the graph (``weights_by_name`` gives them back); bounds,
    axes and paddings are constants. Raises BackboneError for a value that does not exist and for unknown operators.
    """
    from torch import nn

    nodes = _between(model.graph, source, target)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    class GraphModule(nn.Module):
        """Runs the nodes one after the other."""

        def __init__(self) -> None:
            super().__init__()
            self._steps = [_step(node, arrays) for node in nodes]
            trained = [name for node in nodes if node.op_type in _TRAINED for name in node.input[1:] if name in arrays]
            self._places = {name: f"w{i}" for i, name in enumerate(dict.fromkeys(trained))}
            for name, place in self._places.items():
                self.register_parameter(place, nn.Parameter(_tensor(arrays[name])))

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            """``target`` of a batch of ``source``."""
            values: dict[str, torch.Tensor] = {source: x}
            values.update((name, getattr(self, place)) for name, place in self._places.items())
            for inputs, output, run in self._steps:
                values[output] = run(*(values[name] for name in inputs))
            return values[target]

        def weights_by_name(self) -> dict[str, "torch.Tensor"]:
            """The parameters under the names that they have in the graph."""
            return {name: getattr(self, place) for name, place in self._places.items()}

    return GraphModule()


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.array(array, np.float32))  # a copy: initialisers are read-only


def _between(graph: onnx.GraphProto, source: str, target: str) -> list[onnx.NodeProto]:
    """The nodes that compute ``target``, as far back as ``source``."""
    needed, nodes = {target}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output) and source not in node.output:
            nodes.append(node)
            needed.update(node.input)
    if source not in needed or not nodes:
        raise BackboneError(f"the network has no way from {source!r} to {target!r}; see `topwork backbones` for stages")
    constants = {tensor.name for tensor in graph.initializer}
    made = {name for node in nodes for name in node.output}
    if others := needed - constants - made - {source, ""}:
        raise BackboneError(
            f"the network cannot be cut at {source!r}: {min(others)!r} goes around it; cut it at the end of a stage"
        )
    return nodes[::-1]


Step = tuple[list[str], str, Callable[..., Any]]


def _step(node: onnx.NodeProto, arrays: Mapping[str, Any]) -> Step:
    """Names of the tensors a node takes, the name of what it gives, and the function."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type not in _OPERATORS:
        raise BackboneError(
            f"operator {node.op_type} cannot be trained yet; use --strategy full, which trains the PyTorch network"
        )
    if node.op_type in _TRAINED:
        return list(node.input), node.output[0], _OPERATORS[node.op_type](attributes, [])
    constants = [arrays[name] for name in node.input if name in arrays]
    return [n for n in node.input if n not in arrays], node.output[0], _OPERATORS[node.op_type](attributes, constants)


def _convolution(attributes: Attributes, _: Sequence[Any]) -> Callable[..., Any]:
    from torch.nn import functional

    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    even = top == bottom and left == right
    options = {
        "stride": tuple(attributes.get("strides", (1, 1))),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
    }

    def run(x: Any, weight: Any, bias: Any = None) -> Any:
        if even:
            return functional.conv2d(x, weight, bias, padding=(top, left), **options)
        return functional.conv2d(functional.pad(x, (left, right, top, bottom)), weight, bias, **options)

    return run


def _clip(_: Attributes, constants: Sequence[Any]) -> Callable[..., Any]:
    from torch.nn import functional

    low, high = map(float, constants)
    return lambda x: functional.hardtanh(x, low, high)


def _mean(attributes: Attributes, constants: Sequence[Any]) -> Callable[..., Any]:
    axes, keep = [int(axis) for axis in constants[0]], bool(attributes.get("keepdims", 1))
    return lambda x: x.mean(axes, keepdim=keep)


def _add(_: Attributes, constants: Sequence[Any]) -> Callable[..., Any]:
    fixed = [_tensor(array) for array in constants]
    return lambda *inputs: sum(inputs[1:], inputs[0]) if not fixed else inputs[0] + fixed[0]


_TRAINED = ("Conv",)
_OPERATORS: dict[str, Callable[[Attributes, Sequence[Any]], Callable[..., Any]]] = {
    "Conv": _convolution,
    "Clip": _clip,
    "ReduceMean": _mean,
    "Add": _add,
}

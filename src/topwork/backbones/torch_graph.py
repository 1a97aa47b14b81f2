"""An ONNX network as a PyTorch module: the shipped graph itself gets gradients, so nothing can drift apart from it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from topwork.backbones.torch_operators import operator
from topwork.errors import BackboneError

if TYPE_CHECKING:
    import torch

_NORMS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization")
_TRAINED = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1,), **dict.fromkeys(_NORMS, (1, 2))}
"""Places of the weights and biases among the inputs of an operator."""


def graph_module(model: onnx.ModelProto, source: str, *targets: str) -> Any:
    """The part of a network between its values as a ``torch.nn.Module``.

    ``source`` is an input or any value inside, ``targets`` what the module returns: one as it is, several as a tuple.
    Its parameters are the weights and biases of convolutions, dense layers and norms, called as in the graph
    (``weights_by_name`` gives them back); bounds, axes, paddings and the statistics of batch norms are constants.
    Raises BackboneError for a value that does not exist and for unknown operators.
    """
    from torch import nn

    nodes = _between(model.graph, source, *targets)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    class GraphModule(nn.Module):
        """Runs the nodes one after the other."""

        def __init__(self) -> None:
            super().__init__()
            last = {name: place for place, node in enumerate(nodes) for name in node.input if name not in targets}
            done = [[name for name in dict.fromkeys(n.input) if last.get(name) == i] for i, n in enumerate(nodes)]
            self._steps = [
                (list(node.input), node.output[0], operator(node), over) for node, over in zip(nodes, done, strict=True)
            ]
            trained = [name for node in nodes for name in _trained_inputs(node) if name in arrays]
            self._places = {name: f"w{i}" for i, name in enumerate(dict.fromkeys(trained))}
            for name, place in self._places.items():
                self.register_parameter(place, nn.Parameter(_tensor(arrays[name])))
            used = dict.fromkeys(name for inputs, *_ in self._steps for name in inputs)
            fixed = [name for name in used if name in arrays and name not in self._places]
            self._numbers = {name: arrays[name] for name in fixed if arrays[name].dtype.kind != "f"}
            self._fixed = {name: f"c{i}" for i, name in enumerate(fixed) if name not in self._numbers}
            for name, place in self._fixed.items():
                self.register_buffer(place, _tensor(arrays[name]), persistent=False)

        def forward(self, x: "torch.Tensor") -> Any:
            """The targets of a batch of ``source``."""
            values: dict[str, Any] = {"": None, **self._numbers, source: x}
            values.update((name, getattr(self, place)) for name, place in {**self._places, **self._fixed}.items())
            for inputs, output, run, over in self._steps:
                values[output] = run(*(values[name] for name in inputs))
                for name in over:  # what no later step reads needs no memory
                    del values[name]
            return values[targets[0]] if len(targets) == 1 else tuple(values[name] for name in targets)

        def weights_by_name(self) -> dict[str, "torch.Tensor"]:
            """The parameters under the names that they have in the graph."""
            return {name: getattr(self, place) for name, place in self._places.items()}

    return GraphModule()


def is_cut(model: onnx.ModelProto, value: str, target: str) -> bool:
    """Whether everything that ``target`` needs of the network goes through ``value``."""
    try:
        _between(model.graph, value, target)
    except BackboneError:
        return False
    return True


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(np.array(array, np.float32))  # a copy: initialisers are read-only


def _between(graph: onnx.GraphProto, source: str, *targets: str) -> list[onnx.NodeProto]:
    """The nodes that compute the ``targets``, as far back as ``source``."""
    needed: set[str] = set(targets)
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output) and source not in node.output:
            nodes.append(node)
            needed.update(node.input)
    if source not in needed or not nodes:
        named = " and ".join(map(repr, targets))
        raise BackboneError(f"the network has no way from {source!r} to {named}; see `topwork backbones` for stages")
    constants = {tensor.name for tensor in graph.initializer}
    made = {name for node in nodes for name in node.output}
    if others := needed - constants - made - {source, ""}:
        raise BackboneError(
            f"the network cannot be cut at {source!r}: {min(others)!r} goes around it; cut it at the end of a stage"
        )
    return nodes[::-1]


def _trained_inputs(node: onnx.NodeProto) -> list[str]:
    return [node.input[place] for place in _TRAINED.get(node.op_type, ()) if place < len(node.input)]

"""A small ONNX graph builder: nodes are appended in order, names are made unique."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from topwork.errors import BackboneError

OPSET = 18
"""The lowest opset with antialiased Resize; every runtime that reads it can run a topwork model."""
IR_VERSION = 8
"""The ONNX file version that belongs to opset 18."""


class Nodes:
    """Collects nodes and weights of one ONNX graph."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        name = output or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], name=f"n_{name}", **attributes))
        return name

    def constant(self, value: NDArray[Any] | float, *, name: str | None = None) -> str:
        """Store a weight or constant; a plain number becomes a float32 scalar."""
        array = np.asarray(value, np.float32) if isinstance(value, float) else np.ascontiguousarray(value)
        name = name or f"w_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def relu6(self, x: str) -> str:
        """``min(max(x, 0), 6)``."""
        return self.add("Clip", [x, self.constant(0.0), self.constant(6.0)])

    def rename(self, value: str, name: str) -> str:
        """Give the output of the last node a lasting name."""
        last = self._nodes[-1]
        if list(last.output) != [value]:
            raise ValueError(f"{value} is not the output of the last node")
        last.output[0] = name
        return name

    def include(self, graph: onnx.GraphProto, given: Mapping[str, str], *, keep: Collection[str] = ()) -> None:
        """Append another graph; ``given`` maps its inputs to values that are here, ``keep`` are names it may keep."""
        place = f"g{len(self._nodes)}_"
        names = {**given, **{name: name for name in keep}, "": ""}
        self._weights += [_renamed(tensor, names.get(tensor.name, place + tensor.name)) for tensor in graph.initializer]
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = place + node.name
            copy.input[:] = [names.get(name, place + name) for name in node.input]
            copy.output[:] = [names.get(name, place + name) for name in node.output]
            self._nodes.append(copy)

    def model(
        self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], *, name: str = "topwork"
    ) -> onnx.ModelProto:
        """The finished model, checked by the ONNX checker; what no output needs is left out."""
        nodes, needed = self._needed({output.name for output in outputs})
        weights = [tensor for tensor in self._weights if tensor.name in needed]
        graph = helper.make_graph(nodes, name, inputs, outputs, initializer=weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="topwork")
        model.ir_version = IR_VERSION
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise BackboneError(f"the graph {name} is not valid ONNX ({error}); please report this") from error
        return model

    def _needed(self, values: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that ``values`` are computed from, and the names of all values on the way."""
        kept, values = [], set(values)
        for node in reversed(self._nodes):
            if values.intersection(node.output):
                kept.append(node)
                values.update(node.input)
        return kept[::-1], values


def _renamed(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def image_input() -> onnx.ValueInfoProto:
    """The one input of every graph: ``image``, uint8 RGB ``[n, h, w, 3]``."""
    return helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["n", "h", "w", 3])


def float_output(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    """A float32 output; text dimensions are free."""
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

"""What a graph takes for a picture, known before it runs: the shape of each value, the memory, the multiplications.

The nodes are followed one by one with the shapes that ONNX's own rules give; whole numbers that decide on shapes (the
size of a picture, cut and multiplied) are computed on the way. So a few kilobytes of graph that would make tensors of
terabytes, or multiply for days, are refused by a sentence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper
from onnx.shape_inference import infer_node_outputs

from topwork.backbones.allowed import MOST_AXES, NUMBERS, Rules
from topwork.errors import ModelError

_KNOWN = 1024
"""Most elements of a tensor whose values are computed here: they are sizes and places, never pictures."""
_MOST_WAYS, _MOST_RESTS = 12, 1000
"""What is remembered of a walk, and of many: pictures differ, the square that the network sees does not."""

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Cost:
    """For one picture. ``outputs``: type and shape of what the graph gives, by name; the type as ONNX's number."""

    outputs: Mapping[str, tuple[int, Shape]]
    memory: int
    """Bytes of values that are needed at the same time, at most; without the weights."""
    work: float
    """Multiplications."""


@dataclass(frozen=True)
class _Value:
    type: int
    shape: Shape
    data: Array | None = None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * helper.tensor_dtype_to_np_dtype(self.type).itemsize


class Costs:
    """The cost of a checked graph for pictures of any size.

    >>> from topwork.backbones.allowed import CLASSIFIER
    >>> from topwork.backbones.nodes import Nodes, float_output, image_input
    >>> nodes = Nodes()
    >>> y = nodes.add("Cast", ["image"], to=1)
    >>> costs = Costs(nodes.model([image_input()], [float_output(y, ["n", "h", "w", 3])]), CLASSIFIER)
    >>> costs.of(100, 200)
    Cost(outputs={'cast_0': (1, (1, 100, 200, 3))}, memory=300000, work=120000.0)
    """

    def __init__(self, model: onnx.ModelProto, rules: Rules) -> None:
        self._rules = rules
        self._version = model.opset_import[0].version
        self._nodes = [_Node(node) for node in model.graph.node]
        self._weights = {tensor.name: _constant(tensor) for tensor in model.graph.initializer}
        self._inputs = [value.name for value in model.graph.input]
        self._ends = [output.name for output in model.graph.output]
        self._last = dict.fromkeys(self._inputs, -1)
        self._last |= {name: place for place, node in enumerate(self._nodes) for name in node.inputs}
        self._last |= dict.fromkeys(self._ends, len(self._nodes))
        self._rests: dict[tuple[int, str, Shape], Cost] = {}

    def of(self, height: int, width: int) -> Cost:
        """For a picture ``[1, height, width, 3]``; ModelError where it is beyond what the rules allow."""
        found = self._walk(_Value(TensorProto.UINT8, (1, height, width, 3)))
        rules, pixels = self._rules, height * width
        if (
            found.memory > rules.memory + rules.memory_a_pixel * pixels
            or found.work > rules.work + rules.work_a_pixel * pixels
        ):
            raise ModelError(
                f"the graph would take {found.memory / 1e9:,.3g} GB and {found.work:,.0e} multiplications for a "
                f"picture of {width} x {height} pixels, more than any network that topwork makes; do not use this model"
            )
        return found

    def _walk(self, picture: _Value) -> Cost:
        values = {**self._weights, **dict.fromkeys(self._inputs, picture)}
        changing = dict.fromkeys(self._inputs, picture.bytes)  # what depends on the picture and is still needed
        steps: list[tuple[int, float]] = []
        kept = 0  # what does not depend on it: ONNX Runtime computes that once
        ways: list[tuple[int, str, Shape]] = []
        for place, node in enumerate(self._nodes):
            if len(changing) == 1 and len(ways) < _MOST_WAYS:
                [name] = changing
                way = (place, name, values[name].shape)
                if values[name].data is None:
                    # All that follows depends on this one shape: a network's square input, whatever the picture.
                    if (rest := self._rests.get(way)) is not None:
                        return self._remembered(ways, steps, rest)
                    ways.append(way)
            inputs = [values[name] if name in values else _missing(name) for name in node.inputs]
            made = _outputs(node, inputs, self._version)
            values |= made
            sizes = {name: value.bytes for name, value in made.items()}
            if changing.keys().isdisjoint(node.inputs):
                kept += sum(sizes.values())
            else:
                changing |= {name: size for name, size in sizes.items() if name in self._last}
            steps.append((kept + sum(changing.values()), _work(node, inputs, list(made.values()))))
            for name in [name for name in changing if self._last[name] <= place]:
                del changing[name], values[name]
        if any(name not in values for name in self._ends):
            raise _unknown("the graph's end")
        end = Cost({name: (values[name].type, values[name].shape) for name in self._ends}, 0, 0.0)
        return self._remembered(ways, steps, end)

    def _remembered(self, ways: list[tuple[int, str, Shape]], steps: list[tuple[int, float]], rest: Cost) -> Cost:
        if len(self._rests) > _MOST_RESTS:
            self._rests = {}  # another thread may be looking at the old ones
        self._rests |= {way: _joined(steps[way[0] :], rest) for way in ways}
        return _joined(steps, rest)


def _joined(steps: list[tuple[int, float]], rest: Cost) -> Cost:
    memory = max([rest.memory, *(each for each, _ in steps)])
    return Cost(rest.outputs, memory, rest.work + sum(work for _, work in steps))


class _Node:
    """A node with what is asked of it often."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.proto = onnx.NodeProto.FromString(node.SerializeToString())  # else the weights would stay in memory too
        self.operator = node.op_type
        self.inputs = list(node.input)
        self.outputs = list(node.output)
        self.attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _missing(name: str) -> _Value:
    """An input that is left out; nodes stand in the order in which they run, so any other is a fault."""
    if name:
        raise _unknown("a node whose input nothing gives")
    return _NONE


_NONE = _Value(TensorProto.UNDEFINED, ())


def _unknown(what: str) -> ModelError:
    return ModelError(f"the graph is not one that topwork opens: {what} has no known size; do not use this model")


def _constant(tensor: TensorProto) -> _Value:
    shape = tuple(tensor.dims)
    known = prod(shape) <= _KNOWN
    return _Value(tensor.data_type, shape, numpy_helper.to_array(tensor) if known else None)


def _outputs(node: _Node, inputs: list[_Value], version: int) -> dict[str, _Value]:
    """The outputs of a node by name: their values where all of its inputs are known and small, else their shapes."""
    given = [value for value in inputs if value is not _NONE]
    known = all(value.data is not None for value in given)
    if node.operator in ("Div", "Mod") and inputs[0].type in _WHOLE:
        _check_divisor(inputs)
    compute = _EXACT.get(node.operator)
    try:
        if node.operator == "Shape":
            size = np.array(
                inputs[0].shape[node.attributes.get("start", 0) : node.attributes.get("end", None)], np.int64
            )
            return {node.outputs[0]: _Value(TensorProto.INT64, size.shape, size)}
        if known and compute is not None:
            arrays = [value.data for value in inputs]
            with np.errstate(all="ignore"):
                found = np.asarray(compute(node.attributes, *arrays))
            kind = node.attributes["to"] if node.operator == "Cast" else _type_of(found)
            return {node.outputs[0]: _Value(kind, found.shape, found if found.size <= _KNOWN else None)}
        inferred = _split(node, inputs) if node.operator == "Split" else _inferred(node, inputs, version)
        return _filled(node, inputs, inferred) if node.operator in _FILLED and known else inferred
    except ModelError:
        raise
    except Exception as error:  # of NumPy or of ONNX's rules: the node's inputs do not fit it
        raise _unknown(f"what {node.operator} gives") from error


def _filled(node: _Node, inputs: list[_Value], inferred: dict[str, _Value]) -> dict[str, _Value]:
    [(name, value)] = inferred.items()
    if value.elements > _KNOWN:
        return inferred
    data = np.asarray(_FILLED[node.operator](value.shape, node.attributes, *(each.data for each in inputs)))
    return {name: _Value(value.type, value.shape, data)}


def _split(node: _Node, inputs: list[_Value]) -> dict[str, _Value]:
    """ONNX's own rule ends the process where the node says another number of parts than it has."""
    [taken, *sizes] = inputs
    axis, count = range(len(taken.shape))[node.attributes.get("axis", 0)], len(node.outputs)
    if sizes and sizes[0].data is not None:
        parts = [int(size) for size in sizes[0].data]
    else:
        side = -(-taken.shape[axis] // count)
        parts = [*[side] * (count - 1), taken.shape[axis] - side * (count - 1)]
    if (
        node.attributes.get("num_outputs", count) != len(parts)
        or len(parts) != count
        or sum(parts) != taken.shape[axis]
        or min(parts) < 0
    ):
        raise _unknown("what Split gives")
    shapes = [(*taken.shape[:axis], part, *taken.shape[axis + 1 :]) for part in parts]
    return {name: _Value(taken.type, shape) for name, shape in zip(node.outputs, shapes, strict=True)}


def _inferred(node: _Node, inputs: list[_Value], version: int) -> dict[str, _Value]:
    pairs = [(name, value) for name, value in zip(node.inputs, inputs, strict=True) if name]
    types = {name: helper.make_tensor_type_proto(value.type, value.shape) for name, value in pairs}
    data = {name: numpy_helper.from_array(value.data) for name, value in pairs if value.data is not None}
    found = infer_node_outputs(
        _schema(node.operator, version), node.proto, types, data, opset_imports=[helper.make_opsetid("", version)]
    )
    return {name: _whole(found.get(name), node) for name in node.outputs if name}


@lru_cache(maxsize=1024)
def _schema(operator: str, version: int) -> Any:
    return onnx.defs.get_schema(operator, version, "")


def _whole(found: TypeProto | None, node: _Node) -> _Value:
    kind = found.tensor_type if found is not None and found.HasField("tensor_type") else None
    if kind is None or not kind.HasField("shape") or not all(side.HasField("dim_value") for side in kind.shape.dim):
        raise _unknown(f"what {node.operator} gives")
    shape = tuple(side.dim_value for side in kind.shape.dim)
    if kind.elem_type not in NUMBERS or len(shape) > MOST_AXES or not all(0 <= side < 2**31 for side in shape):
        raise _unknown(f"what {node.operator} gives")
    return _Value(kind.elem_type, shape)


def _check_divisor(inputs: list[_Value]) -> None:
    """Whole numbers divided by zero end the process."""
    divisor = inputs[1].data
    if divisor is None or (divisor == 0).any() or (divisor == -1).any():
        raise _unknown("what a division gives")


def _type_of(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


def _axes(attributes: Mapping[str, Any], axes: Array | None) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.ravel(axes if axes is not None else attributes["axes"]))


def _reshaped(x: Array, shape: Array) -> Array:
    return x.reshape([x.shape[place] if side == 0 else int(side) for place, side in enumerate(shape)])


def _sliced(x: Array, starts: Array, ends: Array, axes: Array | None = None, steps: Array | None = None) -> Array:
    which = range(len(starts)) if axes is None else (int(axis) for axis in axes)
    cut = [slice(None)] * x.ndim
    for place, axis in enumerate(which):
        step = 1 if steps is None else int(steps[place])
        cut[axis] = slice(int(starts[place]), int(ends[place]), step)
    return x[tuple(cut)]


def _reduced(how: Callable[..., Any]) -> Callable[..., Any]:
    """``how`` over the axes that are given, or over all."""

    def compute(attributes: Mapping[str, Any], x: Array, axes: Array | None = None) -> Any:
        over = tuple(int(axis) for axis in np.ravel(axes)) if axes is not None and axes.size else None
        return np.asarray(how(x, axis=over, keepdims=bool(attributes.get("keepdims", 1))), x.dtype)

    return compute


def _divided(a: Array, b: Array) -> Array:
    if not np.issubdtype(np.asarray(a).dtype, np.integer):
        return np.asarray(a / b)
    whole = np.asarray(np.abs(a) // np.abs(b))
    return np.asarray(np.where((a < 0) != (b < 0), -whole, whole), a.dtype)


_EXACT: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda _, x: np.abs(x),
    "Add": lambda _, a, b: a + b,
    "And": lambda _, a, b: a & b,
    "Cast": lambda attributes, x: x.astype(helper.tensor_dtype_to_np_dtype(attributes["to"])),
    "Ceil": lambda _, x: np.ceil(x),
    "Concat": lambda attributes, *each: np.concatenate(each, attributes["axis"]),
    "Div": lambda _, a, b: _divided(a, b),
    "Equal": lambda _, a, b: a == b,
    "Floor": lambda _, x: np.floor(x),
    "Gather": lambda attributes, x, places: np.take(x, places, attributes.get("axis", 0)),
    "Greater": lambda _, a, b: a > b,
    "Identity": lambda _, x: x,
    "Less": lambda _, a, b: a < b,
    "Max": lambda _, *each: np.maximum.reduce(np.broadcast_arrays(*each)),
    "Min": lambda _, *each: np.minimum.reduce(np.broadcast_arrays(*each)),
    "Mod": lambda attributes, a, b: np.fmod(a, b) if attributes.get("fmod", 0) else np.mod(a, b),
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "Not": lambda _, x: ~x,
    "Or": lambda _, a, b: a | b,
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceSum": _reduced(np.sum),
    "Reshape": lambda _, x, shape: _reshaped(x, shape),
    "Round": lambda _, x: np.round(x),
    "Slice": lambda _, *each: _sliced(*each),
    "Sqrt": lambda _, x: np.sqrt(x),
    "Squeeze": lambda attributes, x, axes=None: np.squeeze(x, _axes(attributes, axes)),
    "Sub": lambda _, a, b: a - b,
    "Transpose": lambda attributes, x: np.transpose(x, attributes.get("perm")),
    "Unsqueeze": lambda attributes, x, axes=None: np.expand_dims(x, _axes(attributes, axes)),
    "Where": lambda _, which, a, b: np.where(which, a, b),
}
"""Operators that sizes are computed with; the result is no larger than the inputs allow."""

_FILLED: Mapping[str, Callable[..., Any]] = {
    "Constant": lambda _, attributes: _constant_value(attributes),
    "ConstantOfShape": lambda shape, attributes, _: np.full(shape, _fill(attributes)),
    "Expand": lambda shape, _, x, __: np.broadcast_to(x, shape),
    "Range": lambda _, __, start, limit, step: np.arange(start, limit, step),
    "Tile": lambda _, __, x, times: np.tile(x, times),
}
"""Operators whose result may be large; it is computed once its shape is known to be small."""


def _constant_value(attributes: Mapping[str, Any]) -> Any:
    [value] = attributes.values()
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _fill(attributes: Mapping[str, Any]) -> Any:
    return numpy_helper.to_array(attributes["value"])[0] if "value" in attributes else np.float32(0)


_WHOLE = {TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64}


def _work(node: _Node, inputs: list[_Value], made: list[_Value]) -> float:
    """Multiplications of a node, about."""
    given, result = float(sum(value.elements for value in inputs)), float(sum(value.elements for value in made))
    if node.operator == "Conv":
        return result * float(prod(inputs[1].shape[1:]))
    if node.operator == "MatMul":
        return result * float(inputs[0].shape[-1])
    if node.operator == "Gemm":
        return result * float(inputs[0].shape[0 if node.attributes.get("transA", 0) else 1])
    if node.operator in ("AveragePool", "MaxPool"):
        return result * float(prod(node.attributes["kernel_shape"]))
    return given + result

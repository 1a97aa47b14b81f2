"""Which graphs are opened: bounded in size, of known operators, with nothing that reads a file, loops or calls.

A graph from a stranger is looked at twice before it is parsed into objects and before ONNX Runtime sees it: its bytes
(a protobuf of a few megabytes can unpack to gigabytes), then every node and tensor, against lists of what is allowed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import prod

import onnx
from onnx import TensorProto

from topwork.backbones.nodes import OPSET
from topwork.errors import ModelError

LARGEST = 2**31 - 1
"""Bytes of a graph; protobuf itself has this limit."""
MOST_BESIDE_WEIGHTS = 16 * 2**20
"""Bytes of a graph without its weights: unpacked, each may take fifty times as much."""
MOST_NODES = 20_000
MOST_TENSORS = 20_000
MOST_AXES = 8
_MOST_FIELDS = 10 * (MOST_NODES + MOST_TENSORS)

_ELEMENTWISE = """Abs Add And Cast Ceil Clip Cos Div Elu Equal Erf Exp Floor Greater HardSigmoid HardSwish Identity
    LeakyRelu Less Log Max Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sin Softplus Sqrt Sub Tanh Where"""
_LAYERS = """AveragePool BatchNormalization Conv Gemm GlobalAveragePool GlobalMaxPool InstanceNormalization
    LayerNormalization MatMul MaxPool Softmax"""
_SHAPES = """Concat Constant ConstantOfShape DepthToSpace Expand Flatten Gather Pad Range Reshape Resize Shape Slice
    Split Squeeze Tile Transpose Unsqueeze"""
_REDUCTIONS = "CumSum ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum ReduceSumSquare"
_PAINTING = """Add Cast Concat Conv Gather InstanceNormalization Mod Mul Neg Pad Relu Resize Round Shape Sigmoid Slice
    Transpose"""


@dataclass(frozen=True)
class Rules:
    """What a graph for a task may use: ``memory`` in bytes and ``work`` in multiplications for one picture.

    Of both there is more for each of the picture's pixels. ``operators`` are those that topwork's own graphs for the
    task consist of, and a few like them that do no harm.
    """

    operators: frozenset[str]
    memory: float
    memory_a_pixel: float
    work: float
    work_a_pixel: float


CLASSIFIER = Rules(
    frozenset(f"{_ELEMENTWISE} {_LAYERS} {_SHAPES} {_REDUCTIONS}".split()),
    memory=2e9,
    memory_a_pixel=64,
    work=1e12,
    work_a_pixel=1e4,
)
"""Any network of the zoo with topwork's preprocessing and heads."""
STYLE = Rules(
    frozenset(_PAINTING.split()),
    memory=1e9,
    memory_a_pixel=3e3,
    work=1e11,
    work_a_pixel=3e6,
)
"""A fast style, up to 128 channels wide."""

_ATTRIBUTES = {
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.INT,
    onnx.AttributeProto.STRING,
    onnx.AttributeProto.FLOATS,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.STRINGS,
    onnx.AttributeProto.TENSOR,
}
NUMBERS: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.UINT8: 1,
    TensorProto.INT8: 1,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.BOOL: 1,
}
"""What tensors may hold, with the bytes of an element."""
_LARGEST_NUMBER, _MOST_NUMBERS = 2**20, 64
"""Of strides, paddings, axes and other numbers of an operator."""
_AT_LEAST_1 = ["strides", "dilations", "kernel_shape", "group", "blocksize", "num_outputs"]
_AT_LEAST_0 = ["pads", "output_padding"]
_FLAGS = [
    "antialias",
    "ceil_mode",
    "count_include_pad",
    "exclude_outside",
    "exclusive",
    "fmod",
    "keepdims",
    "reverse",
    "storage_order",
    "transA",
    "transB",
]
_RANGES = {
    **dict.fromkeys(_AT_LEAST_1, (1, _LARGEST_NUMBER)),
    **dict.fromkeys(_AT_LEAST_0, (0, _LARGEST_NUMBER)),
    **dict.fromkeys(_FLAGS, (0, 1)),
    **dict.fromkeys(("noop_with_empty_axes", "training_mode"), (0, 0)),
}
"""Of attributes that are whole numbers; of others the libraries that read a graph make different things."""
_ANY_NUMBER = {"Constant", "Shape"}
_VALUES = ("float_data", "int32_data", "int64_data", "double_data")

# Numbers of protobuf fields, see onnx.proto: they cannot change.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_TENSOR, _TENSOR_RAW = 7, 1, 5, 9
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def checked(data: bytes, rules: Rules = CLASSIFIER) -> onnx.ModelProto:
    """The graph in ``data``, once it holds nothing but known operators and weights of its own; else ModelError.

    >>> checked(b"no graph")
    Traceback (most recent call last):
    ...
    topwork.errors.ModelError: the graph is no ONNX file, or a damaged one; copy the model again
    """
    if len(data) > LARGEST:
        raise _refused(f"it has {len(data):,} bytes, more than {LARGEST:,}")
    _check_bytes(memoryview(data))
    try:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError, from one of several implementations
        raise _damaged() from error
    _check_model(model)
    for tensor in model.graph.initializer:
        _check_tensor(tensor)
    for node in model.graph.node:
        _check_node(node, rules.operators)
    return model


def _refused(why: str) -> ModelError:
    return ModelError(f"the graph is not one that topwork opens: {why}; do not use this model")


def _damaged() -> ModelError:
    return ModelError("the graph is no ONNX file, or a damaged one; copy the model again")


def _check_bytes(data: memoryview) -> None:
    """Count nodes and tensors, and the bytes that are not weights, without unpacking anything."""
    beside, nodes, tensors, steps = len(data), 0, 0, count()
    for field, graph in _fields(data, steps):
        if field != _MODEL_GRAPH:
            continue
        for kind, part in _fields(graph, steps):
            nodes += kind == _GRAPH_NODE
            tensors += kind == _GRAPH_TENSOR
            if nodes > MOST_NODES or tensors > MOST_TENSORS:
                raise _refused(f"it has more than {MOST_NODES:,} nodes or {MOST_TENSORS:,} tensors")
            if kind == _GRAPH_TENSOR:
                beside -= sum(len(raw) for name, raw in _fields(part, steps) if name == _TENSOR_RAW)
    if beside > MOST_BESIDE_WEIGHTS:
        raise _refused(f"it holds {beside:,} bytes that are not weights, more than {MOST_BESIDE_WEIGHTS:,}")


def _fields(data: memoryview, steps: Iterator[int]) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of the fields of a protobuf message; those that are numbers are empty."""
    place = 0
    while place < len(data):
        if next(steps) > _MOST_FIELDS:
            raise _refused("it has too many parts")
        tag, place = _varint(data, place)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, place = _varint(data, place)
            yield field, data[:0]
            continue
        if kind == _DELIMITED:
            length, place = _varint(data, place)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _damaged()
        if length > len(data) - place:
            raise _damaged()
        yield field, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise _damaged()


def _check_model(model: onnx.ModelProto) -> None:
    graph = model.graph
    if model.functions or model.training_info:
        raise _refused("it defines functions of its own")
    if graph.sparse_initializer or graph.quantization_annotation:
        raise _refused("it holds sparse or quantized tensors")
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    if len(versions) != 1 or len(model.opset_import) != 1:
        raise _refused("it uses operators of another kind than ONNX's own")
    if versions[0] != OPSET:
        raise ModelError(
            f"the graph uses version {versions[0]} of ONNX's operators, not {OPSET}, which topwork writes; perhaps "
            "`pip install --upgrade topwork` helps"
        )
    names = [tensor.name for tensor in graph.initializer]
    made = [name for node in graph.node for name in node.output if name]
    given = [value.name for value in graph.input]
    if len({*names, *made, *given}) != len(names) + len(made) + len(given):
        raise _refused("several of its values have one name")


def _check_node(node: onnx.NodeProto, operators: frozenset[str]) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise _refused(f"it uses the operator {_shown(node.op_type)} of {_shown(node.domain)}")
    if node.op_type not in operators:
        raise ModelError(
            f"the graph uses the operator {_shown(node.op_type)}, which is not among those that topwork's own networks "
            "consist of, so it is not run; if the model is yours, please report its network"
        )
    schema = onnx.defs.get_schema(node.op_type, OPSET, "")
    if not (schema.min_input <= len(node.input) <= schema.max_input and len(node.output) <= schema.max_output):
        raise _refused(f"its operator {node.op_type} has too few or too many inputs or outputs")
    for attribute in node.attribute:
        if attribute.type not in _ATTRIBUTES or attribute.ref_attr_name or attribute.HasField("g"):
            raise _refused(f"its operator {node.op_type} holds a graph of its own")
        if attribute.type == onnx.AttributeProto.TENSOR:
            _check_tensor(attribute.t)
        numbers = [attribute.i] if attribute.type == onnx.AttributeProto.INT else attribute.ints[:_MOST_NUMBERS]
        least, most = _RANGES.get(attribute.name, (-_LARGEST_NUMBER, _LARGEST_NUMBER))
        fits = len(attribute.ints) <= _MOST_NUMBERS and all(least <= each <= most for each in numbers)
        if not fits and node.op_type not in _ANY_NUMBER:
            raise _refused(f"the {_shown(attribute.name)} of its {node.op_type} is out of range")


def _check_tensor(tensor: TensorProto) -> None:
    """Whether a tensor holds what it says, here and nowhere else."""
    name = _shown(tensor.name)
    if tensor.data_location != TensorProto.DEFAULT or tensor.external_data:
        raise _refused(f"its tensor {name} is to be read from another file")
    if tensor.data_type not in NUMBERS:
        raise _refused(f"its tensor {name} holds something else than numbers")
    if tensor.HasField("segment") or len(tensor.dims) > MOST_AXES or any(d < 0 for d in tensor.dims):
        raise _refused(f"its tensor {name} has no usable shape")
    wanted = prod(tensor.dims)
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == wanted * NUMBERS[int(tensor.data_type)]
    else:
        fits = sum(len(getattr(tensor, values)) for values in _VALUES) == wanted
    if not fits:
        raise _refused(f"its tensor {name} holds more or fewer numbers than its shape says")


def _shown(text: str) -> str:
    """A stranger's word as it may be printed."""
    return ascii(text if len(text) <= 40 else text[:39] + "…")

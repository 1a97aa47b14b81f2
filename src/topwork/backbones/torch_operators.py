"""What ONNX operators do, in PyTorch: those that convolutional networks consist of.

A function takes an operator's attributes and gives what it does with its inputs: tensors, NumPy arrays for constant
whole numbers such as axes and shapes, None for an input that is left out.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from topwork.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor

Attributes = Mapping[str, Any]
Run = Callable[..., Any]


def operator(node: onnx.NodeProto) -> Run:
    """The function of a node; BackboneError for an operator that has none here."""
    if node.op_type not in _OPERATORS:
        raise BackboneError(
            f"operator {node.op_type} cannot be trained yet; use --strategy full, which trains the PyTorch network"
        )
    return _OPERATORS[node.op_type]({a.name: helper.get_attribute_value(a) for a in node.attribute})


def _numbers(values: Any) -> list[int]:
    """Whole numbers of a constant; an axis that only the run knows is nothing a network can be trained with."""
    if values is None or hasattr(values, "requires_grad"):
        raise BackboneError("sizes that depend on the picture cannot be trained; use --strategy full")
    return [int(value) for value in values]


def _padded(x: "Tensor", attributes: Attributes, value: float = 0.0) -> tuple["Tensor", Any]:
    """The input with paddings that no layer of PyTorch can do, and the padding that is left for the layer."""
    from torch.nn import functional

    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if top == bottom and left == right:
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=value), 0


def _convolution(attributes: Attributes) -> Run:
    from torch.nn import functional

    options = {
        "stride": tuple(attributes.get("strides", (1, 1))),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
    }

    def run(x: "Tensor", weight: "Tensor", bias: "Tensor | None" = None) -> "Tensor":
        x, padding = _padded(x, attributes)
        return functional.conv2d(x, weight, bias, padding=padding, **options)

    return run


def _max_pool(attributes: Attributes) -> Run:
    from torch.nn import functional

    kernel, ceil = tuple(attributes["kernel_shape"]), bool(attributes.get("ceil_mode", 0))
    stride, dilation = tuple(attributes.get("strides", (1, 1))), tuple(attributes.get("dilations", (1, 1)))

    def run(x: "Tensor") -> "Tensor":
        x, padding = _padded(x, attributes, -float("inf"))
        return functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode=ceil)

    return run


def _average_pool(attributes: Attributes) -> Run:
    from torch.nn import functional

    kernel, stride = tuple(attributes["kernel_shape"]), tuple(attributes.get("strides", (1, 1)))
    ceil, counted = bool(attributes.get("ceil_mode", 0)), bool(attributes.get("count_include_pad", 0))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right) and not counted:
        raise BackboneError("an average over uneven borders cannot be trained yet; use --strategy full")

    def run(x: "Tensor") -> "Tensor":
        x, padding = _padded(x, attributes)
        return functional.avg_pool2d(x, kernel, stride, padding, ceil, counted)

    return run


def _clip(_: Attributes) -> Run:
    from torch.nn import functional

    return lambda x, low, high: functional.hardtanh(x, float(low), float(high))


def _reduction(name: str) -> Callable[[Attributes], Run]:
    def make(attributes: Attributes) -> Run:
        keep, fixed = bool(attributes.get("keepdims", 1)), attributes.get("axes")
        return lambda x, axes=None: getattr(x, name)(_numbers(fixed if axes is None else axes), keepdim=keep)

    return make


def _elementwise(name: str) -> Callable[[Attributes], Run]:
    def make(_: Attributes) -> Run:
        import torch

        function = getattr(torch, name)
        return lambda *inputs: function(*(torch.as_tensor(each) for each in inputs))

    return make


def _hard_sigmoid(attributes: Attributes) -> Run:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return lambda x: (alpha * x + beta).clamp(0, 1)


def _hard_swish(_: Attributes) -> Run:
    from torch.nn import functional

    return functional.hardswish


def _gemm(attributes: Attributes) -> Run:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    flip_a, flip_b = bool(attributes.get("transA", 0)), bool(attributes.get("transB", 0))

    def run(a: "Tensor", b: "Tensor", c: "Tensor | None" = None) -> "Tensor":
        product = alpha * ((a.T if flip_a else a) @ (b.T if flip_b else b))
        return product if c is None else product + beta * c

    return run


def _batch_norm(attributes: Attributes) -> Run:
    """As in evaluation: with the statistics of the pretraining."""
    from torch.nn import functional

    epsilon = attributes.get("epsilon", 1e-5)
    return lambda x, scale, shift, mean, variance: functional.batch_norm(x, mean, variance, scale, shift, eps=epsilon)


def _layer_norm(attributes: Attributes) -> Run:
    from torch.nn import functional

    axis, epsilon = attributes.get("axis", -1), attributes.get("epsilon", 1e-5)
    return lambda x, scale, shift=None: functional.layer_norm(x, x.shape[axis:], scale, shift, epsilon)


def _instance_norm(attributes: Attributes) -> Run:
    from torch.nn import functional

    epsilon = attributes.get("epsilon", 1e-5)
    return lambda x, scale, shift: functional.instance_norm(x, weight=scale, bias=shift, eps=epsilon)


def _resize(attributes: Attributes) -> Run:
    """Each pixel repeated a whole number of times."""
    from torch.nn import functional

    how = (attributes.get("mode"), attributes.get("coordinate_transformation_mode"), attributes.get("nearest_mode"))

    def run(x: "Tensor", _: Any, scales: Any) -> "Tensor":
        factors = [float(scale) for scale in scales]
        if how != (b"nearest", b"asymmetric", b"floor") or factors[:2] != [1, 1] or any(f % 1 for f in factors):
            raise BackboneError("resizing cannot be trained yet but by repeating pixels; use --strategy full")
        return functional.interpolate(x, scale_factor=tuple(factors[2:]), mode="nearest")

    return run


def _reshape(_: Attributes) -> Run:
    def run(x: "Tensor", shape: Any) -> "Tensor":
        return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(_numbers(shape))])

    return run


def _slice(_: Attributes) -> Run:
    def run(x: "Tensor", starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> "Tensor":
        starts = _numbers(starts)
        axes = range(len(starts)) if axes is None else _numbers(axes)
        steps = [1] * len(starts) if steps is None else _numbers(steps)
        for axis, start, end, step in zip(axes, starts, _numbers(ends), steps, strict=True):
            whole = [slice(None)] * x.ndim
            whole[axis] = slice(start, end, step)
            x = x[tuple(whole)]
        return x

    return run


def _pad(attributes: Attributes) -> Run:
    from torch.nn import functional

    mode = attributes.get("mode", b"constant").decode()

    def run(x: "Tensor", pads: Any, value: Any = None, _: Any = None) -> "Tensor":
        before, after = _numbers(pads)[: x.ndim], _numbers(pads)[x.ndim :]
        first = next((axis for axis in range(x.ndim) if before[axis] or after[axis]), x.ndim - 1)
        order = [side for axis in range(x.ndim - 1, first - 1, -1) for side in (before[axis], after[axis])]
        return functional.pad(x, order, mode, 0.0 if value is None else float(value))

    return run


def _unsqueezed(x: "Tensor", axes: list[int]) -> "Tensor":
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


def _softmax(attributes: Attributes) -> Run:
    return lambda x: x.softmax(attributes.get("axis", -1))


def _concat(attributes: Attributes) -> Run:
    import torch

    return lambda *inputs: torch.cat(inputs, attributes["axis"])


_OPERATORS: dict[str, Callable[[Attributes], Run]] = {
    "Add": _elementwise("add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Div": _elementwise("div"),
    "Erf": _elementwise("erf"),
    "Flatten": lambda attributes: lambda x: x.flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _: lambda x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": lambda _: lambda x: x,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _elementwise("matmul"),
    "MaxPool": _max_pool,
    "Mul": _elementwise("mul"),
    "Pad": _pad,
    "Pow": _elementwise("pow"),
    "ReduceMean": _reduction("mean"),
    "ReduceSum": _reduction("sum"),
    "Relu": _elementwise("relu"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _elementwise("sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Sqrt": _elementwise("sqrt"),
    "Squeeze": lambda _: lambda x, axes: x.squeeze(_numbers(axes)),
    "Sub": _elementwise("sub"),
    "Tanh": _elementwise("tanh"),
    "Transpose": lambda attributes: lambda x: x.permute(*attributes["perm"]),
    "Unsqueeze": lambda _: lambda x, axes: _unsqueezed(x, _numbers(axes)),
}

"""From a PyTorch module to an ONNX network: every network but EfficientNet-Lite goes through here once.

Imports torch: only what trains or exports a network imports this module.
"""

import io
import warnings
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxslim
import torch
from onnx import helper, numpy_helper

from topwork.backbones.anatomy import Anatomy, Parts, classifier_of, first_line
from topwork.backbones.following import evaluated
from topwork.backbones.nodes import OPSET
from topwork.backbones.spec import CLASSIFIER_WEIGHT, FEATURES, INPUT, LAST_MAP, LOGITS
from topwork.errors import BackboneError

_ROUNDING = 1e-3
"""Difference of answers, as a share of the largest, that is rounding; deep networks reach 2e-5."""


def exported(module: Any, found: Anatomy, size: int, channels: int = 3) -> onnx.ModelProto:
    """The network as an ONNX graph: ``x [n, c, size, size]`` -> its stages by name, ``features`` and ``logits``.

    ``module`` may have lost its classifier: then there are no logits. Batch norms stay as in evaluation. The graph's
    answers to noise are compared with the module's; raises BackboneError where they differ, or the exporter cannot.
    """
    weight, bias = classifier_of(module)
    apart = found.logits_dim > 0 and not found.linear_logits and weight is not None
    stages = tuple(stage.name for stage in found.stages if stage.name != LAST_MAP)
    outputs = [*stages, LAST_MAP, FEATURES, *([LOGITS] if apart else [])]
    parts = Parts(module, stages, apart)
    traced = _traced(parts, outputs, size, channels)
    noise = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))
    expected = _answers(parts, noise)
    # Simplifying is wrong where it rounds a size that is divided: seen with odd sizes and TensorFlow's paddings.
    for simplify in (onnxslim.slim, partial(onnxslim.slim, no_shape_infer=True), lambda model: model):
        model: onnx.ModelProto = simplify(traced)
        if _difference(model, outputs, noise, expected) <= _ROUNDING:
            break
    else:
        raise BackboneError("the exported network answers differently from PyTorch's; choose another network")
    _name_on_the_way(model.graph)
    _untie(model.graph)
    if found.linear_logits and weight is not None:
        _append_classifier(model.graph, weight.detach().numpy(), None if bias is None else bias.detach().numpy())
    return model


def _answers(parts: Any, x: torch.Tensor) -> list[Any]:
    """What the module answers as in evaluation."""
    with evaluated(parts):
        return [answer.numpy() for answer in parts(x)]


def _difference(model: onnx.ModelProto, outputs: list[str], x: torch.Tensor, expected: list[Any]) -> float:
    """The largest difference between the graph's and the expected answers, as a share of the largest answer."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(outputs, {INPUT: x.numpy()})
    if any(a.shape != b.shape for a, b in zip(found, expected, strict=True)):
        return float("inf")
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)) for a, b in zip(found, expected, strict=True))


def _traced(parts: Any, outputs: list[str], size: int, channels: int) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), evaluated(parts):
        warnings.simplefilter("ignore")  # of deprecation: the other exporter did not finish with free sizes
        try:
            torch.onnx.export(
                parts,
                (torch.zeros(1, channels, size, size),),
                buffer,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in (INPUT, *outputs)},
            )
        except Exception as error:  # the exporter's errors share no base class
            raise BackboneError(
                f"this network cannot be exported to ONNX at {size} by {size} pixels ({first_line(error)}); choose "
                "another network or input size"
            ) from error
    return onnx.load_from_string(buffer.getvalue())


def _name_on_the_way(graph: onnx.GraphProto) -> None:
    """Let what follows an output read it under the output's name, so that the graph can be cut there.

    The exporter gives an output that is also used inside as a copy aside, somewhere at the end.
    """
    outputs = {output.name for output in graph.output}
    source_of = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.output[0] in outputs}
    aliases: dict[str, list[str]] = {}
    for output in source_of:
        value = output
        while value in source_of:  # a copy of a copy
            value = source_of[value]
        aliases.setdefault(value, []).append(output)
    name_of = {value: names[-1] for value, names in aliases.items()}
    ordered = []
    for node in graph.node:
        if node.output[0] in source_of:
            continue
        node.input[:] = [name_of.get(name, name) for name in node.input]
        ordered.append(node)
        for value in node.output:
            for before, output in pairwise([value, *aliases.get(value, [])]):
                ordered.append(helper.make_node("Identity", [before], [output], name=f"n_{output}"))
    del graph.node[:]
    graph.node.extend(ordered)


def _untie(graph: onnx.GraphProto) -> None:
    """Give each user of a weight its own: the exporter lets equal ones share a tensor, training would not."""
    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    used: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in used and tensors[name].dims:
                node.input[place] = f"{name}_{node.output[0]}_{place}"
                graph.initializer.append(
                    numpy_helper.from_array(numpy_helper.to_array(tensors[name]), node.input[place])
                )
            elif name in tensors:
                used.add(name)


def _append_classifier(graph: onnx.GraphProto, weight: Any, bias: Any) -> None:
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weight), CLASSIFIER_WEIGHT))
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(bias), "classifier.bias"))
    inputs = [FEATURES, CLASSIFIER_WEIGHT, "classifier.bias"]
    graph.node.append(helper.make_node("Gemm", inputs, [LOGITS], transB=1, name="classifier"))
    graph.output.append(helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, ["n", len(weight)]))

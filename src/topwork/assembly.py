"""Pieces to one ONNX graph: preprocessing, backbone, head, calibration, novelty and class activation map."""

import json

import numpy as np
import onnx

from topwork.backbones import graph
from topwork.backbones.network import Network
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.backbones.spec import CLASSIFIER_WEIGHT, BackboneSpec
from topwork.errors import UsageError
from topwork.heads.basis import Floats
from topwork.heads.choice import LinearHead

CLASSIFY_OUTPUTS = ("probabilities", "novelty", "features")


def metadata(labels: list[str], threshold: float | None) -> dict[str, str]:
    """What a graph says of itself, so that neither labels nor threshold can be exchanged beside it."""
    return {"labels": json.dumps(labels), "novelty_threshold": json.dumps(threshold)}


def classifier(
    spec: BackboneSpec,
    geometry: str,
    head: LinearHead,
    scale: float,
    means: Floats,
    described: dict[str, str],
    network: Network | None = None,
) -> bytes:
    """The serialised graph of a classifier, ``described`` by its ``metadata``.

    ``scale`` turns scores into probabilities (1 / temperature); ``means`` ``[c, d]`` are the class means of the
    features scaled to length 1; ``network`` takes the pretrained one's place where that was trained. Input ``image
    [n, h, w, 3] uint8``; outputs ``probabilities [n, c]``, ``novelty [n]``, ``features [n, d]`` and, where the features
    are the mean of the last map, ``heatmap [n, c, h', w']``, whose mean over the cells plus the head's bias is the
    class score.
    """
    nodes = Nodes()
    last_map, features, logits = graph.append(spec, geometry, nodes, "image", network)
    length = nodes.add("Max", [nodes.add("ReduceL2", [features, _axes(nodes)], keepdims=1), nodes.constant(1e-12)])
    unit = nodes.add("Div", [features, length])
    inputs = {("pooled", True): unit, ("pooled", False): features, ("logits", False): logits}
    seen = inputs[(head.features, head.normalize)]
    scores = nodes.add("Gemm", [seen, nodes.constant(head.weight), nodes.constant(head.bias)])
    nodes.add("Softmax", [nodes.add("Mul", [scores, nodes.constant(float(scale))])], axis=1, output="probabilities")
    _novelty(nodes, unit, means)
    c = len(head.bias)
    outputs = [
        float_output("probabilities", ["n", c]),
        float_output("novelty", ["n"]),
        float_output("features", ["n", spec.feature_dim]),
    ]
    if spec.linear_features and (head.features == "pooled" or spec.linear_logits):
        _heatmap(nodes, spec, head, last_map, length)
        outputs.append(float_output("heatmap", ["n", c, "cells_y", "cells_x"]))
    model = nodes.model([image_input()], outputs, name="classify")
    onnx.helper.set_model_props(model, described)
    return bytes(model.SerializeToString())


def pretrained(spec: BackboneSpec, geometry: str) -> bytes:
    """The serialised graph of the network as it came: ``image`` -> ``probabilities [n, k]``, ``features [n, d]``.

    Where the logits are linear in the mean of the last map, ``heatmap [n, k, h', w']`` too, as in ``classifier``.
    """
    nodes = Nodes()
    last_map, _, logits = graph.append(spec, geometry, nodes, "image")
    if not logits:
        raise UsageError(f"the weights of {spec.name} have no classifier, so it names nothing; fit a new top")
    nodes.add("Softmax", [logits], axis=1, output="probabilities")
    outputs = [float_output("probabilities", ["n", spec.logits_dim]), float_output("features", ["n", spec.feature_dim])]
    if spec.linear_features and spec.linear_logits:
        shape = nodes.constant(np.array([spec.logits_dim, spec.feature_dim, 1, 1], np.int64))
        nodes.add("Conv", [last_map, nodes.add("Reshape", [CLASSIFIER_WEIGHT, shape])], output="heatmap")
        outputs.append(float_output("heatmap", ["n", spec.logits_dim, "cells_y", "cells_x"]))
    return bytes(nodes.model([image_input()], outputs, name="imagenet").SerializeToString())


def _axes(nodes: Nodes) -> str:
    return nodes.constant(np.array([1], np.int64))


def _novelty(nodes: Nodes, unit: str, means: Floats) -> None:
    """Distance to the nearest class mean, by ``|u|^2 - 2 u m + |m|^2``."""
    squared_means = nodes.constant(np.square(means).sum(axis=1)[None].astype(np.float32))
    products = nodes.add("MatMul", [unit, nodes.constant(-2 * means.T)])
    length = nodes.add("ReduceSumSquare", [unit, _axes(nodes)], keepdims=1)
    squared = nodes.add("Add", [nodes.add("Add", [products, squared_means]), length])
    nearest = nodes.add("ReduceMin", [squared, _axes(nodes)], keepdims=0)
    nodes.add("Sqrt", [nodes.add("Max", [nearest, nodes.constant(0.0)])], output="novelty")


def _heatmap(nodes: Nodes, spec: BackboneSpec, head: LinearHead, last_map: str, length: str) -> None:
    """The class activation map (Zhou et al. 2016): the head's weights applied to every cell of the last map."""
    weight = nodes.constant(np.ascontiguousarray(head.weight.T))
    if head.features == "logits":
        weight = nodes.add("MatMul", [weight, CLASSIFIER_WEIGHT])
    shape = nodes.constant(np.array([len(head.bias), spec.feature_dim, 1, 1], np.int64))
    kernel = nodes.add("Reshape", [weight, shape])
    if not head.normalize:
        nodes.add("Conv", [last_map, kernel], output="heatmap")
        return
    cells = nodes.add("Conv", [last_map, kernel])
    nodes.add("Div", [cells, nodes.add("Unsqueeze", [length, nodes.constant(np.array([2, 3]))])], output="heatmap")

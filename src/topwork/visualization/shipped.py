"""The network inside a model's ``model.onnx``, from the square input to the class scores.

It is cut out of the graph that answers: what is looked at is what ships, fine-tuned or not, and needs no other weights.
"""

import re
from pathlib import Path

import numpy as np
import onnx

from topwork.backbones.network import Network
from topwork.backbones.nodes import Nodes, float_output
from topwork.backbones.spec import CLASSIFIER_WEIGHT, FEATURES, INPUT, LOGITS, BackboneSpec, Stage
from topwork.explanation.network import ClassifierNetwork, network_of, part
from topwork.features.session import open_session, run
from topwork.model import Model

_OWN_LOGITS = "original_logits"  # of the classifier the network was pretrained with, where the head takes them
_TINY = 1e-24  # square of the length below which features are not made longer


def shipped_network(model: Model) -> Network:
    """``x`` ``[n, 3, size, size]`` -> the stages by name, ``features [n, d]`` and class scores as ``logits [n, c]``.

    They are those before calibration. Weights have the names that they have in the backbone.

    >>> from topwork.model import load
    >>> network = shipped_network(load("imagenet:tf_efficientnet_lite0"))
    >>> [output.name for output in network.model.graph.output][-3:]
    ['last_map', 'features', 'logits']
    """
    classifier = network_of(model)
    taken, unit = classifier.head_input
    kept = [*classifier.stages, FEATURES]
    body = _graph(classifier, classifier.source, {*kept, taken})
    nodes = Nodes()
    names = {tensor.name: re.sub(r"^g\d+_", "", tensor.name) for tensor in body.initializer}
    nodes.include(body, {**names, classifier.source: INPUT, LOGITS: _OWN_LOGITS}, keep=(*kept, CLASSIFIER_WEIGHT))
    seen = _OWN_LOGITS if taken == LOGITS else taken
    if unit is not None:
        seen = _of_length_1(nodes, seen)
    head = _graph(classifier, unit or taken, {classifier.scores_name})
    nodes.include(head, {unit or taken: seen, classifier.scores_name: LOGITS})
    size = model.preprocess.size
    x = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 3, size, size])
    outputs = [float_output(stage, ["n", "c", "h", "w"]) for stage in classifier.stages]
    outputs += [float_output(FEATURES, ["n", "d"]), float_output(LOGITS, ["n", "k"])]
    return Network(nodes.model([x], outputs, name="network"))


def shipped_spec(model: Model, network: Network) -> BackboneSpec:
    """What is known of a model's network, found by running it once.

    >>> from topwork.model import load
    >>> model = load("imagenet:tf_efficientnet_lite0")
    >>> spec = shipped_spec(model, shipped_network(model))
    >>> spec.stages[4], spec.feature_dim, spec.logits_dim
    (Stage(name='blocks.4', stride=16, channels=112), 1280, 1000)
    """
    size = model.preprocess.size
    names = [output.name for output in network.model.graph.output]
    grey = np.zeros((1, 3, size, size), np.float32)
    found = dict(zip(names, run(open_session(network.model.SerializeToString()), names, {INPUT: grey}), strict=True))
    stages = [Stage(n, round(size / v.shape[2]), v.shape[1]) for n, v in found.items() if v.ndim == 4 and v.size]
    return BackboneSpec(
        name=Path(model.name).name,
        family="model",
        preprocess=model.preprocess,
        feature_dim=found[FEATURES].shape[1],
        logits_dim=len(model.labels),
        parameters=sum(array.size for array in network.weights().values()),
        stages=tuple(stages),
        weights=None,
        linear_features=False,
        linear_logits=False,
        description="",
        paper="",
    )


def _graph(classifier: ClassifierNetwork, source: str, targets: set[str]) -> onnx.GraphProto:
    return onnx.load_from_string(part(classifier.model, source, targets)).graph


def _of_length_1(nodes: Nodes, features: str) -> str:
    """``f / sqrt(|f|^2 + tiny)`` in operators that have gradients; the model's graph says ``f / max(|f|, 1e-12)``."""
    squares = nodes.add("Mul", [features, features])
    total = nodes.add("ReduceSum", [squares, nodes.constant(np.array([1], np.int64))], keepdims=1)
    length = nodes.add("Sqrt", [nodes.add("Add", [total, nodes.constant(_TINY)])])
    return nodes.add("Div", [features, length])

"""A backbone with its preprocessing as one ONNX graph, built once and kept in the cache folder."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from topwork import fingerprint
from topwork.backbones import preprocessing
from topwork.backbones.kept import kept
from topwork.backbones.network import Network, pretrained_network
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.backbones.spec import FEATURES, LOGITS, BackboneSpec, Stage
from topwork.errors import UsageError
from topwork.registry import closest

_BUILDER_VERSION = 2
"""Raised whenever the same spec would give other numbers: it is part of every cache key."""


@dataclass(frozen=True)
class Graph:
    """A feature graph on disk: uint8 RGB ``[n, h, w, 3]`` -> features ``[n, d]``, logits ``[n, k]``."""

    path: Path
    fingerprint: str
    """Changes with the weights, the architecture, the preprocessing and the geometry."""
    spec: BackboneSpec
    geometry: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives; a network without a classifier has no logits."""
        return (FEATURES, LOGITS) if self.spec.logits_dim else (FEATURES,)


def append(
    spec: BackboneSpec, geometry: str, nodes: Nodes, image: str, network: Network | None = None
) -> tuple[str, str, str]:
    """Append preprocessing and network; returns the names of the last map, the features and the logits.

    ``network`` takes the place of the pretrained one. The name of what the network does not have is empty.
    """
    network = network or pretrained_network(spec)
    return network.append(nodes, preprocessing.build(spec.preprocess, geometry, nodes, image))


def graph_fingerprint(spec: BackboneSpec, geometry: str) -> str:
    """The fingerprint of a feature graph; needs neither the weights nor the graph."""
    facts = [_BUILDER_VERSION, spec.name, spec.family, spec.weights and spec.weights.sha256, spec.preprocess, geometry]
    return fingerprint.of_object(facts)


def feature_graph(spec: BackboneSpec, geometry: str) -> Graph:
    """The feature graph of a backbone, from the cache folder or newly built.

    A damaged file in the cache is noticed by its sha256 and built again.
    """
    key = graph_fingerprint(spec, geometry)
    path = kept(f"{spec.name}-{geometry}-{key[:16]}.onnx", lambda: _serialized(spec, geometry))
    return Graph(path, key, spec, geometry)


def stage_of(spec: BackboneSpec, name: str) -> Stage:
    """The stage of a backbone with this name; UsageError with the closest ones where there is none."""
    stages = {stage.name: stage for stage in spec.stages}
    if name not in stages:
        raise UsageError(f"{spec.name} has no stage {name!r}: {closest(name, stages)}")
    return stages[name]


def stage_graph(spec: BackboneSpec, geometry: str, stage: str) -> bytes:
    """The serialised graph from ``image`` to the feature map of a stage, ``[n, c, h, w]``, without what comes later."""
    channels = stage_of(spec, stage).channels
    nodes = Nodes()
    append(spec, geometry, nodes, "image")
    model = nodes.model([image_input()], [float_output(stage, ["n", channels, "h", "w"])], name=spec.name)
    return bytes(model.SerializeToString())


def network_graph(spec: BackboneSpec, geometry: str, network: Network) -> bytes:
    """The serialised graph from ``image`` to the ``features`` of another network than the pretrained one."""
    nodes = Nodes()
    append(spec, geometry, nodes, "image", network)
    output = float_output("features", ["n", spec.feature_dim])
    return bytes(nodes.model([image_input()], [output], name=spec.name).SerializeToString())


def square_graph(spec: BackboneSpec, geometry: str) -> bytes:
    """The serialised graph from ``image`` to the network's input ``x`` ``[n, 3, h, w]``: preprocessing alone."""
    nodes = Nodes()
    x = nodes.rename(preprocessing.build(spec.preprocess, geometry, nodes, "image"), "x")
    return bytes(nodes.model([image_input()], [float_output(x, ["n", 3, "h", "w"])]).SerializeToString())


def _serialized(spec: BackboneSpec, geometry: str) -> bytes:
    nodes = Nodes()
    _, _, logits = append(spec, geometry, nodes, "image")
    outputs = [float_output(FEATURES, ["n", spec.feature_dim])]
    if logits:
        outputs.append(float_output(LOGITS, ["n", spec.logits_dim]))
    model: onnx.ModelProto = nodes.model([image_input()], outputs, name=spec.name)
    return bytes(model.SerializeToString())

"""A network to look into: a backbone with its pretrained weights or with new ones, or the one that a model ships."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from topwork import folder
from topwork.backbones.extra import require
from topwork.backbones.network import Network, exported_network, pretrained_network
from topwork.backbones.spec import BackboneSpec, Stage
from topwork.backbones.weights import locate, remedy
from topwork.backbones.zoo import backbone, imagenet_classes
from topwork.errors import UsageError
from topwork.images import DecodePolicy
from topwork.model import load
from topwork.registry import closest
from topwork.visualization.paper_names import paper_layers, renamed
from topwork.visualization.shipped import shipped_network, shipped_spec

_SEED = 0  # of new weights: the same pictures again


@dataclass(frozen=True)
class Opened:
    """A network with what is known of it.

    ``pretrained``: whether its weights have learned something, or are new random ones. ``classes``: the names of its
    logits in their order, empty where they are unknown. ``geometry``: how it makes pictures square unless another way
    is asked for.
    """

    spec: BackboneSpec
    network: Network
    pretrained: bool = True
    classes: tuple[str, ...] = ()
    geometry: str = "crop"
    decoding: DecodePolicy = field(default_factory=DecodePolicy)
    paper: Mapping[str, Stage] = field(default_factory=dict)
    """Layers of VGG by the papers' names, such as ``conv1_1``, beside its stages."""

    def layer(self, name: str) -> Stage:
        """A stage, or a layer of VGG by its name in the papers; UsageError with the closest names for others.

        >>> open_network("tf_efficientnet_lite0").layer("blocks.1").channels
        24
        """
        known = {**self.paper, **{stage.name: stage for stage in self.spec.stages}}
        if name not in known:
            raise UsageError(f"{self.spec.name} has no layer {name!r}: {closest(name, known)}")
        return known[name]

    @property
    def warning(self) -> str:
        """What must be said beside pictures of random weights; empty for others."""
        if self.pretrained:
            return ""
        return (
            f"{self.spec.name} has no pretrained weights on this machine, so these are pictures of new random weights "
            f"that have learned nothing; to get the pretrained ones run `{remedy(self.spec)}`"
        )


def square_geometry(opened: Opened, geometry: str | None) -> str:
    """How pictures are made square: ``geometry``, or for None the network's own way; UsageError for ``whole``.

    >>> square_geometry(open_network("tf_efficientnet_lite0"), None)
    'crop'
    """
    way = geometry or opened.geometry
    if way == "whole":
        raise UsageError("expected a way to make pictures square, not whole; give --geometry crop, pad or stretch")
    return way


def open_network(name: str, *, random_weights: bool = False) -> Opened:
    """The backbone called ``name``, or the network of the model folder ``name``; UsageError for what is neither.

    A model's network is the one in its ``model.onnx``, whose logits are the scores of the model's own classes. Of a
    backbone without pretrained weights on this machine it raises as ``weights.verified``; with ``random_weights`` it
    takes new ones then, the same every time, and needs PyTorch.

    >>> opened = open_network("tf_efficientnet_lite0")
    >>> opened.pretrained, opened.classes[1]
    (True, 'goldfish')
    """
    if Path(name).suffix == ".topwork" or (Path(name) / folder.MARKER).is_file():
        return _open_model(name)
    spec = _backbone(name)
    classes = tuple(imagenet_classes()) if spec.logits_dim == len(imagenet_classes()) else ()
    decoding = DecodePolicy(shrink_to=spec.preprocess.needed_side)
    if not random_weights or locate(spec.weights) is not None:
        return _with_paper_names(Opened(spec, pretrained_network(spec), True, classes, decoding=decoding))
    require(f"{name} without its pretrained weights")
    import torch

    from topwork.backbones.architectures import architecture

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = exported_network(architecture(name).eval(), spec.preprocess.size)
    return _with_paper_names(Opened(spec, network, False, classes, decoding=decoding))


def _open_model(path: str) -> Opened:
    model = load(path)
    network = shipped_network(model)
    spec = shipped_spec(model, network)
    return _with_paper_names(Opened(spec, network, True, tuple(model.labels), model.geometry, model.decoding))


def _with_paper_names(opened: Opened) -> Opened:
    """The same, where it is a VGG with the papers' names for its layers; those that are stages keep their own too."""
    layers = paper_layers(opened.network.model)
    if not layers:
        return opened
    stages = {stage.name: stage for stage in opened.spec.stages}
    paper = {name: stages.get(each.value, Stage(name, each.stride, each.channels)) for name, each in layers.items()}
    model = renamed(opened.network.model, {layers[name].value: stage.name for name, stage in paper.items()})
    return replace(opened, network=replace(opened.network, model=model), paper=paper)


def _backbone(name: str) -> BackboneSpec:
    try:
        return backbone(name)
    except UsageError as error:
        if not Path(name).is_dir():
            raise
        raise UsageError(
            f"expected a network's name or a model folder, but {name} is a folder without {folder.MARKER}; "
            "give the folder that `topwork fit -o` wrote"
        ) from error

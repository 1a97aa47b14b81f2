"""The network whose feature maps tell content and style. Imports torch.

VGG's layers have the names of the papers: ``conv3_2`` is what the rectifier behind the second convolution of the third
block gives. Every other network has its stages, as ``topwork backbones NAME`` lists them.
"""

from collections.abc import Sequence

import onnx
import torch
from onnx import helper

from topwork.backbones.spec import INPUT
from topwork.backbones.torch_graph import graph_module
from topwork.errors import MissingExtraError, UsageError
from topwork.registry import closest
from topwork.visualization.opened import Opened, open_network
from topwork.visualization.paper_names import paper_layers

VGG = "vgg19"
"""The network of the papers; where its weights are not here, the default backbone takes its place."""
POOLINGS = ("max", "average")
SMALLEST = 32  # pixels of the shorter side; below that the last layers have no cell of their own

_PAPER_STYLE = {"conv1_1": 1.0, "conv2_1": 0.8, "conv3_1": 0.6, "conv4_1": 0.4, "conv5_1": 0.3}
_PAPER_CONTENT = ("conv4_2",)
_EARLY = "conv2_2"
_WEIGHTS = (1.0, 0.8, 0.6, 0.4, 0.3)


class LossNetwork:
    """A pretrained network from pixels to the feature maps of some of its layers.

    ``pooling``: "max" as it was trained, or "average", which the paper found smoother. UsageError for unknown layers.

    >>> from topwork.visualization.opened import open_network
    >>> network = LossNetwork(open_network("tf_efficientnet_lite0"), ["blocks.0", "blocks.2"])
    >>> maps = network(torch.zeros(1, 3, 64, 96))
    >>> {name: tuple(map.shape) for name, map in maps.items()}
    {'blocks.0': (16, 32, 48), 'blocks.2': (40, 8, 12)}
    """

    def __init__(self, opened: Opened, layers: Sequence[str], *, pooling: str = "max") -> None:
        if pooling not in POOLINGS:
            raise UsageError(f"there is no pooling {pooling!r}: {closest(pooling, POOLINGS)}")
        self.name = opened.spec.name
        self.layers = list(dict.fromkeys(layers))
        names = layer_names(opened)
        for layer in self.layers:
            if layer not in names:
                raise UsageError(f"{self.name} has no layer {layer!r}: {closest(layer, names)}")
        model = opened.network.model if pooling == "max" else _with_average_pools(opened.network.model)
        module = graph_module(model, INPUT, *(names[layer] for layer in self.layers))
        self._module = module.requires_grad_(False).eval().to(_precision())
        preprocess = opened.spec.preprocess
        self._mean, self._std = (torch.tensor(v).reshape(3, 1, 1) / 255 for v in (preprocess.mean, preprocess.std))

    def __call__(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The maps ``[c, h', w']`` of one picture ``[1, 3, h, w]`` in 0..1, by layer."""
        return {layer: maps[0] for layer, maps in self.batch(pixels).items()}

    def batch(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """The maps ``[n, c, h', w']`` of pictures ``[n, 3, h, w]``, in the precision of the pixels."""
        inner = next(self._module.parameters()).dtype
        found = self._module(((pixels - self._mean) / self._std).to(inner))
        maps = found if isinstance(found, tuple) else (found,)
        return {layer: each.to(pixels.dtype) for layer, each in zip(self.layers, maps, strict=True)}

    def to(self, dtype: torch.dtype) -> "LossNetwork":
        """The same network in another precision, float64 to check gradients."""
        self._module, self._mean, self._std = self._module.to(dtype), self._mean.to(dtype), self._std.to(dtype)
        return self


def _precision() -> torch.dtype:
    """bfloat16 where the processor multiplies it, which is twice as fast; else float32."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if supported() else torch.float32


def open_loss_network(name: str | None) -> tuple[Opened, str]:
    """The network called ``name``, or VGG19, or what stands in for it; with a warning, or "".

    >>> opened, warning = open_loss_network("tf_efficientnet_lite0")
    >>> opened.spec.name, warning
    ('tf_efficientnet_lite0', '')
    """
    if name is not None:
        return open_network(name), ""
    for known in (VGG, "vgg16", "vgg16-hed"):
        try:
            return open_network(known), ""
        except MissingExtraError:  # not here; what is here and damaged says so
            continue
    from topwork.recipe import DEFAULT_BACKBONE

    return open_network(DEFAULT_BACKBONE), (
        f"VGG's weights are not on this machine, so {DEFAULT_BACKBONE} takes its place, whose styles are coarser; to "
        "get them run `topwork weights pull vgg19` (or vgg16-hed, 59 MB), or add a file with `topwork weights add`"
    )


def layer_names(opened: Opened) -> dict[str, str]:
    """Name of each layer -> the value of the network's graph that it is.

    >>> from topwork.visualization.opened import open_network
    >>> list(layer_names(open_network("tf_efficientnet_lite0")))[:2]
    ['blocks.0', 'blocks.1']
    """
    paper = {name: layer.value for name, layer in paper_layers(opened.network.model).items()}
    return paper or {stage.name: stage.name for stage in opened.spec.stages}


def default_layers(opened: Opened) -> tuple[dict[str, float], list[str]]:
    """The weights of the style layers, and the content layers, of a network where none are asked for.

    VGG: those of the paper. Others: the first five stages that differ in size, weighted alike, and the middle one.
    """
    names = layer_names(opened)
    if set(_PAPER_STYLE) <= set(names):
        return dict(_PAPER_STYLE), list(_PAPER_CONTENT)
    by_stride = {stage.stride: stage.name for stage in opened.spec.stages}  # the last of each size
    stages = list(by_stride.values())[: len(_WEIGHTS)]
    return dict(zip(stages, _WEIGHTS, strict=False)), [stages[len(stages) // 2]]


def chosen_layers(
    opened: Opened, style: dict[str, float] | None, content: Sequence[str] | None
) -> tuple[dict[str, float], list[str]]:
    """The layers asked for, or the network's own."""
    style_layers, content_layers = default_layers(opened)
    return style_layers if style is None else style, content_layers if content is None else list(content)


def early_layer(opened: Opened) -> str:
    """A layer that still knows what is where, to a few pixels: VGG's conv2_2, else the second stage of another size."""
    names = layer_names(opened)
    return _EARLY if _EARLY in names else list(default_layers(opened)[0])[1]


def _with_average_pools(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with the mean of each window where it takes the largest value."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        if node.op_type == "MaxPool":
            node.op_type = "AveragePool"
            kept = [attribute for attribute in node.attribute if attribute.name not in ("storage_order", "dilations")]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("count_include_pad", 0)])
    return changed

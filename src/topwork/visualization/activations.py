"""The feature maps of a picture, stage by stage: resolution falls, depth grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.backbones import preprocessing
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.backbones.spec import INPUT, Stage
from topwork.errors import UsageError
from topwork.features.session import open_session
from topwork.visualization.opened import Opened
from topwork.visualization.sheet import Drawn, Section, Tile, scaled, sheet

Floats = NDArray[np.float32]
_COLUMNS = 8
SIDE = 96
"""Of a map on a sheet, in pixels."""


@dataclass(frozen=True, eq=False)
class FeatureMaps(Drawn):
    """``maps`` ``[c, h, w]`` of a stage, all channels in their order."""

    stage: Stage
    maps: Floats

    def strongest(self, count: int) -> list[int]:
        """The ``count`` channels with the largest mean magnitude, the strongest first.

        >>> maps = np.array([[[1.0]], [[-3.0]], [[2.0]]], np.float32)
        >>> FeatureMaps(Stage("toy", 2, 3), maps).strongest(2)
        [1, 2]
        """
        strength = np.abs(self.maps).mean(axis=(1, 2))
        return np.argsort(-strength, kind="stable")[:count].tolist()  # type: ignore[no-any-return]

    def drawn(self) -> Image.Image:
        """A sheet of the strongest."""
        return sheet([activation_sheet(self)], side=SIDE)


def activations(opened: Opened, image: NDArray[np.uint8], *, geometry: str | None = None) -> list[FeatureMaps]:
    """The feature maps of every stage for a picture ``[h, w, 3]`` uint8, in one run, without PyTorch.

    ``geometry`` is crop, pad, stretch or, for networks that take any shape, whole; None is the network's own.

    >>> from topwork.visualization.opened import open_network
    >>> found = activations(open_network("tf_efficientnet_lite0"), np.zeros((80, 100, 3), np.uint8))
    >>> [each.maps.shape for each in found][:3]
    [(16, 112, 112), (24, 56, 56), (40, 28, 28)]
    """
    names = [stage.name for stage in opened.spec.stages]
    found = open_session(stages_graph(opened, names, geometry)).run(names, {"image": image[None]})
    return [FeatureMaps(stage, maps[0]) for stage, maps in zip(opened.spec.stages, found, strict=True)]


def activation_sheet(found: FeatureMaps, *, most: int = 2 * _COLUMNS) -> Section:
    """The strongest ``most`` maps of a stage, each stretched to black and white by itself.

    >>> maps = FeatureMaps(Stage("toy", 2, 3), np.zeros((3, 4, 4), np.float32))
    >>> activation_sheet(maps).title
    'toy: 3 channels of 4 x 4, a cell every 2 pixels'
    """
    channels, height, width = found.maps.shape
    title = f"{found.stage.name}: {channels:,} channels of {height} x {width}, a cell every {found.stage.stride} pixels"
    tiles = [Tile(scaled(found.maps[channel]), str(channel)) for channel in found.strongest(most)]
    return Section(title, tiles, _COLUMNS)


def stages_graph(opened: Opened, names: Sequence[str], geometry: str | None = None) -> bytes:
    """The serialised graph from ``image`` to the feature maps of some stages; ``geometry`` as in ``activations``.

    >>> from topwork.visualization.opened import open_network
    >>> graph = stages_graph(open_network("tf_efficientnet_lite0"), ["blocks.0"])
    >>> [output.name for output in open_session(graph).get_outputs()]
    ['blocks.0']
    """
    if geometry == "whole" and opened.geometry != "whole" and not opened.spec.any_shape:
        raise UsageError(f"{opened.spec.name} takes squares, not whole pictures; give --geometry crop, pad or stretch")
    nodes = Nodes()
    x = preprocessing.build(opened.spec.preprocess, geometry or opened.geometry, nodes, "image")
    nodes.include(opened.network.model.graph, {INPUT: x}, keep=names)
    outputs = [float_output(name, ["n", opened.layer(name).channels, "h", "w"]) for name in names]
    return bytes(nodes.model([image_input()], outputs, name=opened.spec.name).SerializeToString())

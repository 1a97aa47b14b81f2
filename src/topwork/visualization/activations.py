"""The feature maps of a picture, stage by stage: resolution falls, depth grows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.backbones import preprocessing
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.backbones.spec import INPUT, Stage
from topwork.features.session import open_session
from topwork.visualization.opened import Opened
from topwork.visualization.sheet import Section, Tile, scaled

Floats = NDArray[np.float32]
_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class FeatureMaps:
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


def activations(opened: Opened, image: NDArray[np.uint8], *, geometry: str = "crop") -> list[FeatureMaps]:
    """The feature maps of every stage for a picture ``[h, w, 3]`` uint8, in one run, without PyTorch.

    ``geometry`` makes the picture square: crop, pad or stretch.

    >>> from topwork.visualization.opened import open_network
    >>> found = activations(open_network("tf_efficientnet_lite0"), np.zeros((80, 100, 3), np.uint8))
    >>> [each.maps.shape for each in found][:3]
    [(16, 112, 112), (24, 56, 56), (40, 28, 28)]
    """
    session = open_session(_stages_graph(opened, geometry))
    found = session.run([stage.name for stage in opened.spec.stages], {"image": image[None]})
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


def _stages_graph(opened: Opened, geometry: str) -> bytes:
    """The graph from ``image`` to the feature maps of all stages."""
    nodes = Nodes()
    x = preprocessing.build(opened.spec.preprocess, geometry, nodes, "image")
    names = [stage.name for stage in opened.spec.stages]
    nodes.include(opened.network.model.graph, {INPUT: x}, keep=tuple(names))
    outputs = [float_output(stage.name, ["n", stage.channels, "h", "w"]) for stage in opened.spec.stages]
    return bytes(nodes.model([image_input()], outputs, name=opened.spec.name).SerializeToString())

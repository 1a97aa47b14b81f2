"""The parts of pictures that excite a channel most, cut out at its receptive field. Imports torch.

Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, figure 2.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image

from topwork.backbones.following import ReceptiveFields, evaluated
from topwork.backbones.network import Network
from topwork.backbones.receptive import Windows
from topwork.backbones.spec import INPUT
from topwork.backbones.torch_graph import graph_module
from topwork.errors import BackboneError, ImageError, SourceError
from topwork.features.session import open_session
from topwork.images import Excluded, Sample, decode
from topwork.progress import Progress, Silent, step
from topwork.visualization.activations import stages_graph
from topwork.visualization.deconvnet import Signal, check_rule, reconstruction
from topwork.visualization.opened import Opened, square_geometry
from topwork.visualization.sheet import Drawn, Tile, around_grey
from topwork.visualization.square import network_square
from topwork.visualization.targets import channel_target


@dataclass(frozen=True)
class Place:
    """A value of a channel's map in one picture: how large it is, and where, as row and column."""

    activation: float
    sample: Sample
    at: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Patch(Drawn):
    """``pixels`` ``[h, w, 3]`` uint8: what the value at ``place`` sees of the network's square input.

    ``box``: left, top, right and bottom in pixels of that input; right and bottom are the first ones outside.
    ``signal``: ``[h, w, 3]``, what is carried back to these pixels, see ``deconvnet``; None for networks
    without ReLU and ReLU6.
    """

    place: Place
    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    signal: Signal | None

    @property
    def tile(self) -> Tile:
        """The patch with its reconstruction beside it, grey where there is no signal."""
        caption = f"{self.place.activation:.1f} {PurePath(self.place.sample.id).name}"
        if self.signal is None:
            return Tile(self.pixels, caption)
        return Tile(np.concatenate([self.pixels, around_grey(self.signal)], axis=1), caption)

    def drawn(self) -> Image.Image:
        """Both beside each other."""
        return Image.fromarray(self.tile.pixels)


def top_patches(
    opened: Opened,
    samples: Sequence[Sample],
    layer: str,
    channel: int,
    *,
    count: int = 9,
    geometry: str | None = None,
    rule: str = "deconvnet",
    progress: Progress | None = None,
) -> tuple[list[Patch], list[Excluded]]:
    """The best patch of each of the ``count`` pictures that excite a channel most, and the pictures left out.

    One patch a picture, the strongest first; ``rule`` reconstructs them, see ``deconvnet``. SourceError where no
    picture can be read, UsageError for an unknown layer, channel or rule.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from topwork.images import ImageSource
    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> with TemporaryDirectory() as folder:
    ...     Image.linear_gradient("L").convert("RGB").save(f"{folder}/grey.png")
    ...     samples = ImageSource.open(folder).samples
    ...     found, excluded = top_patches(opened, samples, "blocks.1", 3)
    >>> [patch.place.sample.id for patch in found], excluded
    (['grey.png'], [])
    """
    layer = channel_target(opened, layer, channel).layer
    check_rule(rule)
    progress, geometry = progress or Silent(), square_geometry(opened, geometry)
    session = open_session(stages_graph(opened, [layer], geometry))
    places: list[Place] = []
    excluded: list[Excluded] = []
    with step(progress, "looking", len(samples)):
        for sample in samples:
            try:
                pixels = decode(sample.read(), opened.decoding).pixels
            except ImageError as error:
                excluded.append(Excluded(sample.id, str(error)))
            else:
                places.append(_strongest(session.run([layer], {"image": pixels[None]})[0][0, channel], sample))
            progress.advance("looking")
    if not places:
        raise SourceError(f"expected pictures to look at, but none of {len(samples)} could be read; give others")
    best = heapq.nlargest(count, places, key=lambda place: place.activation)
    boxes = receptive_boxes(opened.network, layer, opened.spec.preprocess.size)
    found = []
    for place in best:
        square = network_square(opened.spec, decode(place.sample.read(), opened.decoding).pixels, geometry)
        signal = reconstruction(opened, square, layer, channel, place.at, rule=rule)
        found.append(_cut(place, square, signal, boxes))
    return found, excluded


def patch_arrays(found: Sequence[Patch]) -> dict[str, NDArray[Any]]:
    """The patches as arrays by name: ``activations [n]``, ``boxes [n, 4]``, and of each its pixels and its signal.

    Patches differ in size at the borders of pictures, so each is an array of its own.

    >>> sorted(patch_arrays([]))
    ['activations', 'boxes']
    """
    arrays: dict[str, NDArray[Any]] = {
        "activations": np.array([patch.place.activation for patch in found], np.float32),
        "boxes": np.array([patch.box for patch in found], np.int64).reshape(-1, 4),
    }
    for number, patch in enumerate(found):
        arrays[f"patch_{number}"] = patch.pixels
        if patch.signal is not None:
            arrays[f"signal_{number}"] = patch.signal
    return arrays


def receptive_boxes(network: Network, layer: str, size: int) -> NDArray[np.int64]:
    """``[h, w, 4]``: left, top, right and bottom of what each value of a layer sees of ``size`` by ``size`` pixels.

    Cut at the borders of the picture. BackboneError where it is unknown.

    >>> from topwork.visualization.opened import open_network
    >>> boxes = receptive_boxes(open_network("tf_efficientnet_lite0").network, "blocks.0", 224)
    >>> boxes.shape, boxes[50, 50].tolist()
    ((112, 112, 4), [98, 98, 105, 105])
    """
    module = graph_module(_without_bounds(network.model), INPUT, layer).to("meta")
    image = torch.empty(1, 3, size, size, device="meta")
    with evaluated(module), ReceptiveFields(image) as fields:
        out = module(image)
    windows = fields.windows(out)
    if windows is None or any(bool(bound.isnan().any()) for bound in windows.bounds):
        raise BackboneError(f"the receptive field of {layer} is unknown; choose another layer")
    return _boxes(windows, tuple(out.shape[2:]), size)


def _without_bounds(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network with ReLU for ReLU6: it sees the same pixels, and bounds would have to be read from shapes alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Clip":
            node.op_type = "Relu"
            del node.input[1:], node.attribute[:]
    return copy


def _boxes(windows: Windows, shape: tuple[int, ...], size: int) -> NDArray[np.int64]:
    (top, bottom), (left, right) = (
        (bound[0].clamp(min=0).expand(1, 1, *shape)[0, 0], (1 - bound[1]).clamp(max=size).expand(1, 1, *shape)[0, 0])
        for bound in windows.bounds
    )
    boxes: NDArray[np.int64] = torch.stack([left, top, right, bottom], dim=-1).long().numpy()
    return boxes


def _strongest(values: NDArray[np.float32], sample: Sample) -> Place:
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return Place(float(values.max()), sample, (int(row), int(column)))


def _cut(place: Place, square: NDArray[np.uint8], signal: Signal | None, boxes: NDArray[np.int64]) -> Patch:
    left, top, right, bottom = boxes[place.at].tolist()
    inside = np.s_[top:bottom, left:right]
    return Patch(place, square[inside], (left, top, right, bottom), None if signal is None else signal[inside])

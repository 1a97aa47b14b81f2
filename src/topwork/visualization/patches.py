"""The parts of pictures that excite a channel most, cut out at its receptive field. Imports torch.

Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, figure 2.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from topwork.backbones.following import ReceptiveFields, evaluated
from topwork.backbones.graph import stage_graph
from topwork.backbones.network import Network
from topwork.backbones.receptive import Windows
from topwork.backbones.spec import INPUT, BackboneSpec
from topwork.backbones.torch_graph import graph_module
from topwork.errors import BackboneError, ImageError, SourceError
from topwork.features.session import open_session
from topwork.images import DecodePolicy, Excluded, Sample, decode
from topwork.progress import Progress, Silent, step
from topwork.visualization.maximize import channel_target
from topwork.visualization.square import network_square


@dataclass(frozen=True)
class Place:
    """A value of a channel's map in one picture: how large it is, and where, as row and column."""

    activation: float
    sample: Sample
    at: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Patch:
    """``pixels`` ``[h, w, 3]`` uint8: what the value at ``place`` sees of the network's square input.

    ``box``: left, top, right and bottom in pixels of that input; right and bottom are the first ones outside.
    """

    place: Place
    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]


def top_patches(
    spec: BackboneSpec,
    network: Network,
    samples: Sequence[Sample],
    layer: str,
    channel: int,
    *,
    count: int = 9,
    geometry: str = "crop",
    progress: Progress | None = None,
) -> tuple[list[Patch], list[Excluded]]:
    """The best patch of each of the ``count`` pictures that excite a channel most, and the pictures left out.

    One patch a picture, the strongest first. SourceError where no picture can be read, UsageError for an unknown layer
    or channel.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from topwork.images import ImageSource
    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> with TemporaryDirectory() as folder:
    ...     Image.linear_gradient("L").convert("RGB").save(f"{folder}/grey.png")
    ...     samples = ImageSource.open(folder).samples
    ...     found, excluded = top_patches(opened.spec, opened.network, samples, "blocks.1", 3)
    >>> [patch.place.sample.id for patch in found], excluded
    (['grey.png'], [])
    """
    channel_target(spec, layer, channel)
    policy, progress = DecodePolicy(shrink_to=spec.preprocess.needed_side), progress or Silent()
    session = open_session(stage_graph(spec, geometry, layer))
    places: list[Place] = []
    excluded: list[Excluded] = []
    with step(progress, "looking", len(samples)):
        for sample in samples:
            try:
                pixels = decode(sample.read(), policy).pixels
            except ImageError as error:
                excluded.append(Excluded(sample.id, str(error)))
            else:
                places.append(_strongest(session.run([layer], {"image": pixels[None]})[0][0, channel], sample))
            progress.advance("looking")
    if not places:
        raise SourceError(f"expected pictures to look at, but none of {len(samples)} could be read; give others")
    best = heapq.nlargest(count, places, key=lambda place: place.activation)
    boxes = receptive_boxes(network, layer, spec.preprocess.size)
    squares = [network_square(spec, decode(place.sample.read(), policy).pixels, geometry) for place in best]
    return [_cut(place, square, boxes) for place, square in zip(best, squares, strict=True)], excluded


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


def _cut(place: Place, square: NDArray[np.uint8], boxes: NDArray[np.int64]) -> Patch:
    left, top, right, bottom = boxes[place.at].tolist()
    return Patch(place, square[top:bottom, left:right], (left, top, right, bottom))

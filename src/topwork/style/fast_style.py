"""A fast style: a model folder with task ``stylize`` that paints a picture in one pass, without torch.

::

    wave.style/
      model.onnx     image uint8 [n, h, w, 3] -> picture uint8 [n, h, w, 3]
      model.json     what it is and how it was trained; the sha256 of every other file
      golden/        generated pictures and what the graph made of them
      report.html    the style, and photographs in it
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from topwork import folder
from topwork.backbones.allowed import STYLE, checked
from topwork.backbones.cost import Costs
from topwork.errors import ModelError, UsageError
from topwork.features.session import cores, open_session, run
from topwork.golden import patterns
from topwork.style import feedforward
from topwork.style.feedforward import PICTURE, SMALLEST
from topwork.visualization.sheet import png

Pixels = NDArray[np.uint8]

TASK = "stylize"
_MOST = {"width": 128, "blocks": 64}
_TRIED = 256  # pixels of the sides of a picture whose cost is known before a style is opened


class FastStyle:
    """A style that is ready to use; `FastStyle.load` opens one. Safe to use from several threads.

    ``threads``: how many one picture is painted with; None: a thread a core.
    """

    def __init__(self, graph: bytes, manifest: Mapping[str, Any], *, name: str, threads: int | None = None) -> None:
        self.name = name
        self.manifest = manifest
        self.graph = graph
        self._costs = Costs(checked(graph, STYLE), STYLE)
        self._costs.of(_TRIED, _TRIED)
        self._session = open_session(graph, threads=threads or cores(), rules=None)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> "FastStyle":
        """Open a folder that `topwork style train` wrote; ModelError where it is damaged, or something else."""
        opened = folder.read(Path(path))
        if (task := opened.manifest.get("task")) != TASK:
            raise ModelError(
                f"expected a fast style, got a model with task {task!r}: {path}; `topwork style train` makes one"
            )
        try:
            style = cls(opened.graph, opened.manifest, name=Path(path).name, threads=threads)
        except ModelError as error:
            raise ModelError(f"cannot open {path}: {error}") from error
        if not style.is_consistent():
            raise ModelError(f"the graph of {path} does not paint pictures; copy the style again")
        return style

    def is_consistent(self) -> bool:
        """Whether the graph takes a picture and gives one."""
        ends = [(end.name, end.type) for end in (*self._session.get_inputs(), *self._session.get_outputs())]
        return ends == [("image", "tensor(uint8)"), (PICTURE, "tensor(uint8)")]

    def apply(self, pixels: Pixels) -> Pixels:
        """Paint a picture ``[h, w, 3]`` uint8; the result is as large.

        >>> from topwork.style import feedforward
        >>> graph = feedforward.network(width=4, blocks=1).SerializeToString()
        >>> FastStyle(graph, {}, name="untrained").apply(np.zeros((31, 50, 3), np.uint8)).shape
        (31, 50, 3)
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise UsageError(
                f"expected a picture [h, w, 3] of uint8, got {list(pixels.shape)} of {pixels.dtype}; convert it to RGB"
            )
        if min(pixels.shape[:2]) < SMALLEST:
            raise UsageError(
                f"expected a picture of at least {SMALLEST} pixels on both sides, got {pixels.shape[1]} x "
                f"{pixels.shape[0]}; choose a larger one"
            )
        self._costs.of(*pixels.shape[:2])
        (made,) = run(self._session, [PICTURE], {"image": pixels[None]})
        if made.shape != (1, *pixels.shape) or made.dtype != np.uint8:
            raise ModelError(
                f"expected a painted picture as large as the given one, but {self.name} gives {made.dtype} "
                f"{list(made.shape)}; use another style"
            )
        return np.asarray(made[0])

    def shape(self) -> dict[str, int]:
        """``width`` and ``blocks`` of its network, see `feedforward.network`; ModelError where it does not say so."""
        training = self.manifest.get("training")
        found: dict[str, Any] = {name: training.get(name) for name in _MOST} if isinstance(training, dict) else {}
        if not found or not all(type(value) is int and 1 <= value <= _MOST[name] for name, value in found.items()):
            raise ModelError(
                f"expected a style that says its width and blocks, but {self.name} does not; start from another one"
            )
        return found

    def trainable(self) -> onnx.ModelProto:
        """Its graph, to go on training from; ModelError where it is not that of `feedforward.network`."""
        graph = onnx.load_from_string(self.graph)
        if _outline(graph) != _outline(feedforward.network(**self.shape())):
            raise ModelError(
                f"expected a network as `topwork style train` makes it, but that of {self.name} is another; start from "
                "another style"
            )
        return graph

    def drift(self, path: str | os.PathLike[str]) -> int:
        """The largest difference, in levels of 255, from the pictures that were painted when it was made."""
        folders = Path(path) / "golden"
        pairs = [
            (_opened(folders / f"{place}.png"), _opened(folders / f"{place}.styled.png"))
            for place in range(len(patterns()))
        ]
        return max(int(np.abs(self.apply(given).astype(int) - wanted).max()) for given, wanted in pairs)


def _outline(model: onnx.ModelProto) -> Any:
    """All of a graph but its weights."""
    nodes = [(node.op_type, list(node.input), list(node.output), str(node.attribute)) for node in model.graph.node]
    return nodes, [(tensor.name, list(tensor.dims), tensor.data_type) for tensor in model.graph.initializer]


def _opened(path: Path) -> Pixels:
    return np.asarray(Image.open(path, formats=["PNG"]))


def reduced(pixels: Pixels, side: int) -> Pixels:
    """A picture ``[h, w, 3]`` whose longer side is at most ``side`` pixels; 0: as it is.

    >>> reduced(np.zeros((40, 80, 3), np.uint8), 20).shape
    (10, 20, 3)
    """
    if not side or max(pixels.shape[:2]) <= side:
        return pixels
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def save(target: Path, graph: onnx.ModelProto, facts: Mapping[str, Any], *, report: str) -> None:
    """Write a fast style's folder in one step; an earlier style is replaced, anything else is refused."""
    data = graph.SerializeToString()
    style = FastStyle(data, {}, name=target.name)
    files = {folder.GRAPH: data, folder.REPORT: report.encode(), **dict(_golden(style))}
    folder.write(target, {"task": TASK, **facts}, files)


def _golden(style: FastStyle) -> Iterator[tuple[str, bytes]]:
    for place, pixels in enumerate(patterns()):
        yield f"golden/{place}.png", png(Image.fromarray(pixels))
        yield f"golden/{place}.styled.png", png(Image.fromarray(style.apply(pixels)))

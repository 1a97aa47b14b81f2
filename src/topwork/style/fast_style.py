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
from topwork.errors import ModelError, UsageError
from topwork.features.session import cores, open_session
from topwork.golden import patterns
from topwork.style.feedforward import PICTURE, SMALLEST
from topwork.visualization.sheet import png

Pixels = NDArray[np.uint8]

TASK = "stylize"


class FastStyle:
    """A style that is ready to use; `FastStyle.load` opens one. Safe to use from several threads.

    ``threads``: how many one picture is painted with; None: a thread a core.
    """

    def __init__(self, graph: bytes, manifest: Mapping[str, Any], *, name: str, threads: int | None = None) -> None:
        self.name = name
        self.manifest = manifest
        self.graph = graph
        self._session = open_session(graph, threads=threads or cores())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int | None = None) -> "FastStyle":
        """Open a folder that `topwork style train` wrote; ModelError where it is damaged, or something else."""
        opened = folder.read(Path(path))
        if (task := opened.manifest.get("task")) != TASK:
            raise ModelError(
                f"expected a fast style, got a model with task {task!r}: {path}; `topwork style train` makes one"
            )
        style = cls(opened.graph, opened.manifest, name=Path(path).name, threads=threads)
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
        (made,) = self._session.run([PICTURE], {"image": pixels[None]})
        return np.asarray(made[0])

    def drift(self, path: str | os.PathLike[str]) -> int:
        """The largest difference, in levels of 255, from the pictures that were painted when it was made."""
        folders = Path(path) / "golden"
        pairs = [
            (np.asarray(Image.open(folders / f"{place}.png")), np.asarray(Image.open(folders / f"{place}.styled.png")))
            for place in range(len(patterns()))
        ]
        return max(int(np.abs(self.apply(given).astype(int) - wanted).max()) for given, wanted in pairs)


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
    files = {"model.onnx": data, "report.html": report.encode(), **dict(_golden(style))}
    folder.write(target, {"task": TASK, **facts}, files)


def _golden(style: FastStyle) -> Iterator[tuple[str, bytes]]:
    for place, pixels in enumerate(patterns()):
        yield f"golden/{place}.png", png(Image.fromarray(pixels))
        yield f"golden/{place}.styled.png", png(Image.fromarray(style.apply(pixels)))

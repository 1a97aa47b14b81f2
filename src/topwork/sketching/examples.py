"""Drawings as the networks take them: sequences and pictures, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.images.quickdraw import Drawing, render
from topwork.sketching.sequences import Floats, Ints, padded, sequence_of


@dataclass(frozen=True)
class Drawings:
    """Labelled drawings, once as strokes and once as pictures."""

    strokes: Floats
    """``[n, t, 3]``."""
    lengths: Ints
    """``[n]``, from 1 to t."""
    pictures: NDArray[np.uint8]
    """``[n, size, size]``, dark on white."""
    labels: Ints
    """``[n]``."""

    @property
    def size(self) -> int:
        """Side of the pictures."""
        return int(self.pictures.shape[1])

    def inputs(self, rows: Ints, seed: int | None) -> Floats:
        """All that is known of each drawing in one row, ``[m, 1 + 3 t + size * size]``, which `parts` takes apart.

        The trainer hands on one array; each network takes what it reads.
        """
        n = len(rows)
        strokes, pictures = self.strokes[rows].reshape(n, -1), self.pictures[rows].reshape(n, -1)
        return np.concatenate([self.lengths[rows, None], strokes, pictures], axis=1, dtype=np.float32)

    def named(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """The inputs of the exported networks: ``strokes``, ``lengths``, and ``picture`` ``[m, size, size, 3]``."""
        pictures = np.repeat(self.pictures[rows][..., None], 3, axis=3)
        return {"strokes": self.strokes[rows], "lengths": self.lengths[rows], "picture": pictures}


def parts(rows: Any, size: int) -> dict[str, Any]:
    """What `Drawings.inputs` joined, as tensors: ``strokes`` only as long as the longest of them.

    >>> import torch
    >>> found = parts(torch.tensor([[1.0, 0, 0, 1, 0, 0, 0, 255.0]]), 1)
    >>> {name: list(tensor.shape) for name, tensor in found.items()}
    {'strokes': [1, 1, 3], 'lengths': [1], 'picture': [1, 1, 1, 3]}
    """
    n = len(rows)
    lengths = rows[:, 0].long()
    strokes = rows[:, 1 : rows.shape[1] - size * size].reshape(n, -1, 3)[:, : int(lengths.max())]
    picture = rows[:, rows.shape[1] - size * size :].reshape(n, size, size, 1).expand(-1, -1, -1, 3)
    return {"strokes": strokes, "lengths": lengths, "picture": picture}


def picture_of(drawing: Drawing, size: int) -> NDArray[np.uint8]:
    """The picture ``[size, size]`` that the networks see: dark on white, drawn in `style`.

    >>> picture_of(Drawing("dot", (np.array([[3, 3]], np.float32),)), 8).min(axis=0).tolist()
    [255, 255, 255, 117, 117, 255, 255, 255]
    """
    look = style(size)
    return render(drawing, size=size, stroke_width=look["stroke_width"], padding=look["padding"])[:, :, 0]


def style(size: int) -> dict[str, float]:
    """Width of the lines and of the border, in pixels: 1.5 and 1 at 28; lines no thinner, or a dot would be lost.

    >>> style(56), style(14)
    ({'stroke_width': 3.0, 'padding': 2.0}, {'stroke_width': 1.5, 'padding': 0.5})
    """
    return {"stroke_width": 1.5 * max(1.0, size / 28), "padding": size / 28}


def drawings_of(drawings: Sequence[Drawing], labels: Ints, size: int) -> Drawings:
    """The same as arrays.

    >>> line = Drawing("line", (np.array([[0, 0], [10, 3]], np.float32),))
    >>> drawings_of([line], np.array([0]), 28).strokes.shape
    (1, 2, 3)
    """
    strokes, lengths = padded([sequence_of(drawing) for drawing in drawings])
    return Drawings(strokes, lengths, np.stack([picture_of(drawing, size) for drawing in drawings]), labels)

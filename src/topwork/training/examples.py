"""What a network is trained on: batches of its inputs, the same for the same seed whoever asks and in whatever order.

Every kind can be sent to another process; sessions and open files are made where they are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.graph import square_graph
from topwork.backbones.spec import BackboneSpec, Preprocess
from topwork.errors import ImageError, SourceError
from topwork.features.parallel import ordered_map
from topwork.features.session import open_session
from topwork.images import DecodePolicy, Sample, decode
from topwork.training.activations import Rows
from topwork.training.augmentation import Augmenter
from topwork.training.extra import one_thread_each

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Examples(Protocol):
    """Labelled inputs of a network."""

    @property
    def labels(self) -> Ints:
        """``[n]``."""
        ...

    def inputs(self, rows: Ints, seed: int | None) -> Floats:
        """Inputs ``[m, ...]`` of these rows: varied by ``seed`` for training, as in prediction for None."""
        ...


@dataclass(frozen=True)
class Vectors:
    """Features ``[n, d]`` in memory."""

    features: Floats
    labels: Ints

    def inputs(self, rows: Ints, seed: int | None) -> Floats:
        """The features as they are."""
        return self.features[rows]


@dataclass(frozen=True)
class CachedViews:
    """Activations of several views of each picture; row ``i * views + v`` is view v of picture i, view 0 is plain."""

    rows: Rows
    labels: Ints
    views: int

    def inputs(self, rows: Ints, seed: int | None) -> Floats:
        """One view of each, drawn by ``seed``; the plain one for None."""
        view = np.zeros(len(rows), np.int64)
        if seed is not None:
            view = np.random.default_rng(seed).integers(0, self.views, len(self.labels))[rows]
        return self.rows[rows * self.views + view]


@dataclass(frozen=True)
class Pictures:
    """Pictures that are read, decoded and augmented each time."""

    samples: Sequence[Sample]
    labels: Ints
    spec: BackboneSpec
    geometry: str
    policy: DecodePolicy
    augmenter: Augmenter | None
    """How training pictures are varied; None leaves them as in prediction."""
    numbers: Ints
    """``[n]``: what each picture's variation is drawn by, so that a subset varies its pictures alike."""

    def inputs(self, rows: Ints, seed: int | None) -> Floats:
        """The network's inputs ``[m, 3, size, size]``."""
        return np.concatenate(list(ordered_map(lambda row: self._input(row, seed), rows.tolist())))

    def _input(self, row: int, seed: int | None) -> Floats:
        one_thread_each()
        pixels = pixels_of(self.samples[row], self.policy)
        if seed is None or self.augmenter is None:
            return self._square(pixels)
        return normalised(self.augmenter(pixels, seed, int(self.numbers[row])), self.spec.preprocess)

    def _square(self, pixels: NDArray[np.uint8]) -> Floats:
        square: Floats = _square_session(self.spec, self.geometry).run(["x"], {"image": pixels[None]})[0]
        return square


@lru_cache(maxsize=4)
def _square_session(spec: BackboneSpec, geometry: str) -> Any:
    """A session of this process for preprocessing alone."""
    return open_session(square_graph(spec, geometry))


def pixels_of(sample: Sample, policy: DecodePolicy) -> NDArray[np.uint8]:
    """The pixels of a picture that was read before; raises SourceError where it can no longer be."""
    try:
        return decode(sample.read(), policy).pixels
    except ImageError as error:
        raise SourceError(f"{sample.id} was readable at first and no longer is ({error}); run again") from error


def normalised(square: NDArray[np.uint8], preprocess: Preprocess) -> Floats:
    """A square ``[size, size, 3] uint8`` as the network takes it, ``[1, 3, size, size]``."""
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    return np.ascontiguousarray(((square - mean) / std).transpose(2, 0, 1)[None], np.float32)


@dataclass(frozen=True)
class Subset:
    """Some rows of other examples."""

    examples: Examples
    kept: Ints
    labels: Ints = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.examples.labels[self.kept])

    def inputs(self, rows: Ints, seed: int | None) -> Floats:
        """The inputs of these rows of the subset."""
        return self.examples.inputs(self.kept[rows], seed)

"""What is looked for: pictures, parts of pictures, features, or the pictures that a model learned a class from."""

import os
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork import folder
from topwork.errors import ImageError, UsageError
from topwork.features.cache import FeatureCache, key
from topwork.features.session import open_session
from topwork.images import DecodePolicy, Sample, to_pixels
from topwork.model_facts import training_samples
from topwork.registry import closest
from topwork.retrieval.settings import VIEWS, Settings
from topwork.retrieval.store import Floats
from topwork.retrieval.treatment import Treatment

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the upright picture."""
One = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Sample
Querylike = One | Sequence[One]
"""A picture (path, URL, bytes of a file, Pillow image, uint8 array ``[h, w, 3]``), features ``[d]``, or several."""

AWAY = 0.5
"""How much a picture that is not wanted counts against those that are (Rocchio 1971)."""


class Encoder:
    """Pictures as features of length 1, by the graph of an index; it is opened on first need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: Any = None
        self._width = 0

    def __call__(self, query: One, crop: Box | None = None) -> Floats:
        """``[d]``; ImageError that names the picture, UsageError for a crop outside of it or a wrong length."""
        if isinstance(query, np.ndarray) and query.ndim == 1:
            return self._checked(query)
        name = os.fspath(query) if isinstance(query, str | os.PathLike) else "the query"
        # A part is looked at from all pixels there are.
        policy = DecodePolicy() if crop else self._settings.policy()
        try:
            pixels = to_pixels(query.read() if isinstance(query, Sample) else query, policy).pixels
        except ImageError as error:
            raise ImageError(f"cannot read {name}: {error}; choose another picture") from error
        return self._run(pixels if crop is None else _cropped(pixels, crop, name))

    def _run(self, pixels: NDArray[np.uint8]) -> Floats:
        graph = self._settings.graph()
        if self._session is None:
            self._session = open_session(graph.path)
        (features,) = self._session.run([VIEWS[self._settings.features]], {"image": pixels[None]})
        return np.asarray(Treatment()(features)[0])

    def _checked(self, features: NDArray[Any]) -> Floats:
        if not self._width:
            spec = self._settings.graph().spec
            self._width = {"pooled": spec.feature_dim, "logits": spec.logits_dim}[self._settings.features]
        if (
            features.shape != (self._width,)
            or not np.issubdtype(features.dtype, np.floating)
            or not np.isfinite(features).all()
        ):
            raise UsageError(
                f"expected {self._settings.features} features of {self._settings.backbone}, {self._width} finite "
                f"numbers, got {features.dtype} {list(features.shape)}"
            )
        return np.asarray(Treatment()(features[None].astype(np.float32))[0])


def towards(wanted: Floats, unwanted: Floats | None, treatment: Treatment) -> Floats:
    """The vector ``[m]`` to search with: the mean of ``wanted`` features ``[p, d]``, away from ``unwanted`` ``[q, d]``.

    >>> towards(np.eye(2, dtype=np.float32)[:1], None, Treatment()).tolist()
    [1.0, 0.0]
    """
    direction = treatment(wanted).mean(0)
    if unwanted is not None and len(unwanted):
        direction = direction - AWAY * treatment(unwanted).mean(0)
    length = float(np.linalg.norm(direction))
    if length < 1e-6:
        raise UsageError("expected pictures that have something in common, but they cancel out; look for one of them")
    return np.asarray(direction / length, np.float32)


def training_contents(model: str, label: str) -> list[str]:
    """Content hashes of the pictures that a model folder learned a class from; UsageError where there is none."""
    opened = folder.read(Path(model), keep=(folder.SAMPLES,))
    rows = training_samples(opened.contents.get(folder.SAMPLES, b""), f"{model}/{folder.SAMPLES}")
    labels = sorted({row.label for row in rows})
    if label not in labels:
        raise UsageError(f"{model} has no class {label!r}: {closest(label, labels)}")
    return [row.content for row in rows if row.label == label]


def cached_features(contents: Sequence[str], settings: Settings) -> list[Floats]:
    """Features of length 1 of those pictures that are in the cache of a fit, or of an index, with the same backbone."""
    graph, decoding = settings.graph().fingerprint, settings.policy().describe()
    keys = [key(each, decoding, graph, VIEWS[settings.features]) for each in contents]
    with FeatureCache() as cache:
        found = cache.get(keys)
    return [Treatment()(np.frombuffer(value, np.float32)[None])[0] for value in found.values()]


def split_class(text: str) -> tuple[str, str]:
    """Model folder and class of ``MODEL:CLASS``.

    >>> split_class("cars.topwork:classic")
    ('cars.topwork', 'classic')
    """
    model, _, label = text.rpartition(":")
    if not model or not label:
        raise UsageError(f"expected MODEL:CLASS, such as cars.topwork:classic, not {text!r}")
    return model, label


def _cropped(pixels: NDArray[np.uint8], crop: Box, name: str) -> NDArray[np.uint8]:
    try:
        left, top, width, height = (index(number) for number in crop)
    except (TypeError, ValueError):
        raise UsageError(f"expected a crop as four whole numbers x,y,w,h in pixels, not {crop!r}") from None
    h, w = pixels.shape[:2]
    if min(left, top) < 0 or min(width, height) < 1 or left + width > w or top + height > h:
        raise UsageError(
            f"expected a crop x,y,w,h within {name}, {w}x{h} pixels, got {left},{top},{width},{height}; choose another"
        )
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])

"""The training pictures that are most like a picture, by class: what the model may have learned its answer from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork import fingerprint
from topwork.backbones.graph import graph_fingerprint
from topwork.backbones.zoo import backbone
from topwork.errors import BackboneError, ImageError, ModelError, UsageError
from topwork.evaluation.vectors import normalized
from topwork.explanation.network import Floats
from topwork.features.cache import FeatureCache, key
from topwork.images import ImageSource, Sample
from topwork.images.sniff import shown
from topwork.images.source import SourceLike
from topwork.model import PRETRAINED, Model
from topwork.model_facts import TrainingSample

ITSELF = 1 - 1e-5
"""Similarity from which a training picture is taken for the picture itself."""


@dataclass(frozen=True)
class Neighbour:
    """A training picture that is like the one that is explained."""

    path: str
    """Its id in the source that the model was fitted on."""
    label: str
    similarity: float
    """Cosine of the angle between the two pictures' features, -1..1."""
    sample: Sample | None = None
    """Where it can be read; None where the pictures were not given, or it has changed since."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork explain --json``."""
        return {"path": self.path, "label": self.label, "similarity": round(self.similarity, 4)}


class TrainingPictures:
    """The training pictures of a model by their features.

    The features come from the cache; those that are not there any more, and all of a fine-tuned network, are made from
    the pictures in ``photos``, the source that the model was fitted on. ModelError for a model without training
    pictures, UsageError where there is neither.
    """

    def __init__(self, model: Model, photos: SourceLike | None = None) -> None:
        if model.name.startswith(PRETRAINED):
            raise ModelError(
                f"expected a model that was fitted here, but {model.name} has no training pictures; fit one"
            )
        self._model = model
        rows = model.samples
        source = None if photos is None else ImageSource.open(photos)
        given = {} if source is None else {sample.id: sample for sample in source.samples}
        if source is not None and given.keys().isdisjoint(row.id for row in rows):
            raise UsageError(
                f"expected the pictures that the model was fitted on, but none of them is in {shown(source.root)}; "
                "give the source that was given to fit"
            )
        self._samples = {row.content: given.get(row.id) for row in rows}
        self._by_label: dict[str, list[TrainingSample]] = {}
        for row in rows:
            self._by_label.setdefault(row.label, []).append(row)
        self._cached = _cached_features(model, [row.content for row in rows])
        self._ready: dict[str, tuple[list[TrainingSample], Floats]] = {}
        if not self._cached and not any(self._samples.values()):
            raise UsageError(
                "expected the features of the training pictures in the cache, or the pictures that the model was "
                "fitted on, but neither is there; give the pictures with --photos"
            )

    def nearest(self, features: Floats, label: str, count: int) -> list[Neighbour]:
        """The ``count`` pictures of a class whose features are most like ``features`` ``[d]``, the most alike first.

        A picture with the very same features is the picture itself, or a copy of it, and is left out.
        """
        rows, vectors = self._of_class(label)
        if not rows:
            return []
        similarities = vectors @ normalized(features[None])[0]
        order = np.argsort(-similarities, kind="stable").tolist()
        best = [i for i in order if similarities[i] < ITSELF][:count]
        return [Neighbour(rows[i].id, label, float(similarities[i]), self._unchanged(rows[i].content)) for i in best]

    def _of_class(self, label: str) -> tuple[list[TrainingSample], Floats]:
        if label not in self._ready:
            pairs = [(row, self._features(row.content)) for row in self._by_label.get(label, [])]
            known = [(row, vector) for row, vector in pairs if vector is not None]
            vectors = np.array([vector for _, vector in known], np.float32).reshape(len(known), -1)
            self._ready[label] = [row for row, _ in known], normalized(vectors)
        return self._ready[label]

    def _features(self, content: str) -> Floats | None:
        if content in self._cached:
            return self._cached[content]
        sample = self._unchanged(content)
        return None if sample is None else self._model.answer(self._model.pixels(sample)).features

    def _unchanged(self, content: str) -> Sample | None:
        """The picture with this content, if it was given and still is what the model was fitted on."""
        sample = self._samples[content]
        try:
            return sample if sample is not None and fingerprint.of_bytes(sample.read()) == content else None
        except ImageError:
            return None


def _cached_features(model: Model, contents: Iterable[str]) -> Mapping[str, Floats]:
    """The features that are in the cache, by content; none for a network that was trained or is not here any more."""
    facts = model.backbone
    if facts is None or facts.trained:
        return {}
    try:
        spec = backbone(facts.name)
    except (BackboneError, UsageError):
        return {}
    if spec.weights is None or spec.weights.sha256 != facts.sha256:
        return {}
    graph, decoding = graph_fingerprint(spec, model.geometry), model.decoding.describe()
    keys = {key(content, decoding, graph, "features"): content for content in contents}
    with FeatureCache() as cache:
        found = cache.get(list(keys))
    return {keys[name]: np.frombuffer(value, np.float32) for name, value in found.items()}

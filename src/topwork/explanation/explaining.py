"""``topwork.explain``: maps of what in pictures speaks for a class."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topwork.backbones.spec import LAST_MAP
from topwork.errors import ImageError, UsageError
from topwork.explanation.faithfulness import Faithfulness, enlarged, measure
from topwork.explanation.methods import INPUT, METHODS, Explain, Method, aim_at, check_channel, layer_of
from topwork.explanation.nearest import Neighbour, TrainingPictures
from topwork.explanation.network import ClassifierNetwork, Floats, Pixels, network_of
from topwork.model import Model, Picturelike, Prediction, as_list, load, path_of
from topwork.registry import closest

SHUFFLES = 2
"""Networks with shuffled weights that a map is compared with."""


@dataclass(frozen=True)
class Explanation:
    """Why a model answers as it does to one picture: a map of what speaks for a class, and how far to believe it."""

    path: str
    """Where the picture came from; its place in the call where it has no path."""
    label: str | None
    """The predicted class; None only when the picture could not be read, as the next ones."""
    target: str | None
    """The class that is explained, or the channel, such as ``channel 5 at 3,2``."""
    against: str | None
    """The class that ``target`` is contrasted with, or None."""
    probability: float | None
    """Of the class that is explained, 0..1; None for a channel."""
    score: float | None
    """What the map explains: the class score, the difference of two, or a channel's activation."""
    method: str
    layer: str | None
    """The stage that the map is of, or ``input``; of a channel its stage."""
    values: Floats | None = field(repr=False)
    """``[h, w]``: signed and unscaled; positive values speak for the class."""
    size: int
    """Side of the network's square input in pixels."""
    box: tuple[float, float, float, float] | None
    """The part of the picture that the map covers: ``(left, top, right, bottom)`` in pixels, as ``Model.seen_box``."""
    pixels: Pixels | None = field(repr=False)
    """The picture, decoded: ``[h, w, 3] uint8``."""
    faithfulness: Faithfulness | None
    """None where it was not asked for."""
    neighbours: tuple[Neighbour, ...] = ()
    """The nearest training pictures of the class, then those of the class it is contrasted with, where asked for."""
    error: str | None = None
    """Why there is no explanation, or None."""

    @property
    def on_input(self) -> Floats | None:
        """The values on the grid of the square input ``[size, size]``, linear between the centres of cells."""
        return None if self.values is None else enlarged(self.values, self.size, self.size)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork explain --json``, without the arrays."""
        names = ("path", "label", "target", "against", "probability", "score", "method", "layer", "error")
        faithfulness = self.faithfulness and self.faithfulness.as_dict()
        neighbours = [neighbour.as_dict() for neighbour in self.neighbours]
        return {
            **{name: getattr(self, name) for name in names},
            "faithfulness": faithfulness,
            "neighbours": neighbours,
        }

    def _repr_png_(self) -> bytes | None:
        """Notebooks show the map over the picture."""
        from topwork.explanation.drawing import captioned, png

        return None if self.error else png(captioned(self))


@dataclass(frozen=True)
class Question:
    """What is to be explained; see ``explain``."""

    target: str | None = None
    against: str | None = None
    contrast: bool = False
    channel: int | None = None
    place: tuple[int, int] | None = None


def explain(
    model: Model | str | os.PathLike[str],
    images: Picturelike | Iterable[Picturelike],
    *,
    method: str = "cam",
    target: str | None = None,
    against: str | None = None,
    contrast: bool = False,
    layer: str | None = None,
    channel: int | None = None,
    place: tuple[int, int] | None = None,
    faithfulness: bool = True,
    neighbours: int = 0,
    photos: str | None = None,
) -> list[Explanation]:
    """Why a model answers as it does: an explanation for each picture, in order.

    ``model`` and ``images`` are as for ``load`` and ``Model.predict``; ``method`` is one of ``METHODS.names()``;
    ``target`` is the class to explain, else the predicted one; ``layer`` is a stage's name where the method takes one.

    ``against`` asks why ``target`` rather than that class, ``contrast`` why rather than the best other one. With
    ``channel`` a channel of the stage ``layer`` is explained in place of a class: what in the picture causes its
    strongest value, or that at ``place`` (row and column); for methods whose map is of the input. ``neighbours`` asks
    for so many of the nearest training pictures of each class that is asked about; ``photos``, the source that the
    model was fitted on, is needed to show them, and where their features are no longer in the cache.

    ``faithfulness=False`` leaves out the measurements, which take some 40 runs of the network a picture. Raises
    UsageError for unknown names, and where the model has no closed-form map and ``cam`` is asked for. A picture that
    cannot be read gives an explanation with an ``error``.

    >>> import numpy as np
    >>> [found] = explain("imagenet:tf_efficientnet_lite0", np.zeros((64, 64, 3), np.uint8), faithfulness=False)
    >>> found.method, found.layer, found.values.shape, found.on_input.shape
    ('cam', 'last_map', (7, 7), (224, 224))
    """
    opened = model if isinstance(model, Model) else load(model)
    question = Question(target, against, contrast, channel, place)
    training = TrainingPictures(opened, photos) if neighbours else None
    return list(explain_each(opened, images, question, method, layer, faithfulness, training, neighbours))


def explain_each(
    model: Model | str | os.PathLike[str],
    images: Picturelike | Iterable[Picturelike],
    question: Question = Question(),
    method: str = "cam",
    layer: str | None = None,
    faithfulness: bool = True,
    training: TrainingPictures | None = None,
    neighbours: int = 0,
) -> Iterator[Explanation]:
    """The same one by one, for any number of pictures in bounded memory; ``training`` has the nearest ones.

    >>> import numpy as np
    >>> next(explain_each("imagenet:tf_efficientnet_lite0", np.zeros((64, 64, 3), np.uint8), method="can"))
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: there is no explanation method 'can': did you mean cam?
    """
    chosen = METHODS.get(method)
    opened = model if isinstance(model, Model) else load(model)
    for label in (question.target, question.against):
        if label is not None and label not in opened.labels:
            raise UsageError(f"the model has no class {label!r}: {closest(label, opened.labels)}")
    explainer = _Explainer(opened, question, method, chosen, layer, faithfulness, training, neighbours)
    for number, image in enumerate(as_list(images)):
        yield explainer(image, path_of(image, number))


def of_prediction(model: Model, image: Picturelike, prediction: Prediction) -> Explanation:
    """The class activation map that came with a prediction, as an explanation to draw; the picture is read again.

    ImageError where that fails, UsageError where the prediction has no map.

    >>> of_prediction(load("imagenet:tf_efficientnet_lite0"), "a.jpg", Prediction("a.jpg", "x", 1.0, None, None, ()))
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a prediction with its map, but a.jpg has none; predict with heatmap=True
    """
    if prediction.heatmap is None:
        raise UsageError(
            f"expected a prediction with its map, but {prediction.path} has none; predict with heatmap=True"
        )
    pixels = model.pixels(image)
    return Explanation(
        path=prediction.path,
        label=prediction.label,
        target=prediction.label,
        against=None,
        probability=prediction.probability,
        score=None,
        method="cam",
        layer=LAST_MAP,
        values=prediction.heatmap,
        size=model.preprocess.size,
        box=model.seen_box(pixels),
        pixels=pixels,
        faithfulness=None,
    )


@dataclass(frozen=True)
class _Asked:
    """A question about one picture."""

    aim: Floats
    """``[c]``: see ``methods``."""
    target: str
    against: str | None
    probability: float | None
    answer: Callable[[Floats], Floats]
    """What rises and falls with it, ``[n, 3, size, size]`` -> ``[n]``: for the measurements of faithfulness."""


class _Explainer:
    """A method, made ready for a network and for those with shuffled weights."""

    def __init__(
        self,
        model: Model,
        question: Question,
        name: str,
        method: Method,
        layer: str | None,
        faithfulness: bool,
        training: TrainingPictures | None,
        neighbours: int,
    ) -> None:
        self._model, self._question, self._name = model, question, name
        self._training, self._count = training, neighbours
        self._network = network_of(model)
        if question.channel is None:
            self._layer = at = layer_of(name, method, self._network, layer)
        else:
            self._layer, at = check_channel(name, method, self._network, layer, question.channel, question.place), INPUT
        self._explained = self._explained_part(self._network)
        self._run = method.prepare(self._explained, at)
        count = SHUFFLES if faithfulness else 0
        others = [self._explained_part(self._network.shuffled(seed)) for seed in range(count)]
        self._shuffled: list[Explain] = [method.prepare(other, at) for other in others]

    def _explained_part(self, network: ClassifierNetwork) -> ClassifierNetwork:
        """The network itself, or the part of it whose scores are a stage's channels."""
        return network if self._question.channel is None else network.of_channels(self._layer, self._question.place)

    def __call__(self, image: Picturelike, path: str) -> Explanation:
        model = self._model
        try:
            pixels = model.pixels(image)
        except ImageError as error:
            return self._without(path, str(error))
        x = self._network.square(pixels)
        scores, probabilities = (found[0] for found in self._network.answers(x[None]))
        label = model.labels[int(probabilities.argmax())]
        if self._question.channel is None:
            asked = self._about_classes(probabilities)
        else:
            scores = self._explained.scores(x[None])[0]
            if scores[self._question.channel] <= 0:
                return self._without(path, f"nothing in this picture excites channel {self._question.channel}", label)
            asked = self._about_channel(scores)
        values = self._run(x, asked.aim)
        return Explanation(
            path=path,
            label=label,
            target=asked.target,
            against=asked.against,
            probability=asked.probability,
            score=float(scores @ asked.aim),
            method=self._name,
            layer=self._layer,
            values=values,
            size=x.shape[1],
            box=model.seen_box(pixels),
            pixels=pixels,
            faithfulness=self._faithfulness(x, asked, values),
            neighbours=self._neighbours(pixels, asked),
        )

    def _without(self, path: str, error: str, label: str | None = None) -> Explanation:
        return Explanation(
            path=path,
            label=label,
            target=self._question.target,
            against=self._question.against,
            probability=None,
            score=None,
            method=self._name,
            layer=self._layer,
            values=None,
            size=self._model.preprocess.size,
            box=None,
            pixels=None,
            faithfulness=None,
            error=error,
        )

    def _about_classes(self, probabilities: Floats) -> _Asked:
        labels, question = self._model.labels, self._question
        order = np.argsort(-probabilities, kind="stable").tolist()
        target = order[0] if question.target is None else labels.index(question.target)
        if question.against is not None:
            other: int | None = labels.index(question.against)
        else:
            other = next(place for place in order if place != target) if question.contrast else None
        if target == other:
            raise UsageError(
                f"expected two classes to contrast, but both are {labels[target]!r}; name the other one with --target"
            )

        def answer(squares: Floats) -> Floats:
            found = self._network.probabilities(squares)
            one = found[:, target]
            return one if other is None else one / np.maximum(one + found[:, other], 1e-12)

        against = None if other is None else labels[other]
        aim = aim_at(len(labels), target, other)
        return _Asked(aim, labels[target], against, float(probabilities[target]), answer)

    def _about_channel(self, scores: Floats) -> _Asked:
        channel, place = self._question.channel, self._question.place
        assert channel is not None  # else it would be about classes
        at = "" if place is None else f" at {place[0]},{place[1]}"
        answer: Callable[[Floats], Floats] = lambda x: self._explained.scores(x)[:, channel] / scores[channel]  # noqa: E731
        return _Asked(aim_at(len(scores), channel), f"channel {channel}{at}", None, None, answer)

    def _faithfulness(self, x: Floats, asked: _Asked, values: Floats) -> Faithfulness | None:
        if not self._shuffled:
            return None
        return measure(asked.answer, x, values, [run(x, asked.aim) for run in self._shuffled])

    def _neighbours(self, pixels: Pixels, asked: _Asked) -> tuple[Neighbour, ...]:
        if self._training is None or self._question.channel is not None:
            return ()
        features = self._model.answer(pixels).features
        labels = [asked.target] if asked.against is None else [asked.target, asked.against]
        return tuple(each for label in labels for each in self._training.nearest(features, label, self._count))

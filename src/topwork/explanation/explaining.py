"""``topwork.explain``: maps of what in pictures speaks for a class."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topwork.backbones.preprocessing import input_shape
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
    """Side in pixels of the square that the network was made for."""
    box: tuple[float, float, float, float] | None
    """The part of the picture that the map covers: ``(left, top, right, bottom)`` in pixels, as ``Model.seen_box``."""
    pixels: Pixels | None = field(repr=False)
    """The picture, decoded: ``[h, w, 3] uint8``."""
    faithfulness: Faithfulness | None
    """None where it was not asked for."""
    input_shape: tuple[int, int] | None = None
    """Height and width of the network's input where it is no square."""
    neighbours: tuple[Neighbour, ...] = ()
    """The nearest training pictures of the class, then those of the class it is contrasted with, where asked for."""
    error: str | None = None
    """Why there is no explanation, or None."""

    @property
    def on_input(self) -> Floats | None:
        """The values on the grid of the network's input, linear between the centres of cells.

        ``[size, size]``, but in the picture's shape, see ``preprocessing.input_shape``, for the geometry ``whole``.
        """
        return None if self.values is None else enlarged(self.values, *(self.input_shape or (self.size, self.size)))

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

    def check(self, labels: Sequence[str], neighbours: int) -> None:
        """Raise UsageError where it cannot be asked of a model with these labels.

        >>> Question(target="cat", channel=3).check(["cat", "dog"], 0)
        Traceback (most recent call last):
        ...
        topwork.errors.UsageError: expected a channel or classes, not both; ask of one of them at a time
        """
        for label in (self.target, self.against):
            if label is not None and label not in labels:
                raise UsageError(f"the model has no class {label!r}: {closest(label, labels)}")
        if self.target is not None and self.target == self.against:
            raise UsageError(f"expected two classes to contrast, but both are {self.target!r}; name another one")
        if self.channel is not None and (self.target or self.against or self.contrast or neighbours):
            raise UsageError("expected a channel or classes, not both; ask of one of them at a time")
        if self.place is not None and self.channel is None:
            raise UsageError(f"expected a channel with the place {self.place}; name one")
        if neighbours < 0:
            raise UsageError(f"expected at least 0 neighbours, not {neighbours}; 3 are a good start")

    @property
    def subject(self) -> str | None:
        """What is explained, as far as it is known before there is a picture."""
        if self.channel is None:
            return self.target
        return f"channel {self.channel}" + ("" if self.place is None else f" at {self.place[0]},{self.place[1]}")


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
    question.check(opened.labels, neighbours)
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
        input_shape=input_shape(model.preprocess, model.geometry, *pixels.shape[:2]),
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
    """What rises and falls with it, ``[n, 3, h, w]`` -> ``[n]``: for the measurements of faithfulness."""


@dataclass(frozen=True)
class _Ready:
    """A method made ready for a network, and for copies of it with shuffled weights."""

    network: ClassifierNetwork
    run: Explain
    shuffled: list[Explain]


class _Explainer:
    """A method with a question, for one picture after the other."""

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
        self._model, self._question, self._name, self._method = model, question, name, method
        self._training, self._count = training, neighbours
        self._shuffles = SHUFFLES if faithfulness else 0
        self._network = network_of(model)
        if question.channel is None:
            self._layer = layer_of(name, method, self._network, layer)
            self._ready = self._prepared(self._network, self._layer)
        else:
            self._layer = check_channel(name, method, self._network, layer, question.channel, question.place)

    def _prepared(self, network: ClassifierNetwork, layer: str) -> _Ready:
        others = [self._method.prepare(network.shuffled(seed), layer) for seed in range(self._shuffles)]
        return _Ready(network, self._method.prepare(network, layer), others)

    def __call__(self, image: Picturelike, path: str) -> Explanation:
        try:
            pixels = self._model.pixels(image)
        except ImageError as error:
            return self._without(path, str(error))
        x = self._network.square(pixels)
        scores, probabilities = (found[0] for found in self._network.answers(x[None]))
        label = self._model.labels[int(probabilities.argmax())]
        if self._question.channel is not None:
            return self._of_channel(path, pixels, x, label, self._question.channel)
        if label == self._question.against and self._question.target is None:
            return self._without(path, f"is itself predicted as {label}", label)
        asked = self._about_classes(probabilities)
        return self._explanation(path, pixels, x, label, asked, self._ready, float(scores @ asked.aim))

    def _of_channel(self, path: str, pixels: Pixels, x: Floats, label: str, channel: int) -> Explanation:
        values = self._network.stage_map(self._layer, x[None])[0, channel]
        if self._question.place and not all(at < n for at, n in zip(self._question.place, values.shape, strict=True)):
            cells = f"{values.shape[0]} x {values.shape[1]}"
            return self._without(path, f"its map of {self._layer} has {cells} cells, so there is no such place", label)
        row, column = self._question.place or np.unravel_index(int(values.argmax()), values.shape)
        reached = float(values[row, column])
        if reached <= 0:
            return self._without(path, f"nothing in this picture excites {self._question.subject}", label)
        ready = self._prepared(self._network.of_channels(self._layer, (int(row), int(column))), INPUT)
        answer: Callable[[Floats], Floats] = lambda squares: ready.network.scores(squares)[:, channel] / reached  # noqa: E731
        aim = aim_at(ready.network.scores(x[None]).shape[1], channel)
        asked = _Asked(aim, str(self._question.subject), None, None, answer)
        return self._explanation(path, pixels, x, label, asked, ready, reached)

    def _explanation(
        self, path: str, pixels: Pixels, x: Floats, label: str, asked: _Asked, ready: _Ready, score: float
    ) -> Explanation:
        values = ready.run(x, asked.aim)
        others = [run(x, asked.aim) for run in ready.shuffled]
        return Explanation(
            path=path,
            label=label,
            target=asked.target,
            against=asked.against,
            probability=asked.probability,
            score=score,
            method=self._name,
            layer=self._layer,
            values=values,
            size=self._model.preprocess.size,
            box=self._model.seen_box(pixels),
            pixels=pixels,
            faithfulness=measure(asked.answer, x, values, others) if others else None,
            input_shape=(x.shape[1], x.shape[2]),
            neighbours=self._neighbours(pixels, asked),
        )

    def _without(self, path: str, error: str, label: str | None = None) -> Explanation:
        return Explanation(
            path=path,
            label=label,
            target=self._question.subject,
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

        def answer(squares: Floats) -> Floats:
            found = self._network.probabilities(squares)
            one = found[:, target]
            return one if other is None else one / np.maximum(one + found[:, other], 1e-12)

        against = None if other is None else labels[other]
        aim = aim_at(len(labels), target, other)
        return _Asked(aim, labels[target], against, float(probabilities[target]), answer)

    def _neighbours(self, pixels: Pixels, asked: _Asked) -> tuple[Neighbour, ...]:
        if self._training is None:
            return ()
        features = self._model.answer(pixels).features
        labels = [asked.target] if asked.against is None else [asked.target, asked.against]
        return tuple(each for label in labels for each in self._training.nearest(features, label, self._count))

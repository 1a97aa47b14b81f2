"""``topwork.explain``: maps of what in pictures speaks for a class."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from topwork.errors import ImageError, UsageError
from topwork.explanation.faithfulness import Faithfulness, enlarged, measure
from topwork.explanation.methods import METHODS, Explain, Method, layer_of
from topwork.explanation.network import ClassifierNetwork, Floats, Pixels, network_of
from topwork.model import Model, Picturelike, as_list, load, path_of
from topwork.registry import closest

SHUFFLES = 2
"""Networks with shuffled weights that a map is compared with."""


@dataclass(frozen=True)
class Explanation:
    """Why a model answers as it does to one picture: a map of what speaks for a class, and how far to believe it."""

    path: str
    """Where the picture came from; its place in the call where it has no path."""
    label: str | None
    """The predicted class; None only when the picture could not be read, as the next four."""
    target: str | None
    """The class that is explained."""
    probability: float | None
    """Its probability, 0..1."""
    method: str
    layer: str | None
    """The stage that the map is of, or ``input``."""
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
    error: str | None = None
    """Why there is no explanation, or None."""

    @property
    def on_input(self) -> Floats | None:
        """The values on the grid of the square input ``[size, size]``, linear between the centres of cells."""
        return None if self.values is None else enlarged(self.values, self.size, self.size)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork explain --json``, without the arrays."""
        names = ("path", "label", "target", "probability", "method", "layer", "error")
        faithfulness = self.faithfulness and self.faithfulness.as_dict()
        return {**{name: getattr(self, name) for name in names}, "faithfulness": faithfulness}


def explain(
    model: Model | str | os.PathLike[str],
    images: Picturelike | Iterable[Picturelike],
    *,
    method: str = "cam",
    target: str | None = None,
    layer: str | None = None,
    faithfulness: bool = True,
) -> list[Explanation]:
    """Why a model answers as it does: an explanation for each picture, in order.

    ``model`` and ``images`` are as for ``load`` and ``Model.predict``; ``method`` is one of ``METHODS.names()``;
    ``target`` is the class to explain, else the predicted one; ``layer`` is a stage's name where the method takes one.
    ``faithfulness=False`` leaves out the measurements, which take some 40 runs of the network a picture. Raises
    UsageError for unknown names, and where the model has no closed-form map and ``cam`` is asked for. A picture that
    cannot be read gives an explanation with an ``error``.

    >>> import numpy as np
    >>> [found] = explain("imagenet:tf_efficientnet_lite0", np.zeros((64, 64, 3), np.uint8), faithfulness=False)
    >>> found.method, found.layer, found.values.shape, found.on_input.shape
    ('cam', 'last_map', (7, 7), (224, 224))
    """
    return list(explain_each(model, images, method=method, target=target, layer=layer, faithfulness=faithfulness))


def explain_each(
    model: Model | str | os.PathLike[str],
    images: Picturelike | Iterable[Picturelike],
    *,
    method: str = "cam",
    target: str | None = None,
    layer: str | None = None,
    faithfulness: bool = True,
) -> Iterator[Explanation]:
    """The same one by one, for any number of pictures in bounded memory.

    >>> import numpy as np
    >>> next(explain_each("imagenet:tf_efficientnet_lite0", np.zeros((64, 64, 3), np.uint8), method="can"))
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: there is no explanation method 'can': did you mean cam?
    """
    chosen = METHODS.get(method)
    opened = model if isinstance(model, Model) else load(model)
    if target is not None and target not in opened.labels:
        raise UsageError(f"the model has no class {target!r}: {closest(target, opened.labels)}")
    network = network_of(opened)
    explainer = _Explainer(opened, network, method, chosen, layer_of(method, chosen, network, layer), faithfulness)
    for place, image in enumerate(as_list(images)):
        yield explainer(image, path_of(image, place), target)


class _Explainer:
    """A method, made ready for a network and for those with shuffled weights."""

    def __init__(
        self, model: Model, network: ClassifierNetwork, name: str, method: Method, layer: str, faithfulness: bool
    ) -> None:
        self._model, self._network = model, network
        self._name, self._layer = name, layer
        self._run = method.prepare(network, layer)
        count = SHUFFLES if faithfulness else 0
        self._shuffled: list[Explain] = [method.prepare(network.shuffled(seed), layer) for seed in range(count)]

    def __call__(self, image: Picturelike, path: str, target: str | None) -> Explanation:
        model = self._model
        try:
            pixels = model.pixels(image)
        except ImageError as error:
            nothing = (None, None, None, None)
            return Explanation(
                path, None, target, None, self._name, self._layer, None, model.preprocess.size, *nothing[:3], str(error)
            )
        x = self._network.square(pixels)
        probabilities = self._network.probabilities(x[None])[0]
        label = model.labels[int(probabilities.argmax())]
        explained = model.labels.index(target or label)
        values = self._run(x, explained)
        return Explanation(
            path=path,
            label=label,
            target=model.labels[explained],
            probability=float(probabilities[explained]),
            method=self._name,
            layer=self._layer,
            values=values,
            size=x.shape[1],
            box=model.seen_box(pixels),
            pixels=pixels,
            faithfulness=self._faithfulness(x, explained, values),
        )

    def _faithfulness(self, x: Floats, target: int, values: Floats) -> Faithfulness | None:
        if not self._shuffled:
            return None
        probability: Callable[[Floats], Floats] = lambda squares: self._network.probabilities(squares)[:, target]  # noqa: E731
        return measure(probability, x, values, [run(x, target) for run in self._shuffled])

"""The model: open a folder, ask it about pictures."""

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork import assembly, folder
from topwork.backbones import preprocessing
from topwork.backbones.allowed import CLASSIFIER, checked
from topwork.backbones.cost import Costs
from topwork.backbones.zoo import backbone, imagenet_classes
from topwork.errors import ImageError, ModelError, UsageError
from topwork.evaluation.duplicates import DuplicateKeys
from topwork.features.parallel import ordered_map
from topwork.features.session import open_session, run
from topwork.images import Sample, to_pixels
from topwork.model_facts import TrainingSample, classifier_facts, duplicate_keys, training_samples

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Picturelike = str | os.PathLike[str] | bytes | Image.Image | Pixels | Sample

_FLOAT = 1  # the number that ONNX gives to float32
_ROUNDING = 1e-3
"""How far from 1 the sum of probabilities may be, and how far below 0 one of them: what rounding does and more."""
PRETRAINED = "imagenet:"
"""``imagenet:NAME`` stands for a backbone with its original classifier."""


@dataclass(frozen=True)
class Prediction:
    """What the model says about one picture."""

    path: str
    """Where the picture came from; its place in the call where it has no path."""
    label: str | None
    """Always the best class; None only when the picture could not be read."""
    probability: float | None
    known: bool | None
    """Whether the picture is like the training ones; None where the model has no threshold."""
    novelty: float | None
    top: tuple[tuple[str, float], ...]
    """The best classes with their probabilities."""
    error: str | None = None
    """Why there is no answer, or None."""
    heatmap: Floats | None = field(default=None, repr=False, compare=False)
    """The class activation map ``[h', w']`` of the label, where it was asked for; see ``Model.heatmap``."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork predict --json``, without the map."""
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {name: value for name, value in vars(self).items() if name != "heatmap"} | {"top": top}


@dataclass(frozen=True)
class Answer:
    """The raw outputs of the graph for one picture."""

    probabilities: Floats
    """``[c]``."""
    novelty: float | None
    features: Floats
    """``[d]``."""
    heatmap: Floats | None
    """``[c, h', w']``: the class activation maps, where the graph has them."""


class Model:
    """A classifier; ``topwork.load`` opens one.

    Runs ``model.onnx`` with ONNX Runtime and nothing else; safe to use from several threads. It answers from what it
    holds: what happens to the folder it came from is nothing to it. ``graph`` is the serialised graph, ``manifest`` the
    content of ``model.json``, ``file`` gives the content of another of the model's files, or None. Raises ModelError
    where the graph holds what no model of topwork does (docs/security.md), or a fact is missing or out of range.
    """

    def __init__(
        self,
        graph: bytes,
        manifest: dict[str, Any],
        *,
        name: str,
        file: Callable[[str], bytes | None] = lambda _: None,
    ) -> None:
        self.name = name
        self.graph = graph
        self.manifest = manifest
        self.file = file
        facts = classifier_facts(manifest, folder.MARKER)
        self.labels, self.threshold, self.geometry = facts.labels, facts.threshold, facts.geometry
        self.decoding, self.preprocess, self.backbone = facts.decoding, facts.preprocess, facts.backbone
        self._costs = Costs(checked(graph, CLASSIFIER), CLASSIFIER)
        side = self.preprocess.size
        self._gives = self._costs.of(side, side).outputs
        self._session = open_session(graph, rules=None)
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __repr__(self) -> str:
        return f"Model({self.name!r}, labels={reprlib.repr(self.labels)})"

    def predict(self, images: Picturelike | Iterable[Picturelike], *, top: int = 5) -> list[Prediction]:
        """A prediction for each picture, in order.

        Pictures are paths, bytes of a file, Pillow images or uint8 arrays ``[h, w, 3]`` (RGB), ``[h, w]`` or
        ``[h, w, 4]``. One that cannot be read gives a prediction with an ``error``, the others are not affected.
        """
        return list(self.predict_each(as_list(images), top=top))

    def predict_each(
        self, images: Iterable[Picturelike], *, top: int = 5, heatmap: bool = False
    ) -> Iterator[Prediction]:
        """The same one by one, on all cores, for any number of pictures in bounded memory.

        ``heatmap`` adds the class activation map of the label from the same run; UsageError where the model has none.
        """
        if heatmap and not self.has_heatmap:
            raise UsageError(
                f"expected a model that gives class activation maps with its answers, but {self.name} does not; use "
                "`topwork explain`, which has other methods too"
            )
        if not isinstance(top, int) or top < 1:
            raise UsageError(f"top must be a whole number, at least 1, not {top!r}")
        numbered = enumerate(images)
        return ordered_map(lambda item: self._predict_one(*item, top, heatmap), numbered)

    def answer(self, pixels: Pixels) -> Answer:
        """The graph's outputs for one picture ``[h, w, 3] uint8``."""
        self.check_size(pixels)
        wanted = [name for name in (*assembly.CLASSIFY_OUTPUTS, "heatmap") if name in self._outputs]
        found = dict(zip(wanted, run(self._session, wanted, {"image": pixels[None]}), strict=True))
        if not all(np.isfinite(values).all() for values in found.values()) or not self._are_probabilities(
            found["probabilities"]
        ):
            raise ModelError(
                f"expected probabilities and other numbers, but {self.name} answers to a picture of "
                f"{pixels.shape[1]} x {pixels.shape[0]} pixels with something else; do not use this model"
            )
        novelty = float(found["novelty"][0]) if "novelty" in found else None
        maps = found["heatmap"][0] if "heatmap" in found else None
        return Answer(found["probabilities"][0], novelty, found["features"][0], maps)

    def check_size(self, pixels: Pixels) -> None:
        """Raise ModelError where the graph would take more for a picture ``[h, w, 3]`` than any network should."""
        self._costs.of(*pixels.shape[:2])

    def _are_probabilities(self, values: Floats) -> bool:
        return (
            values.shape == (1, len(self.labels))
            and float(values.min()) >= -_ROUNDING
            and abs(float(values.sum()) - 1) <= _ROUNDING
        )

    @property
    def has_heatmap(self) -> bool:
        """Whether the graph gives class activation maps in closed form."""
        return "heatmap" in self._outputs

    def heatmap(self, pixels: Pixels, label: str) -> Floats | None:
        """The class activation map ``[h', w']`` of a label, in units of its score; None where there is none.

        ``pixels``: ``[h, w, 3] uint8``. UsageError for anything else, and for a label that the model has not.
        """
        if not isinstance(pixels, np.ndarray):
            raise UsageError(
                f"expected pixels, an array [h, w, 3] uint8, not {type(pixels).__name__}; for the map of a file use "
                "topwork.explain(model, 'a.jpg')"
            )
        if label not in self.labels:
            raise UsageError(f"expected a label of {self.name}, not {label!r}; model.labels lists them")
        maps = self.answer(pixels).heatmap
        return None if maps is None else maps[self.labels.index(label)]

    def seen_box(self, pixels: Pixels) -> tuple[float, float, float, float]:
        """The part of a picture that the network sees: ``(left, top, right, bottom)`` in pixels."""
        return preprocessing.seen_box(self.preprocess, self.geometry, pixels.shape[0], pixels.shape[1])

    @cached_property
    def samples(self) -> list[TrainingSample]:
        """The pictures it was trained on or chosen by; none for a network as it was pretrained.

        Raises ModelError where their file is none that topwork wrote.
        """
        content = self.file(folder.SAMPLES)
        return [] if content is None else training_samples(content, f"{self.name}/{folder.SAMPLES}")

    def trained_on(self) -> frozenset[str]:
        """Content hashes of the pictures it was trained on or chosen by."""
        return frozenset(sample.content for sample in self.samples)

    def duplicate_keys(self) -> DuplicateKeys | None:
        """What near-duplicates of those pictures are told by; None where the model does not keep it."""
        return self._duplicate_keys

    @cached_property
    def _duplicate_keys(self) -> DuplicateKeys | None:
        content = self.file(folder.DUPLICATE_KEYS)
        return None if content is None else duplicate_keys(content, f"{self.name}/{folder.DUPLICATE_KEYS}")

    def is_consistent(self) -> bool:
        """Whether the graph is that of a classifier with these labels and this threshold."""
        said = self._session.get_modelmeta().custom_metadata_map
        if said != assembly.metadata(self.labels, self.threshold):
            return False
        given, c = self._gives, len(self.labels)
        return (
            [node.name for node in self._session.get_inputs()] == ["image"]
            and set(assembly.CLASSIFY_OUTPUTS) <= given.keys()
            and all(kind == _FLOAT for kind, _ in given.values())
            and given["probabilities"][1] == (1, c)
            and given["novelty"][1] == (1,)
            and len(given["features"][1]) == 2
            and ("heatmap" not in given or (len(given["heatmap"][1]) == 4 and given["heatmap"][1][:2] == (1, c)))
        )

    def is_known(self, novelty: float | None) -> bool | None:
        """Whether a novelty is within the model's threshold."""
        return None if novelty is None or self.threshold is None else novelty <= self.threshold

    def _predict_one(self, place: int, image: Picturelike, top: int, heatmap: bool) -> Prediction:
        path = path_of(image, place)
        try:
            pixels = self.pixels(image)
        except ImageError as error:
            return Prediction(path, None, None, None, None, (), str(error))
        answer = self.answer(pixels)
        best = np.argsort(-answer.probabilities, kind="stable")[:top]
        ranked = tuple((self.labels[i], float(answer.probabilities[i])) for i in best)
        label, probability = ranked[0]
        known, maps = self.is_known(answer.novelty), answer.heatmap if heatmap else None
        return Prediction(
            path, label, probability, known, answer.novelty, ranked, heatmap=None if maps is None else maps[best[0]]
        )

    def pixels(self, image: Picturelike) -> Pixels:
        """A picture decoded as in training, ``[h, w, 3] uint8``; raises ImageError."""
        source = image.read() if isinstance(image, Sample) else image
        return to_pixels(source, self.decoding).pixels


def load(path: str | os.PathLike[str]) -> Model:
    """Open a model folder, or ``imagenet:NAME`` for a pretrained network with its 1,000 original classes.

    Every file is verified by its sha256 first; raises ModelError where one is missing, changed or too new.
    """
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"a model is opened by the path of its folder or imagenet:NAME, not {type(path).__name__}")
    text = os.fspath(path)
    if text.startswith(PRETRAINED):
        return _load_pretrained(text.removeprefix(PRETRAINED))
    opened = folder.read(Path(path), keep=(folder.GRAPH, folder.SAMPLES, folder.DUPLICATE_KEYS))
    task = opened.manifest.get("task")
    if task != "classify":
        raise ModelError(f"expected a model that classifies, got one with task {task!r:.40}: {path}")
    try:
        model = Model(opened.graph, opened.manifest, name=text, file=opened.contents.get)
    except ModelError as error:
        raise ModelError(f"cannot open {path}: {error}") from error
    if not model.is_consistent():
        raise ModelError(f"the graph of {path} does not belong to its {folder.MARKER}; copy the model again")
    return model


def _load_pretrained(name: str) -> Model:
    spec, classes = backbone(name), imagenet_classes()
    if spec.logits_dim not in (0, len(classes)):
        raise UsageError(
            f"{name} tells {spec.logits_dim} classes, not the {len(classes):,} of ImageNet whose names are known; "
            "fit a new top"
        )
    manifest = {
        "labels": classes,
        "thresholds": {},
        "geometry": "crop",
        "decoding": {"shrink_to": spec.preprocess.needed_side},
        "preprocess": asdict(spec.preprocess),
    }
    return Model(assembly.pretrained(spec, "crop"), manifest, name=PRETRAINED + name)


def as_list(images: Picturelike | Iterable[Picturelike]) -> Iterable[Picturelike]:
    """Several pictures also where one was given; UsageError for what is neither.

    >>> as_list("a.jpg"), as_list(np.array(["a.jpg", "b.jpg"]))
    (['a.jpg'], ['a.jpg', 'b.jpg'])
    """
    if isinstance(images, str | os.PathLike | bytes | Image.Image | Sample):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim == 1 and images.dtype.kind in "UO":  # paths, as pandas keeps them
        return list(images.tolist())
    if isinstance(images, np.ndarray) and images.ndim <= 3:
        return [images]
    if hasattr(images, "columns") and hasattr(images, "iloc"):
        raise UsageError("expected pictures, not a DataFrame; give its column of paths: model.predict(df['path'])")
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise UsageError(
            f"expected a picture or several (paths, bytes, Pillow images, uint8 arrays), not {type(images).__name__}"
        )
    return images


def path_of(image: Picturelike, place: int) -> str:
    """Where a picture comes from; its place in the call where it has no path.

    >>> path_of("a.jpg", 3), path_of(b"", 3)
    ('a.jpg', '#3')
    """
    if isinstance(image, Sample):
        return image.id
    return os.fspath(image) if isinstance(image, str | os.PathLike) else f"#{place}"

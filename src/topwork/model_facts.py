"""What a model says of itself, as typed and checked values: the parts of model.json and samples.jsonl that are used.

They may come from a stranger: each value has a type and a range, and the error names the field that has another.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from topwork.backbones.preprocessing import GEOMETRIES
from topwork.backbones.spec import Preprocess
from topwork.backbones.zoo import backbone
from topwork.errors import ModelError, UsageError
from topwork.evaluation.duplicates import DuplicateKeys
from topwork.images import DecodePolicy
from topwork.recipe import DEFAULT_BACKBONE

_MOST_LABELS, _LONGEST_LABEL = 100_000, 10_000
_LARGEST_SIZE = 4096  # of the network's square input, in pixels
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_ROW = 8 * 10**6
_SPLITS = ("train", "val")

T = TypeVar("T")


@dataclass(frozen=True)
class BackboneFacts:
    """The backbone a model was made with: its name in the zoo, and the sha256 of its pretrained weights."""

    name: str
    sha256: str | None
    trained: bool
    """Whether its weights were changed by the fit."""


@dataclass(frozen=True)
class ClassifierFacts:
    """What a classifier needs beside its graph."""

    labels: list[str]
    threshold: float | None
    geometry: str
    decoding: DecodePolicy
    preprocess: Preprocess
    backbone: BackboneFacts | None


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """A picture that trained, chose or measured a model."""

    id: str
    """Its place in the source that the model was fitted on."""
    content: str
    """The sha256 of its file."""
    label: str
    split: str
    """``train`` or ``val``."""
    group: int


def classifier_facts(manifest: Mapping[str, Any], place: str) -> ClassifierFacts:
    """The facts in the content of ``model.json``; ModelError that names ``place`` and the field that is wrong.

    >>> classifier_facts({"labels": "cats"}, "m.topwork")
    Traceback (most recent call last):
    ...
    topwork.errors.ModelError: m.topwork says 'cats' for labels, expected a list of different names; copy ...
    """
    field = _Fields(manifest, place)
    backbone = None if "backbone" not in manifest else _backbone(field.inner("backbone"), manifest)
    return ClassifierFacts(
        labels=field("labels", _are_labels, "a list of different names"),
        threshold=field.inner("thresholds")("novelty", _is_threshold, "a number from 0 or nothing", None),
        geometry=field("geometry", lambda each: each in GEOMETRIES, f"one of {', '.join(GEOMETRIES)}"),
        decoding=_decoding(field.inner("decoding")),
        preprocess=_preprocess(field.inner("preprocess")),
        backbone=backbone,
    )


def training_samples(content: bytes, place: str) -> list[TrainingSample]:
    """The rows of ``samples.jsonl``; ModelError that names ``place``, the line and the field that is wrong.

    >>> training_samples(b"[]", "m.topwork/samples.jsonl")
    Traceback (most recent call last):
    ...
    topwork.errors.ModelError: line 1 of m.topwork/samples.jsonl says [] for a row, expected an object; copy ...
    """
    return [
        _sample(row, f"line {number} of {place}") for number, row in enumerate(content.split(b"\n"), start=1) if row
    ]


def duplicate_keys(content: bytes, place: str) -> DuplicateKeys:
    """The tensors of ``duplicate_keys.safetensors``; ModelError that names ``place`` where they are others."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
        features, hashes = tensors["features"], tensors["hashes"]
    except (SafetensorError, KeyError, ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{place} is damaged ({error}); copy the model again") from error
    width = backbone(DEFAULT_BACKBONE).feature_dim
    if (
        features.dtype != np.float16
        or hashes.dtype != np.uint64
        or (features.ndim, hashes.ndim) != (2, 1)
        or features.shape != (len(hashes), width)
        or not np.isfinite(features).all()
    ):
        raise ModelError(f"{place} does not hold a hash and {width} features a picture; copy the model again")
    return DuplicateKeys(features, hashes)


def _sample(row: bytes, place: str) -> TrainingSample:
    try:
        values = json.loads(row) if len(row) <= _LONGEST_ROW else "too much"
    except (ValueError, RecursionError):
        values = "no JSON"
    field = _Fields({"a row": values}, place).inner("a row", "an object")
    return TrainingSample(
        id=field("id", lambda each: isinstance(each, str) and len(each) <= _LONGEST_LABEL, "a name"),
        content=field("content", _is_hash, "a sha256"),
        label=field("label", lambda each: isinstance(each, str) and len(each) <= _LONGEST_LABEL, "a name"),
        split=field("split", lambda each: each in _SPLITS, "train or val"),
        group=field("group", _is_whole, "a whole number"),
    )


class _Fields:
    """The values of one object in a JSON file; calling it gives the value of a field, or raises ModelError."""

    def __init__(self, values: Mapping[str, Any], place: str, above: str = "") -> None:
        self.values, self._place, self._above = values, place, above

    def __call__(self, name: str, fits: Callable[[Any], bool], expected: str, *absent: Any) -> Any:
        if name not in self.values:
            if absent:
                return absent[0]
            raise ModelError(f"{self._place} lacks {self._above}{name}, {expected}; copy the model again")
        value = self.values[name]
        if not _quietly(fits, value):
            raise ModelError(
                f"{self._place} says {_shown(value)} for {self._above}{name}, expected {expected}; copy the model again"
            )
        return value

    def inner(self, name: str, expected: str = "an object with fields") -> "_Fields":
        """The object that a field holds."""
        values = self(name, lambda each: isinstance(each, dict), expected)
        return _Fields(values, self._place, f"{self._above}{name}.")

    def of(self, kind: Callable[..., T], known: set[str]) -> T:
        """A ``kind`` made of the values by their names; it checks them itself."""
        try:
            if unknown := self.values.keys() - known:
                raise UsageError(
                    f"{min(unknown)!r:.40} is not known here; perhaps `pip install --upgrade topwork` helps"
                )
            return kind(**self.values)
        except (UsageError, TypeError) as error:
            raise ModelError(f"{self._place} has a wrong {self._above.rstrip('.')}: {error}") from error


def _quietly(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(fits(value))
    except (TypeError, OverflowError):  # such as a list, where a name is looked up, or a number of 400 digits
        return False


def _decoding(field: _Fields) -> DecodePolicy:
    return field.of(DecodePolicy, {each.name for each in fields(DecodePolicy)})


def _preprocess(field: _Fields) -> Preprocess:
    field("size", lambda each: _is_whole(each) and 1 <= each <= _LARGEST_SIZE, f"1 to {_LARGEST_SIZE:,}")
    field("crop_fraction", lambda each: _is_number(each) and 0 < each <= 1, "above 0, at most 1")
    field("mean", _are_three, "three numbers")
    field("std", lambda each: _are_three(each) and min(each) > 0, "three numbers above 0")
    field("interpolation", lambda each: each in ("bicubic", "bilinear"), "bicubic or bilinear", None)
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in field.values.items()}
    return _Fields(lists, field._place, field._above).of(Preprocess, {each.name for each in fields(Preprocess)})


def _backbone(field: _Fields, manifest: Mapping[str, Any]) -> BackboneFacts:
    # Before it was said in so many words, a trained network was known by its file.
    by_file = "backbone.safetensors" in manifest.get("files", ())
    return BackboneFacts(
        name=field("name", lambda each: isinstance(each, str) and len(each) <= _LONGEST_LABEL, "a name"),
        sha256=field("sha256", lambda each: each is None or _is_hash(each), "a sha256 or nothing", None),
        trained=field("trained", lambda each: isinstance(each, bool), "true or false", by_file),
    )


def _are_labels(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MOST_LABELS
        and all(isinstance(each, str) and len(each) <= _LONGEST_LABEL for each in value)
        and len(set(value)) == len(value)
    )


def _is_threshold(value: Any) -> bool:
    return value is None or (_is_number(value) and value >= 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_three(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_number, value))


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _shown(value: Any) -> str:
    """A stranger's value as it may be printed."""
    text = ascii(value) if isinstance(value, str | int | float | bool | None) else json.dumps(value)
    return text if len(text) <= 40 else text[:39] + "…"

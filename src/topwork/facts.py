"""The JSON of a fit, whatever strategy it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint, packing
from topwork.backbones.spec import BackboneSpec
from topwork.dataset import Dataset
from topwork.evaluation import label_errors, summary
from topwork.evaluation.novelty import Threshold
from topwork.features.cut_away import cut_away_by
from topwork.features.extraction import Extraction
from topwork.features.facts import Facts
from topwork.features.labelled import LabelledSet
from topwork.geometry import GeometryChoice, unseen_note
from topwork.heads.choice import LinearHead
from topwork.images import DecodePolicy, Excluded, ImageSource
from topwork.recipe import Recipe

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """What was read before anything was fitted."""

    recipe: Recipe
    images: ImageSource
    extraction: Extraction
    unused: tuple[Excluded, ...]
    """Readable pictures that nevertheless took no part."""
    policy: DecodePolicy
    pictures: Sequence[Facts]
    """Of the training pictures."""
    choice: GeometryChoice


@dataclass(frozen=True)
class Measurement:
    """What was found on pictures that the measured model had not seen."""

    pictures: LabelledSet
    groups: Ints
    probabilities: NDArray[np.float64]
    """``[n, c]``."""
    distances: Floats
    """Novelty ``[n]``."""
    threshold: Threshold
    method: str
    naive: float | None = None
    notes: list[str] = field(default_factory=list)
    """What a reader must know before the numbers."""


@dataclass(frozen=True)
class Made:
    """A fitted model: what is known of it, its graph, what else its folder holds."""

    facts: dict[str, Any]
    graph: bytes
    parts: packing.Parts
    temporary: Path | None = None
    """A folder that nobody needs once the model is written, or not wanted: checkpoints."""


def fit_facts(
    reading: Reading,
    data: Dataset,
    measured: Measurement,
    *,
    spec: BackboneSpec,
    head: LinearHead,
    geometry: str,
    more: dict[str, Any],
) -> dict[str, Any]:
    """The facts; ``more`` are blocks that only some strategies have."""
    train, recipe, pictures = data.train.pictures, reading.recipe, measured.pictures
    known = measured.distances <= measured.threshold.value
    figures = summary.classification(
        measured.probabilities,
        pictures.labels,
        measured.groups,
        pictures.names,
        method=measured.method,
        naive=measured.naive,
    )
    cut, asked = cut_away_by(spec.preprocess, geometry, reading.pictures), recipe.geometry == "auto"
    excluded = [*reading.extraction.excluded, *reading.unused, *reading.images.excluded]
    return {
        "format": 1,
        "topwork": packing.versions()["topwork"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": None,
        "task": "classify",
        "strategy": recipe.strategy,
        "backbone": spec.name,
        "head": head.kind,
        "features": head.features,
        "geometry": geometry,
        "geometry_choice": reading.choice.as_dict() if asked else None,
        "cut_away": cut.as_dict(None if asked else unseen_note(cut)),
        "classes": train.counts(),
        "n_images": len(train),
        "n_val": len(data.val),
        "n_unlabelled": sum(sample.label is None for sample in reading.images.samples),
        "n_sampled_out": sum(data.sampled_out.values()),
        "videos": [vars(video) for video in reading.images.videos],
        "notes": [
            *map(_sentence, reading.images.notes),
            *_ignored(train.paths, reading.pictures),
            *measured.notes,
            *_few_videos(data),
        ],
        "excluded": [vars(item) for item in excluded],
        "groups": packing.group_facts(data.train.groups, train.paths),
        **figures,
        "novelty": measured.threshold.summary(),
        "mistakes": summary.mistakes(measured.probabilities, pictures.labels, known, pictures.paths, pictures.names),
        "label_suspects": _suspects(measured),
        "learning_curve": None,
        "choice": None,
        "comparison": None,
        "training": None,
        "next_steps": [],
        "test": None,
        "seconds": {},
        "cache": {"hits": reading.extraction.hits, "misses": reading.extraction.misses},
        "seed": recipe.seed,
        "recipe": recipe.to_dict(),
        "versions": packing.versions(),
        "weights": packing.weights_facts(spec),
        "data_fingerprint": fingerprint.of_object(sorted(zip(train.contents, train.labels.tolist(), strict=True))),
        **more,
    }


FEW_VIDEOS = 3
"""Fewer of a class are too few to measure well: a model that never saw two of them is not the one that ships."""


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."


def _ignored(paths: Sequence[str], pictures: Sequence[Facts]) -> list[str]:
    """What was wrong with files without harm to their pixels, each with how many there are and the first.

    >>> from dataclasses import replace
    >>> fine = Facts(640, 480, "RGB", "JPEG", 0, sharpness=0.8, brightness=120, contrast=50)
    >>> _ignored(["a.jpg", "b.jpg"], [fine, replace(fine, notes=("colour profile ignored (damaged)",))])
    ['1 picture, such as b.jpg: colour profile ignored (damaged).']
    """
    found: dict[str, list[str]] = {}
    for path, facts in zip(paths, pictures, strict=True):
        for note in facts.notes:
            found.setdefault(note, []).append(path)
    return [
        f"{len(which):,} picture{'' if len(which) == 1 else 's'}, such as {which[0]}: {note}."
        for note, which in found.items()
    ]


def _few_videos(data: Dataset) -> list[str]:
    """A note where all pictures of a class are frames of a few videos."""
    pictures = data.train.pictures
    filmed = np.array([sample.time is not None for sample in pictures.samples], bool)
    few = []
    for k, name in enumerate(pictures.names):
        rows = pictures.labels == k
        n = len({pictures.samples[row].group for row in np.flatnonzero(rows)})
        if filmed[rows].all() and n < FEW_VIDEOS:
            few.append(f"{name} ({n})")
    if not few:
        return []
    named = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    return [f"Few videos of {named}: the accuracy says little; film each class about 5 times, each time anew."]


def _suspects(measured: Measurement) -> list[dict[str, Any]]:
    pictures = measured.pictures
    return [
        {
            "path": pictures.paths[found.row],
            "label": pictures.names[pictures.labels[found.row]],
            "suggested": pictures.names[found.suggested],
            "probability": found.probability,
            "label_probability": found.label_probability,
        }
        for found in label_errors.suspects(measured.probabilities, pictures.labels)
    ]

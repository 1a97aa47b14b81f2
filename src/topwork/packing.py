"""From a fit to its model folder: the manifest, the samples, the golden answers, the report."""

import json
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import folder, golden, report, storage
from topwork.backbones.spec import BackboneSpec, StoredWeights
from topwork.dataset import Dataset, Split
from topwork.errors import ImageError
from topwork.features.parallel import ordered_map
from topwork.heads.choice import Choice, LinearHead
from topwork.images import DecodePolicy, Sample
from topwork.model import Model
from topwork.progress import Progress, step

Ints = NDArray[np.int64]

_LIBRARIES = ("topwork", "numpy", "scipy", "pillow", "onnx", "onnxruntime", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Parts:
    """What a model folder holds beside the graph and the report."""

    data: Dataset
    folds: Ints
    """``[n]`` of the training pictures, then of those of ``val``; -1 where a picture was not measured."""
    probabilities: NDArray[np.float64]
    """Out-of-fold ``[n, c]``, in the same order."""
    head: LinearHead
    means: NDArray[np.float32]
    scale: float
    policy: DecodePolicy
    spec: BackboneSpec
    backbone: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """Weights of the network that are not the pretrained ones, by their names in the graph."""


def check_target(target: Path) -> None:
    """Raise before any work where ``target`` is something that must not be replaced."""
    storage.recover(target)
    folder.check_target(target)


def save(target: Path, model: Model, graph: bytes, facts: dict[str, Any], parts: Parts, progress: Progress) -> None:
    """Write the model folder ``target`` in one step."""
    # The folder may be handed on: it knows its name, not where it lay on this machine.
    facts = {**facts, "model": target.name}
    pictures = _pictures(model, facts, parts.data, progress)
    files = {
        folder.GRAPH: graph,
        folder.SAMPLES: samples(parts),
        "head.safetensors": _safetensors(
            {"weight": parts.head.weight, "bias": parts.head.bias, "class_means": parts.means}
        ),
        **({"backbone.safetensors": _safetensors(parts.backbone)} if parts.backbone else {}),
        **_kept_keys(facts, parts),
        **golden.golden_files(lambda pixels: _answers(model, pixels)),
        folder.FACTS: json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False).encode(),
        folder.REPORT: report.render_fit(facts, pictures=pictures).encode(),
    }
    folder.write(target, manifest(facts, parts), files)


def manifest(facts: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """The content of ``model.json``, without the hashes of the files."""
    measured = ("accuracy", "balanced_accuracy", "per_class", "calibration", "novelty")
    return {
        "topwork": facts["versions"]["topwork"],
        "created": facts["created"],
        "task": facts["task"],
        "labels": parts.data.train.pictures.names,
        "recipe": facts["recipe"],
        "backbone": {"name": parts.spec.name, "family": parts.spec.family, "trained": bool(parts.backbone)}
        | facts["weights"],
        "preprocess": asdict(parts.spec.preprocess),
        "geometry": facts["geometry"],
        "decoding": asdict(parts.policy),
        "head": {
            "kind": parts.head.kind,
            "features": parts.head.features,
            "normalize": parts.head.normalize,
            "parameter": facts["choice"]["winner"]["parameter"] if facts["choice"] else None,
        },
        "calibration": {"scale": parts.scale},
        "thresholds": {"novelty": facts["novelty"]["threshold"]},
        "metrics": {name: facts[name] for name in measured},
        "data": {name: facts[name] for name in ("n_images", "classes", "excluded", "data_fingerprint")},
        "versions": facts["versions"],
    }


def group_facts(groups: Ints, paths: list[str]) -> dict[str, Any]:
    """``groups`` of the JSON: how many, and which pictures belong together."""
    sizes = Counter(groups.tolist())
    members: dict[int, list[str]] = {}
    for path, group in zip(paths, groups.tolist(), strict=True):
        if sizes[group] > 1:
            members.setdefault(group, []).append(path)
    return {
        "count": len(sizes),
        "duplicates": sorted(members.values()),
        "images": sum(map(len, members.values())),
        "largest": max(sizes.values()),
    }


def choice_facts(choice: Choice) -> dict[str, Any]:
    """``choice`` of the JSON: what was tried, and what each fold chose without seeing itself."""
    return {
        "winner": _setting(choice.winner),
        "candidates": [
            {**_setting(candidate), "accuracy": accuracy, "brier": brier} for candidate, accuracy, brier in choice.table
        ],
        "folds": [{"fold": i, **_setting(winner)} for i, winner in enumerate(choice.fold_winners)],
    }


def _setting(candidate: Any) -> dict[str, Any]:
    values = asdict(candidate)
    values["parameter"] = values.pop("strength")
    return values


def weights_facts(spec: BackboneSpec) -> dict[str, Any]:
    """Where the pretrained weights come from and who may use them; nothing where training began without any."""
    if spec.weights is None:
        return {"sha256": None, "published_sha256": None, "licence": None, "source": None}
    published = spec.weights.published_sha256 if isinstance(spec.weights, StoredWeights) else spec.weights.sha256
    return {
        "sha256": spec.weights.sha256,
        "published_sha256": published,
        "licence": spec.weights.licence,
        "source": spec.weights.source,
    }


def versions() -> dict[str, str]:
    """Versions of everything that had a part in the numbers."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def samples(parts: Parts) -> bytes:
    """The content of ``samples.jsonl``."""
    measured = [
        {"fold": int(fold), "probabilities": [round(float(p), 5) for p in probabilities]}
        if fold >= 0
        else {"fold": None, "probabilities": None}
        for fold, probabilities in zip(parts.folds, parts.probabilities, strict=True)
    ]
    n = len(parts.data.train)
    rows = [*_rows(parts.data.train, "train", measured[:n]), *_rows(parts.data.val, "val", measured[n:])]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _rows(split: Split, name: str, more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pictures = split.pictures
    columns = zip(pictures.paths, pictures.contents, pictures.labels, split.groups.tolist(), more, strict=True)
    return [
        {"id": path, "content": content, "split": name, "label": pictures.names[label], "group": group, **extra}
        for path, content, label, group, extra in columns
    ]


def duplicate_keys(parts: Parts) -> bytes | None:
    """The content of ``duplicate_keys.safetensors``: of the pictures that trained, or chose, the model."""
    splits = [split.keys for split in (parts.data.train, parts.data.val)]
    known = [keys for keys in splits if keys is not None]
    if not known:
        return None
    features, hashes = (np.concatenate([getattr(keys, name) for keys in known]) for name in ("features", "hashes"))
    return _safetensors({"features": features, "hashes": hashes})


def _kept_keys(facts: dict[str, Any], parts: Parts) -> dict[str, bytes]:
    keys = duplicate_keys(parts) if facts["recipe"]["duplicate_keys"] else None
    return {} if keys is None else {folder.DUPLICATE_KEYS: keys}


def _safetensors(tensors: dict[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save as serialize

    return bytes(serialize({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def _answers(model: Model, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    answer = model.answer(pixels)
    return {"probabilities": answer.probabilities.tolist(), "novelty": answer.novelty}


def _pictures(model: Model, facts: dict[str, Any], data: Dataset, progress: Progress) -> dict[str, report.Thumb]:
    """Thumbnails of the pictures that the report shows, with heat maps where it wants them."""
    claims = report.fit_pictures(facts)
    every = (*data.train.pictures.samples, *data.val.pictures.samples, *data.test.pictures.samples)
    samples = [sample for sample in every if sample.id in claims]
    return thumbnails(model, samples, claims, progress)


def thumbnails(
    model: Model, samples: list[Sample], claims: dict[str, str | None], progress: Progress
) -> dict[str, report.Thumb]:
    """Thumbnails by id, each with the heat map of the class that ``claims`` names for it."""
    found = {}
    with step(progress, "drawing the report", total=len(samples)):
        thumbs = ordered_map(lambda sample: _thumb(model, sample, claims[sample.id]), samples)
        for sample, thumb in zip(samples, thumbs, strict=True):
            progress.advance("drawing the report")
            if thumb is not None:
                found[sample.id] = thumb
    return found


def _thumb(model: Model, sample: Sample, claim: str | None) -> report.Thumb | None:
    try:
        pixels = model.pixels(sample)
    except ImageError:  # removed since it was read: the report does without
        return None
    heat = model.heatmap(pixels, claim) if claim is not None else None
    return report.Thumb.of(pixels, heat, model.seen_box(pixels))

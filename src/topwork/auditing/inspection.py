"""The audit: one pass over the pixels, and what it says about the pictures."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topwork.auditing import composition, quality
from topwork.auditing.advice import Background, advise
from topwork.auditing.repeats import Repeats, across_splits, distinct_rows, find_repeats, label_conflicts
from topwork.backbones.graph import feature_graph
from topwork.backbones.spec import Preprocess
from topwork.backbones.zoo import backbone
from topwork.features.cache import FeatureCache
from topwork.features.cut_away import cut_away_by
from topwork.features.extraction import Extraction, extract, load, load_facts
from topwork.features.facts import Facts
from topwork.images import DecodePolicy, ImageSource, Sample
from topwork.progress import Progress, Silent
from topwork.recipe import DEFAULT_BACKBONE, Recipe


@dataclass(frozen=True)
class Audit:
    """What is wrong with a source."""

    facts: dict[str, Any]
    """The JSON of ``topwork audit --json``: plain values; paths are the samples' ids. All but ``seconds`` and
    ``cache`` are the same in every run on the same pictures."""
    samples: dict[str, Sample] = field(repr=False)
    """The readable pictures by path, to show those that the facts name."""

    def __repr__(self) -> str:
        facts = self.facts
        counts = f"{facts['n_images']} pictures, {len(facts['classes'])} classes"
        return f"Audit({facts['source']!r}: {counts}, advice={facts['advice']!r})"


def audit(source: Any, recipe: Recipe | None = None, *, progress: Progress | None = None) -> Audit:
    """Look through a source, labelled or not: a folder, a manifest, a URL, a list of paths or an ``ImageSource``.

    Finds pictures that cannot be read, copies and near-duplicates, the same picture under different labels, pictures
    out of the ordinary and uneven classes, and says what to do. The features that this takes stay in the cache, where a
    ``fit`` with the same backbone finds them. Of ``recipe`` the backbone, ``geometry`` (``auto``: the centre crop),
    ``max_pixels``, ``head_limit`` (most pictures compared for near-duplicates) and ``seed`` (which ones) count.

    Raises SourceError where there is nothing that could be a picture; pictures that are all unreadable are a finding.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(f"{folder}/broken.jpg", "wb") as file:
    ...         _ = file.write(b"not a picture")
    ...     found = audit(folder)
    >>> found.facts["n_images"], found.facts["unreadable"][0]["path"]
    (0, 'broken.jpg')
    """
    recipe, progress, begun = recipe or Recipe(), progress or Silent(), time.perf_counter()
    images = ImageSource.open(source, progress=progress)
    spec = backbone(recipe.backbone)
    default = backbone(DEFAULT_BACKBONE)
    sides = [each.preprocess.needed_side for each in (spec, default)]
    policy = DecodePolicy(max_pixels=recipe.max_pixels, shrink_to=max(sides))
    graph = feature_graph(spec, "crop" if recipe.geometry == "auto" else recipe.geometry)
    # How close two pictures are is known for the features of this network and geometry only, as in a fit.
    twins = feature_graph(default, "crop")
    with FeatureCache() as cache:
        extraction = extract(images.samples, list(dict.fromkeys([graph, twins])), policy, cache, progress=progress)
        measured = load_facts(extraction.hashes, policy, cache)
        rows = distinct_rows(extraction.hashes, recipe.head_limit, recipe.seed)
        features = load([extraction.hashes[row] for row in rows], twins, "features", policy, cache)
        hashes = np.array([measured[row].phash for row in rows], np.uint64)
        repeats = find_repeats(extraction.hashes, features, hashes, rows=rows, progress=progress)
        cache.trim()
    facts = _facts(images, extraction, measured, repeats, spec.preprocess, graph.geometry)
    facts["seconds"] = round(time.perf_counter() - begun, 4)
    return Audit(facts, {sample.id: sample for sample in extraction.samples})


def _facts(
    images: ImageSource,
    extraction: Extraction,
    measured: list[Facts],
    repeats: Repeats,
    preprocess: Preprocess,
    geometry: str,
) -> dict[str, Any]:
    """The JSON of an audit; docs/json.md describes it."""
    samples = extraction.samples
    paths = [sample.id for sample in samples]
    classes = composition.class_counts(samples, images.classes)
    facts: dict[str, Any] = {
        "n_images": len(samples),
        "source": images.root,
        "classes": classes,
        "n_unlabelled": sum(sample.label is None for sample in samples),
        "videos": [dict(vars(video)) for video in images.videos],
        "notes": list(images.notes),
        "unreadable": [dict(vars(item)) for item in extraction.excluded],
        "skipped": [dict(vars(item)) for item in images.excluded],
        "exact_duplicates": [[paths[row] for row in group] for group in repeats.exact],
        "near_duplicates": [[paths[row] for row in group] for group in repeats.near],
        "label_conflicts": label_conflicts(samples, repeats),
        "quality": [
            {"path": path, "findings": found}
            for path, found in zip(paths, quality.findings(measured), strict=True)
            if found
        ],
        "cut_away": _cut_away(preprocess, geometry, measured),
        "sizes": composition.sizes(measured),
        "formats": composition.counted(f.format for f in measured),
        "modes": composition.counted(f.mode for f in measured),
        "imbalance": composition.imbalance(classes),
        "cache": {"hits": extraction.hits, "misses": extraction.misses},
    }
    to_train = [sample for sample in samples if (sample.split or "train") == "train"]
    background = Background(
        splits=[[paths[row] for row in group] for group in across_splits(samples, repeats)],
        widespread=quality.widespread(measured),
        not_compared=repeats.sampled_out,
        training=composition.class_counts(to_train, images.classes),
    )
    return {**facts, "advice": advise(facts, background)}


def _cut_away(preprocess: Preprocess, geometry: str, measured: list[Facts]) -> dict[str, Any] | None:
    """What the geometry cuts away, and what to do about it; None without pictures."""
    if not measured:
        return None
    found = cut_away_by(preprocess, geometry, measured)
    return found.as_dict(f"The {geometry} {found.words}: a fit measures whether that matters, and chooses.")

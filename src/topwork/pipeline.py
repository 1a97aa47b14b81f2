"""The one flow: a source of labelled pictures and a recipe become a measured model.

This module alone knows the order of the steps; each step is a function of another package.
"""

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - brings its own BLAS, which must be loaded before threads are limited

from topwork import dataset, folder, packing
from topwork.auditing.next_steps import NextStep, Seen, next_steps
from topwork.backbones.graph import feature_graph
from topwork.backbones.zoo import backbone
from topwork.errors import UsageError
from topwork.facts import Made, Reading
from topwork.features.cache import FeatureCache
from topwork.features.cut_away import cut_away_by
from topwork.features.extraction import extract, load_facts
from topwork.features.facts import Facts
from topwork.features.labelled import labelled_set
from topwork.frozen import fit_head
from topwork.geometry import GeometryChoice, check_geometry, choose_geometry, geometry_step
from topwork.images import DecodePolicy, ImageSource
from topwork.model import Model
from topwork.progress import Clock, Progress, Silent
from topwork.recipe import DEFAULT_BACKBONE, Recipe
from topwork.tuning import check_split, check_training, fine_tuning_step, fit_tuned


@dataclass(frozen=True)
class Fit:
    """A fitted model with everything that was measured about it."""

    facts: dict[str, Any]
    """The JSON of ``topwork fit --json``; docs/json.md describes it."""
    graph: bytes = field(repr=False)
    """The assembled ONNX graph."""
    parts: packing.Parts = field(repr=False)
    """What else goes into the model folder."""

    def __repr__(self) -> str:
        facts, accuracy = self.facts, self.facts["accuracy"]["value"]
        counts = f"{facts['n_images']} pictures, {len(facts['classes'])} classes"
        return f"Fit({counts}, strategy={facts['strategy']!r}, accuracy={accuracy and round(accuracy, 4)})"

    @property
    def model(self) -> Model:
        """The model, ready to predict."""
        name = self.facts["model"] or "model"
        return Model(self.graph, packing.manifest(self.facts, self.parts), name=name, file=self._file)

    def _file(self, name: str) -> bytes | None:
        makers = {folder.SAMPLES: packing.samples, folder.DUPLICATE_KEYS: packing.duplicate_keys}
        return makers[name](self.parts) if name in makers else None

    def save(self, path: str | Path, *, progress: Progress | None = None) -> None:
        """Write the model folder in one step; a killed run leaves the old folder or none."""
        packing.save(Path(path), self.model, self.graph, self.facts, self.parts, progress or Silent())


def fit(
    source: Any, recipe: Recipe | None = None, *, output: str | Path | None = None, progress: Progress | None = None
) -> Fit:
    """Fit a classifier to a labelled source: a folder, a manifest, a URL or an ``ImageSource``.

    The accuracy comes from nested, grouped cross-validation, or from a grouped hold-out where the network itself is
    trained: no picture, and no near-duplicate of it, took part in choosing or training what classified it. With
    ``output`` the model folder is written too. Raises SourceError where the source does not hold at least 2 classes
    with 2 usable pictures each, TrainingError where training cannot go on.
    """
    check_recipe(recipe)
    recipe, progress, clock = recipe or Recipe(), progress or Silent(), Clock()
    if output is not None:
        packing.check_target(Path(output))
    check_training(recipe)
    spec = backbone(DEFAULT_BACKBONE if recipe.strategy == "scratch" else recipe.backbone)
    check_geometry(recipe, spec)
    with clock("scan"):
        images = ImageSource.open(source, labelled=True, progress=progress)
    check_split(recipe, images)
    default = backbone(DEFAULT_BACKBONE)
    sides = [each.preprocess.needed_side for each in (spec, default)]
    policy = DecodePolicy(max_pixels=recipe.max_pixels, shrink_to=max(sides))
    with FeatureCache() as cache:
        with clock("graph"):
            # How close two pictures are is known for the features of this network and geometry only.
            twins = feature_graph(default, "crop")
        labelled = [sample for sample in images.samples if sample.label is not None]
        choice = GeometryChoice(recipe.geometry)
        if recipe.geometry == "auto":
            with clock("geometry"):
                choice = choose_geometry(labelled, spec, twins, recipe, policy, cache, progress)
        with clock("features"):
            graphs = [feature_graph(spec, geometry) for geometry in choice.needed(recipe.strategy)]
            extraction = extract(labelled, list(dict.fromkeys([*graphs, twins])), policy, cache, progress=progress)
            whole, foreign = labelled_set(extraction, labelled)
            data = dataset.prepare(whole, recipe, graphs, twins, policy, cache, progress)
            noted = load_facts(data.train.pictures.contents, policy, cache)
            cache.trim()
    extraction = replace(extraction, fresh=extraction.fresh | choice.fresh)
    reading = Reading(recipe, images, extraction, (*foreign, *data.excluded), policy, noted, choice)
    if recipe.strategy == "features":
        made = fit_head(reading, graphs, data, progress, clock)
    else:
        made = fit_tuned(reading, graphs, data, progress, clock)
    made.facts["next_steps"] = [step.as_dict() for step in _next_steps(made, reading, noted)]
    result = Fit(made.facts, made.graph, made.parts)
    if output is not None:
        with clock("save"):
            result.facts["model"] = str(output)
            result.facts["seconds"] = clock.so_far()
            result.save(output, progress=progress)
    result.facts["seconds"] = clock.so_far()
    if made.temporary is not None:
        shutil.rmtree(made.temporary, ignore_errors=True)
    return result


def _next_steps(made: Made, reading: Reading, noted: list[Facts]) -> list[NextStep]:
    train = made.parts.data.train
    probabilities = made.parts.probabilities[: len(train)]
    right = np.where(np.isnan(probabilities).any(axis=1), np.nan, probabilities.argmax(axis=1) == train.pictures.labels)
    unreadable = [vars(item) for item in reading.extraction.excluded]
    seen = Seen(train.pictures.labels, train.groups, right, noted, unreadable)
    tuning = fine_tuning_step(made) if reading.recipe.strategy == "features" else None
    cut = cut_away_by(made.parts.spec.preprocess, made.facts["geometry"], noted)
    geometry = geometry_step(reading.choice, reading.recipe.geometry != "auto", cut)
    return next_steps(made.facts, seen, [tuning, geometry])


def check_recipe(recipe: Any) -> None:
    """UsageError for what stands in the place of a recipe.

    >>> check_recipe(["cat", "dog"])
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a Recipe after the source, not list; give pictures and their labels as
    topwork.fit(topwork.ImageSource.of(paths, labels))
    """
    if recipe is None or isinstance(recipe, Recipe):
        return
    if isinstance(recipe, dict):
        advice = "make one with topwork.Recipe(**settings)"
    elif isinstance(recipe, str | os.PathLike):
        advice = "a model folder is named by output=, a file of settings is read by topwork.Recipe.from_toml(path)"
    else:
        advice = "give pictures and their labels as topwork.fit(topwork.ImageSource.of(paths, labels))"
    raise UsageError(f"expected a Recipe after the source, not {type(recipe).__name__}; {advice}")

"""A fit whose network is trained: measured, compared with the frozen network, assembled."""

import shutil
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from topwork import assembly, fingerprint, packing, storage
from topwork.backbones.architectures import architecture
from topwork.backbones.graph import Graph
from topwork.backbones.network import pretrained_network
from topwork.backbones.zoo import backbone, described
from topwork.dataset import Dataset
from topwork.errors import UsageError
from topwork.evaluation import novelty, summary
from topwork.evaluation.calibration import fit_temperature
from topwork.facts import Made, Measurement, Reading, fit_facts
from topwork.features.cache import FeatureCache
from topwork.frozen import fit_head, learned_rows
from topwork.geometry import SHAPED
from topwork.images import ImageSource, stratified_group_folds
from topwork.progress import Clock, Progress
from topwork.recipe import Recipe, Training
from topwork.training.common import Material, Strategy
from topwork.training.extra import require_torch
from topwork.training.networks import first_stage, new_spec
from topwork.training.top import Top, check_cut, cuts
from topwork.training.whole import Full, Scratch
from topwork.tuning.automatic import Plan, Trial, compare
from topwork.tuning.measure import Measured, features_of
from topwork.tuning.pool import Pool, pool_of

_CALIBRATION_FOLDS = 5
_FORGOTTEN = 14 * 24 * 3600.0
"""Seconds after which nobody will go on with a killed training."""


def check_training(recipe: Recipe) -> None:
    """Raise before any work what the recipe's strategy would only find out after it."""
    name, training = recipe.strategy, recipe.training
    if name == "features":
        return
    require_torch()
    if name == "auto" and training.nodes > 1:
        raise UsageError("auto chooses by its own clock, so it runs on one machine; ask for top or full with --nodes")
    if name == "scratch":
        described(recipe.backbone, training.input_size)
        return
    if training.unfreeze != "auto":
        first_stage(training.unfreeze, architecture(recipe.backbone, classes=0), recipe.backbone)
    if training.cut != "auto":
        check_cut(backbone(recipe.backbone), training.cut)


def check_split(recipe: Recipe, images: ImageSource) -> None:
    """UsageError where the source's own ``val`` split measures, so that ``holdout`` and ``folds`` would do nothing."""
    if recipe.strategy == "features" or not any(sample.split == "val" for sample in images.samples):
        return
    if unused := "folds" if recipe.folds else "holdout" if recipe.training.holdout != Training.holdout else None:
        raise UsageError(
            f"{unused} has nothing to decide, because {images.root} has a val split, which measures a network that is "
            f"trained; leave out {unused}, or the split"
        )


def fit_tuned(reading: Reading, graphs: list[Graph], data: Dataset, progress: Progress, clock: Clock) -> Made:
    """Fit by the recipe's strategy; ``auto`` may end with the frozen network."""
    recipe = reading.recipe
    pool = pool_of(data)
    square = next(graph for graph in graphs if graph.geometry != SHAPED)
    material = _material(reading, square, pool)
    checkpoints = _checkpoints(reading, square, pool)
    names: tuple[str, ...] = (recipe.strategy,)
    if recipe.strategy == "auto":
        spec = graphs[0].spec
        names = ("top", "full") if cuts(spec, pretrained_network(spec)) else ("full",)
    make = partial(_strategy, material, recipe)
    plan = Plan(recipe, pool, names, make, checkpoints, clock.begun_at + recipe.training.budget)
    with clock("training"):
        trial = compare(plan, progress)
    if trial.measured is None:
        made = fit_head(reading, graphs, data, progress, clock)
        made.facts["comparison"] = trial.facts
    else:
        with clock("assemble"):
            made = _made(reading, data, pool, trial, trial.strategy, trial.measured, progress)
    return replace(made, temporary=checkpoints)


def _checkpoints(reading: Reading, graph: Graph, pool: Pool) -> Path:
    """Where this fit keeps its checkpoints; those that nobody came back for are removed."""
    root = storage.cache_dir() / "training"
    root.mkdir(exist_ok=True)
    for old in root.iterdir():
        with suppress(OSError):  # another fit may be removing it
            if time.time() - old.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(old)
    named = reading.recipe.to_dict()
    named["training"]["budget"] = 1.0  # another budget is no reason to begin anew
    facts = [named, graph.fingerprint, pool.pictures.contents, pool.pictures.labels.tolist()]
    return root / fingerprint.of_object(facts)[:24]


def _material(reading: Reading, graph: Graph, pool: Pool) -> Material:
    with FeatureCache() as cache:
        limit = cache.limit
    return Material(
        spec=graph.spec,
        geometry=graph.geometry,
        policy=reading.policy,
        samples=pool.pictures.samples,
        contents=pool.pictures.contents,
        labels=pool.pictures.labels,
        groups=pool.groups,
        n_classes=len(pool.pictures.names),
        features=pool.views[(graph.geometry, "pooled")],
        seed=reading.recipe.seed,
        cache_limit=limit,
    )


def _strategy(material: Material, recipe: Recipe, name: str, epochs: int) -> Strategy:
    settings = replace(recipe.training, epochs=epochs)
    if name == "scratch":
        return Scratch(material, new_spec(recipe.backbone, settings.input_size), settings)
    return Top(material, settings) if name == "top" else Full(material, settings)


def _made(
    reading: Reading,
    data: Dataset,
    pool: Pool,
    trial: Trial,
    strategy: Any,
    measured: Measured,
    progress: Progress,
) -> Made:
    """The model folder's content of a trained network."""
    recipe, head, network = reading.recipe, measured.shipped.head, measured.shipped.network
    pictures, groups = pool.pictures.take(measured.rows), pool.groups[measured.rows]
    folds = _calibration_folds(measured, pictures.labels, groups, recipe.seed)
    # Where several parts took turns, a class that is one group was measured by a network that had never seen it.
    learned = learned_rows(pictures.labels, measured.fold) if measured.fold.any() else np.ones(len(groups), bool)
    temperature = fit_temperature(measured.scores[learned], pictures.labels[learned])
    threshold = novelty.measured_threshold(
        measured.distances[learned], folds[learned], groups[learned], recipe.coverage
    )
    probabilities = _cross_calibrated(measured, pictures.labels, folds)
    record = {name: value for name, value in measured.shipped.record.items() if name != "state"}
    found = Measurement(
        pictures,
        groups,
        probabilities,
        measured.distances,
        threshold,
        trial.facts["method"],
        notes=[*trial.notes, *_unmeasured(pool, measured)],
    )
    more: dict[str, Any] = {
        "strategy": strategy.name,
        "n_measured": len(pictures),
        "comparison": trial.facts,
        "training": {**record, "export_difference": measured.difference},
    }
    geometry, spec = strategy.material.geometry, strategy.spec
    if len(data.test):
        features = features_of(data.test.pictures.samples, network, spec, geometry, strategy.policy, progress)
        more["test"] = summary.held_out_facts(
            temperature(head.scores(features)),
            data.test.pictures.labels,
            data.test.groups,
            data.test.pictures.names,
            data.test.pictures.paths,
            novelty=novelty.distances(features, measured.means),
            threshold=threshold.value,
            leaked=data.test.shares_groups(data.train, data.val),
            method="test split",
        )
    facts = fit_facts(
        replace(reading, policy=strategy.policy), data, found, spec=spec, head=head, geometry=geometry, more=more
    )
    described = assembly.metadata(pool.pictures.names, threshold.value)
    graph = assembly.classifier(spec, geometry, head, temperature.scale, measured.means, described, network)
    parts = packing.Parts(
        data,
        *_by_picture(pool, measured, probabilities),
        head,
        measured.means,
        temperature.scale,
        strategy.policy,
        spec,
        _changed(strategy, network),
    )
    return Made(facts, graph, parts)


def _unmeasured(pool: Pool, measured: Measured) -> list[str]:
    names, seen = pool.pictures.names, np.unique(pool.pictures.labels[measured.rows])
    return [
        f"No picture of {name!r} could be held out, so nothing about it was measured; add different pictures."
        for k, name in enumerate(names)
        if k not in seen
    ]


def _calibration_folds(measured: Measured, labels: Any, groups: Any, seed: int) -> Any:
    """Folds ``[m]`` of the measured pictures, so that none is calibrated by itself: those of the parts if several."""
    if measured.fold.any():
        return measured.fold
    n = min(_CALIBRATION_FOLDS, len(np.unique(groups)))
    return stratified_group_folds(labels, groups, n, seed) if n > 1 else np.zeros(len(labels), np.int64)


def _cross_calibrated(measured: Measured, labels: Any, folds: Any) -> Any:
    probabilities = np.empty(measured.scores.shape)
    for fold in np.unique(folds):
        inside = folds == fold
        others = ~inside if (~inside).any() else inside
        probabilities[inside] = fit_temperature(measured.scores[others], labels[others])(measured.scores[inside])
    return probabilities


def _by_picture(pool: Pool, measured: Measured, probabilities: Any) -> tuple[Any, Any]:
    """Fold and probabilities of each picture of the pool; -1 and NaN for those that were not measured."""
    fold = np.full(len(pool), -1)
    whole = np.full((len(pool), probabilities.shape[1]), np.nan)
    fold[measured.rows], whole[measured.rows] = measured.fold, probabilities
    return fold, whole


def _changed(strategy: Strategy, network: Any) -> dict[str, Any]:
    """The weights that are not the pretrained ones."""
    weights = network.weights()
    before = pretrained_network(strategy.spec).weights() if strategy.spec.weights else {}
    floats = {name: array for name, array in weights.items() if array.dtype == np.float32 and array.ndim > 0}
    return {n: a for n, a in floats.items() if n not in before or not np.array_equal(a, before[n])}

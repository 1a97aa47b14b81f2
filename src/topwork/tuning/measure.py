"""Strategies measured on the same held-out pictures, with the graph that would be shipped."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from topwork.backbones.graph import network_graph
from topwork.backbones.network import Network
from topwork.backbones.spec import BackboneSpec
from topwork.errors import ModelError
from topwork.evaluation import novelty
from topwork.evaluation.calibration import fit_temperature
from topwork.features.parallel import ordered_map
from topwork.features.session import cores, open_session
from topwork.heads.candidates import candidates
from topwork.heads.choice import HeadStage
from topwork.images import DecodePolicy, Sample, choose_folds, stratified_group_folds
from topwork.progress import Progress, step
from topwork.recipe import Recipe
from topwork.training.common import OutOfTimeError, Strategy, Trained
from topwork.training.examples import pixels_of
from topwork.tuning.pool import Part, Pool

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_CHECKED = 200
"""Pictures that a refitted network is compared with its PyTorch module on."""
_INNER_FOLDS = 5
"""For choosing the head on the training pictures of a part."""
_NOWHERE = 1e3
"""Every coordinate of the mean of a class without a training picture: never the nearest one."""
LARGEST_DIFFERENCE = 1e-3
"""In probability, between the exported graph and the PyTorch module; more is an error."""


@dataclass(frozen=True)
class Measured:
    """A strategy with gradients on the held-out pictures of all parts, in the order of the parts."""

    rows: Ints
    """Rows of the pool."""
    fold: Ints
    """Number of the part that each was held out in."""
    scores: Floats
    """``[m, c]`` by the exported graph."""
    distances: Floats
    """Novelty ``[m]``."""
    shipped: Trained
    """What was trained last: on everything where there are several parts, or where that was asked for."""
    means: Floats
    """Class means of the features of what is shipped."""
    difference: float
    """Largest difference in probability between the exported graph and the PyTorch module."""


def frozen_scores(pool: Pool, parts: Sequence[Part], recipe: Recipe) -> Floats:
    """Class scores of the held-out pictures of all parts by heads on the frozen network, chosen without them."""
    found = []
    with threadpool_limits(limits=1, user_api="blas"):
        for part in parts:
            labels, groups = pool.pictures.labels[part.train], pool.groups[part.train]
            n_folds = min(_INNER_FOLDS, choose_folds(labels, groups))
            inner = stratified_group_folds(labels, groups, n_folds, recipe.seed)
            views = {view: inputs[part.train] for view, inputs in pool.views.items()}
            stage = HeadStage(views, labels, inner, len(pool.pictures.names), threads=cores())
            options = candidates(recipe.head, recipe.features, views)
            # With two folds nothing would be left to choose on: the first candidate is the safest.
            winner = stage.choose(options).winner if n_folds > 2 else options[0]
            found.append(stage.final(winner).scores(pool.views[winner.view][part.held]))
    return np.concatenate(found)


def measure(
    strategy: Strategy,
    pool: Pool,
    parts: Sequence[Part],
    *,
    refit: bool,
    checkpoint: Path,
    deadline: float,
    progress: Progress,
) -> Measured:
    """Train on each part and measure on what it holds out; raises OutOfTimeError where the deadline comes first.

    With several parts, or ``refit``, the model that is shipped is then trained on all pictures.
    """
    rows, scores, distances, difference = [], [], [], 0.0
    labels, n_classes = pool.pictures.labels, len(pool.pictures.names)
    everything = np.arange(len(pool))
    untrained = any(len(np.unique(labels[part.train])) < len(np.unique(labels)) for part in parts)
    again = refit or len(parts) > 1 or untrained  # a class that is a single group must not be missing in what ships
    strategy.prepare(everything if again else parts[0].train, deadline=deadline, progress=progress)
    for part in parts:
        trained = strategy.train(part.train, part.held, checkpoint=checkpoint, deadline=deadline, progress=progress)
        _in_time(trained, deadline)
        both = np.concatenate([part.train, part.held])
        found = network_features(strategy, trained.network, both, progress)
        training, held = found[: len(part.train)], found[len(part.train) :]
        means = novelty.class_means(training, labels[part.train], n_classes)
        rows.append(part.held)
        scores.append(trained.head.scores(held))
        distances.append(novelty.distances(held, means))
        difference = max(difference, _difference(strategy, trained, part.held, scores[-1]))
    if again:
        nobody = np.empty(0, np.int64)
        trained = strategy.train(everything, nobody, checkpoint=checkpoint, deadline=deadline, progress=progress)
        _in_time(trained, deadline)
        trained.record["refit"] = True
        found = network_features(strategy, trained.network, everything, progress)
        means = novelty.class_means(found, labels, n_classes)
        some = parts[0].held[:_CHECKED]
        difference = max(difference, _difference(strategy, trained, some, trained.head.scores(found[some])))
    fold = np.repeat(np.arange(len(parts)), [len(part.held) for part in parts])
    joined = np.concatenate(rows), fold, np.concatenate(scores), np.concatenate(distances)
    means[np.isnan(means)] = _NOWHERE
    return Measured(*joined, trained, means, difference)


def _in_time(trained: Trained, deadline: float) -> None:
    if trained.out_of_time or time.time() > deadline:
        raise OutOfTimeError


def _difference(strategy: Strategy, trained: Trained, held: Ints, scores: Floats) -> float:
    """How far the exported graph is from the PyTorch module on the held-out pictures, in probability."""
    labels = strategy.material.labels[held]
    temperature = fit_temperature(scores, labels)
    module = strategy.scores(trained.record["state"], held)
    difference = float(np.abs(temperature(scores) - temperature(module)).max())
    if difference > LARGEST_DIFFERENCE:
        raise ModelError(
            f"the exported graph does not answer as the network that was trained (probabilities differ by "
            f"{difference:.4f}); please report this, and use --strategy features until it is mended"
        )
    return difference


def network_features(strategy: Strategy, network: Network, rows: Ints, progress: Progress) -> Floats:
    """Pooled features ``[m, d]`` of pictures by a trained network, in the graph that is shipped."""
    samples = [strategy.material.samples[row] for row in rows]
    return features_of(samples, network, strategy.spec, strategy.material.geometry, strategy.policy, progress)


def features_of(
    samples: Sequence[Sample],
    network: Network,
    spec: BackboneSpec,
    geometry: str,
    policy: DecodePolicy,
    progress: Progress,
) -> Floats:
    """The same for any pictures."""
    name = "measuring the trained network"
    session: Any = open_session(network_graph(spec, geometry, network))

    def one(sample: Sample) -> Floats:
        features: Floats = session.run(["features"], {"image": pixels_of(sample, policy)[None]})[0]
        return features

    found = []
    with step(progress, name, total=len(samples)):
        for features in ordered_map(one, samples):
            found.append(features)
            progress.advance(name)
    return np.concatenate(found) if found else np.empty((0, spec.feature_dim), np.float32)

"""The one flow: a source of labelled pictures and a recipe become a measured model.

This module alone knows the order of the steps; each step is a function of another package.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - brings its own BLAS, which must be loaded before threads are limited
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from topwork import assembly, fingerprint, packing
from topwork.backbones.graph import Graph, feature_graph
from topwork.backbones.zoo import backbone
from topwork.errors import SourceError
from topwork.evaluation import label_errors, learning_curve, novelty, summary
from topwork.evaluation.calibration import Temperature, fit_temperature
from topwork.evaluation.duplicates import duplicate_groups, merged_groups
from topwork.features.cache import FeatureCache
from topwork.features.extraction import Extraction, extract
from topwork.features.labelled import LabelledSet, labelled_set
from topwork.features.session import cores
from topwork.heads.candidates import candidates
from topwork.heads.choice import Choice, HeadStage, LinearHead
from topwork.images import (
    DecodePolicy,
    Excluded,
    ImageSource,
    choose_folds,
    stratified_group_folds,
    stratified_sample,
)
from topwork.model import Model
from topwork.progress import Progress, Silent
from topwork.recipe import Recipe

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Views = dict[tuple[str, str], Floats]

SMALL = 200
"""Most pictures for which ``geometry="auto"`` tries all three; beyond, and by default, it is the centre crop."""


@dataclass(frozen=True)
class Fit:
    """A fitted model with everything that was measured about it."""

    facts: dict[str, Any]
    """The JSON of ``topwork fit --json``; docs/json.md describes it."""
    graph: bytes = field(repr=False)
    """The assembled ONNX graph."""
    parts: packing.Parts = field(repr=False)
    """What else goes into the model folder."""

    @property
    def model(self) -> Model:
        """The model, ready to predict."""
        return Model(self.graph, packing.manifest(self.facts, self.parts), name=self.facts["model"] or "model")

    def save(self, path: str | Path, *, progress: Progress | None = None) -> None:
        """Write the model folder in one step; a killed run leaves the old folder or none."""
        packing.save(Path(path), self.model, self.graph, self.facts, self.parts, progress or Silent())


@dataclass
class _Clock:
    """Seconds of each step."""

    seconds: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - start, 4)


def fit(
    source: Any, recipe: Recipe | None = None, *, output: str | Path | None = None, progress: Progress | None = None
) -> Fit:
    """Fit a classifier to a labelled source: a folder, a manifest, a URL or an ``ImageSource``.

    The accuracy comes from nested, grouped cross-validation: no picture, and no near-duplicate of it, took part in
    choosing or training what classified it. With ``output`` the model folder is written too. Raises SourceError where
    the source does not hold at least 2 classes with 2 usable pictures each.
    """
    recipe, progress, clock = recipe or Recipe(), progress or Silent(), _Clock()
    if output is not None:
        packing.check_target(Path(output))
    with clock("scan"):
        images = ImageSource.open(source, labelled=True)
    spec = backbone(recipe.backbone)
    policy = DecodePolicy(max_pixels=recipe.max_pixels, shrink_to=spec.preprocess.needed_side)
    with FeatureCache() as cache:
        with clock("graph"):
            graphs = [feature_graph(spec, geometry) for geometry in _geometries(recipe, len(images.samples))]
        with clock("features"):
            labelled = [sample for sample in images.samples if sample.label is not None]
            extraction = extract(labelled, graphs, policy, cache, progress=progress)
            whole, foreign = labelled_set(extraction, labelled)
            data = _Data.prepare(whole, recipe, graphs, policy, cache)
            cache.trim()
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit_head(_Context(recipe, progress, clock, images, extraction, foreign, graphs, policy), data, output)


@dataclass(frozen=True)
class _Context:
    """What the later steps need to know of the earlier ones."""

    recipe: Recipe
    progress: Progress
    clock: _Clock
    images: ImageSource
    extraction: Extraction
    foreign: list[Excluded]
    graphs: list[Graph]
    policy: DecodePolicy


@dataclass(frozen=True)
class _Data:
    """The pictures in memory: splits, features, near-duplicate groups."""

    train: LabelledSet
    views: Views
    groups: Ints
    """``[n]`` of the training pictures."""
    held_out: dict[str, tuple[LabelledSet, Views, Ints]]
    """``val`` and ``test`` with their views and groups, in the numbering of ``groups``."""
    sampled: int
    """Training pictures that were left out because of ``head_limit``."""

    @classmethod
    def prepare(
        cls, whole: LabelledSet, recipe: Recipe, graphs: list[Graph], policy: DecodePolicy, cache: FeatureCache
    ) -> "_Data":
        """Load the features and group near-duplicates over all splits."""
        total = len(whole)
        whole = _limited(whole, recipe)
        views = whole.views(graphs, policy, cache)
        groups = merged_groups(whole.user_groups(), whole.content_groups())
        if recipe.group_duplicates:
            features = views[(graphs[0].geometry, "pooled")]
            groups = merged_groups(groups, duplicate_groups(features, whole.hashes(policy, cache)))
        rows = {
            name: np.array([i for i, s in enumerate(whole.samples) if (s.split or "train") == name], np.int64)
            for name in ("train", "val", "test")
        }
        held_out = {
            name: (whole.take(rows[name]), {k: v[rows[name]] for k, v in views.items()}, groups[rows[name]])
            for name in ("val", "test")
            if len(rows[name])
        }
        train = rows["train"]
        inputs = views if len(train) == len(whole) else {k: v[train] for k, v in views.items()}
        return cls(whole.take(train), inputs, groups[train], held_out, total - len(whole))


def _limited(whole: LabelledSet, recipe: Recipe) -> LabelledSet:
    """At most ``head_limit`` pictures, so that memory has a bound; whole user groups, classes in proportion."""
    if len(whole) <= recipe.head_limit:
        return whole
    return whole.take(stratified_sample(whole.labels, whole.user_groups(), recipe.head_limit, recipe.seed))


def _geometries(recipe: Recipe, n: int) -> tuple[str, ...]:
    if recipe.geometry != "auto":
        return (recipe.geometry,)
    return ("crop", "pad", "stretch") if n <= SMALL else ("crop",)


def _fit_head(context: _Context, data: _Data, output: str | Path | None) -> Fit:
    recipe, clock = context.recipe, context.clock
    train, groups = data.train, data.groups
    folds, how = _folds(train, groups, recipe)
    with clock("heads"):
        stage = HeadStage(data.views, train.labels, folds, len(train.names), threads=cores())
        options = candidates(recipe.head, recipe.features, tuple(graph.geometry for graph in context.graphs))
        val = data.held_out.get("val")
        choice = stage.choose(options, (val[1], val[0].labels) if val else None, progress=context.progress)
        head = stage.final(choice.winner)
    with clock("trust"):
        trust = _trust(choice, stage, head, data, folds, recipe)
    facts = _facts(context, data, choice, trust, how)
    test = data.held_out.get("test")
    facts["test"] = _test_facts(head, trust, choice.winner.geometry, test, set(groups.tolist())) if test else None
    with clock("assemble"):
        spec = context.graphs[0].spec
        graph = assembly.classifier(spec, choice.winner.geometry, head, trust.temperature.scale, trust.means)
    parts = packing.Parts(
        train, folds, groups, trust.probabilities, head, trust.means, trust.temperature.scale, context.policy, spec
    )
    facts["seconds"]["total"] = round(time.perf_counter() - clock.begun, 4)
    result = Fit(facts, graph, parts)
    if output is not None:
        with clock("save"):
            facts["model"] = str(output)
            result.save(output, progress=context.progress)
    facts["seconds"] = {**clock.seconds, "total": round(time.perf_counter() - clock.begun, 4)}
    return result


def _folds(train: LabelledSet, groups: Ints, recipe: Recipe) -> tuple[Ints, str]:
    """The outer folds, and in words what they are."""
    n_groups = len(np.unique(groups))
    if n_groups < 3:
        raise SourceError(
            f"expected at least 3 pictures that are not near-duplicates of each other, found {n_groups}; "
            "add different pictures (or set group_duplicates = false in a recipe)"
        )
    wanted = min(recipe.folds or choose_folds(train.labels, groups), n_groups)
    folds = stratified_group_folds(train.labels, groups, wanted, recipe.seed)
    if wanted == n_groups:
        return folds, "leave-one-out cross-validation" if n_groups == len(train) else "leave-one-group-out"
    return folds, f"nested {wanted}-fold cross-validation" + (", grouped" if n_groups < len(train) else "")


@dataclass(frozen=True)
class _Trust:
    """What is known about the head beyond its labels."""

    probabilities: NDArray[np.float64]
    """Nested out-of-fold probabilities ``[n, c]``: each fold calibrated without itself."""
    temperature: Temperature
    means: Floats
    distances: Floats
    """Out-of-fold novelty ``[n]``."""
    threshold: novelty.Threshold
    naive: float | None
    curve: learning_curve.Curve


def _trust(choice: Choice, stage: HeadStage, head: LinearHead, data: _Data, folds: Ints, recipe: Recipe) -> _Trust:
    train, groups = data.train, data.groups
    features = data.views[(choice.winner.geometry, "pooled")]
    probabilities = _nested_probabilities(choice, train.labels, folds, data.held_out)
    distances = novelty.out_of_fold(features, train.labels, folds, len(train.names))
    return _Trust(
        probabilities=probabilities,
        temperature=fit_temperature(choice.scores, train.labels),
        means=novelty.class_means(features, train.labels, len(train.names)),
        distances=distances,
        threshold=novelty.conformal_threshold(distances, recipe.coverage),
        naive=_naive_accuracy(choice, stage, train.labels, groups, recipe.seed, int(folds.max()) + 1),
        curve=_learning_curve(choice, stage, train, groups, folds, recipe.seed),
    )


def _nested_probabilities(choice: Choice, labels: Ints, folds: Ints, held_out: dict[str, Any]) -> NDArray[np.float64]:
    judged = held_out["val"][0].labels if "val" in held_out else labels
    probabilities = np.empty(choice.nested.shape)
    for fold, (rows, scores) in enumerate(choice.inner):
        inside = folds == fold
        probabilities[inside] = fit_temperature(scores, judged[rows])(choice.nested[inside])
    return probabilities


def _naive_accuracy(
    choice: Choice, stage: HeadStage, labels: Ints, groups: Ints, seed: int, n_folds: int
) -> float | None:
    """The accuracy of the same settings on folds that know no groups; None where there are none."""
    if len(np.unique(groups)) == len(groups):
        return None
    folds = stratified_group_folds(labels, np.arange(len(labels)), n_folds, seed)
    scores = stage.with_folds(folds).out_of_fold(choice.fold_winners)
    return float((scores.argmax(axis=1) == labels).mean())


def _learning_curve(
    choice: Choice, stage: HeadStage, train: LabelledSet, groups: Ints, folds: Ints, seed: int
) -> learning_curve.Curve:
    right = {1.0: choice.nested.argmax(axis=1) == train.labels}
    smallest = min(len(np.unique(groups[train.labels == k])) for k in range(len(train.names)))
    for fraction in learning_curve.FRACTIONS[:-1]:
        if smallest * fraction >= 2:
            kept = learning_curve.subsets(train.labels, groups, folds, fraction, seed)
            right[fraction] = stage.out_of_fold(choice.fold_winners, kept).argmax(axis=1) == train.labels
    return learning_curve.learning_curve(
        right, train.labels, groups, train.names, folds=int(folds.max()) + 1, seed=seed
    )


def _facts(context: _Context, data: _Data, choice: Choice, trust: _Trust, how: str) -> dict[str, Any]:
    """The JSON of a fit."""
    train, recipe = data.train, context.recipe
    known = trust.distances <= trust.threshold.value
    measured = summary.classification(
        trust.probabilities, train.labels, data.groups, train.names, method=how, naive=trust.naive
    )
    excluded = [*context.extraction.excluded, *context.foreign, *context.images.excluded]
    return {
        "format": 1,
        "topwork": packing.versions()["topwork"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": None,
        "task": "classify",
        "strategy": recipe.strategy,
        "backbone": recipe.backbone,
        "head": choice.winner.head,
        "features": choice.winner.features,
        "geometry": choice.winner.geometry,
        "classes": train.counts(),
        "n_images": len(train),
        "n_unlabelled": sum(sample.label is None for sample in context.images.samples),
        "n_sampled_out": data.sampled,
        "excluded": [vars(item) for item in excluded],
        "groups": packing.group_facts(data.groups, train.paths),
        **measured,
        "novelty": trust.threshold.summary(),
        "mistakes": summary.mistakes(trust.probabilities, train.labels, known, train.paths, train.names),
        "label_suspects": _suspects(trust.probabilities, train),
        "learning_curve": trust.curve.summary(),
        "choice": packing.choice_facts(choice),
        "test": None,
        "seconds": dict(context.clock.seconds),
        "cache": {"hits": context.extraction.hits, "misses": context.extraction.misses},
        "seed": recipe.seed,
        "recipe": recipe.to_dict(),
        "versions": packing.versions(),
        "weights": packing.weights_facts(context.graphs[0].spec),
        "data_fingerprint": fingerprint.of_object(sorted(zip(train.contents, train.labels.tolist(), strict=True))),
    }


def _suspects(probabilities: NDArray[np.float64], train: LabelledSet) -> list[dict[str, Any]]:
    return [
        {
            "path": train.paths[found.row],
            "label": train.names[train.labels[found.row]],
            "suggested": train.names[found.suggested],
            "probability": found.probability,
            "label_probability": found.label_probability,
        }
        for found in label_errors.suspects(probabilities, train.labels)
    ]


def _test_facts(
    head: LinearHead, trust: _Trust, geometry: str, test: tuple[LabelledSet, Views, Ints], train_groups: set[int]
) -> dict[str, Any]:
    """The measurement on the test split, without pictures that are near-duplicates of training ones."""
    held, views, groups = test
    features = views[(geometry, "pooled")]
    seen = views[(geometry, head.features)]
    distances = novelty.distances(features, trust.means)
    return summary.held_out_facts(
        trust.temperature(head.scores(seen)),
        held.labels,
        groups,
        held.names,
        held.paths,
        novelty=distances,
        threshold=trust.threshold.value,
        leaked=np.isin(groups, list(train_groups)),
        method="test split",
    )

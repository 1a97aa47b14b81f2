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

from topwork import assembly, dataset, fingerprint, packing
from topwork.backbones.graph import Graph, feature_graph
from topwork.backbones.zoo import backbone
from topwork.dataset import Dataset, Split
from topwork.errors import SourceError
from topwork.evaluation import label_errors, learning_curve, novelty, summary
from topwork.evaluation.calibration import Temperature, fit_temperature
from topwork.features.cache import FeatureCache
from topwork.features.extraction import Extraction, extract
from topwork.features.labelled import LabelledSet, labelled_set
from topwork.features.session import cores
from topwork.heads.candidates import candidates
from topwork.heads.choice import Choice, HeadStage, LinearHead
from topwork.images import DecodePolicy, Excluded, ImageSource, choose_folds, stratified_group_folds
from topwork.model import Model
from topwork.progress import Progress, Silent
from topwork.recipe import Recipe

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

SMALL = 200
"""Most training pictures for which ``geometry="auto"`` tries all three; beyond, it is the centre crop."""


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
        name, contents = self.facts["model"] or "model", packing.contents(self.parts)
        return Model(self.graph, packing.manifest(self.facts, self.parts), name=name, trained_on=lambda: contents)

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

    def so_far(self) -> dict[str, float]:
        """Seconds by step, and in all."""
        return {**self.seconds, "total": round(time.perf_counter() - self.begun, 4)}


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
            graphs = [feature_graph(spec, geometry) for geometry in _geometries(recipe, images)]
        with clock("features"):
            labelled = [sample for sample in images.samples if sample.label is not None]
            extraction = extract(labelled, graphs, policy, cache, progress=progress)
            whole, foreign = labelled_set(extraction, labelled)
            data = dataset.prepare(whole, recipe, graphs, policy, cache, progress)
            cache.trim()
    with threadpool_limits(limits=1, user_api="blas"):
        context = _Context(recipe, progress, clock, images, extraction, [*foreign, *data.excluded], graphs, policy)
        return _fit_head(context, data, output)


@dataclass(frozen=True)
class _Context:
    """What the later steps need to know of the earlier ones."""

    recipe: Recipe
    progress: Progress
    clock: _Clock
    images: ImageSource
    extraction: Extraction
    unused: list[Excluded]
    """Readable pictures that nevertheless took no part."""
    graphs: list[Graph]
    policy: DecodePolicy


def _geometries(recipe: Recipe, images: ImageSource) -> tuple[str, ...]:
    if recipe.geometry != "auto":
        return (recipe.geometry,)
    n = sum(sample.label is not None and (sample.split or "train") == "train" for sample in images.samples)
    return ("crop", "pad", "stretch") if n <= SMALL else ("crop",)


def _fit_head(context: _Context, data: Dataset, output: str | Path | None) -> Fit:
    recipe, clock, train = context.recipe, context.clock, data.train
    folds, how = _folds(train, recipe)
    names = train.pictures.names
    with clock("heads"):
        stage = HeadStage(train.views, train.pictures.labels, folds, len(names), threads=cores())
        options = candidates(recipe.head, recipe.features, tuple(graph.geometry for graph in context.graphs))
        val = (data.val.views, data.val.pictures.labels) if len(data.val) else None
        choice = stage.choose(options, val, progress=context.progress)
        head = stage.final(choice.winner)
    with clock("trust"):
        trust = _trust(choice, stage, data, folds, recipe)
    facts = _facts(context, data, choice, trust, how + (", head chosen on the val split" if val else ""))
    facts["test"] = _test_facts(head, trust, choice.winner.geometry, data) if len(data.test) else None
    with clock("assemble"):
        spec = context.graphs[0].spec
        described = assembly.metadata(names, trust.threshold.value)
        graph = assembly.classifier(spec, choice.winner.geometry, head, trust.temperature.scale, trust.means, described)
    parts = packing.Parts(
        data, folds, trust.probabilities, head, trust.means, trust.temperature.scale, context.policy, spec
    )
    result = Fit(facts, graph, parts)
    if output is not None:
        with clock("save"):
            facts["model"] = str(output)
            facts["seconds"] = clock.so_far()
            result.save(output, progress=context.progress)
    facts["seconds"] = clock.so_far()
    return result


def _folds(train: Split, recipe: Recipe) -> tuple[Ints, str]:
    """The outer folds, and in words what they are."""
    labels, groups = train.pictures.labels, train.groups
    n_groups = len(np.unique(groups))
    if n_groups < 3:
        raise SourceError(
            f"expected at least 3 pictures that are not near-duplicates of each other, found {n_groups}; "
            "add different pictures (or set group_duplicates = false in a recipe)"
        )
    wanted = min(recipe.folds or choose_folds(labels, groups), n_groups)
    folds = stratified_group_folds(labels, groups, wanted, recipe.seed)
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
    notes: list[str]
    """What a reader must know before the numbers."""


def _trust(choice: Choice, stage: HeadStage, data: Dataset, folds: Ints, recipe: Recipe) -> _Trust:
    train, labels, names = data.train, data.train.pictures.labels, data.train.pictures.names
    features = train.views[(choice.winner.geometry, "pooled")]
    judged = data.val.pictures.labels if len(data.val) else labels
    distances = novelty.out_of_fold(features, labels, folds, len(names))
    learned = _learned(labels, folds)
    return _Trust(
        probabilities=_nested_probabilities(choice, judged, folds),
        temperature=fit_temperature(choice.scores, labels),
        means=novelty.class_means(features, labels, len(names)),
        distances=distances,
        threshold=novelty.measured_threshold(
            distances[learned], folds[learned], train.groups[learned], recipe.coverage
        ),
        naive=_naive_accuracy(choice, stage, train, recipe.seed, int(folds.max()) + 1),
        curve=_learning_curve(choice, stage, train, folds, recipe.seed),
        notes=[
            f"All pictures of {names[k]!r} are near-duplicates or one group, so nothing about it could be measured; "
            "add different pictures."
            for k in np.unique(labels[~learned])
        ],
    )


def _learned(labels: Ints, folds: Ints) -> NDArray[np.bool_]:
    """Pictures ``[n]`` whose class has others outside their fold; of the rest nothing can be learned, so not measured.

    Where that is so for all pictures, there is nothing better than to take them as they are.
    """
    counts = np.zeros((labels.max() + 1, folds.max() + 1), np.int64)
    np.add.at(counts, (labels, folds), 1)
    learned = counts[labels, folds] < counts.sum(axis=1)[labels]
    return learned if learned.any() else np.ones(len(labels), bool)


def _nested_probabilities(choice: Choice, judged: Ints, folds: Ints) -> NDArray[np.float64]:
    probabilities = np.empty(choice.nested.shape)
    for fold, (rows, scores) in enumerate(choice.inner):
        inside = folds == fold
        probabilities[inside] = fit_temperature(scores, judged[rows])(choice.nested[inside])
    return probabilities


def _naive_accuracy(choice: Choice, stage: HeadStage, train: Split, seed: int, n_folds: int) -> float | None:
    """The accuracy of the same settings on folds that know no groups; None where there are none."""
    if len(np.unique(train.groups)) == len(train):
        return None
    labels = train.pictures.labels
    folds = stratified_group_folds(labels, np.arange(len(train)), n_folds, seed)
    scores = stage.with_folds(folds).out_of_fold(choice.fold_winners)
    return float((scores.argmax(axis=1) == labels).mean())


def _learning_curve(choice: Choice, stage: HeadStage, train: Split, folds: Ints, seed: int) -> learning_curve.Curve:
    labels, groups, names = train.pictures.labels, train.groups, train.pictures.names
    right = {1.0: choice.nested.argmax(axis=1) == labels}
    smallest = min(len(np.unique(groups[labels == k])) for k in range(len(names)))
    for fraction in learning_curve.FRACTIONS[:-1]:
        if smallest * fraction >= 2:
            kept = learning_curve.subsets(labels, groups, folds, fraction, seed)
            right[fraction] = stage.out_of_fold(choice.fold_winners, kept).argmax(axis=1) == labels
    return learning_curve.learning_curve(right, labels, groups, names, folds=int(folds.max()) + 1, seed=seed)


def _facts(context: _Context, data: Dataset, choice: Choice, trust: _Trust, how: str) -> dict[str, Any]:
    """The JSON of a fit."""
    train, recipe = data.train.pictures, context.recipe
    known = trust.distances <= trust.threshold.value
    measured = summary.classification(
        trust.probabilities, train.labels, data.train.groups, train.names, method=how, naive=trust.naive
    )
    excluded = [*context.extraction.excluded, *context.unused, *context.images.excluded]
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
        "n_val": len(data.val),
        "n_unlabelled": sum(sample.label is None for sample in context.images.samples),
        "n_sampled_out": sum(data.sampled_out.values()),
        "notes": trust.notes,
        "excluded": [vars(item) for item in excluded],
        "groups": packing.group_facts(data.train.groups, train.paths),
        **measured,
        "novelty": trust.threshold.summary(),
        "mistakes": summary.mistakes(trust.probabilities, train.labels, known, train.paths, train.names),
        "label_suspects": _suspects(trust.probabilities, train),
        "learning_curve": trust.curve.summary(),
        "choice": packing.choice_facts(choice),
        "test": None,
        "seconds": {},
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


def _test_facts(head: LinearHead, trust: _Trust, geometry: str, data: Dataset) -> dict[str, Any]:
    """The measurement on the test split, without near-duplicates of pictures that trained or chose the head."""
    test = data.test
    return summary.held_out_facts(
        trust.temperature(head.scores(test.views[(geometry, head.features)])),
        test.pictures.labels,
        test.groups,
        test.pictures.names,
        test.pictures.paths,
        novelty=novelty.distances(test.views[(geometry, "pooled")], trust.means),
        threshold=trust.threshold.value,
        leaked=test.shares_groups(data.train, data.val),
        method="test split",
    )

"""The strategy ``features``: a frozen network, a linear head chosen and measured by nested cross-validation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from topwork import assembly, packing
from topwork.backbones.graph import Graph
from topwork.dataset import Dataset, Split
from topwork.errors import SourceError
from topwork.evaluation import learning_curve, novelty, summary
from topwork.evaluation.calibration import Temperature, fit_temperature
from topwork.facts import Made, Measurement, Reading, fit_facts
from topwork.features.session import cores
from topwork.heads.candidates import candidates
from topwork.heads.choice import Choice, HeadStage, LinearHead
from topwork.images import choose_folds, stratified_group_folds
from topwork.progress import Clock, Progress
from topwork.recipe import Recipe

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def fit_head(reading: Reading, graphs: list[Graph], data: Dataset, progress: Progress, clock: Clock) -> Made:
    """Choose, measure and assemble a head on the frozen network."""
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit_head(reading, graphs, data, progress, clock)


def _fit_head(reading: Reading, graphs: list[Graph], data: Dataset, progress: Progress, clock: Clock) -> Made:
    recipe, train, names = reading.recipe, data.train, data.train.pictures.names
    folds, how = _folds(train, recipe)
    with clock("heads"):
        stage = HeadStage(train.views, train.pictures.labels, folds, len(names), threads=cores())
        options = candidates(recipe.head, recipe.features, train.views)
        val = (data.val.views, data.val.pictures.labels) if len(data.val) else None
        choice = stage.choose(options, val, progress=progress)
        head = stage.final(choice.winner)
    with clock("trust"):
        trust = _trust(choice, stage, data, folds, recipe)
    with clock("assemble"):
        spec, geometry = graphs[0].spec, choice.winner.geometry
        described = assembly.metadata(names, trust.threshold.value)
        graph = assembly.classifier(spec, geometry, head, trust.temperature.scale, trust.means, described)
    measured = Measurement(
        train.pictures,
        train.groups,
        trust.probabilities,
        trust.distances,
        trust.threshold,
        how + (", head chosen on the val split" if val else ""),
        trust.naive,
        trust.notes,
    )
    more = {
        "strategy": "features",
        "learning_curve": trust.curve.summary(),
        "choice": packing.choice_facts(choice),
        "test": _test_facts(head, trust, geometry, data) if len(data.test) else None,
    }
    facts = fit_facts(reading, data, measured, spec=spec, head=head, geometry=geometry, more=more)
    unmeasured = len(data.val)
    parts = packing.Parts(
        data,
        np.concatenate([folds, np.full(unmeasured, -1)]),
        np.concatenate([trust.probabilities, np.full((unmeasured, len(names)), np.nan)]),
        head,
        trust.means,
        trust.temperature.scale,
        reading.policy,
        spec,
    )
    return Made(facts, graph, parts)


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
    learned = learned_rows(labels, folds)
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
            f"All pictures of {names[k]!r} are near-duplicates or one group (such as one video), so nothing about it "
            "could be measured; add different pictures."
            for k in np.unique(labels[~learned])
        ],
    )


def learned_rows(labels: Ints, folds: Ints) -> NDArray[np.bool_]:
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

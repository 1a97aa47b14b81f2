"""Which geometry suits a set: measured on a sample of it, with a head on the frozen network.

The crop stays unless another beats its Brier score by more than the noise, as heads are chosen; then little of the
choice is luck, and the accuracy that is measured afterwards is hardly flattered by it (docs/fit.md has the figures).
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from topwork.auditing.next_steps import NextStep
from topwork.backbones.graph import Graph, feature_graph
from topwork.backbones.spec import BackboneSpec
from topwork.dataset import Views, grouped
from topwork.errors import UsageError
from topwork.evaluation.metrics import Interval, effective_number, wilson
from topwork.features.cache import FeatureCache
from topwork.features.cut_away import CutAway, cut_away_by, nearly_square
from topwork.features.extraction import Extraction, extract, load_facts
from topwork.features.facts import Facts
from topwork.features.labelled import LabelledSet
from topwork.features.session import cores
from topwork.heads.candidates import Candidate, candidates
from topwork.heads.choice import HeadStage
from topwork.images import DecodePolicy, Sample, choose_folds, stratified_group_folds, stratified_sample
from topwork.progress import Progress
from topwork.recipe import Recipe

Ints = NDArray[np.int64]

SAMPLE = 300
"""Most pictures that geometries are compared on, or three of each class where that is more."""
_LEAST = 3
_FEWEST = 3  # independent pictures: fewer cannot be cross-validated
PREFERRED = "crop"
SHAPED = "whole"
"""The geometry whose inputs are of different shapes."""
_SQUARES = ("pad", "stretch")


@dataclass(frozen=True)
class Compared:
    """A geometry with what a head on it gets right in cross-validation."""

    geometry: str
    accuracy: Interval
    brier: float


@dataclass(frozen=True)
class GeometryChoice:
    """The outcome of ``geometry="auto"``."""

    chosen: str
    compared: tuple[Compared, ...] = ()
    """The crop first; empty where nothing had to be compared, or could be."""
    n: int = 0
    """Pictures that they were compared on."""
    nested: float | None = None
    """Accuracy where each fold chooses without itself: of the choice rather than of the chosen one."""
    crop: CutAway | None = None
    """What the crop cuts away."""
    square: bool = False
    """Whether the pictures are nearly square, so that there was nothing to compare."""
    fresh: frozenset[str] = frozenset()
    """Content hashes of the pictures that were read and were not in the cache."""

    def needed(self, strategy: str) -> tuple[str, ...]:
        """The geometries that a strategy takes features of, the chosen one first.

        ``auto`` may train, which needs squares, and compares that with a head on the chosen geometry.
        """
        if strategy != "auto" or self.chosen != SHAPED:
            return (self.chosen,)
        squares = [each for each in self.compared if each.geometry != SHAPED]
        return self.chosen, min(squares, key=lambda each: each.brier).geometry

    @property
    def text(self) -> str:
        """The outcome for a person, in a sentence."""
        if self.square:
            return f"Geometry {self.chosen}: the pictures are nearly square."
        if not self.compared:
            return f"Geometry {self.chosen}: too few pictures to compare others on."
        unseen = self.crop.words if self.crop and self.crop.much else None
        by_name = {each.geometry: each.accuracy.value for each in self.compared}
        crop = by_name.pop(PREFERRED)
        if self.chosen != PREFERRED:
            return (
                f"Geometry {self.chosen}: {_percent(by_name[self.chosen])} right on {self.n} pictures, against "
                f"{_percent(crop)} with the crop" + (f", which {unseen}." if unseen else ".")
            )
        others = ", ".join(f"{name} ({_percent(value)})" for name, value in by_name.items())
        return (
            f"Geometry {self.chosen}: {_percent(crop)} right on {self.n} pictures; {others} "
            f"{'is' if len(by_name) == 1 else 'are'} not better beyond the noise"
            + (f", though the crop {unseen}." if unseen else ".")
        )

    def as_dict(self) -> dict[str, Any]:
        """``geometry_choice`` of the JSON."""
        return {
            "chosen": self.chosen,
            "n": self.n,
            "compared": [{**asdict(each), "brier": round(each.brier, 4)} for each in self.compared],
            "nested_accuracy": self.nested,
            "text": self.text,
        }


def check_geometry(recipe: Recipe, spec: BackboneSpec) -> None:
    """Raise UsageError before any work where the recipe's geometry is not possible.

    >>> from topwork.backbones.zoo import backbone
    >>> check_geometry(Recipe(geometry="whole", strategy="top"), backbone("tf_efficientnet_lite0"))
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a geometry that makes squares for --strategy top, but whole keeps ...
    """
    if recipe.geometry != SHAPED:
        return
    if recipe.strategy != "features":
        raise UsageError(
            f"expected a geometry that makes squares for --strategy {recipe.strategy}, but whole keeps the shape of "
            "each picture; use --geometry pad, stretch or crop, or --strategy features"
        )
    if not spec.any_shape:
        raise UsageError(
            f"expected a network that takes pictures of any shape for --geometry whole, but {spec.name} takes squares; "
            "use --geometry pad, stretch or crop, or the default backbone"
        )


def choose_geometry(
    samples: Iterable[Sample],
    spec: BackboneSpec,
    twins: Graph,
    recipe: Recipe,
    policy: DecodePolicy,
    cache: FeatureCache,
    progress: Progress,
) -> GeometryChoice:
    """Choose among the geometries that network and strategy allow, on at most ``SAMPLE`` of the training pictures.

    ``twins``: the graph whose features tell near-duplicates. Nearly square pictures are not compared. ``whole`` is
    compared with the crop first: what the crop cuts away it would see. ``pad`` and ``stretch`` are tried where that
    was better, or most of a picture is cut away, or ``whole`` is not possible.
    """
    trial = _Trial(_sample(samples, recipe), spec, twins, recipe, policy, cache, progress)
    pictures = trial.pictures()
    if not pictures:
        return GeometryChoice(PREFERRED, fresh=trial.fresh)
    if nearly_square(pictures):
        return GeometryChoice(PREFERRED, square=True, fresh=trial.fresh)
    cut = cut_away_by(spec.preprocess, PREFERRED, pictures)
    shaped = (SHAPED,) if spec.any_shape and recipe.strategy in ("features", "auto") else ()
    found = trial.compare([PREFERRED, *shaped], cut) if shaped and not cut.much else None
    if found is None or found.chosen != PREFERRED:
        found = trial.compare([PREFERRED, *shaped, *_SQUARES], cut)
    return found


def geometry_step(choice: GeometryChoice, asked: bool, cut: CutAway) -> NextStep | None:
    """The step to see more of each picture, where much is cut away; ``asked``: whether the recipe names a geometry."""
    if not cut.much:
        return None
    if asked:
        return NextStep(
            "geometry",
            f"Let the fit choose how much of a picture is seen: the {cut.geometry} {cut.words}.",
            command="topwork fit PHOTOS --geometry auto -o chosen.topwork",
        )
    if not choice.compared:
        return None
    crop, *others = choice.compared
    best = min(others, key=lambda each: each.brier)
    gain = best.accuracy.value - crop.accuracy.value
    if gain <= 0:
        return None
    return NextStep(
        "geometry",
        f"Look whether what tells the classes apart lies outside of the {cut.geometry}, which {cut.words}: then fit "
        f"with --geometry {best.geometry}. The difference on these {choice.n} pictures may be chance.",
        gain=gain,
        basis="measured",
        command=f"topwork fit PHOTOS --geometry {best.geometry} -o {best.geometry}.topwork",
    )


def unseen_note(cut: CutAway) -> str:
    """What to do where much is cut away and nothing was compared.

    >>> unseen_note(CutAway("crop", median=0.745, mostly=1.0))
    'The crop leaves 74 % of a typical picture unseen; --geometry auto measures whether to see all of it is better.'
    """
    return f"The {cut.geometry} {cut.words}; --geometry auto measures whether to see all of it is better."


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _sample(samples: Iterable[Sample], recipe: Recipe) -> list[Sample]:
    """Training pictures, classes in proportion; of a video a few frames are enough."""
    training = [sample for sample in samples if sample.label is not None and (sample.split or "train") == "train"]
    labels = np.unique([str(sample.label) for sample in training], return_inverse=True)[1]
    limit = max(SAMPLE, _LEAST * len(np.unique(labels)))
    if len(training) <= limit:
        return training
    return [training[row] for row in stratified_sample(labels, np.arange(len(labels)), limit, recipe.seed)]


class _Trial:
    """Geometries on the same pictures."""

    def __init__(
        self,
        samples: Sequence[Sample],
        spec: BackboneSpec,
        twins: Graph,
        recipe: Recipe,
        policy: DecodePolicy,
        cache: FeatureCache,
        progress: Progress,
    ) -> None:
        self._samples, self._spec, self._twins, self._recipe = samples, spec, twins, recipe
        self._policy, self._cache, self._progress = policy, cache, progress
        self.fresh: frozenset[str] = frozenset()

    def read(self, graphs: Sequence[Graph]) -> Extraction:
        """Make sure that the features of these graphs, and those that tell near-duplicates, are in the cache."""
        every, doing = list(dict.fromkeys([*graphs, self._twins])), "comparing geometries"
        found = extract(self._samples, every, self._policy, self._cache, progress=self._progress, doing=doing)
        self.fresh |= found.fresh
        return found

    def pictures(self) -> list[Facts]:
        """The facts of the pictures that can be read."""
        found = self.read([feature_graph(self._spec, PREFERRED)])
        return load_facts(found.hashes, self._policy, self._cache)

    def compare(self, geometries: Sequence[str], crop: CutAway) -> GeometryChoice:
        """Cross-validate the preferred head on each geometry, and choose as heads are chosen."""
        graphs = [feature_graph(self._spec, geometry) for geometry in geometries]
        pictures, groups = self._several_of_each_class(self.read(graphs))
        n_groups, classes = len(np.unique(groups)), len(np.unique(pictures.labels))
        if n_groups < _FEWEST or classes < len(pictures.names) or classes < 2:
            return GeometryChoice(PREFERRED, crop=crop, fresh=self.fresh)
        views = pictures.views(graphs, self._policy, self._cache)
        options = [self._preferred_head(geometry, views) for geometry in geometries]
        seen = {option.view: views[option.view] for option in options}
        labels, n_folds = pictures.labels, min(choose_folds(pictures.labels, groups), n_groups)
        folds = stratified_group_folds(labels, groups, n_folds, self._recipe.seed)
        with threadpool_limits(limits=1, user_api="blas"):
            stage = HeadStage(seen, labels, folds, classes, threads=cores())
            choice = chosen = stage.choose(options)
            if choice.winner != options[0] and len(options) > 2:
                # Of several that beat the crop the luckiest would win: the first of them is preferred in turn.
                chosen = stage.choose(options[1:])
        n = effective_number(groups)
        by_name = {each.geometry: Compared(each.geometry, wilson(a * n, n), brier) for each, a, brier in choice.table}
        return GeometryChoice(
            chosen.winner.geometry,
            tuple(by_name[geometry] for geometry in geometries),
            n=len(pictures),
            nested=float((chosen.nested.argmax(axis=1) == labels).mean()),
            crop=crop,
            fresh=self.fresh,
        )

    def _preferred_head(self, geometry: str, views: Views) -> Candidate:
        """The first of those that the recipe leaves open."""
        return candidates(self._recipe.head, self._recipe.features, [view for view in views if view[0] == geometry])[0]

    def _several_of_each_class(self, found: Extraction) -> tuple[LabelledSet, Ints]:
        """The pictures and their groups, without classes of which nothing could be learned."""
        names = sorted({str(sample.label) for sample in found.samples})
        labels = np.array([names.index(str(sample.label)) for sample in found.samples], np.int64)
        pictures = LabelledSet(found.samples, found.hashes, labels, names)
        groups, _ = grouped(pictures, self._recipe, self._twins, self._policy, self._cache, self._progress)
        counts = [len(np.unique(groups[labels == k])) for k in range(len(names))]
        kept = [k for k, count in enumerate(counts) if count > 1]
        rows = np.flatnonzero(np.isin(labels, kept))
        part = pictures.take(rows)
        return replace(part, labels=np.searchsorted(kept, part.labels), names=[names[k] for k in kept]), groups[rows]

"""``top``: fine-tune the stages after a cut, from cached activations of several views of each picture."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint
from topwork.backbones import graph
from topwork.backbones.network import Network, pretrained_network
from topwork.backbones.spec import FEATURES, BackboneSpec
from topwork.backbones.torch_graph import is_cut
from topwork.errors import CacheError, UsageError
from topwork.features.parallel import ordered_map
from topwork.features.session import open_session
from topwork.progress import Progress, step
from topwork.recipe import Training
from topwork.training import activations
from topwork.training.augmentation import Augmenter
from topwork.training.common import (
    Cost,
    Floats,
    Ints,
    Material,
    OutOfTimeError,
    Trained,
    module_scores,
    picture_seconds,
    result,
    run_job,
)
from topwork.training.examples import CachedViews, Vectors, pixels_of
from topwork.training.extra import one_thread_each
from topwork.training.loop import filled
from topwork.training.networks import TopOf, trained_top

SMALL = 500
"""Most pictures for which more views and epochs are the default: they cost little there and gained a few points."""
_STEP = "running the frozen part"
_MIRRORED = ("light", "strong", "satellite")
"""Presets under which a mirror image means the same."""


class Top:
    """Fine-tune the last stages from cached activations."""

    name = "top"

    def __init__(self, material: Material, settings: Training) -> None:
        self.material, self.spec, self.policy = material, material.spec, material.policy
        self._network = pretrained_network(material.spec)
        cut = _default_cut(material.spec, self._network) if settings.cut == "auto" else settings.cut
        few = len(material.labels) <= SMALL
        counts = {"epochs": 16 if few else 8, "views": 8 if few else 2}
        chosen = filled(settings, **counts, rate=4e-4, stage_decay=1.0, batch_norm="frozen", cut=cut)
        self.settings = replace(chosen, views=1 if chosen.augment == "none" else chosen.views)
        self._frozen = graph.stage_graph(material.spec, material.geometry, self.settings.cut)
        self._build = TopOf(
            self._network.model.SerializeToString(),
            self.settings.cut,
            material.spec.feature_dim,
            material.n_classes,
            self.settings,
        )
        self._examples: CachedViews | None = None

    def prepare(self, rows: Ints, *, deadline: float, progress: Progress) -> None:
        """Run the frozen part on what is not in the cache: every view of ``rows``, the plain one of the others."""
        self._check_space()
        store = activations.ActivationStore(self._store_name())
        trained = set(rows.tolist())
        views = [self._views(i in trained) for i in range(len(self.material.contents))]
        todo: dict[str, tuple[int, list[int]]] = {}
        for i, content in enumerate(self.material.contents):
            if missing := [view for view in sorted(set(views[i])) if store.missing([f"{content}:{view}"])]:
                todo[content] = i, missing
        run = _Views(self.material, self.settings, self._frozen)
        with store, step(progress, _STEP, total=len(todo)):
            for (content, (_, missing)), maps in zip(todo.items(), ordered_map(run, todo.values()), strict=True):
                for view, activation in zip(missing, maps, strict=True):
                    store.add(f"{content}:{view}", activation)
                if time.time() > deadline:
                    raise OutOfTimeError
                progress.advance(_STEP)
        contents = self.material.contents
        cached = store.rows(
            [f"{content}:{view}" for content, each in zip(contents, views, strict=True) for view in each]
        )
        activations.trim(self.material.cache_limit, keep=cached.files)
        self._examples = CachedViews(cached, self.material.labels, self.settings.views)

    def train(self, rows: Ints, held: Ints, *, checkpoint: Path | None, deadline: float, progress: Progress) -> Trained:
        """Train the stages after the cut."""
        if self._examples is None:
            raise ValueError("prepare must be called before train")
        job, outcome = run_job(self, self._build, self._examples, rows, held, checkpoint, deadline, progress)
        network = trained_top(self._network, self._build, outcome.state)
        frozen = self.spec.parameters - self.spec.logits_dim * (self.spec.feature_dim + 1)
        return result(self, network, job, outcome, frozen)

    def cost(self) -> Cost:
        """Time a few views and a few steps."""
        few = np.arange(min(4, len(self.material.samples)))
        store = activations.ActivationStore(self._store_name())
        missing = [c for c in self.material.contents if store.missing(f"{c}:{view}" for view in self._views(True))]
        views = _Views(self.material, self.settings, self._frozen)
        every = list(range(self.settings.views))
        begun = time.perf_counter()
        maps = list(ordered_map(views, [(row, every) for row in few.tolist()]))
        a_picture = (time.perf_counter() - begun) / len(few)
        inputs = np.stack([each[0] for each in maps])
        rows = np.arange(self.settings.batch_size) % len(few)
        examples = Vectors(inputs[rows], self.material.labels[few][rows])
        seconds = picture_seconds(self, self._build, examples)
        return Cost(a_picture * len(missing), seconds, 2 * a_picture / self.settings.views)

    def scores(self, state: Any, rows: Ints) -> Floats:
        """Scores from activations that were never rounded."""
        session = open_session(self._frozen)
        pictures = (pixels_of(self.material.samples[row], self.material.policy) for row in rows)
        inputs = ordered_map(lambda pixels: session.run([self.settings.cut], {"image": pixels[None]})[0], pictures)
        return module_scores(self._build, state, inputs)

    def _store_name(self) -> str:
        material, settings = self.material, self.settings
        facts = [
            activations.VERSION,
            graph.graph_fingerprint(material.spec, material.geometry),
            material.policy.describe(),
            settings.cut,
        ]
        return fingerprint.of_object([*facts, settings.augment, material.seed])[:24]

    def _views(self, trained: bool) -> list[int]:
        """The views of a picture; where it is not trained on, the plain one stands for all."""
        return [view if trained else 0 for view in range(self.settings.views)]

    def _check_space(self) -> None:
        stage = graph.stage_of(self.spec, self.settings.cut)
        side = math.ceil(self.spec.preprocess.size / stage.stride)
        needed = 2 * stage.channels * side * side * self.settings.views * len(self.material.samples)
        if needed > self.material.cache_limit:
            raise CacheError(
                f"the activations of {len(self.material.samples)} pictures in {self.settings.views} views take "
                f"{needed / 1e9:.1f} GB, the cache may hold {self.material.cache_limit / 1e9:.1f} GB; raise "
                "TOPWORK_CACHE_SIZE or ask for fewer --views"
            )


class _Views:
    """Activations ``[c, h, w]`` of a picture's views: 0 plain, 1 mirrored where that means the same, then augmented."""

    def __init__(self, material: Material, settings: Training, frozen: bytes) -> None:
        self._material, self._settings = material, settings
        self._session = open_session(frozen)
        self._square_session = open_session(graph.stage_graph(material.spec, "stretch", settings.cut))
        size = material.spec.preprocess.size
        self._augmenter = Augmenter(settings.augment, size, material.seed, geometry=material.geometry)

    def __call__(self, wanted: tuple[int, list[int]]) -> list[Floats]:
        one_thread_each()
        row, views = wanted
        pixels = pixels_of(self._material.samples[row], self._material.policy)
        return [self._view(pixels, row, view) for view in views]

    def _view(self, pixels: NDArray[np.uint8], row: int, view: int) -> Floats:
        if view == 0:
            return self._run(self._session, pixels)
        if view == 1 and self._settings.augment in _MIRRORED:
            return self._run(self._session, np.ascontiguousarray(pixels[:, ::-1]))
        number = int(self._material.contents[row][:12], 16)
        return self._run(self._square_session, self._augmenter(pixels, number, view))

    def _run(self, session: Any, pixels: NDArray[np.uint8]) -> Floats:
        activation: Floats = session.run([self._settings.cut], {"image": pixels[None]})[0][0]
        return activation


def cuts(spec: BackboneSpec, network: Network) -> list[str]:
    """The stages that a network can be cut at for ``top``, up to stride 16; none where something goes around each."""
    return [s.name for s in spec.stages if s.stride <= 16 and is_cut(network.model, s.name, FEATURES)]


def check_cut(spec: BackboneSpec, stage: str) -> None:
    """UsageError where a network has no such stage, or something goes around it."""
    graph.stage_of(spec, stage)
    network = pretrained_network(spec)
    if not is_cut(network.model, stage, FEATURES):
        possible = cuts(spec, network)
        instead = f"cut it at {' or '.join(possible)}" if possible else "use --strategy full"
        raise UsageError(f"{spec.name} cannot be cut at {stage}, because connections go around it; {instead}")


def _default_cut(spec: BackboneSpec, network: Network) -> str:
    """The last stage of stride 16: what follows is small to store and cheap to train, and enough was gained by it."""
    possible = cuts(spec, network)
    if not possible:
        raise UsageError(f"{spec.name} cannot be cut in the middle; use --strategy full, or another backbone")
    return possible[-1]

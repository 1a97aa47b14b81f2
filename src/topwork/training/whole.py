"""``full``: fine-tune the whole network, each stage at its own rate; ``scratch``: any architecture with new weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from topwork.backbones.spec import BackboneSpec
from topwork.features.parallel import ordered_map
from topwork.images import DecodePolicy
from topwork.progress import Progress, Silent
from topwork.recipe import Training
from topwork.training import loop
from topwork.training.augmentation import Augmenter
from topwork.training.common import (
    Cost,
    Floats,
    Ints,
    Material,
    Trained,
    head_of,
    module_scores,
    picture_seconds,
    result,
    run_job,
    set_apart,
)
from topwork.training.examples import Pictures, Vectors
from topwork.training.networks import HeadOnly, Whole, trained_whole

_FORWARD = 0.2
"""What a picture costs through the exported graph, of what training on it costs."""


class Full:
    """Fine-tune the whole network, or from a stage upward."""

    name = "full"

    def __init__(self, material: Material, settings: Training) -> None:
        self.material, self.spec, self.policy = material, material.spec, material.policy
        self.settings = loop.filled(settings, epochs=6, head_epochs=10, rate=4e-4, stage_decay=0.7, batch_norm="frozen")
        self._build = Whole(self.spec, material.n_classes, self.settings)
        self._examples = _pictures(material, self.spec, self.settings, self.policy)

    def prepare(self, rows: Ints, *, deadline: float, progress: Progress) -> None:
        """Nothing: pictures are read in every epoch."""

    def train(self, rows: Ints, held: Ints, *, checkpoint: Path | None, deadline: float, progress: Progress) -> Trained:
        """Train the head on the frozen network's features, then everything."""
        build = replace(self._build, head=self._head(set_apart(self, rows)[0])) if self.spec.weights else self._build
        job, outcome = run_job(self, build, self._examples, rows, held, checkpoint, deadline, progress)
        network = trained_whole(self.spec, outcome.state)
        return result(self, network, job, outcome, sum(p.numel() for p in build().trunk.parameters()))

    def cost(self) -> Cost:
        """Time a few steps and their pictures."""
        seconds = picture_seconds(self, self._build, self._examples)
        return Cost(0.0, seconds, _FORWARD * seconds)

    def scores(self, state: Any, rows: Ints) -> Floats:
        """Scores of pictures as the PyTorch network sees them."""
        inputs = ordered_map(lambda row: self._examples.inputs(np.array([row]), None), rows.tolist())
        return module_scores(self._build, state, inputs)

    def _head(self, rows: Ints) -> tuple[Floats, Floats]:
        settings = Training(
            epochs=self.settings.head_epochs,
            batch_size=self.settings.batch_size,
            rate=self.settings.head_rate,
            head_rate=self.settings.head_rate,
            weight_decay=self.settings.weight_decay,
            label_smoothing=self.settings.label_smoothing,
        )
        build = HeadOnly(self.spec.feature_dim, self.material.n_classes, self.settings.head_rate)
        examples = Vectors(self.material.features[rows], self.material.labels[rows])
        outcome = loop.run(loop.Job(build, examples, None, None, settings, self.material.seed), Silent())
        return head_of(outcome.state)


class Scratch(Full):
    """Train an architecture from new weights."""

    name = "scratch"

    def __init__(self, material: Material, spec: BackboneSpec, settings: Training) -> None:
        self.material, self.spec = material, spec
        self.policy = replace(material.policy, shrink_to=spec.preprocess.needed_side)
        settings = replace(settings, unfreeze="auto")  # nothing is worth freezing in new weights
        self.settings = loop.filled(settings, epochs=30, rate=3e-3, stage_decay=1.0, batch_norm="updated")
        self._build = Whole(spec, material.n_classes, self.settings)
        self._examples = _pictures(material, spec, self.settings, self.policy)


def _pictures(material: Material, spec: BackboneSpec, settings: Training, policy: DecodePolicy) -> Pictures:
    augmenter = None
    if settings.augment != "none":
        augmenter = Augmenter(settings.augment, spec.preprocess.size, material.seed, geometry=material.geometry)
    numbers = np.array([int(content[:12], 16) for content in material.contents], np.int64)
    return Pictures(material.samples, material.labels, spec, material.geometry, policy, augmenter, numbers)

"""What the strategies with gradients share: the pictures they train on, what comes out, what it costs."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint
from topwork.backbones.graph import graph_fingerprint
from topwork.backbones.network import Network
from topwork.backbones.spec import BackboneSpec
from topwork.heads.choice import LinearHead
from topwork.images import DecodePolicy, Sample, holdout
from topwork.progress import Progress, Silent
from topwork.recipe import TRAINED_BY, Training
from topwork.storage import DEFAULT_LIMIT
from topwork.training import loop
from topwork.training.examples import Examples, Subset

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_STOPPING_SHARE = 0.15
"""Share of the training pictures that decides when to stop early."""
_CHECKED = 4.0
"""Times that a held-out picture goes through the network at the end: for its score, and, slower, through PyTorch."""
_HELD_COST = 0.3
"""What looking at a held-out picture costs, of what training on one does."""


@dataclass(frozen=True)
class Material:
    """The labelled pictures that strategies train on; row i of everything is one picture."""

    spec: BackboneSpec
    geometry: str
    policy: DecodePolicy
    samples: Sequence[Sample]
    contents: Sequence[str]
    labels: Ints
    groups: Ints
    n_classes: int
    features: Floats
    """Pooled features ``[n, d]`` of the frozen network."""
    seed: int
    cache_limit: int = DEFAULT_LIMIT
    """Bytes that activations may take on disk."""


@dataclass(frozen=True)
class Trained:
    """A network and a head that belong together."""

    network: Network
    head: LinearHead
    record: dict[str, Any]
    """``training`` of the JSON."""
    out_of_time: bool


class OutOfTimeError(Exception):
    """The budget ended a training."""


class Strategy(Protocol):
    """A way of training."""

    name: str
    spec: BackboneSpec
    material: Material
    settings: Training
    """With every automatic value filled in."""
    policy: DecodePolicy
    """How its pictures are decoded, in training and in prediction."""

    def prepare(self, rows: Ints, *, deadline: float, progress: Progress) -> None:
        """What all trainings share; ``rows`` are those that any of them trains on. May raise OutOfTimeError."""

    def train(self, rows: Ints, held: Ints, *, checkpoint: Path | None, deadline: float, progress: Progress) -> Trained:
        """Train on ``rows``; ``held`` are measured after each epoch for the curves and decide nothing."""
        ...

    def cost(self) -> "Cost":
        """Measured on a few pictures."""
        ...

    def scores(self, state: Any, rows: Ints) -> Floats:
        """Class scores ``[m, c]`` of pictures by the PyTorch module with a trained ``state``."""
        ...


@dataclass(frozen=True)
class Cost:
    """Seconds, measured.

    >>> Cost(prepare=10.0, picture=0.01, look=0.002).part(100, 0, epochs=8)
    8.2
    """

    prepare: float
    """Once for all pictures."""
    picture: float
    """For training on one picture in one epoch."""
    look: float
    """For one picture through the network as it ships."""

    def part(self, n: int, n_held: int, epochs: int) -> float:
        """For training on ``n`` pictures while ``n_held`` are looked at, then measuring."""
        trained = (n + _HELD_COST * n_held) * epochs * self.picture
        return trained + (n + _CHECKED * n_held) * self.look


def run_job(
    strategy: Strategy,
    build: Any,
    examples: Examples,
    rows: Ints,
    held: Ints,
    checkpoint: Path | None,
    deadline: float,
    progress: Progress,
) -> tuple[loop.Job, loop.Outcome]:
    material, settings = strategy.material, strategy.settings
    fitted, stopping = set_apart(strategy, rows)
    stop = Subset(examples, stopping) if len(stopping) else None
    # Times and places may differ when it is resumed; what is computed may not.
    network = graph_fingerprint(strategy.spec, material.geometry)  # with the weights that training starts from
    facts = [strategy.name, network, strategy.policy.describe(), asdict(replace(settings, budget=1.0)), material.seed]
    contents = [material.contents[row] for row in fitted]
    named = fingerprint.of_object([*facts, contents, material.labels[fitted].tolist()])
    job = loop.Job(
        build=build,
        train=Subset(examples, fitted),
        held=Subset(examples, held) if len(held) else None,
        stop=stop,
        settings=settings,
        seed=material.seed,
        # Several machines have no folder in common that all could resume from.
        checkpoint=None if checkpoint is None or settings.nodes > 1 else checkpoint / f"{named[:24]}.safetensors",
        fingerprint=named,
        deadline=deadline,
    )
    return job, loop.run(job, progress)


def set_apart(strategy: Strategy, rows: Ints) -> tuple[Ints, Ints]:
    """Rows that are trained on, and rows that decide when to stop early; none unless ``patience`` asks for it."""
    if not strategy.settings.patience:
        return rows, rows[:0]
    material = strategy.material
    labels = material.labels[rows]
    apart = holdout(labels, material.groups[rows], _STOPPING_SHARE, material.seed)
    if len(np.unique(labels[~apart])) < len(np.unique(labels)):  # too few to spare any
        return rows, rows[:0]
    return rows[~apart], rows[apart]


def result(strategy: Strategy, network: Network, job: loop.Job, outcome: loop.Outcome, n_parameters: int) -> Trained:
    settings = strategy.settings
    model = job.build()
    trained = sum(p.numel() for p in model.trunk.parameters() if p.requires_grad)
    weight, bias = head_of(outcome.state)
    record = {
        "strategy": strategy.name,
        "settings": {name: value for name, value in asdict(settings).items() if name in TRAINED_BY[strategy.name]},
        "parameters": {"trained": trained, "frozen": n_parameters - trained},
        "epochs": outcome.epochs,
        "rates": [list(point) for point in outcome.rates],
        "stopped": outcome.stopped,
        "n_training": len(job.train.labels),
        "resumed": outcome.resumed,
        "device": outcome.device,
        "refit": False,
        "state": outcome.state,
    }
    head = LinearHead("softmax", "pooled", False, weight, bias)
    return Trained(network, head, record, outcome.out_of_time)


def head_of(state: Any) -> tuple[Floats, Floats]:
    """Weight ``[d, c]`` and bias ``[c]`` of the head in a trained state."""
    return np.ascontiguousarray(state["head.weight"].numpy().T), state["head.bias"].numpy()


def module_scores(build: Any, state: Any, inputs: Iterable[Floats]) -> Floats:
    """Class scores ``[n, c]`` by the PyTorch module itself."""
    import torch

    model = build()
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(torch.from_numpy(np.ascontiguousarray(x))).numpy() for x in inputs])


def picture_seconds(strategy: Strategy, build: Any, examples: Examples) -> float:
    """Seconds for each picture in training: that of the second of two short epochs, for the first one warms up."""
    few = np.arange(min(len(examples.labels), strategy.settings.batch_size))
    settings = replace(strategy.settings, epochs=2, patience=0)
    job = loop.Job(build, Subset(examples, few), None, None, settings, strategy.material.seed)
    return float(loop.run(job, Silent()).epochs[-1]["seconds"]) / len(few)

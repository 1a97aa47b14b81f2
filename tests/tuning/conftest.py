"""Pools without pictures, and strategies without networks, for what decides between them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.features.labelled import LabelledSet
from topwork.images import Sample
from topwork.recipe import Recipe, Training
from topwork.training.common import Cost, OutOfTimeError
from topwork.tuning import automatic
from topwork.tuning.automatic import Plan, Trial
from topwork.tuning.measure import Measured
from topwork.tuning.pool import Part, Pool


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    """The time of the comparison; it passes only where a fake takes some."""
    clock = Clock()
    monkeypatch.setattr(automatic, "time", clock)
    return clock


class Clock:
    """Stands for the module ``time``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@dataclass
class Fake:
    """A strategy that answers right where it is told to, and takes as long as it is told."""

    name: str
    right: np.ndarray
    """``[n]`` of the pool."""
    epochs: int = 8
    picture: float = 0.01
    """Seconds an epoch, as the probe finds it."""
    slower: float = 1.0
    """How much longer it takes in truth."""
    probe: float = 1.0
    clock: Any = None
    settings: Training = field(init=False)
    trained: list[list[Part]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = Training(epochs=self.epochs)

    def cost(self) -> Cost:
        self.clock.now += self.probe
        return Cost(prepare=1.0, picture=self.picture, look=0.0)


@pytest.fixture
def race(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trial]:
    """Compare fakes with a frozen network that is right where it is told to; all else is the real comparison."""

    def compare(frozen: np.ndarray, fakes: list[Fake], *, budget: float = 600.0, **recipe: Any) -> Trial:
        n = len(frozen)
        labels = np.arange(n) % 2
        names = ["a", "b"]
        samples = tuple(Sample(f"{i}.png", f"/{i}.png", names[label]) for i, label in enumerate(labels))
        pictures = LabelledSet(samples, tuple(map(str, range(n))), labels, names)
        pool = Pool(pictures, np.zeros((n, 2), np.float32), np.arange(n), 0)

        def scores(right: np.ndarray, rows: np.ndarray) -> np.ndarray:
            answer = np.where(right[rows], labels[rows], 1 - labels[rows])
            return np.eye(2, dtype=np.float32)[answer]

        def frozen_scores(pool: Pool, parts: list[Part], recipe: Recipe) -> np.ndarray:
            clock.now += 0.1 * len(parts)
            return scores(frozen, np.concatenate([part.held for part in parts]))

        def measured(fake: Fake, pool: Pool, parts: list[Part], *, deadline: float, **_: Any) -> Measured:
            fake.trained.append(parts)
            cost = Cost(1.0, fake.picture, 0.0)
            seconds = cost.prepare + sum(cost.part(len(p.train), len(p.held), fake.settings.epochs) for p in parts)
            clock.now = min(clock.now + fake.slower * seconds, deadline)
            if clock.now == deadline:
                raise OutOfTimeError
            rows = np.concatenate([part.held for part in parts])
            nothing: Any = None
            return Measured(rows, rows, scores(fake.right, rows), np.zeros(len(rows)), nothing, nothing, 0.0)

        monkeypatch.setattr(automatic, "frozen_scores", frozen_scores)
        monkeypatch.setattr(automatic, "measure", measured)
        by_name = {fake.name: fake for fake in fakes}

        def make(name: str, epochs: int) -> Any:
            fake = by_name[name]
            fake.clock = clock
            fake.settings = Training(epochs=epochs or fake.epochs)
            return fake

        given = Recipe(**{"strategy": "auto", **recipe}, training=Training(budget=budget))
        names_of = tuple(by_name)
        plan: Any = Plan(given, pool, names_of, make, Path("unused"), clock.now + budget)
        from topwork.progress import Silent

        return automatic.compare(plan, Silent())

    return compare


@pytest.fixture
def share() -> Callable[[int, float], np.ndarray]:
    """``[n]`` true for this share, the same ones first whatever the share, in both classes alike."""

    def make(n: int, part: float) -> np.ndarray:
        order = np.random.default_rng(0).permutation(n)
        return order < math.floor(part * n)

    return make


@pytest.fixture
def fake() -> type[Fake]:
    return Fake

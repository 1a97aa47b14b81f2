"""Which strategy is worth its time: tried by expected gain per second, kept only when better beyond the noise."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import CacheError, TrainingError
from topwork.evaluation.metrics import share_interval
from topwork.evaluation.paired import Gain, gain
from topwork.progress import Progress
from topwork.recipe import Recipe
from topwork.report.strategies import GLOSS
from topwork.training.common import Cost, OutOfTimeError, Strategy
from topwork.tuning import pool as pools
from topwork.tuning.measure import Measured, frozen_scores, measure
from topwork.tuning.pool import Part, Pool

Bools = NDArray[np.bool_]

FOLDS = 5
"""Parts that ``auto`` measures on where the time allows."""
EXPECTED = {"top": 0.3, "full": 0.3}
"""Share of the frozen network's mistakes that a strategy may remove; where measured, ``full`` removed no more."""
_SLOWER = 3.0
"""A whole network takes at least so many times as long as its top for a picture; below that it is not even probed."""
_FINAL_FIT = 5.0
"""What a whole fit on the frozen network takes, in measurements of it on one part."""
_LEAST = 15.0
"""Seconds below which trying anything is not worth a probe."""
_SHARE_FOR_FOLDS = 0.5
"""Share of the time left that measuring in folds may take, so that something remains for the next strategy."""
_RESERVE = 1.15
"""Estimates are of a quiet machine."""


@dataclass(frozen=True)
class Plan:
    """What there is to try, and until when."""

    recipe: Recipe
    pool: Pool
    names: tuple[str, ...]
    """Of the strategies, the simplest first."""
    make: Callable[[str, int], Strategy]
    """A strategy by name and number of epochs; 0 is its usual number."""
    checkpoints: Path
    end: float
    """When the budget is over, as ``time.time()`` gives it."""

    @property
    def automatic(self) -> bool:
        """Whether measurement decides."""
        return self.recipe.strategy == "auto"


@dataclass
class Trial:
    """What came of it."""

    facts: dict[str, Any]
    """``comparison`` of the JSON."""
    strategy: Strategy | None
    measured: Measured | None
    """Of the strategy that is shipped; None for the frozen network."""
    notes: list[str]


@dataclass
class _Candidate:
    """A row of the comparison."""

    name: str
    strategy: Strategy | None = None
    cost: Cost | None = None
    estimate: float | None = None
    status: str = "skipped"
    reason: str | None = None
    seconds: float | None = None
    right: Bools | None = None
    """``[m]`` in the order of the parts."""
    measured: Measured | None = None
    won: bool = False


@dataclass
class _Race:
    """The state of a comparison."""

    plan: Plan
    parts: list[Part]
    frozen_seconds: float = 0.0
    candidates: list[_Candidate] = field(default_factory=list)

    @property
    def rows(self) -> Any:
        return np.concatenate([part.held for part in self.parts])

    @property
    def frozen(self) -> _Candidate:
        return self.candidates[0]

    def left(self) -> float:
        """Seconds until the fit on the frozen network, which may still have to be made, must begin."""
        return self.plan.end - time.time() - _FINAL_FIT * self.frozen_seconds - 2


def compare(plan: Plan, progress: Progress) -> Trial:
    """Measure the frozen network and the strategies on the same held-out pictures, and decide."""
    race = _start(plan)
    if plan.automatic:
        progress.say(_plan(race))
    for candidate in _in_order(race.candidates[1:]):
        _try(race, candidate, progress)
    winner = _winner(race)
    winner.won = True
    notes = []
    if plan.automatic and winner.measured is not None:
        notes.append(
            "The same pictures chose the strategy and measured it, so its accuracy may be slightly flattering."
        )
    return Trial(_facts(race), winner.strategy, winner.measured, notes)


def _start(plan: Plan) -> "_Race":
    """Measure the frozen network; for ``auto`` estimate the others and settle on how much can be measured."""
    parts = pools.hold_out(plan.pool, plan.recipe)
    if plan.recipe.folds and not plan.pool.n_val:
        parts = pools.folds(plan.pool, plan.recipe.folds, plan.recipe)
    race = _Race(plan, parts)
    _measure_frozen(race)
    race.candidates += [_Candidate(name, plan.make(name, plan.recipe.training.epochs)) for name in plan.names]
    if plan.automatic:
        _estimate(race)
        more = pools.folds(plan.pool, FOLDS, plan.recipe) if _may_fold(race) else []
        if more and _seconds(race.candidates[1], more, plan.pool) < _SHARE_FOR_FOLDS * race.left():
            race.parts = more
            _measure_frozen(race)
            for candidate in race.candidates[1:]:
                if candidate.cost is not None:
                    candidate.estimate = _seconds(candidate, more, plan.pool)
    return race


def _may_fold(race: "_Race") -> bool:
    plan = race.plan
    free = not plan.recipe.folds and not plan.pool.n_val and len(np.unique(plan.pool.groups)) >= FOLDS
    return free and race.candidates[1].cost is not None


def _measure_frozen(race: "_Race") -> None:
    begun = time.time()
    scores = frozen_scores(race.plan.pool, race.parts, race.plan.recipe)
    right = scores.argmax(axis=1) == race.plan.pool.pictures.labels[race.rows]
    seconds = time.time() - begun
    race.frozen_seconds = seconds / len(race.parts)
    race.candidates[:1] = [_Candidate("features", status="measured", seconds=seconds, right=right)]


def _estimate(race: "_Race") -> None:
    """Probe what may fit into the budget; say of the others why they are not even probed."""
    for candidate in race.candidates[1:]:
        least = 0.0
        if candidate.name == "full" and (cost := race.candidates[1].cost) is not None:
            least = _total(replace(cost, prepare=0.0, picture=_SLOWER * cost.picture), candidate, race)
        if race.frozen.right is not None and race.frozen.right.all():
            candidate.reason = "the frozen network makes no mistake here"
        elif race.left() < max(_LEAST, least):
            candidate.reason = _too_long(max(least, _LEAST), race.left())
        else:
            assert candidate.strategy is not None
            candidate.cost = candidate.strategy.cost()
            candidate.estimate = _seconds(candidate, race.parts, race.plan.pool)
            _lighten(candidate, race)


def _lighten(candidate: "_Candidate", race: "_Race") -> None:
    """Fewer epochs where the usual number does not fit, down to half of them, unless the recipe asks for a number."""
    assert candidate.strategy is not None
    assert candidate.cost is not None
    assert candidate.estimate is not None
    usual = candidate.strategy.settings.epochs
    over = candidate.estimate - race.left()
    if over <= 0 or race.plan.recipe.training.epochs:
        return
    an_epoch = (candidate.estimate - _RESERVE * candidate.cost.prepare) / usual
    epochs = usual - math.ceil(over / an_epoch)
    if epochs >= usual // 2:
        candidate.strategy = race.plan.make(candidate.name, epochs)
        candidate.estimate = _seconds(candidate, race.parts, race.plan.pool)


def _total(cost: Cost, candidate: "_Candidate", race: "_Race") -> float:
    return _seconds(replace(candidate, cost=cost), race.parts, race.plan.pool)


def _seconds(candidate: "_Candidate", parts: Sequence[Part], pool: Pool) -> float:
    """What a strategy takes on these parts, with the final training on everything where there are several."""
    assert candidate.cost is not None
    assert candidate.strategy is not None
    cost, epochs = candidate.cost, candidate.strategy.settings.epochs
    total = cost.prepare + sum(cost.part(len(part.train), len(part.held), epochs) for part in parts)
    if len(parts) > 1 or candidate.strategy.settings.refit:
        total += cost.part(len(pool), 0, epochs)
    return _RESERVE * total


def _in_order(candidates: Sequence["_Candidate"]) -> list["_Candidate"]:
    """The most expected gain per second first; those without an estimate were ruled out or are asked for."""
    return sorted(candidates, key=lambda c: -EXPECTED.get(c.name, 1.0) / (c.estimate or 1.0))


def _try(race: "_Race", candidate: "_Candidate", progress: Progress) -> None:
    """Measure a strategy if there is time for it."""
    plan = race.plan
    if candidate.reason is not None:
        return
    assert candidate.strategy is not None
    left = race.left()
    if plan.automatic and (candidate.estimate is None or candidate.estimate > left):
        candidate.reason = _too_long(candidate.estimate or 0.0, left)
        return
    begun = time.time()
    try:
        candidate.measured = measure(
            candidate.strategy,
            plan.pool,
            race.parts,
            refit=plan.recipe.training.refit,
            checkpoint=plan.checkpoints,
            deadline=begun + left if plan.automatic else math.inf,
            progress=progress,
        )
    except OutOfTimeError:
        candidate.status, candidate.reason = "stopped", "took longer than estimated, the budget was used up"
    except (TrainingError, CacheError) as error:
        if not plan.automatic:
            raise
        candidate.status, candidate.reason = "stopped", str(error)
    else:
        candidate.status = "measured"
        predicted = candidate.measured.scores.argmax(axis=1)
        candidate.right = predicted == plan.pool.pictures.labels[race.rows]
    candidate.seconds = time.time() - begun


def _winner(race: "_Race") -> "_Candidate":
    """What was asked for; for ``auto`` the simplest one that no other beats by more than the noise."""
    if not race.plan.automatic:
        return race.candidates[-1]
    winner = race.frozen
    for candidate in race.candidates[1:]:
        if candidate.right is not None and _gain(race, candidate, winner).low > 0:
            winner = candidate
    return winner


def _gain(race: "_Race", candidate: "_Candidate", baseline: "_Candidate") -> Gain:
    assert candidate.right is not None
    assert baseline.right is not None
    return gain(candidate.right, baseline.right, race.plan.pool.groups[race.rows])


def _facts(race: "_Race") -> dict[str, Any]:
    plan = race.plan
    return {
        "requested": plan.recipe.strategy,
        "method": pools.described(plan.pool, race.parts),
        "n": len(race.rows),
        "budget": plan.recipe.training.budget if plan.automatic else None,
        "sentence": _sentence(race),
        "candidates": [_row(race, candidate) for candidate in race.candidates],
    }


def _row(race: "_Race", candidate: "_Candidate") -> dict[str, Any]:
    accuracy = None
    if candidate.right is not None:
        interval = share_interval(candidate.right, race.plan.pool.groups[race.rows])
        accuracy = {**interval.as_dict(), "n": len(candidate.right)}
    against = candidate is not race.frozen and candidate.right is not None
    return {
        "strategy": candidate.name,
        "status": candidate.status,
        "reason": candidate.reason,
        "estimate": candidate.estimate,
        "seconds": candidate.seconds,
        "accuracy": accuracy,
        "gain": _gain(race, candidate, race.frozen).as_dict() if against else None,
        "chosen": candidate.won,
    }


def _sentence(race: "_Race") -> str:
    """The outcome for a person."""
    measured = [c for c in race.candidates[1:] if c.right is not None]
    if not measured:
        return "features stays: nothing else was measured"
    best = next((c for c in measured if c.won), max(measured, key=lambda c: _gain(race, c, race.frozen).value))
    found = _gain(race, best, race.frozen)
    if found.low > 0:
        return f"{best.name} beats features by {found.points()}"
    if found.high < 0:
        return f"{best.name} is worse than features: {found.points()}"
    return f"{best.name} and features cannot be told apart: {found.points()}"


def _plan(race: "_Race") -> str:
    """What will be tried, in order, with what it should take."""
    budget = duration(race.plan.recipe.training.budget)
    lines = [f"plan within {budget}, measured on {pools.described(race.plan.pool, race.parts)}:"]
    for candidate in [race.frozen, *_in_order(race.candidates[1:])]:
        if candidate.right is not None:
            when = f"done, {100 * candidate.right.mean():.1f} % right"
        elif candidate.estimate is not None:
            when = f"about {duration(candidate.estimate)}"
        else:
            when = f"not tried: {candidate.reason}"
        lines.append(f"  {candidate.name:<9} {GLOSS[candidate.name]:<28} {when}")
    return "\n".join(lines)


def _too_long(needed: float, left: float) -> str:
    return f"would take about {duration(needed)}, {duration(max(0.0, left))} are left"


def duration(seconds: float) -> str:
    """A time span in words.

    >>> duration(42.3), duration(150)
    ('42 s', '2.5 min')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"

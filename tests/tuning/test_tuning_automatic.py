"""``auto``: what it chooses, what it does not even try, and that it keeps to its time."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Race = Callable[..., Any]
Share = Callable[[int, float], np.ndarray]


def rows(trial: Any) -> dict[str, dict[str, Any]]:
    return {row["strategy"]: row for row in trial.facts["candidates"]}


def test_what_is_better_beyond_the_noise_is_chosen(race: Race, share: Share, fake: Any) -> None:
    n = 400
    trial = race(share(n, 0.6), [fake("top", share(n, 0.9)), fake("full", share(n, 0.91))])
    assert trial.strategy.name == "top"  # full is better than features too, but not than top
    assert trial.measured is not None
    found = rows(trial)
    assert [name for name, row in found.items() if row["chosen"]] == ["top"]
    assert found["top"]["gain"]["value"] == pytest.approx(0.3, abs=0.02)
    assert found["top"]["gain"]["low"] > 0.2
    assert trial.facts["sentence"].startswith("top beats features by 3")
    assert "may be slightly flattering" in trial.notes[0]


def test_the_whole_network_is_chosen_where_the_top_is_not_enough(race: Race, share: Share, fake: Any) -> None:
    n = 400
    trial = race(share(n, 0.6), [fake("top", share(n, 0.61)), fake("full", share(n, 0.9))])
    assert trial.strategy.name == "full"
    trial = race(share(n, 0.5), [fake("top", share(n, 0.7)), fake("full", share(n, 0.95))])
    assert trial.strategy.name == "full"


@pytest.mark.parametrize("better", [0.0, 0.01, -0.2])
def test_the_simplest_stays_where_nothing_is_clearly_better(race: Race, share: Share, fake: Any, better: float) -> None:
    """One point is as much as a coin may give; the frozen network is what is shipped then."""
    right = share(100, 0.7 + better)
    trial = race(share(100, 0.7), [fake("top", right), fake("full", right)])
    assert trial.strategy is None
    assert trial.measured is None
    assert rows(trial)["features"]["chosen"]
    assert trial.notes == []
    words = "is worse than features" if better < -0.1 else "and features cannot be told apart"
    assert words in trial.facts["sentence"]


def test_nothing_is_tried_where_nothing_can_be_gained(race: Race, share: Share, fake: Any) -> None:
    top, full = fake("top", share(60, 1.0)), fake("full", share(60, 1.0))
    trial = race(share(60, 1.0), [top, full])
    assert top.trained == full.trained == []
    assert {rows(trial)[name]["reason"] for name in ("top", "full")} == {"the frozen network makes no mistake here"}
    assert trial.facts["sentence"] == "features stays: nothing else was measured"
    assert trial.strategy is None


def test_a_budget_too_small_for_anything(race: Race, share: Share, fake: Any, clock: Any) -> None:
    top = fake("top", share(60, 1.0))
    begun = clock.now
    trial = race(share(60, 0.5), [top, fake("full", share(60, 1.0))], budget=10)
    assert top.trained == []
    assert rows(trial)["top"]["status"] == rows(trial)["full"]["status"] == "skipped"
    assert rows(trial)["top"]["reason"] == "would take about 15 s, 7 s are left"
    assert clock.now - begun < 1


def test_the_whole_network_is_not_probed_where_its_top_says_enough(race: Race, share: Share, fake: Any) -> None:
    """top: 0.2 s a picture and epoch, so the whole network takes at least 0.6 s."""
    top, full = fake("top", share(100, 0.9), picture=0.2), fake("full", share(100, 0.9), picture=1.0, probe=1e6)
    trial = race(share(100, 0.5), [top, full], budget=200)
    assert rows(trial)["top"]["status"] == "measured"
    assert rows(trial)["full"]["reason"].startswith("would take about ")
    assert full.clock.now < 2000  # the probe was not run


def test_a_training_that_does_not_end_in_time_is_given_up(race: Race, share: Share, fake: Any, clock: Any) -> None:
    begun = clock.now
    top = fake("top", share(200, 1.0), picture=0.05, slower=50.0)
    trial = race(share(200, 0.5), [top, fake("full", share(200, 1.0), picture=1.0)], budget=120)
    row = rows(trial)["top"]
    assert row["status"] == "stopped"
    assert row["reason"] == "took longer than estimated, the budget was used up"
    assert row["accuracy"] is row["gain"] is None
    assert trial.strategy is None
    assert rows(trial)["features"]["chosen"]
    assert rows(trial)["full"]["status"] == "skipped"
    assert clock.now - begun <= 120


@pytest.mark.parametrize("budget", [30, 60, 100, 200, 600, 3000])
@pytest.mark.parametrize("slower", [0.9, 1.1, 30.0])
def test_the_budget_is_kept(race: Race, share: Share, fake: Any, clock: Any, budget: float, slower: float) -> None:
    begun = clock.now
    fakes = [fake(name, share(300, 0.9), picture=p, slower=slower) for name, p in (("top", 0.02), ("full", 0.12))]
    trial = race(share(300, 0.5), fakes, budget=budget)
    assert clock.now - begun <= budget
    if budget >= 100 and slower < 2:
        assert trial.strategy is not None


def test_folds_where_they_are_cheap_one_hold_out_where_not(race: Race, share: Share, fake: Any) -> None:
    cheap, dear = (fake("top", share(200, 0.9), picture=picture) for picture in (0.001, 0.1))
    trial = race(share(200, 0.5), [cheap])
    assert len(cheap.trained[0]) == 5
    assert trial.facts["method"] == "5-fold cross-validation"
    assert trial.facts["n"] == 200
    held = np.concatenate([part.held for part in cheap.trained[0]])
    np.testing.assert_array_equal(np.sort(held), np.arange(200))
    trial = race(share(200, 0.5), [dear])
    assert len(dear.trained[0]) == 1
    assert trial.facts["method"] == "one hold-out of 50 pictures"
    asked = fake("top", share(200, 0.9), picture=0.1)
    race(share(200, 0.5), [asked], folds=3, budget=6000)
    assert len(asked.trained[0]) == 3


def test_a_strategy_that_was_asked_for_is_shipped_whatever_it_costs(race: Race, share: Share, fake: Any) -> None:
    top = fake("top", share(200, 0.4), picture=10.0)
    trial = race(share(200, 0.6), [top], strategy="top")
    assert trial.strategy is top
    assert trial.facts["budget"] is None
    assert "top is worse than features" in trial.facts["sentence"]
    assert trial.notes == []


def test_the_facts_are_json_and_whole(race: Race, share: Share, fake: Any) -> None:
    trial = race(share(200, 0.6), [fake("top", share(200, 0.9)), fake("full", share(200, 0.9), picture=50.0)])
    facts = json.loads(json.dumps(trial.facts, allow_nan=False))
    assert facts == trial.facts
    assert set(facts) == {"requested", "method", "n", "budget", "sentence", "candidates"}
    keys = {"strategy", "status", "reason", "estimate", "seconds", "accuracy", "gain", "chosen"}
    assert all(set(row) == keys for row in facts["candidates"])
    assert [row["strategy"] for row in facts["candidates"]] == ["features", "top", "full"]
    assert [row["status"] for row in facts["candidates"]] == ["measured", "measured", "skipped"]
    accuracy = facts["candidates"][1]["accuracy"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert accuracy["value"] == pytest.approx(0.9, abs=0.06)
    assert facts["candidates"][2]["reason"]


def test_folds_while_the_time_for_a_probe_has_just_run_out(race: Race, share: Share, fake: Any) -> None:
    """About 16 s are left before the probe of ``top``, which takes 2; then less than 15."""
    top = fake("top", share(40, 0.9), picture=0.001, probe=2.0)
    trial = race(share(40, 0.5), [top, fake("full", share(40, 0.9))], budget=19)
    assert rows(trial)["full"]["status"] == "skipped"
    assert rows(trial)["top"]["status"] == "measured"


def test_a_reason_says_what_is_larger_than_what_is_left(race: Race, share: Share, fake: Any) -> None:
    top = fake("top", share(40, 0.9), picture=0.001, probe=3.0)
    trial = race(share(40, 0.5), [top, fake("full", share(40, 0.9))], budget=19, folds=3)
    needed, left = (float(word) for word in rows(trial)["full"]["reason"].split() if word.replace(".", "").isdigit())
    assert needed > left

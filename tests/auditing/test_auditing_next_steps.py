"""What to do next: the largest gain first, in words that fit; nothing where nothing helps."""

from typing import Any

import numpy as np
import pytest

from topwork.auditing.next_steps import MOST, NextStep, Seen, next_steps
from topwork.features.facts import Facts


def facts(**changes: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "accuracy": {"value": 0.8, "low": 0.72, "high": 0.86, "naive": 0.8, "n": 100},
        "classes": {"ant": 50, "bee": 50},
        "n_images": 100,
        "label_suspects": [],
        "learning_curve": None,
    }
    return {**known, **changes}


def curve(now: float, then: float) -> dict[str, Any]:
    return {
        "points": [{"n": 80, "accuracy": now, "per_class": {"ant": now - 0.1, "bee": now + 0.1}}],
        "forecast": {"n": 160, "accuracy": then, "per_class": {"ant": then, "bee": now + 0.1}},
    }


def seen(n: int = 100, **changes: Any) -> Seen:
    noted = [Facts(640, 480, "RGB", "JPEG", 0, 0.05 + k / n, 120, 50) for k in range(n)]
    known: dict[str, Any] = {
        "labels": np.arange(n) % 2,
        "groups": np.arange(n),
        "right": np.where(np.arange(n) % 5 == 0, 0.0, 1.0),
        "noted": noted,
    }
    return Seen(**{**known, **changes})


def kinds(steps: list[NextStep]) -> list[str]:
    return [step.kind for step in steps]


def test_the_largest_gain_comes_first_and_what_has_none_last() -> None:
    tuning = NextStep("fine-tuning", "Tune.", gain=0.05, basis="estimated")
    few = seen(unreadable=[{"path": "x.jpg", "reason": "empty file"}])
    many = facts(learning_curve=curve(0.8, 0.82), label_suspects=[{}] * 6)
    assert kinds(next_steps(many, few, [None, tuning])) == ["fine-tuning", "labels", "pictures", "unreadable"]
    assert len(next_steps(many, few, [tuning] * 9)) == MOST
    gains = [step.gain for step in next_steps(many, few, [tuning])]
    assert gains[:3] == sorted((gain for gain in gains if gain is not None), reverse=True)


def test_a_gain_says_what_it_is_based_on() -> None:
    for step in next_steps(facts(learning_curve=curve(0.8, 0.85), label_suspects=[{}] * 6), seen()):
        assert step.basis in ("measured", "estimated")


def test_the_class_that_gains_most_is_named_with_what_is_found_of_it_now() -> None:
    (step,) = next_steps(facts(learning_curve=curve(0.8, 0.85)), seen())
    assert "first of ant: found 70 times out of 100" in step.sentence
    assert "near 85 %" in step.sentence
    assert "bee" not in step.sentence


@pytest.mark.parametrize("then", [0.8, 0.803])
def test_gains_too_small_to_see_are_no_steps(then: float) -> None:
    assert next_steps(facts(learning_curve=curve(0.8, then)), seen()) == []


def test_where_the_model_may_be_guessing_the_classes_come_first() -> None:
    guessing = facts(accuracy={"value": 0.55, "low": 0.45, "high": 0.64, "n": 100}, learning_curve=curve(0.55, 0.7))
    assert kinds(next_steps(guessing, seen())) == ["classes", "pictures"]


def test_what_is_not_seen_comes_before_what_might_be_learned() -> None:
    geometry = NextStep("geometry", "See all of it.")
    steps = next_steps(facts(learning_curve=curve(0.8, 0.85)), seen(), [geometry])
    assert kinds(steps) == ["geometry", "pictures"]


@pytest.mark.parametrize(("poor", "expected"), [(True, ["light"]), (False, [])])
def test_mistakes_among_blurred_pictures_are_seen(poor: bool, expected: list[str]) -> None:
    """Of the least sharp quarter of each class half is wrong, or mistakes do not care for sharpness."""
    places = np.arange(100)
    wrong = (places < 26) & (places % 4 < 2) if poor else places % 8 == 0
    steps = next_steps(facts(), seen(right=np.where(wrong, 0.0, 1.0)))
    assert kinds(steps) == expected
    if poor:
        assert "least sharp" in steps[0].sentence
        assert steps[0].gain == pytest.approx(0.12, abs=0.03)


def test_a_dark_class_is_not_taken_for_dark_pictures() -> None:
    noted = [Facts(640, 480, "RGB", "JPEG", 0, 0.8, 30 if k % 2 else 150, 50) for k in range(100)]
    wrong = np.where(np.arange(100) % 4 == 1, 0.0, 1.0)  # half of the dark class
    assert next_steps(facts(), seen(noted=noted, right=wrong)) == []


def test_pictures_that_were_not_measured_do_not_count() -> None:
    assert next_steps(facts(), seen(right=np.full(100, np.nan))) == []


def test_few_occasions_are_named() -> None:
    groups = np.where(np.arange(100) % 2 == 0, np.arange(100) // 40, 1000 + np.arange(100))
    (step,) = next_steps(facts(), seen(groups=groups))
    assert step.kind == "occasions"
    assert "ant (50 pictures of 3)" in step.sentence
    assert "bee" not in step.sentence


def test_a_model_that_knows_occasions_is_told_by_its_careless_figure() -> None:
    accuracy = {"value": 0.8, "low": 0.7, "high": 0.87, "naive": 0.9, "n": 100}
    (step,) = next_steps(facts(accuracy=accuracy), seen())
    assert "10 points better where it knows a near-duplicate" in step.sentence


def test_unreadable_pictures_come_with_their_share_and_a_reason() -> None:
    (step,) = next_steps(facts(), seen(unreadable=[{"path": "a.jpg", "reason": "empty file"}] * 25))
    assert "the 25 pictures that could not be read (20 % of all), such as a.jpg: empty file." in step.sentence
    assert step.command == "topwork audit PHOTOS"


def test_classes_with_few_pictures_are_named_where_there_is_no_curve() -> None:
    accuracy = {"value": 0.95, "low": 0.85, "high": 0.98, "n": 36}
    (step,) = next_steps(facts(classes={"ant": 6, "bee": 30}, accuracy=accuracy), seen(36))
    assert "first of ant" in step.sentence

"""What explains that a model does otherwise than its fit had measured."""

from typing import Any

import pytest

from topwork.evaluation.metrics import wilson
from topwork.evaluation.promise import compared


def measured(right: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """The facts of a measurement from right answers and pictures of each class."""
    per_class = {}
    for name, (hits, n) in right.items():
        found = wilson(hits, n)
        per_class[name] = {"recall": found.value, "recall_low": found.low, "recall_high": found.high, "support": n}
    n, hits = sum(n for _, n in right.values()), sum(hits for hits, _ in right.values())
    return {"accuracy": {**wilson(hits, n).as_dict(), "n": n}, "per_class": per_class}


FIT = measured({"good": (45, 50), "cracked": (27, 50)})  # 90 and 54 %: 72 % in all


@pytest.mark.parametrize(
    ("new", "because", "words"),
    [
        ({"good": (90, 100), "cracked": (54, 100)}, None, "which holds here too"),
        ({"good": (44, 50), "cracked": (31, 50)}, "chance", "can be chance"),
        ({"good": (405, 450), "cracked": (27, 50)}, "class mix", "90 % of the pictures are good, 50 % were"),
        ({"good": (150, 300), "cracked": (60, 300)}, "difference", "lower here: these pictures are unlike"),
        ({"good": (297, 300), "cracked": (285, 300)}, "difference", "higher here: these pictures are easier"),
        ({"good": (20, 100), "cracked": (0, 0)}, "difference", "lower here"),
    ],
)
def test_what_explains_another_accuracy(new: dict[str, tuple[int, int]], because: str | None, words: str) -> None:
    found = compared(FIT, measured(new))
    assert found is not None
    assert found.because == because
    assert "The fit had measured 72.0 % (62.5 to 79.9 %)" in found.sentence
    assert words in found.sentence


def test_the_mix_is_exchanged() -> None:
    found = compared(FIT, measured({"good": (405, 450), "cracked": (27, 50)}))
    assert found is not None
    assert found.expected == pytest.approx(0.9 * 0.9 + 0.1 * 0.54)
    assert "with this mix it would have been 86.4 %" in found.sentence


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"accuracy": None},
        {"accuracy": {"value": None, "low": 0, "high": 1}},
        {**FIT, "per_class": {"other": {}}},
        [],
    ],
)
def test_a_model_that_does_not_say(metrics: Any) -> None:
    assert compared(metrics, measured({"good": (9, 10), "cracked": (8, 10)})) is None

"""What the page of a fit says about strategies: how they compared, how the network learned, what is left to try."""

import re
from typing import Any

import pytest

from topwork.report import Thumb, render_fit
from topwork.report.strategies import REFIT, comparison_view
from topwork.report.training import training_view
from topwork.report.words import NBSP

ACCURACY = {"value": 0.931, "low": 0.901, "high": 0.953, "n": 372, "correct": 346, "method": "one grouped hold-out"}


def measured(name: str, value: float, gain: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "strategy": name,
        "status": "measured",
        "reason": None,
        "estimate": None,
        "seconds": 201.3,
        "chosen": False,
        "accuracy": {"value": value, "low": value - 0.04, "high": value + 0.03, "n": 372},
        "gain": None if gain is None else {"value": gain, "low": gain - 0.02, "high": gain + 0.02},
        **more,
    }


SKIPPED = {
    "strategy": "full",
    "status": "skipped",
    "reason": "would take about 25 min, 6 min are left",
    "estimate": 1500.0,
    "seconds": None,
    "accuracy": None,
    "gain": None,
    "chosen": False,
}


def comparison(**more: Any) -> dict[str, Any]:
    return {
        "requested": "auto",
        "method": "one hold-out of 372 pictures, grouped",
        "n": 372,
        "budget": 600.0,
        "sentence": "top beats features by 4.1 points (interval 2.0 to 6.2)",
        "candidates": [measured("features", 0.89), measured("top", 0.931, 0.041, chosen=True), SKIPPED],
        **more,
    }


def epochs(n: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": i,
            "loss": 2 / i,
            "training_accuracy": 0.6,
            "accuracy": 0.8,
            "held_loss": 1 / i,
            "seconds": 6.1,
        }
        for i in range(1, n + 1)
    ]


def training(**more: Any) -> dict[str, Any]:
    return {
        "strategy": "top",
        "settings": {"epochs": 8, "rate": 0.00004, "cut": "blocks.4"},
        "parameters": {"trained": 2_800_000, "frozen": 700_000},
        "epochs": epochs(8),
        "rates": [[0, 0.00002], [10, 0.0001], [20, 0.0]],
        "stopped": None,
        "n_training": 1100,
        "export_difference": 3e-6,
        "refit": False,
        "resumed": False,
        "device": "cpu",
        **more,
    }


def facts(**more: Any) -> dict[str, Any]:
    return {
        "strategy": "top",
        "head": "softmax",
        "features": "pooled",
        "classes": {"ant": 700, "bee": 772},
        "accuracy": ACCURACY,
        "n_measured": 372,
        "choice": None,
        "learning_curve": None,
        "comparison": comparison(),
        "training": training(),
        **more,
    }


def section(name: str, **more: Any) -> str:
    """One section as text, empty when it is not on the page."""
    found = re.search(rf'<section id="{name}".*?</section>', render_fit(facts(**more)), re.DOTALL)
    return plain(found[0]) if found else ""


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<svg.*?</svg>", "", html))).replace(NBSP, " ")


def test_the_comparison_begins_with_its_sentence_and_marks_the_chosen() -> None:
    text = section("strategies")
    assert text.index("top beats features by 4.1 points (interval 2.0 to 6.2).") < text.index("All figures are of")
    assert "of the same held-out pictures (one hold-out of 372 pictures, grouped)" in text
    assert "The simpler strategy stays unless another wins by more than the noise." in text
    assert "top chosen last stages fine-tuned 93.1 % 89.1 to 96.1 % +4.1 +2.1 to +6.1 3 min 21 s" in text
    assert "features frozen network, linear head 89.0 %" in text
    assert text.count("chosen") == 1
    assert "The whole fit was given 10 min." in text


def test_a_strategy_that_was_asked_for_ships_whatever_the_comparison() -> None:
    text = section("strategies", comparison=comparison(requested="top", budget=None))
    assert "“top” was asked for, so it is what ships, whether it won or not." in text
    assert "simpler" not in text
    assert "was given" not in text


def test_a_skipped_strategy_has_its_reason_and_no_figures() -> None:
    assert "full whole network fine-tuned skipped: would take about 25 min, 6 min are left" in section("strategies")
    silent = {**SKIPPED, "reason": None, "status": "stopped", "seconds": 30.0}
    text = section("strategies", comparison=comparison(candidates=[measured("features", 0.89), silent]))
    assert "stopped: would take about 25 min 30.0 s" in text


def test_what_lost_has_a_minus_sign() -> None:
    view = comparison_view(comparison(candidates=[measured("features", 0.89), measured("scratch", 0.83, -0.06)]))
    assert view is not None
    gain = view["rows"][1]["gain"]
    assert (gain["text"], gain["span"]) == ("\u22126.0", "\u22128.0 to \u22124.0")
    assert 'cx="12.5%"' in gain["bar"]  # -6 on a scale from -8 to 8
    assert view["scale"].replace(NBSP, " ") == "from 70 % to 100 %"
    assert 'cx="63.33%"' in view["rows"][0]["accuracy"]["bar"]  # 89 on it


@pytest.mark.parametrize("name", [*comparison(), *training()])
@pytest.mark.parametrize("gone", [True, False], ids=["missing", "null"])
def test_any_part_of_the_new_blocks_may_be_missing(name: str, gone: bool) -> None:
    blocks = {"comparison": comparison(), "training": training()}
    for block in blocks.values():
        if gone:
            block.pop(name, None)
        elif name in block:
            block[name] = None
    assert not re.search(r"\b(None|nan)\b", plain(render_fit(facts(**blocks)).split("</style>")[1]))


@pytest.mark.parametrize("name", sorted({*measured("top", 0.9, 0.1)} - {"strategy"}))
def test_any_part_of_a_candidate_may_be_missing(name: str) -> None:
    row = measured("top", 0.9, 0.1)
    del row[name]
    assert "top" in section("strategies", comparison=comparison(candidates=[row]))


def test_sections_whose_block_is_missing_are_left_out() -> None:
    page = render_fit(facts(comparison=None, training=None))
    assert re.findall(r'<section id="(\w+)"', page) == ["accuracy", "classes", "making"]


def test_how_it_learned_is_told_in_words() -> None:
    text = section("training")
    for sentence in (
        "The last stages of the pretrained network were trained further on 1,100 pictures in 8 epochs;",
        "Of the 3.5 million parameters, the numbers that a network consists of, 2.8 million were trained;"
        " the other 700,000 stayed frozen, as they came.",
        "answers as the trained network to 0.000003: no probability differs by more.",
        "The held-out figures of each epoch are for looking at: they did not choose which weights are kept.",
        "rate 0.00004",
        "8 0.250 0.125 60.0 % 80.0 % 6.1 s",
        "device cpu",
    ):
        assert sentence in text
    for absent in ("stopped", "interrupted", "shipped one"):
        assert absent not in text


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [(3.14e-6, "to 0.000004:"), (0.0, "every probability is the same"), (0.5, "to 0.5:"), (None, "")],
)
def test_the_export_difference_is_never_rounded_down(difference: float | None, sentence: str) -> None:
    view = training_view(facts(training=training(export_difference=difference)))
    assert view is not None
    assert sentence in view["export"]
    assert bool(view["export"]) == bool(sentence)


def test_without_frozen_parameters_all_were_trained() -> None:
    parameters = {"trained": 3_500_000, "frozen": 0}
    assert "All 3.5 million parameters" in section("training", training=training(parameters=parameters))


def test_an_early_stop_is_told_and_the_held_out_figures_promise_nothing() -> None:
    stopped = "no progress for 3 epochs; the weights of epoch 5 are used"
    text = section("training", training=training(stopped=stopped, resumed=True))
    assert f"It was stopped early: {stopped}. It was interrupted and went on" in text
    assert "did not choose" not in text


def test_without_held_out_figures_nothing_is_said_of_them() -> None:
    rows = [{**row, "accuracy": None, "held_loss": None} for row in epochs(3)]
    page = render_fit(facts(training=training(epochs=rows)))
    assert "The held-out figures of each epoch" not in page
    assert ">training</text>" in page
    assert ">held out</text>" not in page


@pytest.mark.parametrize("n", [1, 200])
def test_one_epoch_and_two_hundred(n: int) -> None:
    page = render_fit(facts(training=training(epochs=epochs(n))))
    assert f"in {n} epoch{'s' * (n > 1)};" in page
    assert len(re.findall(r'<polyline class="(?:curve|other)"', page)) == 5
    table = re.search(r'<table class="plain epochs">.*?</table>', page, re.DOTALL)
    assert table is not None
    assert table[0].count("<tr>") == n + 2


def test_a_model_trained_again_on_everything_says_so_at_the_top() -> None:
    again = training(refit=True)
    assert REFIT in section("accuracy", training=again)
    assert REFIT not in section("training", training=again)  # once is enough
    assert 'href="#accuracy"' in render_fit(facts(training=again))
    assert "shipped one" not in section("accuracy")
    tested = section("accuracy", training=again, test={"accuracy": ACCURACY})
    assert "was measured on the separate test pictures only" in tested


@pytest.mark.parametrize(("refit", "seen"), [(False, False), (True, True)])
def test_heat_maps_of_held_out_pictures_tell_whether_the_shipped_model_saw_them(refit: bool, seen: bool) -> None:
    mistake = {"path": "a.jpg", "label": "ant", "predicted": "bee", "probability": 0.9}
    thumb = Thumb(picture=b"\xff\xd8\xff", heatmap=b"\xff\xd8\xff", width=9, height=9)
    page = render_fit(facts(mistakes=[mistake], training=training(refit=refit)), pictures={"a.jpg": thumb})
    assert ("trained on these pictures too" in page) == seen
    assert ("it had not seen these pictures" in page) != seen


def test_the_classes_say_on_how_many_pictures_they_were_measured() -> None:
    per_class = {"ant": {"recall": 0.9, "support": 175}, "bee": {"recall": 0.95, "support": 197}}
    assert "Measured on 372 held-out pictures" in section("classes", per_class=per_class)
    assert "held-out" not in section("classes", per_class=per_class, n_measured=None)


@pytest.mark.parametrize(("strategy", "shown"), [("top", True), ("features", False)])
def test_settings_of_the_training_stand_apart_in_the_recipe(strategy: str, shown: bool) -> None:
    recipe = {"head": "auto", "training": {"epochs": 0, "rate_factors": (), "rate": 2e-5}}
    text = section("making", strategy=strategy, recipe=recipe)
    assert "{" not in text
    assert ("Recipe: training epochs 0 rate factors none rate 0.00002" in text) == shown

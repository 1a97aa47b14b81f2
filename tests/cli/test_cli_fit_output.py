"""What ``fit`` says on the terminal beside the numbers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topwork.cli.fit_output import print_fit

Command = Callable[..., tuple[int, str, str]]
FIT = ["--head", "ridge", "--features", "pooled"]


@pytest.fixture
def printed(fitted: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The output for the facts of a fit with some of them changed."""

    def show(**changes: Any) -> str:
        capsys.readouterr()
        print_fit({**fitted.facts, **changes})
        return capsys.readouterr().out

    return show


def test_balanced_accuracy_where_classes_are_uneven(printed: Callable[..., str]) -> None:
    assert "balanced accuracy" not in printed()
    text = printed(classes={"checks": 8, "dots": 8, "stripes": 80}, balanced_accuracy=0.625)
    assert "  every class counting alike (balanced accuracy): 62.5 %\n" in text


def test_pictures_beyond_the_limit_are_counted(printed: Callable[..., str]) -> None:
    assert "head_limit" not in printed()
    assert "1 picture beyond head_limit was not used." in printed(n_sampled_out=1)
    assert "1,200 pictures beyond head_limit were not used." in printed(n_sampled_out=1200)


def test_a_test_split_of_training_pictures(
    topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path]
) -> None:
    photo_set(tmp_path / "train", 4)
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    _, out, _ = topwork_command("fit", tmp_path, *FIT)
    assert "The test split measures nothing: 12 pictures of it are near-duplicates of training pictures" in out
    assert "0.0 to 100.0 %" not in out
    photo_set(tmp_path / "test", 1, first=500)
    _, out, _ = topwork_command("fit", tmp_path, *FIT)
    assert "Accuracy on the test split: " in out
    assert "  12 pictures of it are near-duplicates of training pictures and left out" in out


COMPARISON: dict[str, Any] = {
    "requested": "auto",
    "method": "one hold-out of 372 pictures, grouped",
    "n": 372,
    "budget": 600.0,
    "sentence": "top beats features by 4.1 points (interval 2.0 to 6.2)",
    "candidates": [
        {
            "strategy": "features",
            "status": "measured",
            "reason": None,
            "estimate": None,
            "seconds": 4.2,
            "chosen": False,
            "accuracy": {"value": 0.89, "low": 0.85, "high": 0.92, "n": 372},
            "gain": None,
        },
        {
            "strategy": "top",
            "status": "measured",
            "reason": None,
            "estimate": 180.0,
            "seconds": 201.3,
            "chosen": True,
            "accuracy": {"value": 0.931, "low": 0.901, "high": 0.953, "n": 372},
            "gain": {"value": 0.041, "low": 0.02, "high": 0.062},
        },
        {
            "strategy": "full",
            "status": "skipped",
            "reason": "would take about 25 min, 6 min are left",
            "estimate": 1500.0,
            "seconds": None,
            "chosen": False,
            "accuracy": None,
            "gain": None,
        },
    ],
}
FINE_TUNED: dict[str, Any] = {
    "strategy": "top",
    "head": "softmax",
    "features": "pooled",
    "choice": None,
    "learning_curve": None,
    "n_measured": 372,
    "comparison": COMPARISON,
    "training": {"strategy": "top", "stopped": None, "refit": False},
}


@pytest.fixture
def at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.usefixtures("at_80_columns")
def test_a_fine_tuned_model_says_what_was_trained_and_how_strategies_compared(printed: Callable[..., str]) -> None:
    text = printed(**FINE_TUNED)
    lines = text.splitlines()
    assert "  strategy top (last stages fine-tuned), crop" in lines
    assert "softmax" not in text
    assert "(372 pictures)" in text
    start = lines.index("Strategies compared (one hold-out of 372 pictures, grouped):")
    assert [" ".join(line.split()) for line in lines[start + 1 : start + 7] if not line.startswith("─")] == [
        "strategy accuracy against features, points time",
        "features 89.0 % (85.0 to 92.0 %) - 4.2 s",
        "top (chosen) 93.1 % (90.1 to 95.3 %) +4.1 (+2.0 to +6.2) 3 min 21 s",
        "full skipped: would take about 25 min, 6 min are left",
        "top beats features by 4.1 points (interval 2.0 to 6.2)",
    ]
    assert max(len(line) for line in lines[start : start + 7]) <= 80


@pytest.mark.parametrize("name", ["n_measured", "comparison", "training"])
def test_what_is_not_known_of_a_fine_tuned_model_is_not_printed(printed: Callable[..., str], name: str) -> None:
    marks = {"n_measured": "(372 pictures)", "comparison": "Strategies compared", "training": "Stopped early"}
    known = {**FINE_TUNED, "training": {"stopped": "no progress for 3 epochs", "refit": False}}
    assert marks[name] in printed(**known)
    assert marks[name] not in printed(**{**known, name: None})


def test_strategies_without_figures_have_a_line_and_no_table(printed: Callable[..., str]) -> None:
    skipped = {**COMPARISON["candidates"][2], "status": "stopped", "reason": None}
    text = printed(**{**FINE_TUNED, "comparison": {**COMPARISON, "candidates": [skipped]}})
    assert "  full stopped\n" in text
    assert "against features" not in text


@pytest.mark.usefixtures("at_80_columns")
def test_a_model_trained_again_on_everything_says_so(printed: Callable[..., str]) -> None:
    text = printed(**{**FINE_TUNED, "training": {"refit": True, "stopped": None}})
    note = text[text.index("  note: The figures") :].split("\n\n")[0]
    assert " ".join(note.split()) == (
        "note: The figures are those of the model trained without the held-out pictures; the shipped one was then"
        " trained on them too and was not measured itself."
    )
    assert "note: The figures" not in printed(**FINE_TUNED)


STEP = {"kind": "fine-tuning", "sentence": "Fine-tune. It needs 46 s.", "gain": 0.021, "basis": "estimated"}


@pytest.mark.usefixtures("at_80_columns")
def test_what_to_do_next_stands_before_the_files(printed: Callable[..., str]) -> None:
    step = {**STEP, "sentence": 20 * "Fine-tune it now. ", "command": "topwork fit PHOTOS -o tuned.topwork"}
    lines = printed(next_steps=[step, {**STEP, "gain": None, "basis": None, "command": None}]).splitlines()
    first = lines.index("What to do next")
    assert lines[first + 1].startswith("  1. Fine-tune it now.")
    assert any(line.endswith("(about +2 points, estimated)") for line in lines[first:])
    assert "     topwork fit PHOTOS -o tuned.topwork" in lines
    assert "  2. Fine-tune. It needs 46 s." in lines
    assert lines[-2].startswith("Model:")


def test_where_nothing_helps_that_is_said(printed: Callable[..., str]) -> None:
    assert "Nothing that could be measured here would clearly help." in printed(next_steps=[])

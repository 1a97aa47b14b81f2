"""What ``fit`` says on the terminal beside the numbers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topwork.cli.fitting import _print_fit

Command = Callable[..., tuple[int, str, str]]
FIT = ["--head", "ridge", "--features", "pooled"]


@pytest.fixture
def printed(fitted: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The output for the facts of a fit with some of them changed."""

    def show(**changes: Any) -> str:
        capsys.readouterr()
        _print_fit({**fitted.facts, **changes})
        return capsys.readouterr().out

    return show


def test_balanced_accuracy_where_classes_are_uneven(printed: Callable[..., str]) -> None:
    assert "balanced accuracy" not in printed()
    text = printed(classes={"checks": 8, "dots": 8, "stripes": 80}, balanced_accuracy=0.625)
    assert "  every class counting alike (balanced accuracy): 62.5 %\n" in text


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 label looks wrong; the report shows it."), (3, "3 labels look wrong; the report shows them.")],
)
def test_label_suspects_are_counted(printed: Callable[..., str], count: int, words: str) -> None:
    assert words in printed(label_suspects=[{}] * count)
    assert "--json lists" in printed(label_suspects=[{}] * count, model=None)


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

"""Validation and test split: what is in one must not help in another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import topwork
from topwork import Recipe

FAST = Recipe(head="lda", features="pooled")


@pytest.fixture
def split_set(tmp_path: Path, photo_set: Callable[..., Path]) -> Path:
    root = tmp_path / "set"
    for number, split in enumerate(("train", "val", "test")):
        photo_set(root / split, 6 - number, first=100 * number)
    return root


def test_test_pictures_that_chose_the_head_do_not_count(split_set: Path) -> None:
    shutil.rmtree(split_set / "test")
    shutil.copytree(split_set / "val", split_set / "test")
    test = topwork.fit(split_set, FAST).facts["test"]
    assert test["n_images"] == 0
    assert len(test["leaked"]) == 15
    assert test["accuracy"]["value"] is None


def test_validation_pictures_that_are_copies_of_training_pictures_do_not_choose(split_set: Path) -> None:
    for path in (split_set / "train" / "dots").iterdir():
        shutil.copy(path, split_set / "val" / "dots" / f"copy_{path.name}")
    facts = topwork.fit(split_set, FAST).facts
    assert facts["n_val"] == 15
    named = [row for row in facts["excluded"] if "near-duplicate of a training picture" in row["reason"]]
    assert {Path(row["path"]).name[:5] for row in named} == {"copy_"}
    assert len(named) == 6


def test_the_limit_of_the_head_stage_does_not_thin_training_for_testing(
    tmp_path: Path, photo_set: Callable[..., Path], as_file: Callable[..., bytes], pattern: Callable[..., np.ndarray]
) -> None:
    root = photo_set(tmp_path / "set" / "train", 4)
    for number in range(40):
        for name in ("checks", "dots", "stripes"):
            place = root.parent / "test" / name / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(as_file(pattern(name, 500 + number, 40, 40)))
    facts = topwork.fit(root.parent, Recipe(head="lda", features="pooled", head_limit=100)).facts
    assert facts["classes"] == {"checks": 4, "dots": 4, "stripes": 4}
    assert facts["test"]["n_images"] + len(facts["test"]["leaked"]) <= 100
    assert facts["n_sampled_out"] == 20


def test_a_class_of_near_duplicates_is_named(
    tmp_path: Path, photo_set: Callable[..., Path], as_file: Callable[..., bytes], pattern: Callable[..., np.ndarray]
) -> None:
    """It cannot be measured: whatever is left out has nothing to be learned from."""
    root = photo_set(tmp_path / "set", 6)
    (root / "same").mkdir()
    for number in range(6):
        picture = pattern("any", 1).astype(int) + number
        (root / "same" / f"{number}.png").write_bytes(as_file(np.clip(picture, 0, 255).astype(np.uint8)))
    facts = topwork.fit(root, FAST).facts
    assert facts["per_class"]["same"]["recall"] == 0
    assert len(facts["notes"]) == 1
    assert "'same'" in facts["notes"][0]
    without = topwork.fit(photo_set(tmp_path / "without", 6), FAST).facts
    assert facts["novelty"]["threshold"] == pytest.approx(without["novelty"]["threshold"], abs=0.15)

"""Splits of the source, near-duplicates, refits and new weights in fine-tuned fits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork import Recipe
from topwork.recipe import Training

QUICK = Training(epochs=2, views=2, cut="blocks.5", batch_size=6)


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def split(
    cache_folder: Path, photo_set: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path, Path]:
    """A source with train, val and test splits, and its fine-tuned model."""
    root = tmp_path_factory.mktemp("split")
    for number, (name, n) in enumerate((("train", 6), ("val", 4), ("test", 3))):
        photo_set(root / name, n, first=100 * number)
    # a copy of a training picture in the test split
    (root / "test" / "dots" / "copy.png").write_bytes((root / "train" / "dots" / "000.png").read_bytes())
    folder = tmp_path_factory.mktemp("models") / "split.topwork"
    fit = topwork.fit(root, Recipe(strategy="top", training=QUICK), output=folder)
    return fit.facts, folder, root


def test_the_val_split_measures(split: tuple[dict[str, Any], Path, Path]) -> None:
    facts, folder, _ = split
    assert facts["comparison"]["method"].startswith("the val split of 12 pictures")
    assert facts["n_measured"] == facts["accuracy"]["n"] == 12
    assert facts["training"]["n_training"] == 18
    measured = [row["id"] for row in samples(folder) if row["fold"] is not None]
    assert len(measured) == 12
    assert all(name.startswith("val/") for name in measured)


def test_the_test_split_is_measured_by_what_ships(split: tuple[dict[str, Any], Path, Path]) -> None:
    facts, folder, root = split
    assert facts["test"]["leaked"] == ["test/dots/copy.png"]
    assert facts["test"]["n_images"] == 9
    paths = sorted((root / "test").glob("*/[0-9]*.png"))
    right = [p.label == path.parent.name for p, path in zip(topwork.load(folder).predict(paths), paths, strict=True)]
    assert facts["test"]["accuracy"]["value"] == pytest.approx(np.mean(right))


def test_near_duplicates_of_what_is_held_out_do_not_train(
    cache_folder: Path, photo_set: Callable[..., Path], as_file: Callable[..., bytes], tmp_path: Path
) -> None:
    """Every picture is there twice, once brighter by a level: both are on one side."""
    from PIL import Image

    photos = photo_set(tmp_path / "twice", 6)
    for path in sorted(photos.glob("*/*.png")):
        pixels = np.asarray(Image.open(path))
        path.with_name(f"{path.stem}b.png").write_bytes(
            as_file(np.clip(pixels.astype(int) + 1, 0, 255).astype("uint8"))
        )
    topwork.fit(photos, Recipe(strategy="top", training=QUICK), output=tmp_path / "m.topwork")
    sides: dict[str, set[bool]] = {}
    for row in samples(tmp_path / "m.topwork"):
        sides.setdefault(row["id"].removesuffix(".png").removesuffix("b"), set()).add(row["fold"] is not None)
    assert all(len(side) == 1 for side in sides.values())
    assert {True} in sides.values()


def test_a_refit_says_that_it_was_not_measured(
    cache_folder: Path, photos: Path, tmp_path: Path, split: tuple[dict[str, Any], Path, Path]
) -> None:
    recipe = Recipe(strategy="top", training=Training(**{**vars(QUICK), "refit": True}))
    facts = topwork.fit(photos, recipe, output=tmp_path / "m.topwork").facts
    assert facts["training"]["refit"]
    assert facts["training"]["n_training"] == 24
    assert facts["accuracy"]["n"] < 24
    page = (tmp_path / "m.topwork" / "report.html").read_text()
    assert "was not measured itself" in page
    assert "was not measured itself" not in (split[1] / "report.html").read_text()


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 64), ("test_efficientnet", 96)])
def test_new_weights_ship_as_any_model(cache_folder: Path, photos: Path, tmp_path: Path, name: str, size: int) -> None:
    training = Training(epochs=2, input_size=size, batch_size=8)
    recipe = Recipe(strategy="scratch", backbone=name, training=training)
    facts = topwork.fit(photos, recipe, output=tmp_path / "m.topwork").facts
    assert (facts["strategy"], facts["backbone"]) == ("scratch", name)
    assert set(facts["weights"].values()) == {None}
    assert facts["training"]["parameters"]["frozen"] == 0
    model = topwork.load(tmp_path / "m.topwork")
    assert model.manifest["preprocess"]["size"] == size
    paths = sorted(photos.glob("*/*.png"))
    held = {row["id"]: row for row in samples(tmp_path / "m.topwork") if row["fold"] is not None}
    predicted = {p: model.predict(p)[0].label for p in paths if p.relative_to(photos).as_posix() in held}
    right = np.mean([label == path.parent.name for path, label in predicted.items()])
    assert facts["accuracy"]["value"] == pytest.approx(right)


def test_what_cannot_be_trained_is_refused_before_anything_is(photos: Path) -> None:
    for recipe, words in (
        (Recipe(strategy="scratch", backbone="resnet1"), "there is no network 'resnet1': did you mean"),
        (Recipe(strategy="top", training=Training(cut="blocks.9")), "has no stage 'blocks.9': did you mean"),
        (Recipe(strategy="full", training=Training(unfreeze="block.3")), "has no stage 'block.3' to unfreeze"),
    ):
        with pytest.raises(topwork.UsageError, match=words):
            topwork.fit(photos, recipe)

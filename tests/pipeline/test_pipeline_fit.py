"""``fit`` from end to end: every kind of source, the facts it returns, and what the recipe's options do."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork import Recipe

Number = (int, float)
FAST = {"head": "ridge", "features": "pooled"}

SHAPES: dict[str, Any] = {
    "model": (str, type(None)),
    "task": str,
    "strategy": str,
    "backbone": str,
    "head": str,
    "features": str,
    "geometry": str,
    "geometry_choice": dict,
    "cut_away": dict,
    "classes": dict,
    "n_images": int,
    "excluded": list,
    "groups": dict,
    "accuracy": dict,
    "balanced_accuracy": Number,
    "per_class": dict,
    "confusion": dict,
    "calibration": dict,
    "novelty": dict,
    "mistakes": list,
    "label_suspects": list,
    "learning_curve": dict,
    "seconds": dict,
    "cache": dict,
    "seed": int,
}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def plain(value: Any) -> bool:
    """Whether json gives the value back as it was: no NumPy numbers, no NaN, no tuples."""
    return bool(json.loads(json.dumps(value, allow_nan=False)) == value)


@pytest.fixture(scope="module")
def wrong_labels(tmp_path_factory: pytest.TempPathFactory, photo_set: Callable[..., Path]) -> topwork.Fit:
    """A fit with something to report: two pictures lie in the wrong folder, one is stored twice, one is broken."""
    root = photo_set(tmp_path_factory.mktemp("wrong"), 9)
    shutil.move(root / "checks" / "000.png", root / "stripes" / "wrong.png")
    shutil.move(root / "dots" / "001.png", root / "checks" / "wrong.png")
    shutil.copy(root / "dots" / "002.png", root / "dots" / "copy.png")
    (root / "dots" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return topwork.fit(root)


@pytest.mark.parametrize(("key", "kind"), SHAPES.items())
def test_the_json_has_the_promised_keys(wrong_labels: topwork.Fit, key: str, kind: Any) -> None:
    assert isinstance(wrong_labels.facts[key], kind)


def test_the_json_is_plain(wrong_labels: topwork.Fit) -> None:
    assert plain(wrong_labels.facts)


def test_the_accuracy_has_its_doubt(wrong_labels: topwork.Fit) -> None:
    accuracy = wrong_labels.facts["accuracy"]
    assert 0 <= accuracy["low"] < accuracy["value"] < accuracy["high"] <= 1
    assert isinstance(accuracy["naive"], float)
    assert isinstance(accuracy["method"], str)
    assert accuracy["value"] == accuracy["correct"] / accuracy["n"]


def test_the_figures_agree_with_each_other(wrong_labels: topwork.Fit) -> None:
    facts = wrong_labels.facts
    matrix = np.array(facts["confusion"]["matrix"])
    assert facts["confusion"]["labels"] == list(facts["classes"]) == sorted(facts["classes"])
    assert matrix.sum(axis=1).tolist() == list(facts["classes"].values())
    assert facts["n_images"] == matrix.sum() == 28
    assert facts["accuracy"]["correct"] == np.trace(matrix)
    assert len(facts["mistakes"]) == matrix.sum() - np.trace(matrix)
    recalls = np.diag(matrix) / matrix.sum(axis=1)
    assert facts["balanced_accuracy"] == pytest.approx(recalls.mean())
    for k, (name, row) in enumerate(facts["per_class"].items()):
        assert row["support"] == facts["classes"][name]
        assert row["recall"] == pytest.approx(recalls[k])
        assert row["recall_low"] <= row["recall"] <= row["recall_high"]
        assert row["precision"] == pytest.approx(matrix[k, k] / matrix[:, k].sum())
        assert row["precision_low"] <= row["precision"] <= row["precision_high"]


def test_the_wrong_labels_are_mistakes_and_suspects(wrong_labels: topwork.Fit) -> None:
    facts = wrong_labels.facts
    mistakes = {row["path"]: row for row in facts["mistakes"]}
    assert {"stripes/wrong.png", "checks/wrong.png"} <= mistakes.keys()
    found = mistakes["stripes/wrong.png"]
    assert (found["label"], found["predicted"]) == ("stripes", "checks")
    assert isinstance(found["known"], bool)
    assert 0 < found["probability"] <= 1
    assert {row["path"] for row in facts["label_suspects"]} <= mistakes.keys()
    suspect = next(row for row in facts["label_suspects"] if row["path"] == "stripes/wrong.png")
    assert (suspect["label"], suspect["suggested"]) == ("stripes", "checks")
    assert suspect["probability"] > suspect["label_probability"]


def test_calibration_novelty_learning_curve_and_time(wrong_labels: topwork.Fit) -> None:
    facts = wrong_labels.facts
    assert 0 <= facts["calibration"]["ece"] <= 1
    assert 0 <= facts["calibration"]["brier"] <= 2
    assert facts["novelty"]["threshold"] > 0
    assert 0.9 <= facts["novelty"]["coverage"] <= 1
    points = facts["learning_curve"]["points"]
    assert [p["n"] for p in points] == sorted(p["n"] for p in points)
    assert points[-1]["accuracy"] == pytest.approx(facts["accuracy"]["value"])
    assert isinstance(facts["learning_curve"]["advice"], str)
    seconds = facts["seconds"]
    assert sum(value for step, value in seconds.items() if step != "total") <= seconds["total"] + 0.01
    assert all(value >= 0 for value in seconds.values())


def test_groups_excluded_cache_and_seed(wrong_labels: topwork.Fit) -> None:
    facts = wrong_labels.facts
    assert facts["groups"]["duplicates"] == [["dots/002.png", "dots/copy.png"]]
    assert facts["groups"]["count"] == 27
    assert facts["groups"]["largest"] == 2
    [excluded] = facts["excluded"]
    assert excluded["path"] == "dots/broken.png"
    assert "PNG" in excluded["reason"]
    assert facts["cache"]["hits"] + facts["cache"]["misses"] == 28
    assert facts["seed"] == 0
    assert facts["task"] == "classify"
    assert facts["strategy"] == "features"
    assert facts["model"] is None


def test_easy_pictures_are_told_apart(fitted: Any) -> None:
    assert fitted.facts["accuracy"]["value"] >= 0.9
    assert fitted.facts["model"] == str(fitted.folder)
    assert fitted.facts["classes"] == {"checks": 8, "dots": 8, "stripes": 8}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory, photo_set: Callable[..., Path]) -> Path:
    """train 3 x 6, validation 3 x 2, test 3 x 3 + a mirrored copy of a training picture."""
    root = tmp_path_factory.mktemp("splits")
    photo_set(root / "train", 6)
    photo_set(root / "validation", 2, first=50)
    photo_set(root / "test", 3, first=70)
    from PIL import Image, ImageOps

    with Image.open(root / "train" / "dots" / "003.png") as image:
        ImageOps.mirror(image).save(root / "test" / "dots" / "mirrored.png")
    return root


@pytest.fixture(scope="module")
def fitted_splits(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[topwork.Fit, Path]:
    folder = tmp_path_factory.mktemp("out") / "splits.topwork"
    return topwork.fit(splits, output=folder), folder


def test_splits_train_on_train_only(fitted_splits: tuple[topwork.Fit, Path]) -> None:
    fit, folder = fitted_splits
    assert fit.facts["n_images"] == 18
    rows = rows_of(folder)
    measured = [row for row in rows if row["probabilities"] is not None]
    assert {row["id"].split("/")[0] for row in measured} == {row["split"] for row in measured} == {"train"}
    # The validation pictures chose the head, so `evaluate` must know them; they were not measured.
    assert {(row["split"], row["fold"]) for row in rows if row not in measured} == {("val", None)}
    assert "head chosen on the val split" in fit.facts["accuracy"]["method"]
    assert fit.facts["n_val"] == len(rows) - len(measured) > 0


def test_the_test_split_is_measured_too(fitted_splits: tuple[topwork.Fit, Path]) -> None:
    test = fitted_splits[0].facts["test"]
    assert test["n_images"] == test["accuracy"]["n"] == 9
    assert {"value", "low", "high", "method", "naive"} <= test["accuracy"].keys()
    assert test["accuracy"]["method"].startswith("test split")
    assert test["accuracy"]["value"] >= 0.6
    assert plain(test)


def test_a_copy_of_a_training_picture_in_the_test_split_is_named_and_left_out(
    fitted_splits: tuple[topwork.Fit, Path],
) -> None:
    test = fitted_splits[0].facts["test"]
    assert test["leaked"] == ["test/dots/mirrored.png"]
    assert np.sum(test["confusion"]["matrix"]) == 9


def test_the_test_figures_are_those_of_the_saved_model(fitted_splits: tuple[topwork.Fit, Path], splits: Path) -> None:
    fit, folder = fitted_splits
    source = topwork.ImageSource.open(splits / "test")
    predictions = topwork.load(folder).predict(sample for sample in source.samples if sample.id != "dots/mirrored.png")
    wrong = {p.path for p in predictions if p.label != p.path.split("/")[0]}
    assert {row["path"].removeprefix("test/") for row in fit.facts["test"]["mistakes"]} == wrong
    assert fit.facts["test"]["novelty"]["coverage"] == np.mean([p.known for p in predictions])


def test_the_val_split_decides_the_choice(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    """On the val split the labels of two classes are swapped: whatever is chosen there must look bad."""
    root = tmp_path / "set"
    photo_set(root / "train", 5)
    photo_set(root / "val", 3, first=60)
    right = topwork.fit(root).facts["choice"]["candidates"]
    (root / "val" / "dots").rename(root / "val" / "other")
    (root / "val" / "stripes").rename(root / "val" / "dots")
    (root / "val" / "other").rename(root / "val" / "stripes")
    swapped = topwork.fit(root).facts["choice"]["candidates"]
    assert max(row["accuracy"] for row in right) > 0.85
    assert max(row["accuracy"] for row in swapped) < 0.6


def manifest_of(root: Path, path: Path, group: Callable[[str, int], str], split: Callable[[str], str]) -> Path:
    lines = ["path,label,split,group"]
    for picture in sorted(root.rglob("*.png")):
        label, name = picture.parent.name, picture.stem
        lines.append(f"{picture.relative_to(path.parent)},{label},{split(name)},{group(label, int(name))}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_manifest_with_groups_and_splits(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "pictures", 8)
    manifest = manifest_of(
        root, tmp_path / "list.csv", lambda label, i: f"{label}{i // 3}", lambda name: "test" if name > "005" else ""
    )
    folder = tmp_path / "m.topwork"
    facts = topwork.fit(manifest, Recipe(folds=3, **FAST), output=folder).facts
    assert facts["n_images"] == 18
    assert facts["test"]["n_images"] == 6
    assert facts["groups"]["count"] == 6
    assert "grouped" in facts["accuracy"]["method"]
    folds: dict[str, set[int]] = {}
    for row in rows_of(folder):
        label, number = row["label"], int(Path(row["id"]).stem)
        folds.setdefault(f"{label}{number // 3}", set()).add(row["fold"])
    assert len(folds) == 6
    assert all(len(found) == 1 for found in folds.values())


def test_a_zip_file_gives_what_its_folder_gives(tmp_path: Path, fitted: Any) -> None:
    packed = shutil.make_archive(str(tmp_path / "set"), "zip", fitted.photos)
    recipe = topwork.Recipe(**fitted.facts["recipe"])
    for source in (f"zip://::file://{packed}", packed):
        fit = topwork.fit(source, recipe)
        assert fit.graph == fitted.fit.graph
        assert fit.facts["cache"] == {"hits": 24, "misses": 0}
        assert fit.facts["accuracy"] == fitted.facts["accuracy"]


def test_an_image_source_is_a_source(fitted: Any) -> None:
    source = topwork.ImageSource.open(fitted.photos)
    assert topwork.fit(source, topwork.Recipe(**fitted.facts["recipe"])).graph == fitted.fit.graph


def test_loose_files_are_no_class(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 4)
    for name in ("loose.png", "another.png"):
        shutil.copy(root / "dots" / "000.png", root / name)
    facts = topwork.fit(root, Recipe(**FAST)).facts
    assert facts["classes"] == {"checks": 4, "dots": 4, "stripes": 4}
    assert facts["n_unlabelled"] == 2
    assert facts["groups"]["images"] == 0


@pytest.mark.parametrize(
    ("head", "features"),
    [
        ("svm", "logits"),
        ("logistic", "pooled"),
        ("lda", "logits"),
        ("ridge", "pooled"),
        ("ridge", "logits"),
        ("nearest-mean", "pooled"),
    ],
)
def test_head_and_features(fitted: Any, head: str, features: str) -> None:
    fit = topwork.fit(fitted.photos, Recipe(head=head, features=features))
    assert (fit.facts["head"], fit.facts["features"], fit.facts["geometry"]) == (head, features, "crop")
    assert {row["head"] for row in fit.facts["choice"]["candidates"]} == {head}
    assert {row["features"] for row in fit.facts["choice"]["candidates"]} == {features}
    assert fit.facts["accuracy"]["value"] >= 0.75
    labels = [p.label for p in fit.model.predict(sorted(fitted.photos.rglob("*.png")))]
    truth = [path.parent.name for path in sorted(fitted.photos.rglob("*.png"))]
    assert np.mean([a == b for a, b in zip(labels, truth, strict=True)]) >= 0.9


def test_geometry_is_honoured_in_the_graph(tmp_path: Path, fitted: Any, photo_set: Callable[..., Path]) -> None:
    """The sides of a wide picture: a centre crop does not see them, the others do."""
    wide = np.full((60, 240, 3), 128, np.uint8)
    other = wide.copy()
    other[:, :60], other[:, 180:] = 255, 0
    for geometry, same in (("crop", True), ("pad", False), ("stretch", False), ("whole", False)):
        model = topwork.fit(fitted.photos, Recipe(geometry=geometry, **FAST)).model
        assert model.geometry == geometry
        seen = [model.answer(picture).features for picture in (wide, other)]
        assert np.array_equal(*seen) is same


@pytest.mark.parametrize(("folds", "words"), [(3, "nested 3-fold"), (24, "leave-one-out"), (100, "leave-one-out")])
def test_folds(fitted: Any, tmp_path: Path, folds: int, words: str) -> None:
    fit = topwork.fit(fitted.photos, Recipe(folds=folds, **FAST), output=tmp_path / "m.topwork")
    assert fit.facts["accuracy"]["method"].startswith(words)
    assert len({row["fold"] for row in rows_of(tmp_path / "m.topwork")}) == min(folds, 24)


def test_coverage_moves_the_threshold(fitted: Any) -> None:
    facts = {c: topwork.fit(fitted.photos, Recipe(coverage=c, **FAST)).facts["novelty"] for c in (0.5, 0.9)}
    assert facts[0.5]["threshold"] < facts[0.9]["threshold"]
    for target, found in facts.items():
        # Leave-one-out: known by the threshold of the 23 others, whose rank is ceil(24 target).
        assert found["coverage"] == pytest.approx(math.ceil(24 * target) / 24, abs=1.01 / 24)
        assert found["target"] == target


def test_max_pixels_excludes(fitted: Any) -> None:
    with pytest.raises(topwork.SourceError, match="24 pictures could not be read"):
        topwork.fit(fitted.photos, Recipe(max_pixels=110 * 140 - 1, **FAST))
    assert topwork.fit(fitted.photos, Recipe(max_pixels=110 * 140, **FAST)).facts["excluded"] == []


def test_group_duplicates_off(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 4)
    from PIL import Image, ImageOps

    for path in list(root.rglob("*.png")):
        with Image.open(path) as image:
            ImageOps.mirror(image).save(path.with_name(f"m{path.name}"))
    counts = {
        on: topwork.fit(root, Recipe(group_duplicates=on, **FAST)).facts["groups"]["count"] for on in (True, False)
    }
    assert counts[True] <= 12
    assert counts[False] == 24


def test_head_limit_samples_by_class(tmp_path: Path, as_file: Callable[..., bytes]) -> None:
    random = np.random.default_rng(0)
    for name, n in (("a", 90), ("b", 30)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(n):
            pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            (tmp_path / "set" / name / f"{i}.png").write_bytes(as_file(pixels))
    recipe = Recipe(head_limit=100, group_duplicates=False, **FAST)
    facts = topwork.fit(tmp_path / "set", recipe).facts
    assert facts["n_images"] == 100
    assert facts["n_sampled_out"] == 20
    assert facts["classes"] == {"a": 75, "b": 25}
    assert facts["cache"]["hits"] + facts["cache"]["misses"] == 120


def test_without_a_recipe_the_head_is_chosen(fitted: Any) -> None:
    facts = topwork.fit(fitted.photos).facts
    tried = {(row["head"], row["features"]) for row in facts["choice"]["candidates"]}
    assert {"svm", "logistic", "lda", "ridge", "nearest-mean"} == {head for head, _ in tried}
    assert ("svm", "logits") in tried
    scores = [row["accuracy"] for row in facts["choice"]["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert len(facts["choice"]["folds"]) == 24

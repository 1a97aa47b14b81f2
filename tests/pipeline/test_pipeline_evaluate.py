"""``evaluate``: a finished model on labelled pictures it never saw."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CLASSES
from PIL import Image

import topwork
from topwork import SourceError


@pytest.fixture(scope="module")
def new_photos(tmp_path_factory: pytest.TempPathFactory, photo_set: Callable[..., Path]) -> Path:
    return photo_set(tmp_path_factory.mktemp("new"), 4, first=200)


@pytest.fixture(scope="module")
def facts(fitted: Any, new_photos: Path) -> dict[str, Any]:
    return topwork.evaluate(fitted.folder, new_photos)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("accuracy", dict),
        ("per_class", dict),
        ("confusion", dict),
        ("calibration", dict),
        ("novelty", dict),
        ("excluded", list),
        ("mistakes", list),
        ("n_images", int),
        ("leaked", list),
        ("model", str),
        ("balanced_accuracy", float),
    ],
)
def test_the_json_has_the_promised_keys(facts: dict[str, Any], key: str, kind: type) -> None:
    assert isinstance(facts[key], kind)


def test_the_accuracy_has_the_shape_of_a_fit_s(facts: dict[str, Any], fitted: Any) -> None:
    assert facts["accuracy"].keys() == fitted.facts["accuracy"].keys()
    assert facts["per_class"]["dots"].keys() == fitted.facts["per_class"]["dots"].keys()
    assert facts["calibration"].keys() == fitted.facts["calibration"].keys()
    assert facts["accuracy"]["low"] <= facts["accuracy"]["value"] <= facts["accuracy"]["high"]


def test_it_agrees_with_predict(facts: dict[str, Any], fitted: Any, new_photos: Path) -> None:
    paths = sorted(new_photos.rglob("*.png"))
    predictions = topwork.load(fitted.folder).predict(paths)
    truth = [path.parent.name for path in paths]
    right = [p.label == name for p, name in zip(predictions, truth, strict=True)]
    assert facts["n_images"] == facts["accuracy"]["n"] == 12
    assert facts["accuracy"]["value"] == np.mean(right) >= 0.75
    assert facts["novelty"]["coverage"] == np.mean([p.known for p in predictions])
    labels = facts["confusion"]["labels"]
    for row, name in enumerate(labels):
        for column, guess in enumerate(labels):
            count = sum(t == name and p.label == guess for t, p in zip(truth, predictions, strict=True))
            assert facts["confusion"]["matrix"][row][column] == count
    probabilities = np.array([[dict(p.top)[label] for label in labels] for p in predictions])
    onehot = np.array([[label == name for label in labels] for name in truth])
    brier = np.square(probabilities - onehot).sum(axis=1).mean()
    assert facts["calibration"]["brier"] == pytest.approx(brier, abs=1e-5)


def test_a_model_or_its_path(facts: dict[str, Any], fitted: Any, new_photos: Path) -> None:
    model = topwork.load(fitted.folder)
    for given in (model, str(fitted.folder), fitted.folder):
        again = topwork.evaluate(given, new_photos)
        assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in facts.items() if k != "seconds"}


def test_mistakes_are_named(fitted: Any, new_photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(new_photos, tmp_path / "set"))
    shutil.move(root / "dots" / "200.png", root / "stripes" / "wrong.png")
    facts = topwork.evaluate(fitted.folder, root)
    found = {row["path"]: row for row in facts["mistakes"]}
    assert (found["stripes/wrong.png"]["label"], found["stripes/wrong.png"]["predicted"]) == ("stripes", "dots")
    assert facts["accuracy"]["correct"] == 12 - len(found)


def test_copies_of_training_pictures_are_left_out(fitted: Any, new_photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(new_photos, tmp_path / "set"))
    shutil.copy(fitted.photos / "dots" / "001.png", root / "dots" / "copy.png")
    shutil.copy(fitted.photos / "dots" / "002.png", root / "stripes" / "copy with wrong label.png")
    facts = topwork.evaluate(fitted.folder, root)
    assert facts["leaked"] == ["dots/copy.png", "stripes/copy with wrong label.png"]
    assert facts["n_images"] == 12
    assert "stripes/copy with wrong label.png" not in {row["path"] for row in facts["mistakes"]}
    assert facts["accuracy"]["naive"] == pytest.approx((facts["accuracy"]["correct"] + 1) / 14)


def test_on_its_own_training_pictures(fitted: Any) -> None:
    """Nothing is left to measure; the answer must say so instead of 100 %."""
    facts = topwork.evaluate(fitted.folder, fitted.photos)
    assert len(facts["leaked"]) == 24
    assert facts["n_images"] == 0
    assert facts["accuracy"]["value"] is None
    assert facts["balanced_accuracy"] is None
    assert (facts["accuracy"]["low"], facts["accuracy"]["high"]) == (0, 1)
    assert facts["mistakes"] == []


def test_pictures_of_other_classes(fitted: Any, new_photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(new_photos, tmp_path / "set"))
    (root / "walls").mkdir()
    for i in range(3):
        wall = np.random.default_rng(i).normal(60 + 60 * i, 3, (100, 100, 3)).astype(np.uint8)
        Image.fromarray(wall).save(root / "walls" / f"{i}.png")
    facts = topwork.evaluate(fitted.folder, root)
    assert facts["n_images"] == 12
    assert facts["novelty"]["foreign"] == {"n": 3, "noticed": 3}
    excluded = {row["path"]: row["reason"] for row in facts["excluded"]}
    assert excluded.keys() == {"walls/0.png", "walls/1.png", "walls/2.png"}
    assert all("walls" in reason for reason in excluded.values())


def test_bad_files_are_named_and_change_nothing(
    facts: dict[str, Any], fitted: Any, new_photos: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(new_photos, tmp_path / "set"))
    (root / "dots" / "000 empty.png").write_bytes(b"")
    (root / "stripes" / "notes.txt").write_text("mine")
    again = topwork.evaluate(fitted.folder, root)
    assert [row["path"] for row in again["excluded"]] == ["dots/000 empty.png", "stripes/notes.txt"]
    for key in ("accuracy", "confusion", "calibration", "mistakes", "novelty"):
        assert again[key] == facts[key]


def test_groups_widen_the_interval(fitted: Any, new_photos: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name}" for path in sorted(new_photos.rglob("*.png"))]
    widths = []
    for name, groups in (("single", [""] * 12), ("grouped", [f"g{i // 4}" for i in range(12)])):
        lines = [f"{row},{group}" for row, group in zip(rows, groups, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,group", *lines]))
        accuracy = topwork.evaluate(fitted.folder, tmp_path / f"{name}.csv")["accuracy"]
        widths.append(accuracy["high"] - accuracy["low"])
    assert widths[1] > 1.3 * widths[0]


def test_no_picture_of_the_model_s_classes(fitted: Any, tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 2, classes=("dots", "stripes"))
    (root / "dots").rename(root / "Dots")
    (root / "stripes").rename(root / "lines")
    with pytest.raises(SourceError, match=r"the model's classes \(checks, dots, stripes\)") as error:
        topwork.evaluate(fitted.folder, root)
    assert "\n" not in str(error.value)


def test_nothing_that_can_be_read(fitted: Any, tmp_path: Path) -> None:
    """The folders are named as they should be: the advice is about the files."""
    for name in ("dots", "stripes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"%PDF-1.7")
    with pytest.raises(SourceError, match=r"2 pictures could not be read: .*it is a PDF") as error:
        topwork.evaluate(fitted.folder, topwork.ImageSource.open(tmp_path))
    assert "class folders" not in str(error.value)
    assert "ImageSource(" not in str(error.value)


def test_an_opened_source_is_named_by_its_place(fitted: Any, new_photos: Path, tmp_path: Path) -> None:
    shutil.copytree(new_photos / "dots", tmp_path / "a" / "spots")
    shutil.copytree(new_photos / "dots", tmp_path / "a" / "points")
    with pytest.raises(SourceError, match=r"found only others \(points, spots\) in /") as error:
        topwork.evaluate(fitted.folder, topwork.ImageSource.open(tmp_path / "a"))
    assert "ImageSource(" not in str(error.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows takes blanks off names")
def test_names_of_classes_are_compared_in_one_form(
    facts: dict[str, Any], fitted: Any, new_photos: Path, tmp_path: Path
) -> None:
    """Accents stored apart or not, on either side; blanks at the ends."""
    root = Path(shutil.copytree(new_photos, tmp_path / "set"))
    (root / "dots").rename(root / "do\u0308ts ")
    model = topwork.load(fitted.folder)
    model.labels[model.labels.index("dots")] = "d\u00f6ts"
    assert topwork.evaluate(model, root)["accuracy"] == facts["accuracy"]
    model.labels[model.labels.index("d\u00f6ts")] = "do\u0308ts"  # of a model that is older than this rule
    assert topwork.evaluate(model, root)["accuracy"] == facts["accuracy"]


def test_a_source_without_labels(fitted: Any, new_photos: Path) -> None:
    with pytest.raises(SourceError, match="none has a label"):
        topwork.evaluate(fitted.folder, new_photos / "dots")


def test_an_imagenet_network_can_be_evaluated(tmp_path: Path) -> None:
    """Folders named after ImageNet's classes."""
    data = pytest.importorskip("skimage.data")
    model = topwork.load("imagenet:tf_efficientnet_lite0")
    label = next(name for name in model.labels if "espresso" in name and "maker" not in name)
    (tmp_path / "set" / label).mkdir(parents=True)
    Image.fromarray(data.coffee()).save(tmp_path / "set" / label / "1.png")
    facts = topwork.evaluate(model, tmp_path / "set")
    assert facts["n_images"] == 1
    assert facts["novelty"]["threshold"] is None


def test_a_model_from_memory_knows_what_it_was_trained_on(fitted: Any, tmp_path: Path) -> None:
    """Wherever the process stands, and whether or not the model was saved."""
    assert len(topwork.evaluate(fitted.fit.model, fitted.photos)["leaked"]) == 24
    model = topwork.load(os.path.relpath(fitted.folder))
    with contextlib.chdir(tmp_path):
        assert len(topwork.evaluate(model, fitted.photos)["leaked"]) == 24


@pytest.fixture(scope="module")
def split_photos(tmp_path_factory: pytest.TempPathFactory, photo_set: Callable[..., Path]) -> Path:
    """Training and test pictures; of the latter three are training pictures, saved again."""
    root = tmp_path_factory.mktemp("split")
    photo_set(root / "train", 8)
    photo_set(root / "test", 5, first=300)
    for kind in CLASSES:
        Image.open(root / "train" / kind / "003.png").save(root / "test" / kind / "again.jpg", quality=92)
    return root


@pytest.mark.parametrize("geometry", ["crop", "stretch"])
def test_near_duplicates_are_left_out_as_in_a_fit_with_test_pictures(
    split_photos: Path, tmp_path: Path, geometry: str
) -> None:
    recipe = topwork.Recipe(head="lda", features="pooled", geometry=geometry)
    together = topwork.fit(split_photos, recipe).facts["test"]
    fitted = topwork.fit(split_photos / "train", recipe, output=tmp_path / "m")
    again = {f"{kind}/again.jpg" for kind in CLASSES}
    assert {path.removeprefix("test/") for path in together["leaked"]} == again
    for model in (fitted.model, tmp_path / "m"):
        apart = topwork.evaluate(model, split_photos / "test")
        assert set(apart["leaked"]) == again
        assert apart["leak_rule"] == "near-duplicates"
        assert apart["accuracy"]["value"] == together["accuracy"]["value"]
        assert apart["accuracy"]["n"] == together["accuracy"]["n"] == 15
    size = (tmp_path / "m" / "duplicate_keys.safetensors").stat().st_size
    assert size <= 3000 * 24


def test_a_model_that_keeps_no_keys_notices_identical_files_only(split_photos: Path, tmp_path: Path) -> None:
    recipe = topwork.Recipe(head="lda", features="pooled", duplicate_keys=False)
    topwork.fit(split_photos / "train", recipe, output=tmp_path / "m")
    shutil.copytree(split_photos / "test", tmp_path / "test")
    shutil.copy(split_photos / "train" / "dots" / "005.png", tmp_path / "test" / "dots" / "same.png")
    facts = topwork.evaluate(tmp_path / "m", tmp_path / "test")
    assert not (tmp_path / "m" / "duplicate_keys.safetensors").exists()
    assert (facts["leaked"], facts["leak_rule"]) == (["dots/same.png"], "identical files")

"""Bad files are named and touch nothing else; sets that cannot be used are refused in one sentence."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork import Recipe, SourceError

FAST = Recipe(head="ridge", features="pooled")


def one_sentence(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    assert text[0].islower() or text.startswith(("/", "ONNX"))
    assert len(text) < 400
    return text


@pytest.fixture(scope="module")
def with_bad_files(fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = Path(shutil.copytree(fitted.photos, tmp_path_factory.mktemp("bad") / "set"))
    whole = (root / "dots" / "000.png").read_bytes()
    (root / "checks" / "0000 truncated.png").write_bytes(whole[: len(whole) // 2])
    (root / "checks" / "005 empty.jpg").write_bytes(b"")
    (root / "dots" / "text.jpg").write_text("this is text, whatever its name says\n" * 20)
    (root / "stripes" / ".hidden.png").write_bytes(whole)
    (root / "stripes" / "notes.txt").write_text("mine")
    (root / "stripes" / "zzz half.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)))
    return root


def test_bad_files_are_named_with_their_reason(with_bad_files: Path) -> None:
    excluded = {row["path"]: row["reason"] for row in topwork.fit(with_bad_files, FAST).facts["excluded"]}
    assert excluded.keys() == {
        "checks/0000 truncated.png",
        "checks/005 empty.jpg",
        "dots/text.jpg",
        "stripes/.hidden.png",
        "stripes/notes.txt",
        "stripes/zzz half.jpg",
    }
    assert "empty" in excluded["checks/005 empty.jpg"]
    assert "hidden" in excluded["stripes/.hidden.png"]
    assert "PNG" in excluded["checks/0000 truncated.png"]
    assert "JPEG" in excluded["stripes/zzz half.jpg"]
    assert "text" in excluded["dots/text.jpg"]
    assert all("\n" not in reason for reason in excluded.values())


def test_what_was_ignored_in_a_picture_is_said(fitted: Any, tmp_path: Path) -> None:
    root = Path(shutil.copytree(fitted.photos, tmp_path / "set"))
    with Image.open(root / "dots" / "003.png") as picture:
        picture.load()
        picture.save(root / "dots" / "003.png", icc_profile=b"no profile" * 40)
    ignored = "colour profile ignored (damaged)"
    assert f"1 picture, such as dots/003.png: {ignored}." in topwork.fit(root, FAST).facts["notes"]
    found = {row["path"]: row["findings"] for row in topwork.audit(root).facts["quality"]}
    assert ignored in found["dots/003.png"]


@pytest.mark.parametrize("cold", [False, True])
def test_bad_files_change_nothing_else(
    fitted: Any, with_bad_files: Path, tmp_path: Path, cold: bool, request: pytest.FixtureRequest
) -> None:
    if cold:
        request.getfixturevalue("empty_cache")
    folder = tmp_path / "m.topwork"
    fit = topwork.fit(with_bad_files, Recipe(**fitted.facts["recipe"]), output=folder)
    assert fit.facts["cache"]["misses"] == (24 if cold else 0)
    assert (folder / "samples.jsonl").read_bytes() == (fitted.folder / "samples.jsonl").read_bytes()
    assert fit.graph == fitted.fit.graph
    for key in ("accuracy", "classes", "calibration", "novelty", "mistakes", "learning_curve", "data_fingerprint"):
        assert fit.facts[key] == fitted.facts[key], key


def test_the_model_remembers_what_was_left_out(with_bad_files: Path, tmp_path: Path) -> None:
    fit = topwork.fit(with_bad_files, FAST, output=tmp_path / "m.topwork")
    assert topwork.load(tmp_path / "m.topwork").manifest["data"]["excluded"] == fit.facts["excluded"]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
def test_a_link_that_goes_in_circles(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 3)
    (root / "dots" / "loop").symlink_to(root)
    facts = topwork.fit(root, FAST).facts
    assert facts["classes"] == {"checks": 3, "dots": 3, "stripes": 3}
    assert [row["path"] for row in facts["excluded"]] == ["dots/loop"]


def test_pictures_of_every_size_and_kind(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 3)
    Image.new("RGB", (1, 1), "red").save(root / "dots" / "one pixel.png")
    Image.new("CMYK", (70, 50), (9, 100, 200, 0)).save(root / "dots" / "cmyk.jpg")
    Image.new("P", (70, 50), 3).save(root / "checks" / "palette.gif")
    Image.fromarray(np.full((40, 300), 40_000, np.uint16)).save(root / "checks" / "deep.png")
    Image.new("LA", (33, 44), (10, 100)).save(root / "stripes" / "alpha.webp")
    Image.new("1", (333, 44), 1).save(root / "stripes" / "bits.tiff")
    Image.new("L", (3, 4000), 77).save(root / "stripes" / "thin.bmp")
    facts = topwork.fit(root, FAST).facts
    assert facts["excluded"] == []
    assert facts["n_images"] == 16


def test_one_class_is_not_enough(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 3, classes=("dots",))
    with pytest.raises(SourceError, match=r"at least 2 classes.*only 'dots'") as error:
        topwork.fit(root)
    one_sentence(error.value)


def test_one_picture_in_a_class_is_not_enough(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 3)
    for path in sorted((root / "dots").iterdir())[1:]:
        path.unlink()
    with pytest.raises(SourceError, match=r"at least 2 usable pictures in every class, found 1 in 'dots'") as error:
        topwork.fit(root)
    one_sentence(error.value)


def test_two_pictures_of_which_one_is_broken_are_not_enough(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 2)
    (root / "dots" / "001.png").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"found 1 in 'dots' \(1 could not be read\)"):
        topwork.fit(root)


def test_a_class_of_broken_pictures_is_named(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    """A class none of whose files can be read must not vanish in silence."""
    root = photo_set(tmp_path / "set", 3)
    for path in (root / "dots").iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"found 0 in 'dots' \(3 could not be read\)") as error:
        topwork.fit(root, FAST)
    one_sentence(error.value)


def test_copies_of_one_picture_are_not_enough(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 1, classes=("dots", "stripes"))
    for name in ("dots", "stripes"):
        shutil.copy(root / name / "000.png", root / name / "copy.png")
    with pytest.raises(SourceError, match=r"at least 3 pictures that are not near-duplicates.*found 2") as error:
        topwork.fit(root)
    one_sentence(error.value)


def test_the_smallest_set(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    """Two classes of two pictures: little can be said, and the interval says so."""
    facts = topwork.fit(photo_set(tmp_path / "set", 2, classes=("dots", "stripes"))).facts
    assert facts["n_images"] == 4
    assert facts["accuracy"]["high"] - facts["accuracy"]["low"] > 0.4
    assert facts["novelty"]["note"]


@pytest.mark.parametrize("source", ["nowhere", "", "empty", "list.csv", "text.pdf"])
def test_sources_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("nothing,of,use\n")
    (tmp_path / "text.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(SourceError) as error:
        topwork.fit(source)
    one_sentence(error.value)


def test_a_folder_without_classes(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 3)
    with pytest.raises(SourceError, match="none has a label") as error:
        topwork.fit(root / "dots")
    one_sentence(error.value)


@pytest.mark.parametrize("source", [None, 3, {"a": 1}, b"photos"])
def test_things_that_are_no_source(source: Any) -> None:
    with pytest.raises(topwork.UsageError) as error:
        topwork.fit(source)
    one_sentence(error.value)


def test_a_class_of_the_test_split_that_is_not_trained_is_named(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = tmp_path / "set"
    photo_set(root / "train", 3, classes=("dots", "stripes"))
    photo_set(root / "test", 2, first=40)
    facts = topwork.fit(root, FAST).facts
    assert list(facts["classes"]) == ["dots", "stripes"]
    assert {row["path"] for row in facts["excluded"]} == {"test/checks/040.png", "test/checks/041.png"}
    assert all("checks" in row["reason"] for row in facts["excluded"])
    assert facts["test"]["n_images"] == 4

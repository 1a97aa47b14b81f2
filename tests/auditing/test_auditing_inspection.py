import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import topwork
from topwork.auditing import Audit, audit
from topwork.errors import SourceError
from topwork.progress import Silent
from topwork.recipe import Recipe

KEYS = {
    "n_images", "notes", "source", "classes", "n_unlabelled", "videos", "unreadable", "skipped", "exact_duplicates",
    "near_duplicates", "label_conflicts", "quality", "cut_away", "sizes", "formats", "modes", "imbalance",
    "cache", "advice", "seconds",
}  # fmt: skip
SceneMaker = Callable[..., Image.Image]


@pytest.fixture
def found(planted: Path) -> Audit:
    return audit(planted)


def without_run(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that do not depend on the run."""
    return {key: value for key, value in facts.items() if key not in ("seconds", "cache")}


def test_it_is_the_public_name() -> None:
    assert topwork.audit is audit


def test_facts_have_the_documented_keys_and_are_plain_json(found: Audit) -> None:
    assert set(found.facts) == KEYS
    assert json.loads(json.dumps(found.facts)) == found.facts
    assert found.facts["seconds"] > 0


def test_counts(found: Audit, planted: Path) -> None:
    facts = found.facts
    assert facts["source"] == str(planted)
    assert facts["classes"] == {"ant": 24, "bee": 8}
    assert (facts["n_images"], facts["n_unlabelled"]) == (32, 0)
    assert set(found.samples) == {sample.id for sample in topwork.ImageSource.open(planted).samples} - {
        "bee/cut.jpg", "bee/empty.png",
    }  # fmt: skip
    assert facts["formats"] == {"JPEG": 27, "PNG": 5}
    assert facts["modes"] == {"RGB": 31, "CMYK": 1}
    assert facts["sizes"]["width"] == {"min": 20, "median": 320, "max": 2000}
    assert facts["imbalance"] == {"ratio": 3.0, "largest": "ant", "smallest": "bee", "note": "That is no obstacle."}


def test_every_copy_is_found_and_nothing_else(found: Audit) -> None:
    assert found.facts["exact_duplicates"] == [
        ["ant/000.jpg", "ant/copy_of_000.jpg"],
        ["ant/001.jpg", "bee/ant_001.jpg"],
    ]
    assert found.facts["near_duplicates"] == [
        ["ant/002.jpg", "ant/002_mirrored.jpg"],
        ["ant/003.jpg", "ant/003_small.png"],
        ["ant/004.jpg", "bee/004_recompressed.jpg"],
    ]


def test_one_picture_under_two_labels(found: Audit) -> None:
    assert found.facts["label_conflicts"] == [
        {"paths": ["ant/001.jpg", "bee/ant_001.jpg"], "labels": ["ant", "bee"], "kind": "exact"},
        {"paths": ["ant/004.jpg", "bee/004_recompressed.jpg"], "labels": ["ant", "bee"], "kind": "near"},
    ]


def test_every_fault_is_found_and_nothing_else(found: Audit) -> None:
    assert {row["path"]: row["findings"] for row in found.facts["quality"]} == {
        "ant/blurred.jpg": ["blurred"],
        "ant/dark.png": ["dark"],
        "ant/washed_out.png": ["bright"],
        "ant/flat.png": ["flat"],
        "ant/tiny.png": ["tiny (20\u00d720)"],
        "ant/strip.jpg": ["odd shape (2000\u00d7150)"],
        "ant/print.jpg": ["unusual mode (CMYK)"],
    }


def test_files_that_are_not_used_are_named_with_reasons(found: Audit) -> None:
    unreadable = {row["path"]: row["reason"] for row in found.facts["unreadable"]}
    assert unreadable == {"bee/cut.jpg": "truncated JPEG: its end is missing", "bee/empty.png": "empty file"}
    skipped = {row["path"]: row["reason"] for row in found.facts["skipped"]}
    assert skipped == {"bee/.hidden.jpg": "hidden file", "bee/notes.txt": "not a picture (.txt)"}


def test_advice_begins_with_what_makes_a_model_wrong(found: Audit) -> None:
    advice = found.facts["advice"]
    assert [sentence.split()[0] for sentence in advice] == ["Decide", "Replace", "Delete", "Look", "Collect", "Look"]
    assert "1 picture copied to and 1 group of near-duplicates under several classes" in advice[0]
    assert advice[1].startswith("Replace or delete 2 of 34 files")


def test_a_second_audit_finds_everything_in_the_cache_and_says_the_same(planted: Path) -> None:
    first, second = audit(planted).facts, audit(planted).facts
    assert second["cache"] == {"hits": 32, "misses": 0}
    assert without_run(first) == without_run(second)


@pytest.mark.usefixtures("empty_cache")
def test_fit_finds_the_features_of_an_audit(make_scene: SceneMaker, tmp_path: Path) -> None:
    root = tmp_path / "set"
    for label in "ab":
        (root / label).mkdir(parents=True)
        for i in range(4):
            make_scene(700 + 10 * ord(label) + i).save(root / label / f"{i}.png")
    recipe = Recipe(geometry="pad", head="nearest-mean", features="pooled")
    assert audit(root, recipe).facts["cache"] == {"hits": 0, "misses": 8}
    assert topwork.fit(root, recipe).facts["cache"] == {"hits": 8, "misses": 0}


def test_an_unlabelled_folder(make_scene: SceneMaker, tmp_path: Path) -> None:
    for i in range(3):
        make_scene(50 + i).save(tmp_path / f"{i}.png")
    facts = audit(tmp_path).facts
    assert (facts["n_images"], facts["n_unlabelled"], facts["classes"]) == (3, 3, {})
    assert (facts["near_duplicates"], facts["quality"], facts["imbalance"]) == ([], [], None)
    assert facts["advice"] == [
        "Put the pictures of each class into a folder of its own before a fit: none has a label."
    ]


def test_nothing_readable_is_a_finding(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no picture at all")
    found = audit(tmp_path)
    facts = found.facts
    assert (facts["n_images"], facts["classes"], facts["sizes"]) == (0, {"a": 0, "b": 0}, {})
    assert (found.samples, facts["formats"], facts["exact_duplicates"]) == ({}, {}, [])
    assert len(facts["unreadable"]) == 2
    assert facts["advice"][0].startswith("Replace the pictures: none can be read (2 tried, such as a/1.jpg:")
    assert len(facts["advice"]) == 1


def test_a_class_without_a_readable_picture_is_counted_as_0(make_scene: SceneMaker, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
    for i in range(12):
        make_scene(60 + i).save(tmp_path / "a" / f"{i}.png")
    (tmp_path / "b" / "1.png").write_bytes(b"")
    facts = audit(tmp_path).facts
    assert facts["classes"] == {"a": 12, "b": 0}
    assert facts["imbalance"] is None
    assert facts["advice"][0].startswith("Add pictures to “b”: a fit needs at least 2")


def test_copies_in_train_and_test_are_a_leak(make_scene: SceneMaker, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(10):
                make_scene(1000 * "ab".index(label) + 60 + i + 30 * (split == "test")).save(
                    tmp_path / split / label / f"{i}.png"
                )
    make_scene(60).save(tmp_path / "test" / "a" / "leak.jpg", quality=70)
    facts = audit(tmp_path).facts
    assert facts["near_duplicates"] == [["test/a/leak.jpg", "train/a/0.png"]]
    assert facts["label_conflicts"] == []
    assert facts["advice"][0].startswith("Keep copies in one split: 1 group of copies or near-duplicates is in several")


def test_pictures_beyond_the_limit_are_not_compared_and_that_is_said(make_scene: SceneMaker, tmp_path: Path) -> None:
    for i in range(120):
        make_scene(9000 + i, 40, 40).save(tmp_path / f"{i}.png")
    facts = audit(tmp_path, Recipe(head_limit=100)).facts
    assert any("20 pictures beyond it were not compared" in sentence for sentence in facts["advice"])
    assert any(sentence.startswith("Most pictures are tiny") for sentence in facts["advice"])
    assert facts["quality"] == []


def test_comparing_pictures_shows_progress(planted: Path) -> None:
    class Recorder(Silent):
        advanced = 0

        def advance(self, step: str, count: int = 1) -> None:
            self.advanced += count * (step == "comparing pictures")

    recorder = Recorder()
    audit(planted, progress=recorder)
    assert recorder.advanced > 0


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no picture was found"):
        audit(tmp_path)

"""The model folder: what is in it, and that it says what was measured."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from tampering import put, write_manifest

import topwork.folder

FILES = {
    "model.onnx",
    "model.json",
    "samples.jsonl",
    "head.safetensors",
    "duplicate_keys.safetensors",
    "golden/0.png",
    "golden/1.png",
    "golden/2.png",
    "golden/3.png",
    "golden/answers.json",
    "report.html",
    "report.json",
}


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def bare_session(folder: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def test_the_files_are_those_of_the_design(fitted: Any) -> None:
    found = {path.relative_to(fitted.folder).as_posix() for path in fitted.folder.rglob("*") if path.is_file()}
    assert found == FILES
    assert not [path for path in fitted.folder.parent.iterdir() if path.name.startswith(".")]


def test_the_manifest_has_the_hash_of_every_other_file(fitted: Any) -> None:
    files = manifest_of(fitted.folder)["files"]
    assert files.keys() == FILES - {"model.json"}
    for name, expected in files.items():
        assert hashlib.sha256((fitted.folder / name).read_bytes()).hexdigest() == expected


def test_the_manifest_says_what_the_model_is(fitted: Any) -> None:
    manifest, facts = manifest_of(fitted.folder), fitted.facts
    assert manifest["format"] == 1
    assert manifest["task"] == "classify"
    assert manifest["labels"] == ["checks", "dots", "stripes"]
    assert topwork.Recipe.from_dict(manifest["recipe"]) == topwork.Recipe(head="lda", features="pooled")
    assert manifest["backbone"]["name"] == "tf_efficientnet_lite0"
    assert len(manifest["backbone"]["sha256"]) == 64
    assert manifest["backbone"]["licence"] == "Apache-2.0"
    assert manifest["thresholds"]["novelty"] == facts["novelty"]["threshold"]
    for name in ("accuracy", "balanced_accuracy", "per_class", "calibration", "novelty"):
        assert manifest["metrics"][name] == facts[name]
    assert manifest["data"]["data_fingerprint"] == facts["data_fingerprint"]
    assert manifest["versions"].keys() >= {"python", "topwork", "numpy", "onnxruntime"}


def test_the_report_s_json_has_the_facts(fitted: Any) -> None:
    report = json.loads((fitted.folder / "report.json").read_text(encoding="utf-8"))
    assert report.keys() == fitted.facts.keys()
    differing = {key for key in report if report[key] != fitted.facts[key]}
    assert differing <= {"seconds", "model"}
    assert report["model"] == "small.topwork"


def test_the_report_needs_nothing_from_outside(fitted: Any) -> None:
    page = (fitted.folder / "report.html").read_text(encoding="utf-8")
    assert "<html" in page
    for outside in ('src="http', "src='http", "url(http", '<link rel="stylesheet"', "@import", "<script src"):
        assert outside not in page


def test_nothing_in_the_folder_says_where_it_was_made(fitted: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The folder is made to be handed on; the paths of this machine are nobody's business."""
    places = [str(tmp_path_factory.getbasetemp()).encode(), str(Path.home()).encode() + b"/"]
    for path in fitted.folder.rglob("*.*"):
        data = path.read_bytes()
        assert not [place for place in places if place in data], path


def test_samples_has_a_row_for_every_picture(fitted: Any) -> None:
    rows = rows_of(fitted.folder)
    paths = sorted(path.relative_to(fitted.photos).as_posix() for path in fitted.photos.rglob("*.png"))
    assert [row["id"] for row in rows] == paths
    for row in rows:
        assert row.keys() == {"id", "content", "split", "label", "group", "fold", "probabilities"}
        assert row["content"] == hashlib.sha256((fitted.photos / row["id"]).read_bytes()).hexdigest()
        assert row["label"] == row["id"].split("/")[0]
        assert len(row["probabilities"]) == 3
        assert sum(row["probabilities"]) == pytest.approx(1, abs=3e-5)
        assert all(0 <= p <= 1 for p in row["probabilities"])


def test_samples_agree_with_the_figures(fitted: Any) -> None:
    """The accuracy and the mistakes can be computed again from samples.jsonl."""
    rows, labels = rows_of(fitted.folder), manifest_of(fitted.folder)["labels"]
    predicted = [labels[int(np.argmax(row["probabilities"]))] for row in rows]
    right = [guess == row["label"] for guess, row in zip(predicted, rows, strict=True)]
    assert sum(right) == fitted.facts["accuracy"]["correct"]
    wrong = {row["id"] for row, good in zip(rows, right, strict=True) if not good}
    assert wrong == {row["path"] for row in fitted.facts["mistakes"]}
    truth = np.eye(3)[[labels.index(row["label"]) for row in rows]]
    brier = np.square(np.array([row["probabilities"] for row in rows]) - truth).sum(axis=1).mean()
    assert fitted.facts["calibration"]["brier"] == pytest.approx(brier, abs=1e-3)


def test_the_golden_answers_are_those_of_bare_onnxruntime(fitted: Any, fitted_logits: Any) -> None:
    for folder in (fitted.folder, fitted_logits.folder):
        answers = json.loads((folder / "golden" / "answers.json").read_text())
        session = bare_session(folder)
        assert answers.keys() == {path.name for path in (folder / "golden").glob("*.png")}
        for name, answer in answers.items():
            pixels = np.asarray(Image.open(folder / "golden" / name))
            found = session.run(["probabilities", "novelty"], {"image": pixels[None]})
            np.testing.assert_allclose(found[0][0], answer["probabilities"], atol=1e-5)
            np.testing.assert_allclose(found[1][0], answer["novelty"], atol=1e-5)


def test_the_golden_answers_tell_models_apart(fitted: Any, fitted_logits: Any) -> None:
    one, two = (json.loads((f.folder / "golden" / "answers.json").read_text()) for f in (fitted, fitted_logits))
    assert one != two
    spread = np.ptp([answer["probabilities"] for answer in one.values()], axis=0)
    assert spread.max() > 0.01


def test_the_golden_pictures_come_from_a_seed(fitted: Any, fitted_logits: Any) -> None:
    for number in range(4):
        name = f"golden/{number}.png"
        assert (fitted.folder / name).read_bytes() == (fitted_logits.folder / name).read_bytes()


def test_the_statistics_of_novelty_are_small(fitted: Any) -> None:
    tensors = load_file(fitted.folder / "head.safetensors")
    assert tensors["class_means"].shape == (3, 1280)
    assert tensors["class_means"].nbytes <= 8e6
    assert 1000 * 1280 * tensors["class_means"].itemsize <= 8e6  # a thousand classes


def test_a_model_saved_again_replaces_the_old_one(fitted: Any, model_copy: Path) -> None:
    (model_copy / "report.html").write_text("edited by hand")
    fitted.fit.save(model_copy)
    found = {path.relative_to(model_copy).as_posix() for path in model_copy.rglob("*") if path.is_file()}
    assert found == FILES
    assert manifest_of(model_copy)["files"]["model.onnx"] == manifest_of(fitted.folder)["files"]["model.onnx"]
    assert [path.name for path in model_copy.parent.iterdir()] == [model_copy.name]


@pytest.mark.parametrize("own", ["notes.txt", "golden/mine.png"])
def test_a_folder_with_files_of_its_owner_is_not_replaced(fitted: Any, model_copy: Path, own: str) -> None:
    (model_copy / own).write_text("mine")
    with pytest.raises(topwork.TopworkError, match=f"it holds {own}, which would be lost"):
        fitted.fit.save(model_copy)
    assert (model_copy / own).read_text() == "mine"


def test_a_model_of_something_else_is_not_replaced(fitted: Any, tmp_path: Path) -> None:
    """Other tools write a file called model.json too."""
    (tmp_path / "model.json").write_text('{"modelTopology": 1}')
    (tmp_path / "weights.bin").write_text("mine")
    with pytest.raises(topwork.TopworkError, match="choose another name with -o"):
        topwork.fit(fitted.photos, output=tmp_path)
    assert (tmp_path / "weights.bin").read_text() == "mine"


def test_labels_cannot_be_exchanged_beside_the_graph(model_copy: Path) -> None:
    text = (model_copy / "model.json").read_text()
    swapped = text.replace('"dots"', '"?"').replace('"stripes"', '"dots"').replace('"?"', '"stripes"')
    assert swapped != text
    (model_copy / "model.json").write_text(swapped)
    with pytest.raises(topwork.ModelError, match="its own sha256 differs"):
        topwork.load(model_copy)
    write_manifest(model_copy, json.loads(swapped))
    with pytest.raises(topwork.ModelError, match="does not belong to"):
        topwork.load(model_copy)


def test_a_model_is_saved_into_folders_that_do_not_exist_yet(fitted: Any, tmp_path: Path) -> None:
    fitted.fit.save(tmp_path / "a" / "b" / "c.topwork")
    assert topwork.load(tmp_path / "a" / "b" / "c.topwork").labels == ["checks", "dots", "stripes"]


@pytest.mark.parametrize("name", ["käfer und bienen.topwork", "mödel [v2] 'x'", "-o", "no_suffix", "a" * 200])
def test_names_of_models(fitted: Any, tmp_path: Path, name: str) -> None:
    fitted.fit.save(tmp_path / name)
    assert topwork.load(tmp_path / name).labels == ["checks", "dots", "stripes"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_no_model_is_never_replaced(fitted: Any, tmp_path: Path, what: str) -> None:
    target = tmp_path / "mine"
    if what == "file":
        target.write_text("my thesis")
    else:
        target.mkdir()
        (target / "thesis.txt").write_text("my thesis")
    with pytest.raises(topwork.TopworkError, match="choose another name with -o"):
        fitted.fit.save(target)
    kept = target if what == "file" else target / "thesis.txt"
    assert kept.read_text() == "my thesis"


def test_labels_of_any_kind(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    root = photo_set(tmp_path / "set", 3)
    names = {"checks": "käfer 🐞", "dots": "<script>alert(1)", "stripes": "a, b\"c'd"}
    for old, new in names.items():
        (root / old).rename(root / new)
    folder = tmp_path / "m.topwork"
    topwork.fit(root, topwork.Recipe(head="ridge", features="pooled"), output=folder)
    assert set(topwork.load(folder).labels) == set(names.values())
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_file_managers_leave_in_a_model_is_no_obstacle(fitted: Any, model_copy: Path, name: str) -> None:
    for place in (model_copy, model_copy / "golden"):
        (place / name).write_bytes(b"a view")
    assert topwork.load(model_copy).labels == ["checks", "dots", "stripes"]
    fitted.fit.save(model_copy)
    assert not (model_copy / name).exists()
    assert topwork.load(model_copy).labels == ["checks", "dots", "stripes"]


def test_what_a_stranger_s_model_lists_is_not_taken_for_its_own(fitted: Any, model_copy: Path) -> None:
    """A user's file that lies in the folder, and that model.json claims."""
    put(model_copy, "thesis.txt", b"my thesis")
    with pytest.raises(topwork.TopworkError, match=r"thesis\.txt, which would be lost"):
        fitted.fit.save(model_copy)
    assert (model_copy / "thesis.txt").read_text() == "my thesis"


def test_a_file_of_a_later_feature_is_read_and_held(model_copy: Path) -> None:
    put(model_copy, "duplicate_keys.safetensors", b"tensors")
    model = topwork.load(model_copy)
    (model_copy / "duplicate_keys.safetensors").unlink()
    assert model.file("duplicate_keys.safetensors") == b"tensors"
    assert model.file("head.safetensors") is None


def test_what_could_not_be_opened_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(topwork.ModelError, match=r"0 bytes for notes\.txt"):
        topwork.folder.write(tmp_path / "m.topwork", {"task": "classify"}, {"model.onnx": b"", "notes.txt": b"x"})
    assert not (tmp_path / "m.topwork").exists()

"""What ``load`` refuses, and that nothing in a stranger's model runs."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tampering import change_manifest, rehash, write_manifest

import topwork
from topwork import ModelError

FILES = (
    "model.onnx",
    "samples.jsonl",
    "head.safetensors",
    "duplicate_keys.safetensors",
    "golden/0.png",
    "golden/answers.json",
    "report.html",
    "report.json",
)


def refusal(path: Path) -> str:
    """The message of the ModelError: one sentence that names the place."""
    with pytest.raises(ModelError) as error:
        topwork.load(path)
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    assert len(text) < len(str(path)) + 400
    return text


def test_the_copy_itself_is_fine(model_copy: Path) -> None:
    assert topwork.load(model_copy).labels == ["checks", "dots", "stripes"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_one_flipped_bit_is_noticed(model_copy: Path, name: str, where: float) -> None:
    data = bytearray((model_copy / name).read_bytes())
    data[min(int(where * len(data)), len(data) - 1)] ^= 1
    (model_copy / name).write_bytes(data)
    text = refusal(model_copy)
    assert name in text
    assert "copy the model again" in text


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(model_copy: Path, name: str) -> None:
    (model_copy / name).unlink()
    text = refusal(model_copy)
    assert name in text
    assert "missing" in text
    assert "copy the whole folder again" in text


@pytest.mark.parametrize("name", ["model.onnx", "report.html"])
def test_a_truncated_file_is_noticed(model_copy: Path, name: str) -> None:
    data = (model_copy / name).read_bytes()
    (model_copy / name).write_bytes(data[:-1])
    assert name in refusal(model_copy)


def test_a_folder_in_the_place_of_a_file(model_copy: Path) -> None:
    (model_copy / "report.html").unlink()
    (model_copy / "report.html").mkdir()
    assert "report.html" in refusal(model_copy)


@pytest.mark.parametrize("version", [2, 1000, 1.5])
def test_a_newer_format_is_refused(model_copy: Path, version: float) -> None:
    change_manifest(model_copy, format=version)
    text = refusal(model_copy)
    assert "pip install --upgrade topwork" in text
    assert str(version) in text


def test_another_task_is_refused(model_copy: Path) -> None:
    change_manifest(model_copy, task="detect")
    assert "detect" in refusal(model_copy)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{}",
        b'{"format": 1}',
        b'{"format": "1", "files": {}}',
        b'{"format": null, "files": {}}',
        b'{"format": 1, "files": null}',
        b'{"format": 1, "files": []}',
        b'{"format": 1, "files": {}}',
        b'{"format": 1, "files": ["model.onnx"]}',
        b"\xff\xfe\x00",
        b"\x80\x04\x95.",
        b"[" * 100_000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_manifest_that_is_none(model_copy: Path, text: bytes) -> None:
    (model_copy / "model.json").write_bytes(text)
    refusal(model_copy)


@pytest.mark.parametrize(
    "key", ["labels", "thresholds", "geometry", "decoding", "preprocess", "task", "files", "format"]
)
@pytest.mark.parametrize("value", ["absent", None, 3, {"surprise": 1}], ids=repr)
def test_a_manifest_with_something_missing_or_strange(model_copy: Path, key: str, value: Any) -> None:
    manifest = json.loads((model_copy / "model.json").read_text(encoding="utf-8"))
    if value == "absent":
        del manifest[key]
    else:
        manifest[key] = value
    write_manifest(model_copy, manifest)
    refusal(model_copy)


@pytest.mark.parametrize(
    "labels", [["a"], ["a", "b"], ["a", "b", "c", "d"], "abc", ["a", "a", "b"], [1, 2, 3], [[], [], []]]
)
def test_labels_that_do_not_fit_the_graph(model_copy: Path, labels: Any) -> None:
    change_manifest(model_copy, labels=labels)
    refusal(model_copy)


@pytest.mark.parametrize("threshold", ["0.5", [0.5], {}])
def test_a_threshold_that_is_no_number(model_copy: Path, threshold: Any) -> None:
    change_manifest(model_copy, thresholds={"novelty": threshold})
    refusal(model_copy)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "golden/../../outside.txt",
        "/etc/hostname",
        "golden/../../../../../../etc/hostname",
        "..",
        ".",
        "",
        "a/b/c",
        "..\\outside.txt",
        "golden//0.png",
        ".hidden",
        "zero\0byte",
        "C:outside.txt",
    ],
)
def test_names_that_lead_out_of_the_folder(model_copy: Path, name: str) -> None:
    outside = model_copy.parent / "outside.txt"
    outside.write_text("secret")
    files = json.loads((model_copy / "model.json").read_text(encoding="utf-8"))["files"]
    digest = hashlib.sha256(b"secret").hexdigest()
    change_manifest(model_copy, files={**files, name: digest})
    assert "do not use this model" in refusal(model_copy)


def test_a_graph_that_is_not_verified_is_refused(model_copy: Path) -> None:
    files = json.loads((model_copy / "model.json").read_text(encoding="utf-8"))["files"]
    del files["model.onnx"]
    change_manifest(model_copy, files=files)
    refusal(model_copy)


class _Payload:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "name", ["model.onnx", "head.safetensors", "samples.jsonl", "model.json", "golden/answers.json"]
)
@pytest.mark.parametrize("knowing", [False, True], ids=["hash differs", "hash agrees"])
def test_a_pickle_is_never_run(model_copy: Path, name: str, knowing: bool) -> None:
    trap = model_copy.parent / "sprung"
    payload = pickle.dumps(_Payload(trap))
    pickle.loads(payload)  # noqa: S301 - the trap works
    trap.rmdir()
    (model_copy / name).write_bytes(payload)
    if knowing and name != "model.json":
        rehash(model_copy, name)
    try:
        model = topwork.load(model_copy)
    except ModelError:
        pass
    else:
        # Its hash agrees and predicting needs only the graph.
        assert knowing
        assert name not in ("model.onnx", "model.json")
        assert model.predict(model_copy / "golden" / "0.png")[0].error is None
    assert not trap.exists()


def test_a_pickle_with_agreeing_hash_in_place_of_the_graph_is_refused(model_copy: Path) -> None:
    (model_copy / "model.onnx").write_bytes(pickle.dumps(_Payload(model_copy.parent / "sprung")))
    rehash(model_copy, "model.onnx")
    with pytest.raises(ModelError, match="is no ONNX file") as error:
        topwork.load(model_copy)
    assert "\n" not in str(error.value)


def test_another_graph_with_agreeing_hash_is_refused(model_copy: Path) -> None:
    """A valid graph that is not a classifier's."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([node], "other", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (model_copy / "model.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    rehash(model_copy, "model.onnx")
    refusal(model_copy)


def test_a_graph_with_weights_outside_the_folder_is_refused(model_copy: Path) -> None:
    """ONNX may keep tensors in other files; a model must not read any file of the user."""
    import onnx

    secret = model_copy.parent / "secret.bin"
    secret.write_bytes(bytes(4 * 3840))
    graph = onnx.load(model_copy / "model.onnx")
    for tensor in graph.graph.initializer:
        if list(tensor.dims) == [1280, 3]:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", "../secret.bin"
    (model_copy / "model.onnx").write_bytes(graph.SerializeToString())
    rehash(model_copy, "model.onnx")
    with pytest.raises(ModelError):
        topwork.load(model_copy)


@pytest.mark.parametrize("what", ["nowhere", "empty folder", "file", "pictures"])
def test_places_without_a_model(tmp_path: Path, photo_set: Callable[..., Path], what: str) -> None:
    place = tmp_path / "place"
    if what == "empty folder":
        place.mkdir()
    elif what == "file":
        place.write_bytes(b"a file")
    elif what == "pictures":
        photo_set(place, 1)
    text = refusal(place)
    assert "topwork fit -o" in text


def test_an_unknown_pretrained_network_gets_a_hint() -> None:
    with pytest.raises(topwork.TopworkError, match="tf_efficientnet_lite0"):
        topwork.load("imagenet:tf_efficientnet_lite")


def test_a_model_that_was_moved_still_opens(model_copy: Path, tmp_path: Path, photos: Path) -> None:
    before = topwork.load(model_copy).predict(photos / "dots" / "000.png")
    moved = shutil.move(model_copy, tmp_path / "renamed.topwork")
    assert topwork.load(moved).predict(photos / "dots" / "000.png") == before

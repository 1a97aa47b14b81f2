"""A model from a stranger: what is in its graph and its files is bounded, known, and never run or read elsewhere."""

import json
import os
import random
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tampering import MANIFEST, change_manifest, classifier, put, write_manifest, write_model

import topwork
from topwork import ModelError, TopworkError, folder, folder_reader
from topwork.backbones.nodes import Nodes, image_input
from topwork.style import feedforward
from topwork.style.fast_style import FastStyle
from topwork.visualization.opened import open_network

Change = Callable[[onnx.ModelProto], object]
GREY = np.full((40, 60, 3), 127, np.uint8)


def refusal(path: Path) -> str:
    """What is said when a model is opened, and asked if it opens: one sentence."""
    with pytest.raises(ModelError) as error:
        topwork.load(path).predict(GREY)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < len(str(path)) + 450
    return text


def test_the_model_that_is_changed_below_is_fine(tmp_path: Path) -> None:
    [found] = topwork.load(write_model(tmp_path / "m.topwork")).predict(GREY)
    assert found.label == "cat"
    assert found.probability == pytest.approx(1 / 3)
    assert found.known


# Graphs


def outside(place: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place

    return change


def inner(name: str = "inner") -> onnx.GraphProto:
    values = [helper.make_tensor_value_info(each, TensorProto.FLOAT, None) for each in ("a", "b")]
    return helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], name, values[:1], values[1:])


def node(operator: str, inputs: list[str], **options: Any) -> Change:
    return lambda model: model.graph.node.append(helper.make_node(operator, inputs, ["strange"], **options))


def function(model: onnx.ModelProto) -> None:
    made = helper.make_function("own", "f", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], model.opset_import)
    model.functions.append(made)
    model.opset_import.append(helper.make_opsetid("own", 1))
    node("f", ["features"], domain="own")(model)


def uneven_split(model: onnx.ModelProto) -> None:
    """Two parts, and the number says one: ONNX's own rule ends the process."""
    model.graph.node.append(helper.make_node("Split", ["features"], ["one", "two"], axis=1, num_outputs=1))


def sparse(model: onnx.ModelProto) -> None:
    values, places = (
        numpy_helper.from_array(np.ones(1, np.float32), "s"),
        numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [10**12]))


def refer(model: onnx.ModelProto) -> None:
    node("Relu", ["features"], alpha=1.0)(model)
    model.graph.node[-1].attribute[0].ref_attr_name = "alpha"


def tensor(**fields: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        made = TensorProto(name="strange", **fields)
        model.graph.initializer.append(made)

    return change


def in_a_constant(model: onnx.ModelProto) -> None:
    outside("/etc/passwd")(model)
    taken = model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], [taken.name], value=taken))
    del model.graph.initializer[0]


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def backwards(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])


def circle(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, helper.make_node("Add", ["image", "strange"], ["before"]))
    node("Cast", ["before"], to=2)(model)


def twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(model.graph.node[0])


def many(model: onnx.ModelProto) -> None:
    names = ["features", *(f"copy_{n}" for n in range(20_001))]
    model.graph.node.extend(helper.make_node("Identity", [a], [b]) for a, b in pairwise(names))


def opset(version: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


GRAPHS: dict[str, tuple[Change, str]] = {
    "weights in the current folder": (outside("secret.bin"), "another file"),
    "weights above it": (outside("../secret.bin"), "another file"),
    "weights anywhere": (outside("/etc/passwd"), "another file"),
    "weights anywhere, in a constant": (in_a_constant, "another file"),
    "an operator of another domain": (node("Inverse", ["features"], domain="com.microsoft"), "com.microsoft"),
    "a loop": (node("Loop", ["", "", "features"], body=inner()), "operator 'Loop'"),
    "a branch": (node("If", ["features"], then_branch=inner("a"), else_branch=inner("b")), "operator 'If'"),
    "a scan": (node("Scan", ["features"], body=inner(), num_scan_inputs=1), "operator 'Scan'"),
    "a map": (node("SequenceMap", ["features"], body=inner()), "operator 'SequenceMap'"),
    "a graph in a known operator": (node("Relu", ["features"], body=inner()), "a graph of its own"),
    "an attribute of a function": (refer, "a graph of its own"),
    "a function": (function, "functions"),
    "an unknown operator": (node("NonZero", ["features"]), "operator 'NonZero'"),
    "an operator of no name": (node("", ["features"]), "operator ''"),
    "an operator with a name of control characters": (node("\x1b[2J\n", ["features"]), r"\x1b[2J\n"),
    "a sparse tensor": (sparse, "sparse"),
    "a tensor of texts": (tensor(data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]), "else than numbers"),
    "a tensor of no type": (tensor(data_type=99, dims=[1]), "else than numbers"),
    "a tensor smaller than its shape": (tensor(data_type=1, dims=[10**6, 10**6], raw_data=b"1234"), "fewer numbers"),
    "a tensor of negative shape": (tensor(data_type=1, dims=[-1], raw_data=b""), "no usable shape"),
    "a tensor of a hundred axes": (tensor(data_type=1, dims=[1] * 100, raw_data=b"1234"), "no usable shape"),
    "a step of 0": (node("MaxPool", ["image"], kernel_shape=[2, 2], strides=[0, 0]), "out of range"),
    "no groups": (node("Conv", ["image", "image"], group=0), "out of range"),
    "a window beyond all sense": (node("MaxPool", ["image"], kernel_shape=[2**40, 2]), "out of range"),
    "parts that are not there": (uneven_split, "no known size"),
    "a reduction that means two things": (node("ReduceSum", ["features"], noop_with_empty_axes=2), "out of range"),
    "a sum of one": (node("Add", ["features"]), "too few"),
    "a second input": (other_input, "does not belong"),
    "nodes in disorder": (backwards, "no known size"),
    "a circle": (circle, "no known size"),
    "a value made twice": (twice, "one name"),
    "too many nodes": (many, "20,000 nodes"),
    "operators of the future": (opset(9999), "pip install --upgrade"),
    "operators of the past": (opset(1), "not 18"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change, said = GRAPHS[name]
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    monkeypatch.chdir(tmp_path)
    model = classifier()
    change(model)
    text = refusal(write_model(tmp_path / "m.topwork", model))
    assert said in text
    assert text.isprintable()


@pytest.mark.parametrize("unpacked", [b"\x0a\x00", b"\x2a\x00", b"\x12\x00"], ids=["nodes", "tensors", "texts"])
def test_a_file_that_would_unpack_to_gigabytes(unpacked: bytes, tmp_path: Path) -> None:
    """Two bytes make an object of a hundred."""
    graph = unpacked * 9_000_000
    length = bytes(
        [len(graph) & 127 | 128, len(graph) >> 7 & 127 | 128, len(graph) >> 14 & 127 | 128, len(graph) >> 21]
    )
    text = refusal(write_model(tmp_path / "m.topwork", b"\x3a" + length + graph))
    assert "more than" in text or "too many" in text


def test_damaged_graphs(tmp_path: Path) -> None:
    """Cut off anywhere, or with bytes changed: a sentence or a model, never anything else."""
    whole, numbers = classifier().SerializeToString(), random.Random(0)
    for case in range(150):
        data = bytearray(whole)
        if case % 3:
            for _ in range(numbers.choice([1, 3, 10])):
                data[numbers.randrange(len(data))] = numbers.randrange(256)
        else:
            del data[numbers.randrange(len(data)) :]
        path = write_model(tmp_path / f"{case}.topwork", bytes(data))
        try:
            [found] = topwork.load(path).predict(GREY)
        except ModelError:
            continue
        assert found.label in MANIFEST["labels"], case


# Sizes


def constant_of_shape(nodes: Nodes, x: str) -> str:
    return nodes.add("Add", [x, nodes.add("ConstantOfShape", [nodes.constant(np.array([1, 10**6, 10**6, 3]))])])


def expand(nodes: Nodes, x: str) -> str:
    return nodes.add("Expand", [x, nodes.constant(np.array([10**6, 40, 60, 3]))])


def tile(nodes: Nodes, x: str) -> str:
    return nodes.add("Tile", [x, nodes.constant(np.array([10**6, 1, 1, 1]))])


def sequence(nodes: Nodes, x: str) -> str:
    ends = [nodes.constant(np.array(value, np.int64)) for value in (0, 10**12, 1)]
    return nodes.add("Add", [x, nodes.add("Cast", [nodes.add("Range", ends)], to=TensorProto.FLOAT)])


def resize(nodes: Nodes, x: str) -> str:
    return nodes.add("Resize", [x, "", nodes.constant(np.array([1, 1e4, 1e4, 1], np.float32))], mode="nearest")


def pad(nodes: Nodes, x: str) -> str:
    return nodes.add("Pad", [x, nodes.constant(np.array([0, 0, 0, 0, 0, 10**6, 10**6, 0]))])


def double(nodes: Nodes, x: str) -> str:
    for _ in range(45):
        x = nodes.add("Concat", [x, x], axis=0)
    return x


def outer(nodes: Nodes, x: str) -> str:
    """200 kB of weights, 10 GB of sums."""
    tall, broad = (nodes.constant(np.zeros(shape, np.float32)) for shape in ((1, 50_000, 1, 1), (1, 1, 50_000, 1)))
    return nodes.add("Add", [x, nodes.add("Add", [tall, broad])])


def product(nodes: Nodes, x: str) -> str:
    tall, broad = (nodes.constant(np.zeros(shape, np.float32)) for shape in ((1, 1, 60_000, 1), (1, 1, 1, 60_000)))
    return nodes.add("Add", [x, nodes.add("MatMul", [tall, broad])])


def convolution(nodes: Nodes, x: str) -> str:
    kernel = nodes.constant(np.zeros((3, 40, 1, 1), np.float32))
    return nodes.add("Conv", [x, kernel], pads=[2**19, 2**19, 2**19, 2**19])


def window(nodes: Nodes, x: str) -> str:
    return nodes.add("MaxPool", [x], kernel_shape=[2**20, 2**20], pads=[2**19, 2**19, 2**19, 2**19])


def work(nodes: Nodes, x: str) -> str:
    """Every tensor is small, and all together take days."""
    square = nodes.constant(np.zeros((4000, 4000), np.float32))
    for _ in range(1000):
        square = nodes.add("MatMul", [square, square])
    return nodes.add("Add", [x, nodes.add("ReduceMax", [square], keepdims=0)])


def unknown(nodes: Nodes, x: str) -> str:
    """A size that the colours of the picture decide on."""
    shape = nodes.add("Cast", [nodes.add("ReduceMax", [x], keepdims=0)], to=TensorProto.INT64)
    side = nodes.add("Unsqueeze", [shape, nodes.constant(np.array([0]))])
    return nodes.add("Expand", [x, nodes.add("Concat", [side, side, side, side], axis=0)])


def divided_by_zero(nodes: Nodes, x: str) -> str:
    """In whole numbers: the processor ends the program."""
    whole = nodes.add("Cast", [x], to=TensorProto.INT32)
    return nodes.add("Cast", [nodes.add("Div", [whole, nodes.add("Sub", [whole, whole])])], to=TensorProto.FLOAT)


BOMBS = [
    constant_of_shape, expand, tile, sequence, resize, pad, double, outer, product, convolution, window, work, unknown,
    divided_by_zero,
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_graphs_that_would_take_too_much(bomb: Callable[[Nodes, str], str], tmp_path: Path) -> None:
    text = refusal(write_model(tmp_path / "m.topwork", classifier(bomb)))
    assert "multiplications" in text or "no known size" in text


def test_a_graph_that_is_modest_until_it_sees_a_tall_picture(tmp_path: Path) -> None:
    def grow(nodes: Nodes, x: str) -> str:
        height = nodes.add("Gather", [nodes.add("Shape", [x]), nodes.constant(np.array([1]))], axis=0)
        over = nodes.add(
            "Max", [nodes.add("Sub", [height, nodes.constant(np.array([500]))]), nodes.constant(np.array([1]))]
        )
        shape = nodes.add(
            "Concat",
            [
                over,
                nodes.constant(np.array([1, 1, 1])),
            ],
            axis=0,
        )
        times = nodes.add("Mul", [shape, nodes.constant(np.array([1, 1, 1, 1]))])
        return nodes.add("Tile", [x, times])

    model = topwork.load(write_model(tmp_path / "m.topwork", classifier(grow)))
    assert model.predict(GREY)[0].label == "cat"
    with pytest.raises(ModelError, match="30 x 6000 pixels"):
        model.predict(np.zeros((6000, 30, 3), np.uint8))
    assert model.predict(GREY)[0].label == "cat"


# Answers


def logarithm(nodes: Nodes, x: str) -> str:
    return nodes.add("Log", [nodes.add("Neg", [x])])


def infinite(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", [x, nodes.constant(float("inf"))])


def four(nodes: Nodes, x: str) -> str:
    return nodes.add(
        "Concat", [x, nodes.add("Slice", [x, *(nodes.constant(np.array([n])) for n in (0, 1, 3))])], axis=3
    )


@pytest.mark.parametrize(
    ("change", "last", "said"),
    [
        (logarithm, "Softmax", "something else"),
        (infinite, "Softmax", "something else"),
        (four, "Softmax", "does not belong"),
        (lambda _, x: x, "Sigmoid", "something else"),
        (lambda _, x: x, "Neg", "something else"),
        (lambda _, x: x, "Shape", "cannot open"),
    ],
    ids=["no numbers", "infinite", "four classes", "sum above 1", "below 0", "whole numbers"],
)
def test_answers_that_are_no_probabilities(change: Any, last: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(write_model(tmp_path / "m.topwork", classifier(change, last=last)))


def test_texts_as_answers(tmp_path: Path) -> None:
    model = classifier()
    model.graph.node.append(helper.make_node("Cast", ["probabilities"], ["words"], to=TensorProto.STRING))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("words", TensorProto.STRING, ["n", 3]))
    assert "no known size" in refusal(write_model(tmp_path / "m.topwork", model))


# Files

NAMES = ("model.json", "model.onnx", "samples.jsonl", "report.html", "golden/0.png")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = write_model(tmp_path / "m.topwork", report_html=b"<html>")
    (path / "golden").mkdir()
    put(path, "golden/0.png", b"PNG")
    return path


@pytest.fixture(params=[True, False], ids=["by folder", "by path"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some systems open files below an open folder, others (Windows) by their path only."""
    if not (request.param and not folder_reader._BY_FOLDER):
        monkeypatch.setattr(folder_reader, "_BY_FOLDER", request.param)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are of POSIX")
@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_is_not_waited_for(name: str, system: None, model: Path) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    assert "no regular file" in refusal(model)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("name", [*NAMES, "golden"])
@pytest.mark.parametrize("where", ["device", "copy", "inside"])
def test_links_are_refused(name: str, where: str, model: Path) -> None:
    """Also one to the very same content: what it leads to may be another thing tomorrow."""
    kept = (model / name).rename(model.parent / "kept")
    target = {"device": Path("/dev/zero"), "copy": kept, "inside": Path("inside")}[where]
    if where == "inside":
        kept.rename(model / "inside")
    (model / name).symlink_to(target)
    assert "is a link" in refusal(model)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_holes_is_not_read(name: str, model: Path) -> None:
    with (model / name).open("r+b") as file:
        file.truncate(50 * 10**9)
    assert "more than the" in refusal(model)


def test_a_file_below_a_link_is_refused_on_every_system(system: None, model: Path) -> None:
    (model / "golden").rename(model.parent / "golden")
    (model / "golden").symlink_to(model.parent / "golden")
    assert "is a link" in refusal(model)


def test_what_no_model_has_is_never_opened(model: Path) -> None:
    """Listed, with any hash: a later version may know it, this one leaves it alone."""
    files = json.loads((model / "model.json").read_text())["files"]
    change_manifest(model, files={**files, "payload.bin": "0" * 64})
    if hasattr(os, "mkfifo"):
        os.mkfifo(model / "payload.bin")
    assert topwork.load(model).predict(GREY)[0].label == "cat"


FIELDS: list[tuple[str, Any]] = [
    ("labels", []),
    ("labels", "abc"),
    ("labels", ["a", "a", "b"]),
    ("labels", [1, 2, 3]),
    ("labels", [[]]),
    ("labels", {"a": 1}),
    ("thresholds", []),
    ("thresholds", {"novelty": "1"}),
    ("thresholds", {"novelty": True}),
    ("thresholds", {"novelty": -1}),
    ("thresholds", {"novelty": 10**400}),
    ("geometry", ["crop"]),
    ("geometry", "round"),
    ("decoding", None),
    ("decoding", {"max_pixels": 1e30}),
    ("decoding", {"max_pixels": 10**30}),
    ("decoding", {"max_pixels": 0}),
    ("decoding", {"max_pixels": True}),
    ("decoding", {"shrink_to": 10**9}),
    ("decoding", {"surprise": 1}),
    ("preprocess", {}),
    ("preprocess", {**MANIFEST["preprocess"], "size": 10**6}),
    ("preprocess", {**MANIFEST["preprocess"], "size": 3.5}),
    ("preprocess", {**MANIFEST["preprocess"], "crop_fraction": 0}),
    ("preprocess", {**MANIFEST["preprocess"], "mean": [1, 2]}),
    ("preprocess", {**MANIFEST["preprocess"], "std": [1, 0, 1]}),
    ("preprocess", {**MANIFEST["preprocess"], "std": ["1", 1, 1]}),
    ("preprocess", {**MANIFEST["preprocess"], "interpolation": "magic"}),
    ("preprocess", {**MANIFEST["preprocess"], "surprise": 1}),
    ("backbone", "resnet18"),
    ("backbone", {"name": None}),
    ("backbone", {"name": "resnet18", "sha256": "short"}),
    ("backbone", {"name": "resnet18", "trained": 1}),
    ("task", "detect"),
    ("task", ["classify"]),
    ("format", 2),
    ("format", "1"),
    ("format", 0),
    ("files", {}),
    ("files", {"model.onnx": "x", "../../etc/passwd": "y"}),
    ("files", {"model.onnx": {}}),
    ("files", {"model.onnx": "0" * 64, **{f"{n}": "0" * 64 for n in range(1000)}}),
]


@pytest.mark.parametrize(("field", "value"), FIELDS, ids=[f"{name}={value!r:.40}" for name, value in FIELDS])
def test_facts_out_of_range(field: str, value: Any, model: Path) -> None:
    change_manifest(model, **{field: value})
    text = refusal(model)
    assert field in text or (field == "files" and ("model.onnx" in text or "names files" in text))


def test_the_words_of_old_folders_without_a_hash_are_taken(model: Path) -> None:
    manifest = json.loads((model / "model.json").read_text())
    del manifest["manifest_sha256"]
    (model / "model.json").write_text(json.dumps(manifest))
    assert topwork.load(model).predict(GREY)[0].label == "cat"


def test_every_flipped_bit_of_the_manifest_is_noticed(model: Path) -> None:
    path, numbers = model / "model.json", random.Random(1)
    before, whole = path.read_bytes(), topwork.load(model).manifest
    for place in range(len(before)):
        data = bytearray(before)
        data[place] ^= 1 << numbers.randrange(8)
        path.write_bytes(data)
        try:
            found = topwork.load(model).manifest
        except ModelError:
            continue
        assert found == whole, (place, before[place - 20 : place + 20])  # 1e5 may be written 1E5


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 10**6,
        b'{"a":' * 10**5,
        b'{"format": 1, "files": {}, "labels": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        b'{"format": NaN}',
        b'{"format": 1, "files": {}, "labels": Infinity}',
        b'{"format": ' + b"9" * 10**5 + b"}",
        b'{"format": [], "files": {}}',
        b'"\\ud800"',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_manifests_of_nonsense(text: bytes, model: Path) -> None:
    (model / "model.json").write_bytes(text)
    assert "damaged" in refusal(model)


ROW = {"id": "a.jpg", "content": "0" * 64, "label": "cat", "split": "train", "group": 1, "fold": None}
ROWS: dict[str, bytes] = {
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"3",
    "deep": b"[" * 10**6,
    "bytes": b"\xff\xfe",
    "a long row": b'"' + b"x" * 9 * 10**6 + b'"',
    "nothing in it": b"{}",
    **{
        f"no {name}": json.dumps({k: v for k, v in ROW.items() if k != name}).encode() for name in ROW if name != "fold"
    },
    **{
        f"{name} is {value!r:.20}": json.dumps({**ROW, name: value}).encode()
        for name, value in [
            ("content", "x"),
            ("content", None),
            ("content", ["0" * 64]),
            ("id", 3),
            ("label", {}),
            ("split", "both"),
            ("split", []),
            ("group", "1"),
            ("group", True),
        ]
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_nonsense(name: str, model: Path, photos: Path) -> None:
    put(model, "samples.jsonl", json.dumps(ROW).encode() + b"\n" + ROWS[name] + b"\n")
    with pytest.raises(ModelError, match=r"line 2 of .*samples\.jsonl") as error:
        topwork.load(model).trained_on()
    assert len(str(error.value)) < len(str(model)) + 300
    with pytest.raises(ModelError, match="line 2 of"):
        topwork.explain(model, GREY, method="occlusion", faithfulness=False, neighbours=1)


def test_one_row_is_one_training_picture(model: Path) -> None:
    put(model, "samples.jsonl", json.dumps(ROW).encode() + b"\n")
    assert topwork.load(model).trained_on() == {"0" * 64}


# Looking into a network that topwork did not build


def nameless(graph: onnx.GraphProto) -> None:
    for each in graph.node:
        each.name = ""


def all_inside(graph: onnx.GraphProto) -> None:
    for each in graph.node:
        each.name = f"g0_{each.name}"


def a_flat_stage(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Identity", ["features"], ["last"], name="g0_last"))


def copied_probabilities(graph: onnx.GraphProto) -> None:
    [softmax] = [each for each in graph.node if "probabilities" in each.output]
    softmax.output[0] = "before"
    graph.node.append(helper.make_node("Identity", ["before"], ["probabilities"]))


def other_preprocessing(graph: onnx.GraphProto) -> None:
    place = next(place for place, each in enumerate(graph.node) if each.op_type == "Cast")
    graph.node[place + 1].op_type = "Add"


@pytest.mark.parametrize(
    "change", [nameless, all_inside, a_flat_stage, copied_probabilities, other_preprocessing], ids=lambda c: c.__name__
)
def test_networks_that_topwork_did_not_build(change: Callable[[onnx.GraphProto], None], model_copy: Path) -> None:
    """They may answer; whoever asks why gets a map, or a sentence."""
    graph = onnx.load(model_copy / "model.onnx")
    change(graph.graph)
    put(model_copy, "model.onnx", graph.SerializeToString())
    model = topwork.load(model_copy)
    assert model.predict(GREY)[0].error is None
    for method in ("cam", "occlusion", "grad-cam", "guided-backprop"):
        with suppress(TopworkError):
            [found] = topwork.explain(model, GREY, method=method, faithfulness=False)
            assert found.label in model.labels
    with suppress(TopworkError):
        assert open_network(str(model_copy)).spec.logits_dim == 3


# Fast styles

STYLE_FACTS = {"task": "stylize", "training": {"width": 4, "blocks": 1}}


def painter(change: Callable[[Nodes, str], str]) -> onnx.ModelProto:
    nodes = Nodes()
    x = change(nodes, nodes.add("Cast", ["image"], to=TensorProto.FLOAT))
    nodes.add("Cast", [x], to=TensorProto.UINT8, output="picture")
    output = helper.make_tensor_value_info("picture", TensorProto.UINT8, ["n", "h", "w", 3])
    return nodes.model([image_input()], [output])


def broad(nodes: Nodes, x: str) -> str:
    """A billion channels, of ten thousand weights."""
    planes = nodes.add("Transpose", [x], perm=[0, 3, 1, 2])
    return nodes.add("Conv", [planes, nodes.constant(np.zeros((10**7, 3, 1, 1), np.float32))])


def half(nodes: Nodes, x: str) -> str:
    return nodes.add("Slice", [x, *(nodes.constant(np.array([n])) for n in (0, 20, 1))])


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (painter(broad), "multiplications"),
        (painter(tile), "operator 'Tile'"),
        (painter(half), "as large as the given one"),
        (
            painter(lambda nodes, x: nodes.add("Pad", [x, nodes.constant(np.array([0, 0, 0, 0, 0, -9, 0, 0]))])),
            "as large",
        ),
        (classifier(), "operator"),
    ],
    ids=["broad", "an operator of classifiers", "half a picture", "a part of it", "a classifier"],
)
def test_styles_that_are_refused(graph: onnx.ModelProto, said: str, tmp_path: Path) -> None:
    folder.write(tmp_path / "s.style", STYLE_FACTS, {folder.GRAPH: graph.SerializeToString()})
    with pytest.raises(ModelError, match=said):
        FastStyle.load(tmp_path / "s.style").apply(GREY)


@pytest.mark.parametrize(
    "training",
    [None, [], {}, {"width": 4}, {"width": "4", "blocks": 1}, {"width": 10**9, "blocks": 1}, {"width": 8, "blocks": 1}],
)
def test_training_goes_on_only_from_a_network_as_topwork_makes_it(training: Any, tmp_path: Path) -> None:
    graph = feedforward.network(width=4, blocks=1).SerializeToString()
    folder.write(tmp_path / "s.style", {**STYLE_FACTS, "training": training}, {folder.GRAPH: graph})
    style = FastStyle.load(tmp_path / "s.style")
    assert style.apply(GREY).shape == GREY.shape
    with pytest.raises(ModelError, match="start from"):
        style.trainable()


def test_training_goes_on_from_a_style(tmp_path: Path) -> None:
    graph = feedforward.network(width=4, blocks=1).SerializeToString()
    folder.write(tmp_path / "s.style", STYLE_FACTS, {folder.GRAPH: graph})
    assert FastStyle.load(tmp_path / "s.style").trainable().SerializeToString() == graph


# Replaced while it is read


def test_a_reader_gets_one_model_or_the_other(system: None, tmp_path: Path) -> None:
    """The folder is replaced all the time; each reading is whole, and of one of the two."""
    path, ways = tmp_path / "m.topwork", {"one": b'{"way": "one"}', "two": b'{"way": "two"}'}
    graph, stop, failures = classifier().SerializeToString(), threading.Event(), []

    def save(way: str) -> None:
        folder.write(path, {**MANIFEST, "name": way}, {folder.GRAPH: graph, folder.FACTS: ways[way]})

    def replace() -> None:
        try:
            for turn in range(10**6):
                if stop.is_set():
                    return
                save(("one", "two")[turn % 2])
        except Exception as error:  # a test must not lose it
            failures.append(error)

    save("one")
    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(300):
            opened = folder.read(path, keep=(folder.GRAPH, folder.FACTS))
            assert opened.contents[folder.FACTS] == ways[opened.manifest["name"]]
    finally:
        stop.set()
        writer.join()
    assert not failures


# Reports


def test_the_report_of_a_fit_is_opened(fitted: Any, topwork_command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = topwork_command("report", fitted.folder, "--no-open")
    assert code == 0
    assert out.strip() == str((fitted.folder / "report.html").resolve())


REPORTS: dict[str, Callable[[bytes], bytes]] = {
    "another page": lambda _: b"<!doctype html><title>hello</title>",
    "a script": lambda page: page.replace(b"</body>", b"<script>alert(1)</script></body>"),
    "no policy": lambda page: page.replace(b"default-src 'none'; ", b""),
    "a policy that comes late": lambda page: b"<script>alert(1)</script>" + page,
    "a byte order mark": lambda page: page.decode().encode("utf-16"),
    "another page by itself": lambda page: page.replace(
        b"</head>", b'<META HTTP-EQUIV="refresh" content="0;url=http://x.example"></head>'
    ),
    "a connection beforehand": lambda page: page.replace(
        b"</head>", b'<LINK rel=preconnect href="//x.example"></head>'
    ),
    "a link elsewhere": lambda page: page.replace(b"</body>", b"<a HREF = http://x.example>more</a></body>"),
    "a frame": lambda page: page.replace(b"</body>", b"<iframe srcdoc='x'></iframe></body>"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_that_could_run_or_load_something(
    name: str, model: Path, fitted: Any, topwork_command: Callable[..., tuple[int, str, str]]
) -> None:
    page = (fitted.folder / "report.html").read_bytes()
    changed = REPORTS[name](page)
    assert changed != page
    put(model, "report.html", changed)
    code, out, err = topwork_command("report", model, "--open")
    assert code == 1
    assert "was not opened" in " ".join(err.split())
    assert not out


def test_a_report_that_is_not_listed_is_not_opened(
    model: Path, topwork_command: Callable[..., tuple[int, str, str]]
) -> None:
    manifest = json.loads((model / "model.json").read_text())
    del manifest["files"]["report.html"]
    write_manifest(model, manifest)
    code, _, err = topwork_command("report", model, "--open")
    assert code == 1
    assert "lists none" in " ".join(err.split())

"""The ONNX files: the same answers as PyTorch, for any number and length, written whole or not at all."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from topwork.errors import ModelError, TopworkError
from topwork.fingerprint import of_bytes
from topwork.images.quickdraw import Drawing, read_drawings
from topwork.progress import Silent
from topwork.sketching import shipping
from topwork.sketching.comparison import compare_strokes, read
from topwork.sketching.examples import picture_of
from topwork.sketching.networks import NETWORKS
from topwork.sketching.sequences import padded, sequence_of
from topwork.sketching.shipping import MARKER, exported


@pytest.fixture(scope="module")
def shipped(rings, tmp_path_factory):
    """The folder, and what the comparison said."""
    folder = tmp_path_factory.mktemp("shipped") / "sketches"
    return folder, compare_strokes(rings, epochs=12, size=12, output=folder)


def inputs(n, t, size, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, t + 1, n)
    lengths[0] = t
    strokes = random.normal(size=(n, t, 3)).astype(np.float32)
    return {
        "strokes": strokes,
        "lengths": lengths,
        "picture": random.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_equals_torch(name):
    torch.manual_seed(1)
    network = NETWORKS[name](5, 12).eval()
    session = onnxruntime.InferenceSession(exported(network, inputs(1, 4, 12)))
    assert [each.name for each in session.get_inputs()] == list(network.inputs)
    for n, t in ((1, 1), (3, 9), (8, 40)):
        given = {each: value for each, value in inputs(n, t, 12, seed=n).items() if each in network.inputs}
        with torch.no_grad():
            expected = network(*(torch.from_numpy(given[each]) for each in network.inputs)).softmax(dim=1).numpy()
        (found,) = session.run(None, given)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        if "strokes" in given:  # whatever stands after the end
            beyond = np.arange(t)[None] >= given["lengths"][:, None]
            given["strokes"][beyond] = 99
            longer = np.concatenate([given["strokes"], np.full((n, 7, 3), -5, np.float32)], axis=1)
            np.testing.assert_allclose(session.run(None, {**given, "strokes": longer})[0], expected, atol=1e-5)


def test_the_folder(shipped):
    folder, facts = shipped
    assert facts["output"] == str(folder)
    manifest = json.loads((folder / MARKER).read_text())
    assert manifest["labels"] == ["circle", "square"]
    assert {path.name for path in folder.iterdir()} == {MARKER, *(f"{name}.onnx" for name in NETWORKS)}
    for name, row in manifest["networks"].items():
        assert row["sha256"] == of_bytes((folder / row["file"]).read_bytes())
        assert row["accuracy"] == facts["networks"][name]["accuracy"]
        assert row["difference"] <= 1e-4


def test_from_a_file_to_an_answer(shipped, rings):
    """By what the manifest says, from the files alone; squares are easily told from circles."""
    folder, _ = shipped
    manifest = json.loads((folder / MARKER).read_text())
    drawings = [each for path in sorted(rings.iterdir()) for each in read_drawings(path) if isinstance(each, Drawing)]
    strokes, lengths = padded([sequence_of(drawing) for drawing in drawings])
    grey = np.stack([picture_of(drawing, manifest["picture"]["size"]) for drawing in drawings])
    everything = {"strokes": strokes, "lengths": lengths, "picture": np.repeat(grey[..., None], 3, axis=3)}
    truth = [drawing.word for drawing in drawings]
    for name, row in manifest["networks"].items():
        session = onnxruntime.InferenceSession(folder / row["file"])
        (probabilities,) = session.run(["probabilities"], {each: everything[each] for each in row["inputs"]})
        said = [manifest["labels"][k] for k in probabilities.argmax(axis=1)]
        assert np.mean(np.array(said) == truth) > 0.8, name


def test_an_earlier_result_is_replaced_and_nothing_else(shipped, rings, tmp_path):
    folder, _ = shipped
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    compare_strokes(rings, epochs=1, size=12, per_class=6, output=folder)
    assert {path.name for path in folder.iterdir()} == set(before)
    assert (folder / "both.onnx").read_bytes() != before["both.onnx"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(TopworkError, match=r"notes\.txt"):
        compare_strokes(rings, output=folder)
    assert (folder / "notes.txt").read_text() == "mine"
    with pytest.raises(TopworkError, match="to be free or an earlier"):
        compare_strokes(rings, output=rings)


def test_other_answers_are_an_error_and_leave_nothing(rings, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "largest_difference", lambda *arguments: float("nan"))
    with pytest.raises(ModelError, match="expected ONNX Runtime to answer like PyTorch"):
        compare_strokes(rings, epochs=1, size=8, output=tmp_path / "sketches")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_graph_is_noticed(rings):
    """The difference is that between two networks with weights of their own."""
    drawings = read(rings, per_class=4, size=8, seed=0, progress=Silent()).drawings
    torch.manual_seed(0)
    one, other = (NETWORKS["strokes"](2, 8).eval() for _ in range(2))
    rows = np.arange(8)
    graph = exported(one, drawings.named(rows[:1]))
    assert shipping.largest_difference(one, graph, drawings, rows) < 1e-5
    assert shipping.largest_difference(other, graph, drawings, rows) > 1e-3

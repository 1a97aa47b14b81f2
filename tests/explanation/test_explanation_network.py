"""The network that is explained is the one that answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork.explanation import explain
from topwork.explanation.network import network_of

CLOSE = 1e-5


@pytest.fixture(scope="module", params=["fitted", "fitted_logits"])
def any_model(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def golden(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((folder / "golden").glob("*.png"))]


def test_scores_in_torch_are_the_models_probabilities(any_model: Any) -> None:
    import torch

    from topwork.explanation.gradients import scores_from

    model = topwork.load(any_model.folder)
    network = network_of(model)
    module = scores_from(network, "input")
    scale = model.manifest["calibration"]["scale"]
    pictures = golden(any_model.folder)
    assert len(pictures) == len(json.loads((any_model.folder / "golden" / "answers.json").read_text()))
    for pixels in pictures:
        x = network.square(pixels)
        with torch.no_grad():
            scores = module(torch.from_numpy(x)[None])
        expected = model.answer(pixels).probabilities
        np.testing.assert_allclose(torch.softmax(scale * scores, 1)[0].numpy(), expected, atol=CLOSE)
        np.testing.assert_allclose(network.probabilities(x[None])[0], expected, atol=CLOSE)
        np.testing.assert_allclose(network.scores(x[None]), scores.numpy(), rtol=1e-4, atol=1e-4)


def test_the_heat_map_is_torchs(any_model: Any) -> None:
    """Its mean plus the bias is the score that PyTorch computes; cell by cell it is the head on the last map."""
    import torch
    from safetensors.numpy import load_file

    from topwork.backbones.torch_graph import graph_module
    from topwork.explanation.gradients import scores_from

    model = topwork.load(any_model.folder)
    network = network_of(model)
    head = load_file(any_model.folder / "head.safetensors")
    below = graph_module(network.model, network.source, "last_map")
    weight = head["weight"]
    if model.manifest["head"]["features"] == "logits":
        original = next(t for t in network.model.graph.initializer if t.name == "classifier.weight")
        weight = np.frombuffer(original.raw_data, np.float32).reshape(original.dims).T @ weight
    pixels = golden(any_model.folder)[0]
    x = torch.from_numpy(network.square(pixels))[None]
    with torch.no_grad():
        cells = below(x)[0].numpy()
        scores = scores_from(network, "input")(x)[0].numpy()
    length = np.linalg.norm(cells.mean((1, 2))) if model.manifest["head"]["normalize"] else 1.0
    for place, label in enumerate(model.labels):
        found = model.heatmap(pixels, label)
        assert found is not None
        expected = np.tensordot(weight[:, place], cells, 1) / length
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        if model.manifest["head"]["features"] == "pooled":
            assert found.mean() + head["bias"][place] == pytest.approx(float(scores[place]), abs=1e-3)


def test_cam_is_the_models_heat_map(any_model: Any) -> None:
    model = topwork.load(any_model.folder)
    for pixels in golden(any_model.folder):
        for label in model.labels:
            [found] = explain(model, pixels, target=label, faithfulness=False)
            np.testing.assert_allclose(found.values, model.heatmap(pixels, label), rtol=1e-4, atol=1e-4)


def test_stages_are_those_of_the_backbone(any_model: Any) -> None:
    from topwork.backbones.zoo import backbone

    network = network_of(topwork.load(any_model.folder))
    assert network.stages == tuple(stage.name for stage in backbone("tf_efficientnet_lite0").stages)


def test_a_pretrained_network_has_its_own_cam(pattern: Callable[..., np.ndarray]) -> None:
    model = topwork.load("imagenet:tf_efficientnet_lite0")
    network = network_of(model)
    x = network.square(pattern("any", 3))[None]
    np.testing.assert_allclose(network.probabilities(x)[0], model.answer(pattern("any", 3)).probabilities, atol=CLOSE)
    bias = (network.scores(x) - network.heatmap(x).mean((2, 3)))[0]
    other = network.square(pattern("dots", 3))[None]
    np.testing.assert_allclose(bias, (network.scores(other) - network.heatmap(other).mean((2, 3)))[0], atol=1e-3)


def test_shuffling_keeps_the_values_and_changes_the_answer(any_model: Any) -> None:
    network = network_of(topwork.load(any_model.folder))
    before = network.model.SerializeToString(deterministic=True)
    shuffled, again = network.shuffled(1), network.shuffled(1)
    assert network.model.SerializeToString(deterministic=True) == before
    assert shuffled.model.SerializeToString(deterministic=True) == again.model.SerializeToString(deterministic=True)
    from onnx import numpy_helper

    pairs = list(zip(network.model.graph.initializer, shuffled.model.graph.initializer, strict=True))
    changed = [a.name for a, b in pairs if a.raw_data != b.raw_data]
    assert 0 < len(changed) < len(pairs) / 2
    for a, b in pairs:
        np.testing.assert_array_equal(*(np.sort(numpy_helper.to_array(t), axis=None) for t in (a, b)))
    x = network.square(golden(any_model.folder)[0])[None]
    assert np.abs(network.scores(x) - shuffled.scores(x)).max() > 0.01


def test_a_network_of_pytorch_is_explained_as_it_answers(pattern: Callable[..., np.ndarray]) -> None:
    """One with squeeze-and-excitation, hard swish and a layer after pooling, so without a map in closed form."""
    import onnx
    import torch

    from topwork import assembly
    from topwork.backbones.architectures import architecture
    from topwork.backbones.network import exported_network
    from topwork.backbones.torch_graph import graph_module
    from topwork.backbones.zoo import described
    from topwork.errors import UsageError
    from topwork.explanation.gradients import scores_from
    from topwork.explanation.methods import METHODS, aim_at
    from topwork.explanation.network import ClassifierNetwork
    from topwork.heads.choice import LinearHead

    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = described("mobilenetv3_small_050", 64)
        exported = exported_network(architecture(spec.name, classes=0, size=64).eval(), 64)
    random = np.random.default_rng(0)
    weight = random.normal(size=(spec.feature_dim, 2)).astype(np.float32)
    head = LinearHead("svm", "pooled", True, weight, np.array([0.1, -0.1], np.float32))
    described_as = assembly.metadata(["a", "b"], None)
    graph = assembly.classifier(spec, "crop", head, 1.0, weight.T.copy(), described_as, exported)
    network = ClassifierNetwork(onnx.load_from_string(graph))
    x = network.square(pattern("any", 1))
    assert x.shape == (3, 64, 64)
    scores = network.scores(x[None])
    for layer in ("input", *network.stages):
        with torch.no_grad():
            value = torch.from_numpy(x)[None]
            if layer != "input":
                value = graph_module(network.model, network.source, layer)(value)
            np.testing.assert_allclose(scores_from(network, layer)(value), scores, rtol=1e-3, atol=1e-5, err_msg=layer)
    with pytest.raises(UsageError, match="use --method grad-cam"):
        METHODS.get("cam").prepare(network, "last_map")
    assert METHODS.get("grad-cam").prepare(network, "last_map")(x, aim_at(2, 0)).shape == (2, 2)

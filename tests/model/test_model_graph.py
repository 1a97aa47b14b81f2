"""The shipped graph: its interface, and that every output is what the documents say, recomputed in NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

import topwork


def session_of(folder: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module", params=["fitted", "fitted_logits"])
def any_model(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pictures(pattern: Callable[..., np.ndarray]) -> list[np.ndarray]:
    shapes = ((110, 140), (224, 224), (37, 300), (400, 90))
    return [pattern(kind, 77, *shape) for kind, shape in zip(("dots", "stripes", "checks", "any"), shapes, strict=True)]


def test_the_graph_is_valid_onnx(any_model: Any) -> None:
    graph = onnx.load(any_model.folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [opset.domain for opset in graph.opset_import] in ([""], ["ai.onnx"])
    assert not {node.domain for node in graph.graph.node} - {"", "ai.onnx"}


def test_inputs_and_outputs(any_model: Any) -> None:
    session = session_of(any_model.folder)
    [image] = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["n", "h", "w", 3])
    outputs = {output.name: output for output in session.get_outputs()}
    assert list(outputs) == ["probabilities", "novelty", "features", "heatmap"]
    assert outputs["probabilities"].shape == ["n", 3]
    assert outputs["novelty"].shape == ["n"]
    assert outputs["features"].shape == ["n", 1280]
    assert outputs["heatmap"].shape[:2] == ["n", 3]
    assert {output.type for output in outputs.values()} == {"tensor(float)"}


def test_a_batch_equals_its_pictures(any_model: Any, pattern: Callable[..., np.ndarray]) -> None:
    session = session_of(any_model.folder)
    batch = np.stack([pattern(kind, 5) for kind in ("dots", "stripes", "any")])
    together = session.run(None, {"image": batch})
    for row, picture in enumerate(batch):
        alone = session.run(None, {"image": picture[None]})
        for name, one, all_ in zip(("p", "novelty", "features", "heatmap"), alone, together, strict=True):
            assert all_.shape[0] == 3, name
            np.testing.assert_allclose(all_[row], one[0], rtol=1e-4, atol=1e-4, err_msg=name)


def test_predict_is_the_bare_graph(any_model: Any, pictures: list[np.ndarray]) -> None:
    model, session = topwork.load(any_model.folder), session_of(any_model.folder)
    for prediction, pixels in zip(model.predict(pictures, top=3), pictures, strict=True):
        bare = session.run(["probabilities", "novelty"], {"image": pixels[None]})
        np.testing.assert_allclose(
            [dict(prediction.top)[label] for label in model.labels], bare[0][0], atol=1e-5, rtol=0
        )
        assert prediction.novelty == pytest.approx(float(bare[1][0]), abs=1e-5)
        assert prediction.label == model.labels[int(bare[0][0].argmax())]
        assert prediction.known == (prediction.novelty <= model.threshold)


def test_predict_on_files_is_the_bare_graph_on_their_pixels(any_model: Any) -> None:
    from PIL import Image

    session, model = session_of(any_model.folder), topwork.load(any_model.folder)
    for path in sorted(any_model.photos.rglob("*.png"))[::5]:
        bare = session.run(["probabilities"], {"image": np.asarray(Image.open(path))[None]})[0][0]
        found = dict(model.predict(path, top=3)[0].top)
        np.testing.assert_allclose([found[label] for label in model.labels], bare, atol=1e-5, rtol=0)


def test_the_saved_model_answers_as_the_measured_one(any_model: Any, pictures: list[np.ndarray]) -> None:
    saved, measured = topwork.load(any_model.folder), any_model.fit.model
    assert saved.predict(pictures) == measured.predict(pictures)
    for pixels in pictures:
        one, two = saved.answer(pixels), measured.answer(pixels)
        assert one.features.tobytes() == two.features.tobytes()
        assert one.probabilities.tobytes() == two.probabilities.tobytes()
    assert saved.threshold == measured.threshold


def scores_of(any_model: Any, features: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Class scores [n, c] from the folder's tensors, by the documented formulas."""
    tensors = load_file(any_model.folder / "head.safetensors")
    model = topwork.load(any_model.folder)
    head = model.manifest["head"]
    seen = features
    if head["features"] == "logits":
        weight, bias = original_classifier()
        seen = features @ weight.T + bias
    if head["normalize"]:
        seen = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    return seen @ tensors["weight"] + tensors["bias"], tensors


def original_classifier() -> tuple[np.ndarray, np.ndarray]:
    """[1000, d] and [1000], from the weights package."""
    from topwork.backbones import weights
    from topwork.backbones.zoo import backbone
    from topwork.weights.legacy_torch import read_legacy_torch

    tensors = read_legacy_torch(weights.verified(backbone("tf_efficientnet_lite0")))
    [weight] = (
        [t for t in tensors if t.shape == (1000, 1280)]
        if isinstance(tensors, list)
        else [t for t in tensors.values() if t.shape == (1000, 1280)]
    )
    [bias] = [t for t in (tensors if isinstance(tensors, list) else tensors.values()) if t.shape == (1000,)]
    return np.asarray(weight), np.asarray(bias)


def test_the_probabilities_are_the_calibrated_head(any_model: Any, pictures: list[np.ndarray]) -> None:
    session = session_of(any_model.folder)
    scale = topwork.load(any_model.folder).manifest["calibration"]["scale"]
    for pixels in pictures:
        probabilities, features = session.run(["probabilities", "features"], {"image": pixels[None]})
        scores, _ = scores_of(any_model, features)
        np.testing.assert_allclose(probabilities, softmax(scale * scores), atol=2e-4)
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert (probabilities >= 0).all()


def test_the_heat_map_s_mean_and_the_bias_are_the_score(any_model: Any, pictures: list[np.ndarray]) -> None:
    """For a head on logits the original classifier's bias is part of it: (W c + b) V + a."""
    session = session_of(any_model.folder)
    for pixels in pictures:
        heatmap, features = session.run(["heatmap", "features"], {"image": pixels[None]})
        scores, tensors = scores_of(any_model, features)
        bias = tensors["bias"]
        if topwork.load(any_model.folder).manifest["head"]["features"] == "logits":
            bias = bias + original_classifier()[1] @ tensors["weight"]
        found = heatmap.mean(axis=(2, 3)) + bias
        np.testing.assert_allclose(found, scores, atol=1e-3 * max(1, np.abs(scores).max()))
        assert np.ptp(heatmap) > 0


def test_the_novelty_is_the_distance_to_the_nearest_class_mean(any_model: Any, pictures: list[np.ndarray]) -> None:
    session = session_of(any_model.folder)
    means = load_file(any_model.folder / "head.safetensors")["class_means"].astype(np.float64)
    for pixels in pictures:
        novelty, features = session.run(["novelty", "features"], {"image": pixels[None]})
        unit = features[0].astype(np.float64) / np.linalg.norm(features[0])
        assert novelty[0] == pytest.approx(np.linalg.norm(unit - means, axis=1).min(), abs=1e-3)


def test_the_class_means_are_those_of_the_training_pictures(any_model: Any) -> None:
    model = topwork.load(any_model.folder)
    means = load_file(any_model.folder / "head.safetensors")["class_means"]
    for row, label in zip(means, model.labels, strict=True):
        features = [model.answer(model.pixels(path)).features for path in (any_model.photos / label).iterdir()]
        unit = np.array(features) / np.linalg.norm(features, axis=1, keepdims=True)
        np.testing.assert_allclose(row, unit.mean(axis=0), atol=1e-4)


def test_heatmap_of_a_label(any_model: Any, pictures: list[np.ndarray]) -> None:
    model, session = topwork.load(any_model.folder), session_of(any_model.folder)
    maps = session.run(["heatmap"], {"image": pictures[0][None]})[0][0]
    for k, label in enumerate(model.labels):
        np.testing.assert_array_equal(model.heatmap(pictures[0], label), maps[k])


def test_the_box_that_is_seen(fitted: Any, fitted_logits: Any) -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    left, top, right, bottom = topwork.load(fitted.folder).seen_box(pixels)  # centre crop
    assert right - left == pytest.approx(bottom - top, abs=1)
    assert left + right == pytest.approx(300, abs=2)
    # padded: the bars above and below are seen as well
    assert topwork.load(fitted_logits.folder).seen_box(pixels) == pytest.approx((0, -100, 300, 200))


def test_a_pretrained_network_is_a_model() -> None:
    model = topwork.load("imagenet:tf_efficientnet_lite0")
    assert len(model.labels) == 1000
    prediction = model.predict(np.full((64, 64, 3), 200, np.uint8))[0]
    assert prediction.known is None
    assert prediction.novelty is None
    assert len(prediction.top) == 5
    assert prediction.label in model.labels

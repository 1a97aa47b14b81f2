"""The graphs that are built here, against timm's modules with the same tensors."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto

from topwork.backbones import efficientnet_lite, graph, preprocessing, weights
from topwork.backbones.graph import Graph, graph_fingerprint
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.backbones.spec import BackboneSpec, Preprocess
from topwork.backbones.zoo import BACKBONES, backbone, imagenet_classes, lite_scaling
from topwork.errors import BackboneError, UsageError
from topwork.features.session import open_session
from topwork.weights import legacy_torch

Photo = Callable[[int, int], np.ndarray]


def session_of(model: ModelProto) -> Any:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def preprocessing_session(preprocess: Preprocess, geometry: str) -> Any:
    nodes = Nodes()
    x = preprocessing.build(preprocess, geometry, nodes, "image")
    shape: list[str | int] = ["n", 3, preprocess.size, preprocess.size]
    return session_of(nodes.model([image_input()], [float_output(x, shape)]))


def timm_network(name: str) -> Any:
    timm = pytest.importorskip("timm")
    return timm.create_model(name, pretrained=False).eval()


def parameters(module: Any) -> dict[str, Any]:
    return {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}


def timm_answers(module: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import torch

    with torch.inference_mode():
        last = module.forward_features(torch.from_numpy(x))
        return module.forward_head(last, pre_logits=True).numpy(), module.forward_head(last).numpy()


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def timm_lite0(lite0: BackboneSpec) -> Any:
    """timm's module with the package's tensors, assigned by order."""
    module = timm_network("tf_efficientnet_lite0")
    import torch

    read = legacy_torch.read_legacy_torch(weights.verified(lite0))
    tensors = [array for name, array in read.items() if not name.endswith("num_batches_tracked")]
    own = parameters(module)
    assert [tuple(value.shape) for value in own.values()] == [array.shape for array in tensors]
    for value, array in zip(own.values(), tensors, strict=True):
        value.copy_(torch.tensor(array))
    return module


@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        ("crop", (300, 451)),
        ("crop", (97, 64)),
        ("pad", (120, 400)),
        ("stretch", (224, 224)),
        ("stretch", (500, 31)),
        ("whole", (300, 451)),
        ("whole", (400, 31)),
        ("whole", (9, 2000)),
    ],
)
def test_default_graph_equals_timm(
    timm_lite0: Any, graphs: dict[str, Graph], lite0: BackboneSpec, photo: Photo, geometry: str, shape: tuple[int, int]
) -> None:
    picture = photo(*shape)[None]
    (x,) = preprocessing_session(lite0.preprocess, geometry).run(None, {"image": picture})
    features, logits = open_session(graphs[geometry].path).run(["features", "logits"], {"image": picture})
    expected_features, expected_logits = timm_answers(timm_lite0, x)
    assert features.shape == (1, 1280)
    assert relative_error(features, expected_features) < 1e-4
    assert relative_error(logits, expected_logits) < 1e-4


@pytest.mark.parametrize("geometry", ["stretch", "whole"])
@pytest.mark.parametrize("variant", [1, 2])
def test_scaled_variants_equal_timm_with_random_tensors(photo: Photo, variant: int, geometry: str) -> None:
    """The weights need not be installed: any tensors will do to compare two networks."""
    import_name = f"tf_efficientnet_lite{variant}"
    module, spec = timm_network(import_name), backbone(import_name)
    import torch

    generator = torch.Generator().manual_seed(variant)
    for name, value in parameters(module).items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.ndim == 1:
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    nodes = Nodes()
    x = preprocessing.build(spec.preprocess, geometry, nodes, "image")
    tensors = {name: value.numpy() for name, value in parameters(module).items()}
    efficientnet_lite.build(tensors, lite_scaling(spec.name), nodes, x)
    outputs = [float_output("features", ["n", 1280]), float_output("logits", ["n", 1000])]
    picture = photo(180, 333)[None]
    features, logits = session_of(nodes.model([image_input()], outputs)).run(None, {"image": picture})
    (seen,) = preprocessing_session(spec.preprocess, geometry).run(None, {"image": picture})
    expected_features, expected_logits = timm_answers(module, seen)
    assert relative_error(features, expected_features) < 1e-4
    assert relative_error(logits, expected_logits) < 1e-4
    assert spec.parameters == sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize("name", BACKBONES.names())
def test_number_of_parameters_is_that_of_the_file(name: str) -> None:
    spec = backbone(name)
    if weights.locate(spec.weights) is None:
        pytest.skip(f"{spec.weights.source} is not installed")
    path = weights.verified(spec)
    counted = {
        key: array.size
        for key, array in legacy_torch.read_legacy_torch(path).items()
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    assert sum(counted.values()) == spec.parameters
    assert path.stat().st_size / 1e6 == pytest.approx(spec.weights.megabytes, abs=0.1)


def test_stages_have_the_strides_and_channels_of_the_maps(lite0: BackboneSpec, photo: Photo) -> None:
    nodes = Nodes()
    graph.append(lite0, "crop", nodes, "image")
    outputs = [float_output(stage.name, ["n", stage.channels, "h", "w"]) for stage in lite0.stages]
    maps = session_of(nodes.model([image_input()], outputs)).run(None, {"image": photo(64, 64)[None]})
    for stage, found in zip(lite0.stages, maps, strict=True):
        side = lite0.preprocess.size // stage.stride
        assert found.shape == (1, stage.channels, side, side), stage.name


def test_features_are_the_mean_of_the_last_map_and_logits_linear_in_them(lite0: BackboneSpec, photo: Photo) -> None:
    nodes = Nodes()
    graph.append(lite0, "crop", nodes, "image")
    outputs = [float_output(name, ["n", "c"]) for name in ("features", "logits")]
    model = nodes.model([image_input()], [float_output("last_map", ["n", 1280, 7, 7]), *outputs])
    last, features, logits = session_of(model).run(None, {"image": photo(80, 90)[None]})
    np.testing.assert_allclose(last.mean(axis=(2, 3)), features, atol=1e-5)
    tensors = legacy_torch.read_legacy_torch(weights.verified(lite0))
    weight, bias = list(tensors.values())[-2:]
    np.testing.assert_allclose(features @ weight.T + bias, logits, atol=1e-3)
    assert last.min() >= 0
    assert last.max() <= 6


def test_batch_equals_singles(graphs: dict[str, Graph], photo: Photo) -> None:
    session = open_session(graphs["crop"].path)
    pictures = np.stack(
        [photo(90, 120), photo(90, 120)[::-1], photo(90, 120)[:, ::-1], np.zeros((90, 120, 3), np.uint8)]
    )
    together = session.run(["features", "logits"], {"image": pictures})
    for row, picture in enumerate(pictures):
        alone = session.run(["features", "logits"], {"image": picture[None]})
        for batch, single in zip(together, alone, strict=True):
            np.testing.assert_allclose(batch[row], single[0], rtol=1e-4, atol=1e-4)
    assert not np.allclose(together[0][0], together[0][1], atol=1e-2)


@pytest.mark.parametrize(("name", "expected"), [("cat", {"Egyptian cat", "tabby"}), ("coffee", {"espresso", "cup"})])
def test_known_pictures_are_recognised(graphs: dict[str, Graph], name: str, expected: set[str]) -> None:
    data = pytest.importorskip("skimage.data")
    (logits,) = open_session(graphs["crop"].path).run(["logits"], {"image": getattr(data, name)()[None]})
    top = {imagenet_classes()[k] for k in np.argsort(-logits[0])[:5]}
    assert top & expected, top
    assert len(imagenet_classes()) == 1000


def test_tensors_in_the_wrong_order_or_number_are_refused(lite0: BackboneSpec) -> None:
    tensors = legacy_torch.read_legacy_torch(weights.verified(lite0))
    names = list(tensors)

    def build(chosen: legacy_torch.Tensors) -> None:
        efficientnet_lite.build(chosen, lite_scaling(lite0.name), Nodes(), "x")

    build(tensors)
    with pytest.raises(BackboneError, match="do not fit the network"):
        build({name: tensors[name] for name in names[:-1]})
    with pytest.raises(BackboneError, match="do not fit the network"):
        build({name: tensors[name] for name in reversed(names)})
    with pytest.raises(BackboneError, match="more than the network needs, first surplus"):
        build({**tensors, "surplus": np.zeros(3, np.float32)})


def test_fingerprint_changes_with_everything_that_changes_the_numbers(lite0: BackboneSpec) -> None:
    other_weights = dataclasses.replace(lite0.weights, sha256="0" * 64)
    other_input = dataclasses.replace(lite0.preprocess, std=(127.0,) * 3)
    variants = [
        (lite0, "crop"),
        (lite0, "pad"),
        (lite0, "stretch"),
        (lite0, "whole"),
        (dataclasses.replace(lite0, weights=other_weights), "crop"),
        (dataclasses.replace(lite0, preprocess=other_input), "crop"),
        (backbone("tf_efficientnet_lite1"), "crop"),
    ]
    assert len({graph_fingerprint(spec, geometry) for spec, geometry in variants}) == len(variants)
    same = dataclasses.replace(lite0, description="said in other words")
    assert graph_fingerprint(same, "crop") == graph_fingerprint(lite0, "crop")


def test_unknown_names_are_refused_with_a_hint(lite0: BackboneSpec) -> None:
    with pytest.raises(UsageError, match="did you mean tf_efficientnet_lite0"):
        backbone("tf_efficientnet_lit0")
    with pytest.raises(UsageError, match="geometry must be one of crop, pad, stretch"):
        preprocessing.build(lite0.preprocess, "square", Nodes(), "image")

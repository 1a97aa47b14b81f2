"""The network of a model folder is the one in its model.onnx: its scores, its weights, its classes, its geometry."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tampering import put

from topwork import load
from topwork.backbones import weights
from topwork.errors import BackboneError, ModelError, UsageError
from topwork.explanation.network import network_of
from topwork.features.session import open_session
from topwork.visualization.activations import activations
from topwork.visualization.filters import filters
from topwork.visualization.gradients import layer_function
from topwork.visualization.opened import open_network, square_geometry
from topwork.visualization.square import network_square
from topwork.visualization.targets import Target, class_target


@pytest.mark.parametrize("head", ["fitted", "fitted_logits"])
def test_its_logits_are_the_scores_that_answer(
    head: str, request: pytest.FixtureRequest, pattern: Callable[..., np.ndarray]
) -> None:
    folder = request.getfixturevalue(head).folder
    opened, classifier = open_network(str(folder)), network_of(load(folder))
    squares = np.stack([classifier.square(pattern("dots", seed)) for seed in range(3)])
    session = open_session(opened.network.model.SerializeToString())
    scores, features = session.run(["logits", "features"], {"x": squares})
    np.testing.assert_allclose(scores, classifier.scores(squares), atol=1e-4)
    assert features.shape == (3, opened.spec.feature_dim)
    # And with gradients, from pixels in 0..1 on.
    mean, std = (np.array(each)[:, None, None] for each in (opened.spec.preprocess.mean, opened.spec.preprocess.std))
    pixels = torch.from_numpy(((squares * std + mean) / 255).astype(np.float32))
    np.testing.assert_allclose(layer_function(opened, "logits")(pixels).numpy(), scores, atol=1e-3)


def test_stages_and_names_are_those_of_the_backbone(fitted: Any) -> None:
    opened, backbone = open_network(str(fitted.folder)), open_network("tf_efficientnet_lite0")
    assert opened.spec.stages == backbone.spec.stages
    assert opened.spec.name == fitted.folder.name
    assert filters(opened.network)[0] == filters(backbone.network)[0]
    assert np.array_equal(filters(opened.network)[1], filters(backbone.network)[1])


def test_what_is_looked_at_is_what_ships(
    model_copy: Path, monkeypatch: pytest.MonkeyPatch, pattern: Callable[..., np.ndarray]
) -> None:
    """Other weights in model.onnx, as after fine-tuning, and no pretrained ones on the machine."""
    graph = onnx.load(model_copy / "model.onnx")
    (kernels,) = (tensor for tensor in graph.graph.initializer if list(tensor.dims) == [32, 3, 3, 3])
    kernels.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(kernels), kernels.name))
    put(model_copy, "model.onnx", graph.SerializeToString())
    pretrained = open_network("tf_efficientnet_lite0")

    def missing(_: object) -> None:
        raise BackboneError("no weights here")

    monkeypatch.setattr(weights, "verified", missing)
    opened = open_network(str(model_copy))
    assert np.array_equal(filters(opened.network)[1], -filters(pretrained.network)[1])
    image = pattern("dots", 1)
    found, before = activations(opened, image), activations(pretrained, image)
    assert np.abs(found[0].maps - before[0].maps).max() > 0.1


def test_its_own_geometry_and_decoding_are_the_default(fitted_logits: Any, pattern: Callable[..., np.ndarray]) -> None:
    opened, image = open_network(str(fitted_logits.folder)), pattern("dots", 1)
    assert opened.geometry == "pad"
    assert opened.decoding == load(fitted_logits.folder).decoding
    own, pad, crop = (activations(opened, image, geometry=geometry)[0].maps for geometry in (None, "pad", "crop"))
    assert np.array_equal(own, pad)
    assert not np.array_equal(own, crop)
    square = network_square(opened.spec, image, opened.geometry)
    x = network_of(load(fitted_logits.folder)).square(image)
    mean, std = np.array(opened.spec.preprocess.mean), np.array(opened.spec.preprocess.std)
    assert np.abs(square - (x.transpose(1, 2, 0) * std + mean)).max() <= 0.5


def test_classes_are_the_models_own(fitted: Any) -> None:
    opened = open_network(str(fitted.folder))
    assert opened.classes == ("checks", "dots", "stripes")
    assert class_target(opened, "dots") == class_target(opened, "1") == Target("logits", 1)
    assert Target("logits", 2).caption(opened) == "stripes"
    with pytest.raises(UsageError, match=r"expected a class from 0 to 2 or its name, not 'dot': did you mean dots"):
        class_target(opened, "dot")
    with pytest.raises(UsageError, match="expected a class from 0 to 2"):
        class_target(opened, "3")


def test_a_class_called_by_a_number_is_that_class(opened_toy: Callable[..., Any]) -> None:
    from dataclasses import replace

    toy = opened_toy([], {}, {})
    digits = replace(toy, spec=replace(toy.spec, logits_dim=3), classes=("7", "0", "2"))
    assert class_target(digits, "0").channel == 1
    assert class_target(digits, "1").channel == 1


def test_folders_that_are_no_model_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"is a folder without model.json; give the folder that `topwork fit -o` wrote"
    ):
        open_network(str(tmp_path))
    with pytest.raises(ModelError, match="expected a model folder at"):
        open_network(str(tmp_path / "nowhere.topwork"))


def test_a_model_that_sees_whole_pictures(pattern: Callable[..., np.ndarray]) -> None:
    lite0 = open_network("tf_efficientnet_lite0")
    whole = replace(lite0, geometry="whole")
    found = {each.stage.name: each.maps.shape for each in activations(whole, pattern("any", 1, 80, 320))}
    assert found["blocks.6"] == (320, 4, 16)
    with pytest.raises(UsageError, match="give --geometry crop, pad or stretch"):
        square_geometry(whole, None)
    assert square_geometry(whole, "pad") == "pad"
    with pytest.raises(UsageError, match="takes squares, not whole pictures"):
        activations(replace(lite0, spec=replace(lite0.spec, family="timm")), pattern("any", 1), geometry="whole")

"""Networks that are trained as PyTorch modules come back as graphs that answer alike."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch

from topwork.backbones import pretrained
from topwork.backbones.architectures import architecture
from topwork.backbones.extra import torch_threads
from topwork.backbones.network import Network, exported_network, pretrained_network
from topwork.backbones.spec import FEATURES, INPUT, LAST_MAP, BackboneSpec
from topwork.errors import BackboneError, UsageError
from topwork.recipe import Training
from topwork.training.networks import (
    TopOf,
    Whole,
    new_spec,
    parameters_of,
    stages_of,
    trained_top,
    trained_whole,
)

CONVOLUTIONAL = (
    *("test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout"),
    *("mobilenetv3_small_050", "lcnet_035"),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster in one."""
    with torch_threads(1):
        yield


def answers(model: onnx.ModelProto, x: np.ndarray, *names: str) -> list[np.ndarray]:
    found: list[np.ndarray] = onnxruntime.InferenceSession(model.SerializeToString()).run(list(names), {INPUT: x})
    return found


def noise(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 3, size, size)).astype(np.float32)


def worn(name: str) -> Any:
    """A network as after training: statistics and weights that are not those of the beginning."""
    torch.manual_seed(1)
    module = architecture(name, classes=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    module.train()
    with torch.no_grad():
        for seed in range(2):
            module(torch.from_numpy(noise(4, 64, seed)))
    return module.eval()


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_an_exported_network_is_the_network(name: str) -> None:
    """Also in batches of another size than the one it was exported with; its features are scaled to compare."""
    module, x = worn(name), noise(3, 64, 9)
    with torch.no_grad():
        last_map = module.forward_features(torch.from_numpy(x))
        features = module.forward_head(last_map, pre_logits=True)
        scale = 1 / float(features.abs().max())
    model = exported_network(module, 64).model
    found = answers(model, x, LAST_MAP, FEATURES)
    np.testing.assert_allclose(scale * found[1], scale * features.numpy(), atol=1e-4)
    np.testing.assert_allclose(found[0], last_map.numpy(), atol=1e-4 * float(last_map.abs().max()))
    assert {opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")} == {18}
    assert not [a for node in model.graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    assert all(not module.training for module in module.modules())


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_what_is_known_of_a_new_network_is_so(name: str) -> None:
    """Features are said to be linear exactly where the mean of the last map gives them on another input."""
    spec, module = new_spec(name, 64), worn(name)
    with torch.no_grad():
        last_map = module.forward_features(torch.from_numpy(noise(2, 64, 5)))
        features = module.forward_head(last_map, pre_logits=True)
    assert spec.feature_dim == features.shape[1]
    linear = last_map.shape[1] == features.shape[1] and torch.allclose(last_map.mean((2, 3)), features, rtol=1e-3)
    assert spec.linear_features == linear
    assert spec.parameters == sum(p.numel() for p in architecture(name).parameters())
    assert spec.preprocess.size == 64
    assert spec.weights is None
    known = timm.get_pretrained_cfg(name, allow_unregistered=False) or module.pretrained_cfg
    assert spec.preprocess.mean == pytest.approx([255 * m for m in known.to_dict()["mean"]], rel=1e-6)
    assert new_spec(name, 0).preprocess.size == known.to_dict()["input_size"][-1]


def test_both_kinds_of_features_are_among_them() -> None:
    linear = {name: new_spec(name, 64).linear_features for name in ("test_resnet", "test_convnext", "lcnet_035")}
    assert linear == {"test_resnet": True, "test_convnext": False, "lcnet_035": False}


@pytest.mark.parametrize(
    "name",
    [
        *CONVOLUTIONAL,
        *(
            "tf_efficientnet_lite0",
            "vgg11",
            "inception_v3",
            "densenet121",
            "regnetx_002",
            "ghostnet_050",
            "hrnet_w18_small",
            "dla34",
        ),
        *("test_maxvit", "poolformer_s12", "mobilevit_xxs"),
        "test_vit",
        "pit_ti_224",
    ],
)
def test_every_parameter_is_in_exactly_one_stage(name: str) -> None:
    with torch.device("meta"):
        trunk = timm.create_model(name, pretrained=False, num_classes=0)
    stages = stages_of(trunk)
    found = [id(p) for parameters in parameters_of(trunk, stages) for p in parameters]
    assert len(found) == len(set(found))
    by_id = {id(p): name for name, p in trunk.named_parameters()}
    assert {by_id[i] for i in found} == set(by_id.values())
    assert len(stages) > 1
    assert len({name for name, _ in stages}) == len(stages)
    assert all(any(p.ndim > 1 for module in modules for p in module.parameters()) for _, modules in stages)


def test_the_stages_of_the_default_network_have_its_names(lite0: BackboneSpec) -> None:
    names = [name for name, _ in stages_of(architecture("tf_efficientnet_lite0", classes=0))]
    assert names == ["conv_stem", *(f"blocks.{i}" for i in range(7)), "conv_head"]
    assert {stage.name for stage in lite0.stages} - set(names) == {"last_map"}


def test_names_that_do_not_exist_get_the_closest_one() -> None:
    settings = Training(rate=1.0, stage_decay=1.0, unfreeze="layer33")
    with pytest.raises(UsageError, match=r"no stage 'layer33' to unfreeze: did you mean layer3"):
        Whole(new_spec("test_resnet", 64), 3, settings)()


def test_pictures_too_small_for_a_network_are_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"cannot take pictures of 32 by 32 pixels .*another input_size"):
        new_spec("inception_v3", 32)


@pytest.mark.parametrize("name", ["test_maxvit", "test_vit3"])
def test_a_size_that_a_network_asserts_against_is_one_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="another input_size"):
        new_spec(name, 64)


def test_a_network_that_cannot_be_shipped_is_refused_before_it_is_trained() -> None:
    with pytest.raises(BackboneError, match="cannot be exported"):
        new_spec("test_vit4", 0)  # rms_norm


@pytest.fixture(scope="module")
def pretrained_trunk(lite0: BackboneSpec) -> Any:
    return pretrained.pretrained_module(lite0, classifier=False)


def test_the_pretrained_weights_find_their_places(lite0: BackboneSpec, pretrained_trunk: Any) -> None:
    x = noise(2, 224)
    with torch.no_grad():
        expected = pretrained_trunk(torch.from_numpy(x)).numpy()
    found = answers(pretrained_network(lite0).model, x, FEATURES)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_weights_of_another_network_are_refused(lite0: BackboneSpec) -> None:
    with pytest.raises(BackboneError, match="do not fit the network that this version"):
        pretrained.load(architecture("test_resnet"), lite0)


def state_of(trunk: Any) -> dict[str, Any]:
    return {f"trunk.{name}": tensor for name, tensor in trunk.state_dict().items()} | {"head.weight": torch.zeros(3, 1)}


def test_a_trained_default_network_ships_as_the_builder_s_graph(lite0: BackboneSpec, pretrained_trunk: Any) -> None:
    """All weights and statistics moved, as ``full`` and ``updated`` move them; the graph stays convolutions only."""
    import copy

    trunk = copy.deepcopy(pretrained_trunk)
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in trunk.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.05 * torch.rand_like(tensor))
    trunk.to(memory_format=torch.channels_last)  # as the loop leaves it
    x = noise(2, 224)
    with torch.no_grad():
        expected = trunk(torch.from_numpy(x)).numpy()
        before = pretrained_trunk(torch.from_numpy(x)).numpy()
    network = trained_whole(lite0, state_of(trunk))
    np.testing.assert_allclose(answers(network.model, x, FEATURES)[0], expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected - before).max() > 0.1
    operators = {node.op_type for node in network.model.graph.node}
    assert operators == {"Conv", "Clip", "Add", "ReduceMean"}


@pytest.mark.parametrize(
    "size",
    [64, 96, 100],
)
def test_the_default_architecture_from_scratch_at_another_size(size: int) -> None:
    spec, trunk = new_spec("tf_efficientnet_lite0", size), worn("tf_efficientnet_lite0")
    x = noise(2, size)
    with torch.no_grad():
        expected = trunk(torch.from_numpy(x)).numpy()
    model = trained_whole(spec, state_of(trunk)).model
    del model.graph.input[:]  # it claims 224
    model.graph.input.append(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 3, size, size]))
    found = answers(model, x, FEATURES)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_any_trained_network_ships_as_itself() -> None:
    trunk, spec = worn("test_efficientnet"), new_spec("test_efficientnet", 64)
    network = trained_whole(spec, state_of(trunk))
    x = noise(4, 64)
    with torch.no_grad():
        expected = trunk(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(answers(network.model, x, FEATURES)[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("cut", ["blocks.4", "blocks.6", "last_map"])
def test_a_trained_top_ships_in_the_whole_network(
    lite0: BackboneSpec, cut: str, filled: Callable[..., Training], train: Callable[..., Any], cache_folder: Path
) -> None:
    """Trained on activations for two steps; the graph from ``x`` then answers as frozen part and trained top do."""
    from topwork.backbones.torch_graph import graph_module
    from topwork.training.examples import Vectors

    network, x = pretrained_network(lite0), noise(4, 224)
    with torch.no_grad():
        activations = graph_module(network.model, INPUT, cut)(torch.from_numpy(x))
    job = TopOf(network.model.SerializeToString(), cut, 1280, 2, filled(rate=0.01))
    examples = Vectors(activations.numpy(), np.array([0, 1, 0, 1]))
    state = train(job, examples, filled(epochs=3, batch_size=4, rate=0.01)).state
    model = job()
    model.load_state_dict(state)
    with torch.no_grad():
        expected = model.trunk(activations).numpy()
    shipped = trained_top(network, job, state)
    assert isinstance(shipped, Network)
    np.testing.assert_allclose(answers(shipped.model, x, FEATURES)[0], expected, atol=1e-4)
    moved = np.abs(expected - answers(network.model, x, FEATURES)[0]).max()
    assert (moved > 0.05) == (cut != "last_map")

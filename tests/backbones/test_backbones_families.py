"""One network per family becomes ONNX pieces that equal torch: stages, last map, features, logits, and gradients."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from topwork.backbones.allowed import checked
from topwork.backbones.anatomy import Anatomy, anatomy
from topwork.backbones.architectures import resolve
from topwork.backbones.network import Network, exported_network
from topwork.backbones.spec import FEATURES, INPUT, LAST_MAP, LOGITS
from topwork.backbones.torch_graph import graph_module, is_cut

SMALL = (
    *(
        "lenet5",
        "simple_cnn",
        "squeezenet1_1",
        "mnasnet0_5",
        "shufflenet_v2_x0_5",
        "mobilenetv1_100",
        "mobilenetv2_050",
    ),
    *("mobilenetv3_small_050", "mobilenetv4_conv_small", "mobilenet_v2", "efficientnet_b0", "tf_efficientnet_lite0"),
    *("convnext_atto", "regnetx_002", "resnet18", "resnet50", "densenet121", "googlenet", "resnest14d", "repvgg_a0"),
)
LARGE = (
    *("alexnet", "vgg19", "vgg16-hed", "inception_v3", "torchvision:inception_v3", "inception_resnet_v2"),
    *("nasnetalarge", "legacy_xception", "torchvision:convnext_tiny"),
)

OF_ONE_SIZE = {"alexnet", "vgg19"}  # a dense layer on the places of the last map


class Taken:
    """A network with random weights, its graph, and what torch answers to noise."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        architecture = resolve(name)
        self.size = smaller(architecture.input().size, name)
        self.module = worn(architecture.module(), self.size)
        self.found: Anatomy = anatomy(self.module, self.size)
        self.network: Network = exported_network(self.module, self.size)
        self.x = np.random.default_rng(3).normal(size=(2, 3, self.size, self.size)).astype(np.float32)
        self.names = [output.name for output in self.network.model.graph.output]
        session = onnxruntime.InferenceSession(self.network.model.SerializeToString())
        self.answers = dict(zip(self.names, session.run(self.names, {INPUT: self.x}), strict=True))


def smaller(size: int, name: str) -> int:
    """A side of about 100 pixels that leaves what the network's own leaves at each stride, so paddings are the same."""
    return size if name in OF_ONE_SIZE else min(size, 96 + size % 32)


def worn(module: Any, size: int) -> Any:
    """Batch norms with statistics of their own, as after training: fresh ones do next to nothing."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.running_mean.copy_(0.05 * torch.randn(layer.running_mean.shape, generator=generator))
            layer.running_var.copy_(1 + 0.1 * torch.rand(layer.running_var.shape, generator=generator))
    return module.eval()


@pytest.fixture(scope="module", params=SMALL)
def taken(request: pytest.FixtureRequest) -> Taken:
    return Taken(request.param)


def check_pieces(taken: Taken) -> None:
    """Against the module itself, not against what the exporter ran: logits whole, stages by hooks of this test."""
    checked(taken.network.model.SerializeToString())  # the list of operators that are opened has all of it
    seen: dict[str, torch.Tensor] = {}
    stages = [stage.name for stage in taken.found.stages if stage.name != LAST_MAP]
    for name in stages:
        taken.module.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: out.clone()})
        )
    with torch.no_grad():
        logits = taken.module(torch.from_numpy(taken.x))
    expected = {name: tensor.numpy() for name, tensor in seen.items()}
    if taken.found.logits_dim:
        expected[LOGITS] = logits.numpy()
        assert LOGITS in taken.names
    assert set(expected) | {LAST_MAP, FEATURES} == set(taken.names)
    for name, array in expected.items():
        assert taken.answers[name].shape == array.shape
        np.testing.assert_allclose(taken.answers[name], array, atol=2e-4 * np.abs(array).max(), err_msg=name)
        assert np.abs(array).max() > 0


def check_claims(taken: Taken) -> None:
    """Features and logits are as they are said to be."""
    found, answers = taken.found, taken.answers
    assert answers[FEATURES].shape == (2, found.feature_dim)
    if found.linear_features:
        np.testing.assert_allclose(answers[LAST_MAP].mean((2, 3)), answers[FEATURES], rtol=1e-3, atol=1e-5)
    if found.linear_logits:
        weights = taken.network.weights()
        expected = answers[FEATURES] @ weights["classifier.weight"].T + weights["classifier.bias"]
        np.testing.assert_allclose(answers[LOGITS], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    strides = [stage.stride for stage in found.stages]
    assert strides == sorted(strides)
    for stage in found.stages:
        assert answers[stage.name].shape[1] == stage.channels


def test_the_pieces_equal_torch(taken: Taken) -> None:
    check_pieces(taken)


def test_features_and_logits_are_as_they_are_said_to_be(taken: Taken) -> None:
    check_claims(taken)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_networks_too(name: str) -> None:
    taken = Taken(name)
    check_pieces(taken)
    check_claims(taken)


def test_the_graph_trains_from_its_cuts(taken: Taken) -> None:
    """From every stage that nothing goes around, the graph as a module gives the features, with a gradient."""
    cuts = [stage.name for stage in taken.found.stages if is_cut(taken.network.model, stage.name, FEATURES)]
    assert cuts
    assert LAST_MAP in cuts
    for cut in cuts:
        module = graph_module(taken.network.model, cut, FEATURES)
        features = module(torch.from_numpy(taken.answers[cut]))
        scale = np.abs(taken.answers[FEATURES]).max()
        np.testing.assert_allclose(features.detach().numpy(), taken.answers[FEATURES], atol=3e-4 * scale, err_msg=cut)
    deepest = graph_module(taken.network.model, cuts[0], FEATURES)
    deepest(torch.from_numpy(taken.answers[cuts[0]])).sum().backward()
    gradients = [parameter.grad for parameter in deepest.parameters()]
    assert gradients
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    # No two parameters are one tensor, although the exporter shares equal ones.
    assert len({parameter.data_ptr() for parameter in deepest.parameters()}) == len(gradients)

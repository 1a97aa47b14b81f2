"""Small networks: the numbers of the papers, any size, timm's interface."""

import subprocess
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from topwork.backbones.small import BLOCKS, SMALL
from topwork.errors import UsageError


def built(name: str, *, channels: int = 0, size: int = 0, classes: int | None = None) -> nn.Module:
    net = {**SMALL, **BLOCKS}[name]
    torch.manual_seed(0)
    wanted = net.classes if classes is None else classes
    return net.build(channels or net.channels, size or net.size, wanted).eval()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu"])
def test_lenet5_has_the_parameters_of_1998(name: str) -> None:
    layers = [m for m in built(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [count(layer) for layer in layers] == [156, 2_416, 48_120, 10_164, 850]
    assert count(built(name, size=32)) == count(built(name)) == 61_706


@pytest.mark.parametrize("name", ["simple_cnn", "simple_cnn_tanh"])
def test_simple_cnn_has_the_parameters_of_the_table(name: str) -> None:
    layers = [m for m in built(name).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [count(layer) for layer in layers] == [320, 18_496, 401_536, 1_290]
    assert count(built(name)) == 421_642


def test_28_pixels_are_taken_as_32_with_a_border() -> None:
    """The same weights on a picture of 28 pixels and on it in a border of zeros."""
    narrow, wide = built("lenet5"), built("lenet5", size=32)
    x = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(narrow(x), wide(functional.pad(x, (2, 2, 2, 2))))


@pytest.mark.parametrize(("name", "other"), [("lenet5", "lenet5_relu"), ("simple_cnn_tanh", "simple_cnn")])
def test_tanh_and_relu_differ_in_their_activation_only(name: str, other: str) -> None:
    tanh, relu = built(name), built(other)
    assert tanh.state_dict().keys() == relu.state_dict().keys()
    assert {type(m) for m in tanh.modules()} - {type(m) for m in relu.modules()} <= {nn.Tanh, nn.AvgPool2d}
    assert any(isinstance(m, nn.Tanh) for m in tanh.modules())
    assert not any(isinstance(m, nn.Tanh) for m in relu.modules())


def test_simple_cnn_by_hand() -> None:
    net, x = built("simple_cnn"), torch.randn(2, 1, 28, 28)
    first, second = net.features[0], net.features[3]
    hidden, classifier = net.dense[0], net.classifier
    with torch.no_grad():
        y = functional.max_pool2d(functional.conv2d(x, first.weight, first.bias, padding=1).relu(), 2)
        y = functional.max_pool2d(functional.conv2d(y, second.weight, second.bias, padding=1).relu(), 2)
        features = functional.linear(y.flatten(1), hidden.weight, hidden.bias).relu()
        torch.testing.assert_close(net.forward_head(net.forward_features(x), pre_logits=True), features)
        torch.testing.assert_close(net(x), functional.linear(features, classifier.weight, classifier.bias))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 28, 10), (3, 64, 5), (3, 33, 0), (2, 13, 2)])
def test_any_size_with_timms_interface(name: str, channels: int, size: int, classes: int) -> None:
    net = built(name, channels=channels, size=size, classes=classes)
    x = torch.randn(2, channels, size, size)
    with torch.no_grad():
        last_map = net.forward_features(x)
        features = net.forward_head(last_map, pre_logits=True)
        assert last_map.ndim == 4
        assert features.shape == (2, net.num_features)
        assert net(x).shape == (2, classes or net.num_features)
        torch.testing.assert_close(net(x), net.forward_head(last_map))
    assert isinstance(net.classifier, nn.Identity) == (classes == 0)


@pytest.mark.parametrize(("name", "least"), [("lenet5", 12), ("lenet5_relu", 12), ("simple_cnn", 4)])
def test_too_small_a_picture_is_refused(name: str, least: int) -> None:
    net = built(name, size=least)
    assert net(torch.zeros(1, 1, least, least)).shape == (1, 10)
    with pytest.raises(
        UsageError, match=f"{name} takes pictures of at least {least} by {least} pixels, not {least - 1} by"
    ):
        built(name, size=least - 1)


@pytest.mark.parametrize(
    ("name", "parameters", "output"),
    [
        ("pointwise", 16_448, (64, 56, 56)),
        ("inception_module", 163_696, (256, 28, 28)),
        ("inception_module_naive", 387_296, (416, 28, 28)),
        ("residual_block", 73_984, (64, 56, 56)),
        ("residual_block_concat", 27_776, (96, 56, 56)),
        ("bottleneck_block", 70_400, (256, 56, 56)),
        ("global_average_pooling", 0, (512,)),
    ],
)
def test_blocks_by_name(name: str, parameters: int, output: tuple[int, ...]) -> None:
    block = BLOCKS[name]
    module = built(name)
    assert count(module) == parameters
    assert module(torch.zeros(1, block.channels, block.size, block.size)).shape[1:] == output


def test_every_name_is_its_own_and_described() -> None:
    assert not SMALL.keys() & BLOCKS.keys()
    for name, net in {**SMALL, **BLOCKS}.items():
        assert net.name == name
        assert net.description
        assert (net.classes > 0) == (name in SMALL)


def test_the_table_needs_no_torch(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = "import sys; from topwork.backbones.small import SMALL; assert SMALL; assert 'torch' not in sys.modules"
    assert python(program).returncode == 0

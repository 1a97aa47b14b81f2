"""Building blocks: their parts against a computation by hand, and the numbers of the papers."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from topwork.backbones.blocks import (
    Join,
    bottleneck_block,
    convolution,
    global_average_pooling,
    inception_module,
    naive_inception_module,
    pointwise,
    residual_block,
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


def test_pointwise_is_a_matrix_for_each_pixel() -> None:
    block, x = pointwise(5, 3), torch.randn(2, 5, 4, 6)
    weight, bias = block[0].weight[:, :, 0, 0], block[0].bias
    expected = torch.einsum("nchw,dc->ndhw", x, weight) + bias[:, None, None]
    torch.testing.assert_close(block(x), expected.clamp(min=0))
    assert count(block) == 5 * 3 + 3


def test_global_average_pooling_is_the_mean() -> None:
    x = torch.randn(2, 5, 4, 6)
    torch.testing.assert_close(global_average_pooling()(x), x.mean((2, 3)))


def test_googlenets_modules_have_the_parameters_of_the_paper() -> None:
    """3a and 3b of table 1 of Szegedy et al. 2014, which gives 159K and 380K; by hand, with biases."""
    first = inception_module(192, 64, 96, 128, 16, 32, 32)
    second = inception_module(256, 128, 128, 192, 32, 96, 64)
    assert count(first) == 163_696
    assert count(second) == 257 * (128 + 128 + 32 + 64) + (9 * 128 + 1) * 192 + (25 * 32 + 1) * 96
    assert second(first(torch.zeros(1, 192, 28, 28))).shape == (1, 480, 28, 28)


def test_an_inception_module_concatenates_its_branches_in_order() -> None:
    module, x = inception_module(4, 1, 2, 3, 2, 5, 2), torch.randn(1, 4, 7, 7)
    five = module["five"]
    expected = functional.relu(five[2](functional.relu(five[0](x))))
    torch.testing.assert_close(module(x)[:, 4:9], expected)
    pooled = functional.max_pool2d(x, 3, 1, 1)
    torch.testing.assert_close(module(x)[:, 9:], functional.relu(module["pool"][1](pooled)))


def test_reduction_by_1x1_convolutions() -> None:
    """The table of the documentation."""
    assert count(convolution(192, 32, 5)) == 153_632
    assert count(nn.Sequential(pointwise(192, 16), convolution(16, 32, 5))) == 15_920
    naive = naive_inception_module(192, 64, 128, 32)
    assert count(naive) == 12_352 + 221_312 + 153_632
    assert naive(torch.zeros(1, 192, 28, 28)).shape == (1, 416, 28, 28)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("join", ["sum", "concatenate"])
def test_a_residual_block_adds_or_appends_to_what_came_in(stride: int, join: Join) -> None:
    block = residual_block(4, 4 if stride == 1 else 6, stride, join).eval()
    x = torch.randn(2, 4, 9, 7)
    with torch.no_grad():
        body, found = block.body(x), block(x)
        if join == "concatenate":
            old = functional.avg_pool2d(x, stride, ceil_mode=True) if stride == 2 else x
            expected = torch.cat([old, body], 1)
        else:
            expected = body + (block.shortcut(x) if stride == 2 else x)
    torch.testing.assert_close(found, expected.clamp(min=0))
    assert found.shape[2:] == ((5, 4) if stride == 2 else (9, 7))


def test_blocks_have_the_parameters_of_torchvisions_resnets() -> None:
    from torchvision.models.resnet import BasicBlock, Bottleneck

    assert count(residual_block(64, 64)) == count(BasicBlock(64, 64))
    down = nn.Sequential(nn.Conv2d(64, 128, 1, 2, bias=False), nn.BatchNorm2d(128))
    assert count(residual_block(64, 128, stride=2)) == count(BasicBlock(64, 128, 2, down))
    assert count(bottleneck_block(256, 64, 256)) == count(Bottleneck(256, 64))


def test_a_bottleneck_answers_as_torchvisions_with_the_same_weights() -> None:
    from torchvision.models.resnet import Bottleneck

    down = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
    theirs, ours = Bottleneck(8, 4, 2, down).eval(), bottleneck_block(8, 4, 16, stride=2).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))

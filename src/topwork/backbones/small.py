"""topwork's own small networks and building blocks by name; torch is imported only when one is built."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from topwork.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SmallNetwork:
    """A network or block, and the input it is made for: ``channels``, and ``size`` pixels high and wide.

    >>> net = SMALL["lenet5"]
    >>> sum(p.numel() for p in net.build(net.channels, net.size, net.classes).parameters())
    61706
    """

    name: str
    description: str
    paper: str
    channels: int
    size: int
    classes: int
    """Outputs of the classifier; 0 for a block, which has none."""
    build: "Callable[[int, int, int], nn.Module]"
    """``build(channels, size, classes)``: the module with new weights from torch's random state; UsageError where the
    size is too small for its layers."""


def _lenet5(name: str, relu: bool, channels: int, size: int, classes: int) -> "nn.Module":
    """Padding 2 takes 28 pixels for the 32 of the paper, whose digits of 28 pixels stand in an empty border."""
    from torch import nn

    from topwork.backbones.blocks import SmallNet

    padding = 2 if size < 32 else 0
    side = ((size + 2 * padding - 4) // 2 - 4) // 2
    _check_size(name, size, side, least=12)
    activation, pooling = (nn.ReLU, nn.MaxPool2d) if relu else (nn.Tanh, nn.AvgPool2d)
    features = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        activation(),
        pooling(2),
        nn.Conv2d(6, 16, 5),
        activation(),
        pooling(2),
    )
    dense = nn.Sequential(nn.Linear(16 * side * side, 120), activation(), nn.Linear(120, 84), activation())
    return SmallNet(features, dense, num_features=84, classes=classes)


def _simple_cnn(name: str, relu: bool, channels: int, size: int, classes: int) -> "nn.Module":
    from torch import nn

    from topwork.backbones.blocks import SmallNet

    side = size // 2 // 2
    _check_size(name, size, side, least=4)
    activation = nn.ReLU if relu else nn.Tanh
    features = nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1),
        activation(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        activation(),
        nn.MaxPool2d(2),
    )
    dense = nn.Sequential(nn.Linear(64 * side * side, 128), activation())
    return SmallNet(features, dense, num_features=128, classes=classes)


def _check_size(name: str, size: int, side: int, *, least: int) -> None:
    if side < 1:
        raise UsageError(
            f"{name} takes pictures of at least {least} by {least} pixels, not {size} by {size}; choose a larger size"
        )


_LENET = "LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition"

SMALL: dict[str, SmallNetwork] = {
    net.name: net
    for net in (
        SmallNetwork(
            "lenet5",
            "LeNet-5: two 5x5 convolutions, tanh, average pooling",
            _LENET,
            *(1, 28, 10),
            partial(_lenet5, "lenet5", False),
        ),
        SmallNetwork(
            "lenet5_relu",
            "LeNet-5 with ReLU and max pooling",
            _LENET,
            *(1, 28, 10),
            partial(_lenet5, "lenet5_relu", True),
        ),
        SmallNetwork(
            "simple_cnn",
            "two 3x3 convolutions, ReLU, max pooling, a dense layer",
            "",
            *(1, 28, 10),
            partial(_simple_cnn, "simple_cnn", True),
        ),
        SmallNetwork(
            "simple_cnn_tanh",
            "simple_cnn with tanh",
            "",
            *(1, 28, 10),
            partial(_simple_cnn, "simple_cnn_tanh", False),
        ),
    )
}
"""Small networks to be trained from new weights, by name."""


def _pointwise(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import pointwise

    return pointwise(channels, 64)


def _inception(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import inception_module

    return inception_module(channels, 64, 96, 128, 16, 32, 32)


def _naive_inception(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import naive_inception_module

    return naive_inception_module(channels, 64, 128, 32)


def _residual(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import residual_block

    return residual_block(channels, channels)


def _residual_concat(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import residual_block

    return residual_block(channels, 32, join="concatenate")


def _bottleneck(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import bottleneck_block

    return bottleneck_block(channels, channels // 4, channels)


def _pooling(channels: int, size: int, classes: int) -> "nn.Module":
    from topwork.backbones.blocks import global_average_pooling

    return global_average_pooling()


_SZEGEDY, _HE = "Szegedy et al. 2014, Going Deeper with Convolutions", "He et al. 2015, Deep Residual Learning"
_LIN = "Lin et al. 2014, Network in Network"

BLOCKS: dict[str, SmallNetwork] = {
    block.name: block
    for block in (
        SmallNetwork("pointwise", "1x1 convolution, 64 channels, ReLU", _LIN, 256, 56, 0, _pointwise),
        SmallNetwork("inception_module", "GoogLeNet's module 3a", _SZEGEDY, 192, 28, 0, _inception),
        SmallNetwork(
            "inception_module_naive", "module 3a without 1x1 convolutions before 3x3 and 5x5", _SZEGEDY,
            *(192, 28, 0), _naive_inception,
        ),
        SmallNetwork("residual_block", "ResNet's block of two 3x3 convolutions", _HE, 64, 56, 0, _residual),
        SmallNetwork(
            "residual_block_concat", "the same with 32 new channels beside the old ones",
            "Huang et al. 2016, Densely Connected Convolutional Networks", *(64, 56, 0), _residual_concat,
        ),
        SmallNetwork("bottleneck_block", "ResNet-50's block: 1x1, 3x3, 1x1", _HE, 256, 56, 0, _bottleneck),
        SmallNetwork("global_average_pooling", "the mean of each channel", _LIN, 512, 7, 0, _pooling),
    )
}  # fmt: skip
"""Building blocks by name, with the input of the place where their papers use them."""

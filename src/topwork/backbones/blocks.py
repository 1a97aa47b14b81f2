"""Building blocks of convolutional networks as PyTorch modules, and a small network put together from layers.

Imports torch: only what makes a network imports this module.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn


def pointwise(in_channels: int, channels: int) -> nn.Sequential:
    """A 1x1 convolution with ReLU: ``[n, in_channels, h, w]`` -> ``[n, channels, h, w]``.

    It mixes the channels of each pixel and looks at no other pixel (Lin et al., "Network in Network", 2014), with
    ``in_channels * channels + channels`` parameters.

    >>> pointwise(192, 16)(torch.zeros(2, 192, 7, 5)).shape
    torch.Size([2, 16, 7, 5])
    """
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.ReLU(inplace=True))


def global_average_pooling() -> nn.Sequential:
    """The mean of each channel: ``[n, c, h, w]`` -> ``[n, c]``, without parameters (Lin et al. 2014).

    >>> global_average_pooling()(torch.ones(2, 512, 7, 7)).shape
    torch.Size([2, 512])
    """
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def convolution(in_channels: int, channels: int, kernel: int) -> nn.Sequential:
    """A "same" convolution with ReLU: ``[n, in_channels, h, w]`` -> ``[n, channels, h, w]``; ``kernel`` is odd.

    >>> convolution(192, 32, 5)(torch.zeros(1, 192, 28, 28)).shape
    torch.Size([1, 32, 28, 28])
    """
    return nn.Sequential(nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2), nn.ReLU(inplace=True))


class Branches(nn.ModuleDict):
    """Branches by name side by side, their outputs ``[n, c_i, h, w]`` concatenated to ``[n, sum of c_i, h, w]``.

    >>> Branches({"one": pointwise(8, 4), "three": convolution(8, 6, 3)})(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 10, 5, 5])
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs of all branches, in their order."""
        return torch.cat([branch(x) for branch in self.values()], dim=1)


def inception_module(
    in_channels: int, one: int, reduce_three: int, three: int, reduce_five: int, five: int, pool: int
) -> Branches:
    """The module of GoogLeNet: ``[n, in_channels, h, w]`` -> ``[n, one + three + five + pool, h, w]``.

    Four branches: 1x1; 1x1 to ``reduce_three`` channels, then 3x3; 1x1 to ``reduce_five`` channels, then 5x5; 3x3 max
    pooling, then 1x1 (Szegedy et al., "Going Deeper with Convolutions", 2014, figure 2b and table 1).

    >>> module = inception_module(192, 64, 96, 128, 16, 32, 32)
    >>> module(torch.zeros(1, 192, 28, 28)).shape, sum(p.numel() for p in module.parameters())
    (torch.Size([1, 256, 28, 28]), 163696)
    """
    return Branches(
        {
            "one": pointwise(in_channels, one),
            "three": nn.Sequential(*pointwise(in_channels, reduce_three), *convolution(reduce_three, three, 3)),
            "five": nn.Sequential(*pointwise(in_channels, reduce_five), *convolution(reduce_five, five, 5)),
            "pool": nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *pointwise(in_channels, pool)),
        }
    )


def naive_inception_module(in_channels: int, one: int, three: int, five: int) -> Branches:
    """The module without 1x1 reductions: ``[n, in_channels, h, w]`` -> ``[n, one + three + five + in_channels, h, w]``.

    What the pooling branch gives cannot be narrower than what it takes (Szegedy et al. 2014, figure 2a).

    >>> naive_inception_module(192, 64, 128, 32)(torch.zeros(1, 192, 28, 28)).shape
    torch.Size([1, 416, 28, 28])
    """
    return Branches(
        {
            "one": pointwise(in_channels, one),
            "three": convolution(in_channels, three, 3),
            "five": convolution(in_channels, five, 5),
            "pool": nn.MaxPool2d(3, stride=1, padding=1),
        }
    )


Join = Literal["sum", "concatenate"]


class Residual(nn.Module):
    """A body beside a shortcut around it, joined by a sum or a concatenation, then ReLU.

    >>> block = Residual(nn.Conv2d(8, 4, 3, padding=1), nn.Identity(), "concatenate")
    >>> block(torch.zeros(1, 8, 5, 5)).shape
    torch.Size([1, 12, 5, 5])
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module, join: Join) -> None:
        super().__init__()
        self.body, self.shortcut, self.join = body, shortcut, join
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``relu(body(x) + shortcut(x))``, or the two one after the other along the channels."""
        new, old = self.body(x), self.shortcut(x)
        return self.activation(torch.cat([old, new], dim=1) if self.join == "concatenate" else new + old)


def residual_block(in_channels: int, channels: int, stride: int = 1, join: Join = "sum") -> Residual:
    """Two 3x3 convolutions with batch norm beside a shortcut: ``[n, in_channels, h, w]`` -> ``[n, c, h/s, w/s]``.

    ``join="sum"`` (He et al., "Deep Residual Learning", 2015, figure 5): ``c = channels``, and where the shapes differ
    the shortcut is a 1x1 convolution. ``join="concatenate"`` (in the manner of Huang et al., DenseNet, 2016):
    ``c = in_channels + channels``, and with a stride the shortcut is average pooling.

    >>> x = torch.zeros(1, 64, 56, 56)
    >>> residual_block(64, 64)(x).shape, residual_block(64, 32, stride=2, join="concatenate")(x).shape
    (torch.Size([1, 64, 56, 56]), torch.Size([1, 96, 28, 28]))
    """
    body = nn.Sequential(
        *_normalized(in_channels, channels, 3, stride), nn.ReLU(inplace=True), *_normalized(channels, channels, 3)
    )
    if join == "concatenate":
        shortcut = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        return Residual(body, shortcut, join)
    return Residual(body, _shortcut(in_channels, channels, stride), join)


def bottleneck_block(in_channels: int, inner: int, channels: int, stride: int = 1) -> Residual:
    """1x1 to ``inner`` channels, 3x3, 1x1 to ``channels``, beside a shortcut: ``[n, channels, h/s, w/s]``.

    The block of ResNet-50 (He et al. 2015, figure 5, right), the stride in the 3x3 convolution.

    >>> block = bottleneck_block(256, 64, 256)
    >>> block(torch.zeros(1, 256, 56, 56)).shape, sum(p.numel() for p in block.parameters())
    (torch.Size([1, 256, 56, 56]), 70400)
    """
    body = nn.Sequential(
        *_normalized(in_channels, inner, 1),
        nn.ReLU(inplace=True),
        *_normalized(inner, inner, 3, stride),
        nn.ReLU(inplace=True),
        *_normalized(inner, channels, 1),
    )
    return Residual(body, _shortcut(in_channels, channels, stride), "sum")


def _normalized(in_channels: int, channels: int, kernel: int, stride: int = 1) -> Sequence[nn.Module]:
    # No bias: the batch norm that follows would take it away again.
    convolved = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
    return convolved, nn.BatchNorm2d(channels)


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    if in_channels == channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(*_normalized(in_channels, channels, 1, stride))


class SmallNet(nn.Module):
    """Convolutions, dense layers and a classifier one after the other, with the interface of timm's networks.

    ``features``: ``[n, channels, h, w]`` -> the last map ``[n, c, h', w']``; ``dense``: flattened ``[n, c h' w']`` ->
    ``[n, num_features]``; ``classes`` 0 leaves the classifier out.

    >>> net = SmallNet(nn.Conv2d(1, 4, 3), nn.Linear(4 * 3 * 3, 7), num_features=7, classes=2)
    >>> net(torch.zeros(5, 1, 5, 5)).shape
    torch.Size([5, 2])
    """

    def __init__(self, features: nn.Module, dense: nn.Module, *, num_features: int, classes: int) -> None:
        super().__init__()
        self.features, self.dense = features, dense
        self.num_features, self.num_classes = num_features, classes
        self.classifier = nn.Linear(num_features, classes) if classes else nn.Identity()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last map ``[n, c, h', w']``."""
        return self.features(x)

    def forward_head(self, last_map: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Class scores ``[n, classes]`` of a last map; with ``pre_logits`` the features ``[n, num_features]``."""
        x = self.dense(last_map.flatten(1))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores ``[n, classes]`` of pictures ``[n, channels, size, size]``."""
        return self.forward_head(self.forward_features(x))

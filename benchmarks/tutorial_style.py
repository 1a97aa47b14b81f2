"""The structure of PyTorch's tutorial "Neural Transfer Using PyTorch", as a reference.

A sequential VGG whose losses are modules behind the layers they look at, and `torch.optim.LBFGS` as it comes.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

BLOCKS = (2, 2, 3, 3, 1)  # convolutions of VGG16 up to conv5_1


class Normalization(nn.Module):
    """Pixels in 0..1 as the network takes them."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``[1, 3, h, w]``."""
        return (image - self.mean) / self.std


def gram(maps: torch.Tensor) -> torch.Tensor:
    """``[c, c]``."""
    batch, channels, height, width = maps.size()
    features = maps.view(batch * channels, height * width)
    return torch.mm(features, features.t()).div(height * width)


class ContentLoss(nn.Module):
    """Lets maps through and keeps their loss."""

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self.target, self.scale = target.detach(), 1 / float(target.square().sum())
        self.loss = torch.zeros(())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps."""
        self.loss = self.scale * functional.mse_loss(maps, self.target, reduction="sum")
        return maps


class StyleLoss(nn.Module):
    """Lets maps through and keeps their loss."""

    def __init__(self, target: torch.Tensor, weight: float) -> None:
        super().__init__()
        self.target = gram(target).detach()
        self.scale = weight / float(self.target.square().sum())
        self.loss = torch.zeros(())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The maps."""
        self.loss = self.scale * functional.mse_loss(gram(maps), self.target, reduction="sum")
        return maps


def convolutions(opened: Any) -> tuple[list[nn.Conv2d], torch.Tensor, torch.Tensor]:
    """The convolutions of a VGG16 as modules, and the mean and deviation of its input."""
    from topwork.backbones.torch_graph import graph_module
    from topwork.style.network import layer_names

    weights = graph_module(opened.network.model, "x", layer_names(opened)["conv5_1"]).weights_by_name()
    values, found = [each.detach() for each in weights.values()], []
    for kernel, bias in zip(values[::2], values[1::2], strict=True):
        found.append(nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1))
        found[-1].load_state_dict({"weight": kernel, "bias": bias})
    preprocess = opened.spec.preprocess
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) / 255 for v in (preprocess.mean, preprocess.std))
    return found, mean, std


def built(
    layers: list[nn.Conv2d],
    mean: torch.Tensor,
    std: torch.Tensor,
    content: torch.Tensor,
    style: torch.Tensor,
    *,
    content_layer: str,
    style_layers: dict[str, float],
) -> nn.Sequential:
    """The network up to the last loss, with the losses of two pictures ``[1, 3, h, w]``."""
    model, rest = nn.Sequential(Normalization(mean, std)), iter(layers)
    for block, count in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            model.append(next(rest))
            model.append(nn.ReLU(inplace=False))
            name = f"conv{block}_{number}"
            if name == content_layer:
                model.append(ContentLoss(model(content).detach()))
            if name in style_layers:
                model.append(StyleLoss(model(style).detach(), style_layers[name]))
        if block < len(BLOCKS):
            model.append(nn.MaxPool2d(2))
    return model.eval().requires_grad_(False)


def total(model: nn.Sequential, image: torch.Tensor, style_weight: float) -> torch.Tensor:
    """The weighted losses of a picture."""
    model(image)
    style = sum(each.loss for each in model if isinstance(each, StyleLoss))
    content = sum(each.loss for each in model if isinstance(each, ContentLoss))
    return torch.as_tensor(style_weight * style + content)


def run(model: nn.Sequential, content: torch.Tensor, style_weight: float, steps: int) -> tuple[torch.Tensor, int]:
    """The picture after ``steps`` evaluations, up to 19 more, and how many they were."""
    image = content.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([image])
    evaluations = [0]

    def closure() -> torch.Tensor:
        with torch.no_grad():
            image.clamp_(0, 1)
        optimizer.zero_grad()
        loss = total(model, image, style_weight)
        loss.backward()
        evaluations[0] += 1
        return loss

    while evaluations[0] < steps:
        optimizer.step(closure)
    return image.detach(), evaluations[0]

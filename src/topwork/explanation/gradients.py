"""Methods that need gradients: the Grad-CAM family at any stage, and gradients at the input.

The network is the one of ``model.onnx``, made a PyTorch module by ``torch_graph`` and cut at the stage, so the stage's
feature map is an ordinary input of what follows and no hook is needed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from topwork.backbones.extra import torch_threads
from topwork.backbones.torch_graph import graph_module
from topwork.errors import UsageError
from topwork.explanation.methods import Explain
from topwork.explanation.network import ClassifierNetwork, Floats
from topwork.explanation.rectifiers import RectifierRule

_STEPS = (32, 64, 128)
"""Points of the integral in integrated gradients: more where the map does not add up yet."""
_ADDS_UP = 0.05
"""By how much, as a share, the sum of the map may miss the difference of the scores before more points are taken."""
_BATCH = 8

Weigh = Callable[[Tensor, Tensor], Tensor]


class _UnitLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Rows of length 1."""
        return functional.normalize(x, eps=1e-12)


def scores_from(network: ClassifierNetwork, layer: str) -> Any:
    """The part of the classifier from a layer (``input`` or a stage) to the class scores ``[n, c]``, as a module.

    Its weights want no gradients; the module belongs to the caller alone.

    >>> from topwork.explanation.network import network_of
    >>> from topwork.model import load
    >>> network = network_of(load("imagenet:tf_efficientnet_lite0"))
    >>> scores_from(network, "last_map")(torch.zeros(2, 1280, 7, 7)).shape
    torch.Size([2, 1000])
    >>> from topwork.explanation.methods import aim_at
    >>> grad_cam(network, "blocks.4")(network.square(np.zeros((90, 90, 3), np.uint8)), aim_at(1000, 5)).shape
    (14, 14)
    """
    source = network.source if layer == "input" else layer
    features, unit = network.head_input
    if unit is None:
        parts = [graph_module(network.model, source, network.scores_name)]
    else:
        head = graph_module(network.model, unit, network.scores_name)
        parts = [graph_module(network.model, source, features), _UnitLength(), head]
    return nn.Sequential(*parts).eval().requires_grad_(False)


def grad_cam(network: ClassifierNetwork, layer: str) -> Explain:
    """Grad-CAM (Selvaraju et al. 2017) without its last ReLU: channels weighted by their mean gradient, summed.

    At the last map of a head that is linear in the pooled features it is ``cam`` divided by the number of cells.
    """
    return _layer_method(network, layer, lambda a, g: (g.mean((2, 3), keepdim=True) * a).sum(1))


def grad_cam_plus_plus(network: ClassifierNetwork, layer: str) -> Explain:
    """Grad-CAM++ (Chattopadhay et al. 2018): a channel's weight is a weighted sum of its positive gradients.

    With activations ``A`` and gradients ``G``: ``alpha = G^2 / (2 G^2 + sum(A) G^3)``, weight ``sum(alpha relu(G))``.
    """

    def weigh(a: Tensor, g: Tensor) -> Tensor:
        below = 2 * g.square() + a.sum((2, 3), keepdim=True) * g.pow(3)
        alpha = torch.where(below == 0, 0.0, g.square() / torch.where(below == 0, 1.0, below))
        return ((alpha * g.clamp(min=0)).sum((2, 3), keepdim=True) * a).sum(1)

    return _layer_method(network, layer, weigh)


def hirescam(network: ClassifierNetwork, layer: str) -> Explain:
    """HiResCAM (Draelos and Carin 2020): activations times gradients, cell by cell, summed over channels."""
    return _layer_method(network, layer, lambda a, g: (g * a).sum(1))


def layercam(network: ClassifierNetwork, layer: str) -> Explain:
    """LayerCAM (Jiang et al. 2021): as HiResCAM, with positive gradients only."""
    return _layer_method(network, layer, lambda a, g: (g.clamp(min=0) * a).sum(1))


def gradient(network: ClassifierNetwork, layer: str) -> Explain:
    """The plain gradient of the class score (Simonyan et al. 2013), ``[size, size]``, summed over the colours.

    In units of the score a unit of the network's input.
    """
    scores = scores_from(network, layer)
    return lambda x, aim: _summed(_gradient(scores, torch.from_numpy(x)[None], aim))


def guided_backprop(network: ClassifierNetwork, layer: str) -> Explain:
    """Guided backpropagation (Springenberg et al. 2014), ``[size, size]``, summed over the colours.

    It draws edges, whatever the class: the check by shuffled weights says so. UsageError for a network without ReLU or
    ReLU6, where it would be the plain gradient.
    """
    return _by_rule(network, layer, "guided")


def deconvnet(network: ClassifierNetwork, layer: str) -> Explain:
    """What in the picture caused the class score, by a deconvnet (Zeiler and Fergus 2013), ``[size, size]``.

    As guided backpropagation, but positive signals pass every rectifier.
    """
    return _by_rule(network, layer, "deconvnet")


def integrated_gradients(network: ClassifierNetwork, layer: str) -> Explain:
    """Integrated gradients (Sundararajan et al. 2017) by Captum, ``[size, size]``, summed over the colours.

    From the mean colour of the preprocessing to the picture. The map's sum is the difference of the two class scores,
    but for the error of the integral: it is taken in 32 points, and in 64 or 128 where it misses by more than 5 %.
    """
    from captum.attr import IntegratedGradients

    scores = scores_from(network, layer)

    def run(x: Floats, aim: Floats) -> Floats:
        weights, square = torch.from_numpy(aim), torch.from_numpy(x)[None]
        method = IntegratedGradients(lambda squares: scores(squares) @ weights)
        with torch.enable_grad(), torch_threads(1):
            for steps in _STEPS:
                found, missed = method.attribute(
                    square, n_steps=steps, internal_batch_size=_BATCH, return_convergence_delta=True
                )
                if abs(missed) <= _ADDS_UP * abs(found.sum() - missed):
                    break
        return _summed(found)

    return run


def _layer_method(network: ClassifierNetwork, layer: str, weigh: Weigh) -> Explain:
    above = scores_from(network, layer)

    def run(x: Floats, aim: Floats) -> Floats:
        activations = torch.from_numpy(network.stage_map(layer, x[None]))  # no gradient is needed that far
        if activations.ndim != 4:
            raise UsageError(
                f"expected the feature map of {layer} to be [n, c, h, w], got {list(activations.shape)}; "
                "use --method integrated-gradients or occlusion"
            )
        found = weigh(activations, _gradient(above, activations, aim))
        return np.asarray(found[0].detach().numpy(), np.float32)

    return run


def _by_rule(network: ClassifierNetwork, layer: str, name: str) -> Explain:
    scores = scores_from(network, layer)

    def run(x: Floats, aim: Floats) -> Floats:
        with RectifierRule(name) as rule:
            found = _gradient(scores, torch.from_numpy(x)[None], aim)
        if not rule.met:
            raise UsageError(
                "expected a network with ReLU or ReLU6, whose gradients this method changes, but it has none; "
                "use --method integrated-gradients"
            )
        return _summed(found)

    return run


def _gradient(scores: Any, x: Tensor, aim: Floats) -> Tensor:
    """The gradient of the aim's sum of scores for an input of one."""
    with torch.enable_grad(), torch_threads(1):  # a second one makes it ten times slower when a core is busy
        x = x.clone().requires_grad_(True)
        found: Tensor
        [found] = torch.autograd.grad(scores(x)[0] @ torch.from_numpy(aim), x)
    return found


def _summed(gradients: Tensor) -> Floats:
    return np.asarray(gradients[0].sum(0).detach().numpy(), np.float32)

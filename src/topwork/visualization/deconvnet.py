"""What in a picture made one value of a layer large: the value carried back to the pixels. Imports torch.

Zeiler & Fergus 2013, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901: all other values of the
layer count as 0; going back, convolutions are transposed, pooling puts a value where its largest was, and a rectifier
lets positive signals through, wherever they come.

Only pooling remembers the picture then: without max pooling the signal is the same for every picture but for its size.
Guided backpropagation (Springenberg et al. 2014, arXiv:1412.6806) lets a signal through only where the
rectifier let its input through as well, and so depends on the picture in every network.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from topwork.backbones.extra import torch_threads
from topwork.errors import UsageError
from topwork.explanation.rectifiers import RectifierRule
from topwork.registry import closest
from topwork.visualization.gradients import layer_function
from topwork.visualization.opened import Opened

Signal = NDArray[np.float32]
RULES = ("deconvnet", "guided")


def reconstruction(
    opened: Opened,
    square: NDArray[np.uint8],
    layer: str,
    channel: int,
    at: tuple[int, int],
    *,
    rule: str = "deconvnet",
) -> Signal | None:
    """The signal ``[size, size, 3]`` that the value of a channel at ``at`` (row, column) sends back to the pixels.

    ``square``: ``[size, size, 3]`` uint8, the network's square input. Above 0 where a colour of a pixel made the value
    larger. ``rule``: at the rectifiers, deconvnet or guided. None for a network without ReLU and ReLU6, where the rule
    would change nothing.

    >>> from topwork.visualization.opened import open_network
    >>> square = np.full((64, 64, 3), 99, np.uint8)
    >>> found = reconstruction(open_network("tf_efficientnet_lite0"), square, "blocks.0", 3, (16, 16))
    >>> found.shape, np.abs(found).sum(axis=2).nonzero()[0].tolist()[:1]
    ((64, 64, 3), [30])
    """
    check_rule(rule)
    function = layer_function(opened, layer)
    pixels = (torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255).requires_grad_()
    with torch_threads(1):
        with RectifierRule(rule) as rectifiers:
            value = function(pixels)[0, channel, at[0], at[1]]
        if not rectifiers.met:
            return None
        (signal,) = torch.autograd.grad(value, pixels, value.detach())
    found: Signal = signal[0].permute(1, 2, 0).numpy()
    return found


def check_rule(rule: str) -> None:
    """UsageError for what is not one of ``RULES``.

    >>> check_rule("guide")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected the rule to be deconvnet or guided, not 'guide': did you mean guided?
    """
    if rule not in RULES:
        raise UsageError(f"expected the rule to be {' or '.join(RULES)}, not {rule!r}: {closest(rule, RULES)}")


def depends_on_picture(opened: Opened, rule: str) -> bool:
    """Whether the signal tells more of a picture than the value's place: a deconvnet's only through max pooling.

    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> depends_on_picture(opened, "deconvnet"), depends_on_picture(opened, "guided")
    (False, True)
    """
    return rule != "deconvnet" or any(node.op_type == "MaxPool" for node in opened.network.model.graph.node)


def rule_for(opened: Opened, rule: str) -> str:
    """The rule that is asked for; for ``auto`` deconvnet where it tells pictures apart, else guided.

    >>> from topwork.visualization.opened import open_network
    >>> rule_for(open_network("tf_efficientnet_lite0"), "auto")
    'guided'
    """
    if rule != "auto":
        return rule
    return "deconvnet" if depends_on_picture(opened, "deconvnet") else "guided"

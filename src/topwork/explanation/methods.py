"""The table of methods, and those that need no gradient and so no PyTorch: class activation map and occlusion.

A method is prepared once for a network and a layer; what comes out maps a square input ``[3, size, size]`` and an
``aim`` ``[c]`` to a signed map ``[h, w]``. The aim weighs the class scores whose sum is explained: 1 for a class alone,
1 and -1 for one class rather than another (see ``aim_at``). The map is in units of that sum unless its docstring says
otherwise; positive values speak for it, negative ones against it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork.errors import UsageError
from topwork.explanation.network import ClassifierNetwork, Floats, check_stage
from topwork.registry import Registry

Explain = Callable[[Floats, Floats], Floats]
INPUT = "input"
"""The ``layer`` of methods whose map is of the input itself, not of a feature map."""
WINDOW = 7
"""An occluding window's side is this part of the input's, and it moves by half its side."""


@dataclass(frozen=True)
class Method:
    """How to make maps of one kind.

    >>> METHODS.get("cam").layers, METHODS.get("occlusion").layers
    ('last', 'input')
    """

    prepare: Callable[[ClassifierNetwork, str], Explain]
    """Gives what explains, for a network and a layer."""
    layers: str
    """``last``: the last feature map only; ``any``: that of any stage; ``input``: the input only."""


METHODS: Registry[Method] = Registry("explanation method")


def layer_of(name: str, method: Method, network: ClassifierNetwork, asked: str | None) -> str:
    """The layer that a method's map is of; UsageError where it cannot be the one that was asked for."""
    if method.layers == "input":
        if asked not in (None, INPUT):
            raise UsageError(
                f"{name} explains the input, not the stage {asked!r}; leave the layer out, or use grad-cam"
            )
        return INPUT
    last = network.stages[-1]
    if asked is None:
        return last
    if check_stage(network, asked) != last and method.layers == "last":
        raise UsageError(f"{name} exists for the last stage, {last}, only, not for {asked!r}; use hirescam there")
    return asked


def check_channel(
    name: str,
    method: Method,
    network: ClassifierNetwork,
    stage: str | None,
    channel: int,
    place: tuple[int, int] | None,
) -> str:
    """The stage whose channel is asked about; UsageError where there is none such, or the method cannot explain it."""
    if method.layers != "input":
        raise UsageError(
            f"{name} explains classes, not channels; use deconvnet, guided-backprop, integrated-gradients or occlusion"
        )
    if stage is None:
        raise UsageError(
            f"expected the stage of channel {channel}; name one of {', '.join(network.stages)} as the layer"
        )
    square, long = (network.square(np.zeros((8, width, 3), np.uint8)) for width in (8, 24))
    channels, *cells = network.stage_map(check_stage(network, stage), square[None]).shape[1:]
    if not 0 <= channel < channels:
        raise UsageError(f"expected a channel of {stage} from 0 to {channels - 1}, not {channel}; choose one of these")
    alike = square.shape == long.shape  # else every picture has a map of its own shape
    if alike and place is not None and any(not 0 <= at < n for at, n in zip(place, cells, strict=True)):
        raise UsageError(
            f"expected a row and a column in the {cells[0]} x {cells[1]} map of {stage}, not {place[0]},{place[1]}; "
            "count both from 0"
        )
    return stage


def aim_at(classes: int, target: int, against: int | None = None) -> Floats:
    """The weights ``[c]`` of the class scores that ask for one class, or for one rather than another.

    >>> aim_at(3, 0).tolist(), aim_at(3, 0, against=2).tolist()
    ([1.0, 0.0, 0.0], [1.0, 0.0, -1.0])
    """
    aim = np.zeros(classes, np.float32)
    aim[target] = 1
    if against is not None:
        aim[against] -= 1
    return aim


def cam(network: ClassifierNetwork, layer: str) -> Explain:
    """Class activation map in closed form (Zhou et al. 2016): the class's weights times each cell of the last map.

    Its mean over the cells plus the head's bias is the class score. UsageError for a network whose features are not the
    mean of its last map.
    """
    if not network.has_heatmap:
        raise UsageError(
            "expected a model with a class activation map in closed form, but the features of this one are not the "
            "mean of its last feature map; use --method grad-cam"
        )
    return lambda x, aim: np.tensordot(aim, network.heatmap(x[None])[0], 1)


def occlusion(network: ClassifierNetwork, layer: str) -> Explain:
    """How much of the score a grey window takes away (Zeiler and Fergus 2013), ``[size, size]``.

    A pixel's value is the mean over the windows that cover it, as in Captum. Grey is the mean colour of the
    preprocessing; the side of a window is a seventh of the input's.
    """
    return lambda x, aim: occluded(lambda squares: network.scores(squares) @ aim, x)


def occluded(
    score: Callable[[Floats], Floats], x: Floats, *, side: int | None = None, step: int | None = None
) -> Floats:
    """The map ``[h, w]`` of occlusion for an input ``[3, h, w]`` and any ``score``, ``[n, 3, h, w]`` -> ``[n]``.

    >>> x = np.zeros((3, 4, 4), np.float32)
    >>> x[:, 0, 0] = 1
    >>> occluded(lambda squares: squares.sum((1, 2, 3)), x, side=2, step=2)[0].tolist()
    [3.0, 3.0, 0.0, 0.0]
    """
    height, width = x.shape[1:]
    side = side or max(1, round((height * width) ** 0.5 / WINDOW))
    step = step or max(1, side // 2)
    corners = [(top, left) for top in _starts(height, side, step) for left in _starts(width, side, step)]
    total, times = np.zeros((height, width)), np.zeros((height, width))
    whole = float(score(x[None])[0])
    for first in range(0, len(corners), 64):  # so many pictures at a time are in memory
        chosen = corners[first : first + 64]
        squares = np.repeat(x[None], len(chosen), axis=0)
        for square, (top, left) in zip(squares, chosen, strict=True):
            square[:, top : top + side, left : left + side] = 0
        for (top, left), rest in zip(chosen, score(squares), strict=True):
            total[top : top + side, left : left + side] += whole - float(rest)
            times[top : top + side, left : left + side] += 1
    return (total / times).astype(np.float32)


def _starts(length: int, side: int, step: int) -> range:
    """First pixels of windows that together cover everything; the last may reach beyond the border."""
    return range(0, max(length - side, 0) + step, step)


def _by_gradient(name: str, layers: str, *packages: str) -> Callable[[], Method]:
    def make() -> Method:
        from topwork.backbones.extra import require

        require(f"the explanation method {name}", *packages)
        from topwork.explanation import gradients

        function: Any = getattr(gradients, name.replace("-", "_").replace("++", "_plus_plus"))
        return Method(function, layers)

    return make


METHODS.add("cam", lambda: Method(cam, "last"))
for _name in ("grad-cam", "grad-cam++", "hirescam", "layercam"):
    METHODS.add(_name, _by_gradient(_name, "any"))
for _name in ("gradient", "guided-backprop", "deconvnet"):
    METHODS.add(_name, _by_gradient(_name, "input"))
METHODS.add("integrated-gradients", _by_gradient("integrated-gradients", "input", "captum"))
METHODS.add("occlusion", lambda: Method(occlusion, "input"))

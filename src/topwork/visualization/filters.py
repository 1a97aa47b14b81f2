"""The kernels of a convolution as pictures (Krizhevsky, Sutskever & Hinton 2012, figure 3)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.network import Network
from topwork.errors import UsageError
from topwork.registry import closest
from topwork.visualization.sheet import Section, Tile, scaled

Kernels = NDArray[np.float32]
_SHOWN = 12  # names in a message


def visible_layers(network: Network) -> dict[str, Kernels]:
    """The convolutions whose kernels can be looked at, by the names of their weights, in the order they run.

    ``[kernels, 1 or 3, h, w]``, wider than one pixel: those that look at colours, and depthwise ones.

    >>> from topwork.visualization.opened import open_network
    >>> layers = visible_layers(open_network("tf_efficientnet_lite0").network)
    >>> [(name, kernels.shape) for name, kernels in layers.items()][:2]
    [('w_0', (32, 3, 3, 3)), ('w_4', (32, 1, 3, 3))]
    """
    weights = network.weights()
    used = [node.input[1] for node in network.model.graph.node if node.op_type == "Conv"]
    return {name: weights[name] for name in used if name in weights and _is_visible(weights[name])}


def filters(network: Network, layer: str | None = None) -> tuple[str, Kernels]:
    """The name of a convolution and its kernels ``[kernels, 1 or 3, h, w]``; None takes the first.

    Where a batch norm follows, it is part of the kernels: each one is multiplied by a number. UsageError for a layer
    that has no kernels that can be looked at.

    >>> from topwork.visualization.opened import open_network
    >>> filters(open_network("tf_efficientnet_lite0").network)[1].shape
    (32, 3, 3, 3)
    """
    layers = visible_layers(network)
    if layer is None and layers:
        return next(iter(layers.items()))
    if layer is None or layer not in layers:
        names = list(layers)
        more = f" … ({len(names)} in all)" if len(names) > _SHOWN else ""
        raise UsageError(
            f"expected a convolution whose kernels see 1 or 3 channels and more than 1 pixel, not {layer!r}: "
            f"{closest(layer or '', names[:_SHOWN])}{more}"
        )
    return layer, layers[layer]


def filter_sheet(name: str, layer: str, kernels: Kernels) -> Section:
    """The kernels as tiles, each stretched to black and white by itself, in the network's own colours.

    >>> filter_sheet("toy", "conv", np.zeros((5, 3, 2, 2), np.float32)).columns
    8
    """
    count, channels, height, width = kernels.shape
    title = f"{name}, {layer}: {count} kernels of {height} x {width} pixels, {'RGB' if channels == 3 else 'grey'}"
    tiles = [Tile(scaled(_picture(kernel)), str(number)) for number, kernel in enumerate(kernels)]
    return Section(title, tiles, 8 if count <= 64 else 16)


def _picture(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[h, w]`` or ``[h, w, 3]`` of ``[1 or 3, h, w]``."""
    return kernel.transpose(1, 2, 0) if len(kernel) == 3 else kernel[0]


def _is_visible(weights: NDArray[Any]) -> bool:
    return weights.ndim == 4 and weights.shape[1] in (1, 3) and max(weights.shape[2:]) > 1

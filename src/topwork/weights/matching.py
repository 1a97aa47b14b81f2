"""Whether tensors are the weights of a network: names and shapes must agree."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import BackboneError

Tensors = dict[str, NDArray[Any]]
Shape = tuple[int, ...]

COUNTER = "num_batches_tracked"
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception v3
"""The end of the name of a batch norm's counter, which older files lack; nothing is computed from it."""


def fit(tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, Shape]) -> Tensors:
    """The tensors of a network in its own order.

    ``shapes``: name -> shape of every tensor that the network has. Counters of batch norms may be missing (they become
    0) or be too many (they are left out, as are the classifiers on the way, which only training needs). BackboneError
    names the first tensor that is wrong, what was expected there and what came, and how many are.

    >>> weight = np.ones((2, 3), np.float32)
    >>> list(fit({"weight": weight}, {"weight": (2, 3), "norm.num_batches_tracked": ()}))
    ['weight', 'norm.num_batches_tracked']
    >>> fit({"weight": weight}, {"weight": (2, 4), "bias": (2,)})
    Traceback (most recent call last):
    ...
    topwork.errors.BackboneError: the weights are not this network's: expected weight [2, 4], got [2, 3]; 2 tensors \
are wrong in all; give the file of this very network
    """
    given = {name: array for name, array in tensors.items() if name in shapes or not _is_spare(name)}
    given.update({name: np.zeros((), np.int64) for name in shapes if name.endswith(COUNTER) and name not in given})
    wrong = [_difference(name, shape, given.get(name)) for name, shape in shapes.items() if not _is(given, name, shape)]
    wrong += [f"expected no tensor {name}, got {list(given[name].shape)}" for name in given if name not in shapes]
    if wrong:
        count = "1 tensor is wrong" if len(wrong) == 1 else f"{len(wrong):,} tensors are wrong"
        raise BackboneError(
            f"the weights are not this network's: {wrong[0]}; {count} in all; give the file of this very network"
        )
    return {name: given[name] for name in shapes}


def _is_spare(name: str) -> bool:
    return name.endswith(COUNTER) or name.startswith(_AUXILIARY)


def _is(tensors: Mapping[str, NDArray[Any]], name: str, shape: Shape) -> bool:
    return name in tensors and tensors[name].shape == tuple(shape)


def _difference(name: str, shape: Shape, array: NDArray[Any] | None) -> str:
    got = "none of that name" if array is None else str(list(array.shape))
    return f"expected {name} {list(shape)}, got {got}"

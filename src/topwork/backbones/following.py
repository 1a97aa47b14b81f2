"""Follows a network while it runs: where its values come from, and its state left as it was found. Imports torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from topwork.backbones.receptive import INDEPENDENT, Call, ReceptiveField, Windows, field_of, follow, of_image, unknown


class ReceptiveFields(TorchDispatchMode):
    """Follows the receptive fields of everything that is computed from ``image`` while it is entered.

    ``image``: ``[1, channels, height, width]``, on the meta device. Nothing is computed but shapes: tensors with values
    are replaced by ones without.

    >>> image = torch.empty(1, 3, 224, 224, device="meta")
    >>> with torch.no_grad(), ReceptiveFields(image) as fields:
    ...     x = nn.functional.conv2d(image, torch.ones(8, 3, 7, 7), stride=2, padding=3)
    ...     y = nn.functional.max_pool2d(x, 3, 2, 1)
    >>> fields.of(y)
    ReceptiveField(size=(11, 11), stride=(4.0, 4.0), whole_image=False)
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self._extent = (image.shape[2], image.shape[3])
        self._known = WeakTensorKeyDictionary()
        self._known[image] = of_image(*self._extent)

    def of(self, tensor: torch.Tensor) -> ReceptiveField | None:
        """The receptive field of a tensor that was computed; None where it is unknown or nothing of the picture."""
        windows = self.windows(tensor)
        if windows is None:
            return None
        with _disable_current_modes():  # to compute with windows, not to follow what is computed
            return field_of(windows, self._extent, is_map=tensor.ndim == 4)

    def windows(self, value: Any) -> Windows | None:
        """The windows of all values of a tensor; None where it is none, or does not depend on the picture."""
        return cast(Windows | None, self._known.get(value)) if isinstance(value, torch.Tensor) else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        without_values, options = tree_map(_without_values, (args, given))
        out = func(*without_values, **options)
        results = [result for result in tree_leaves(out) if isinstance(result, torch.Tensor)]
        if results and func._overloadpacket.__name__ not in INDEPENDENT:
            rest = func._schema.arguments[len(args) :]
            every = [*args, *(given.get(each.name, each.default_value) for each in rest)]
            self._note(Call(func, every, results, self.windows, self._extent))
        return out

    def _note(self, call: Call) -> None:
        if not call.seen():
            return
        for result, windows in zip(call.results, follow(call), strict=True):
            before = self.windows(result)
            unchanged = before is not None and all(map(torch.equal, before.bounds, windows.bounds))
            self._known[result] = windows
            # Written into a part of another tensor, of which nothing is known any more.
            if call.func._schema.is_mutable and result._base is not None and not unchanged:
                self._known[result._base] = unknown(result._base)


def _without_values(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """In evaluation mode and without gradients; each part is in its own mode again afterwards.

    >>> layer = nn.Dropout()
    >>> with evaluated(layer):
    ...     layer.training
    False
    >>> layer.training
    True
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode

"""What in a network is to be excited: a channel of a stage, one neuron of it, or a class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topwork.backbones.spec import LOGITS
from topwork.errors import UsageError
from topwork.registry import closest
from topwork.visualization.opened import Opened

if TYPE_CHECKING:
    import torch

_LONG = 200  # characters of a list of names that is too long for a message


@dataclass(frozen=True)
class Target:
    """A channel, a neuron or a class.

    ``layer``: a stage's name, or ``logits``; ``channel``: of the layer, from 0; ``place``: row and column of a neuron
    in the channel's map; None is the mean of the whole map.
    """

    layer: str
    channel: int
    place: tuple[int, int] | None = None

    def of(self, values: "torch.Tensor") -> "torch.Tensor":
        """The activation in one row of what the layer gives, ``[c, h, w]`` or ``[k]``.

        >>> import torch
        >>> maps = torch.arange(8.0).reshape(2, 2, 2)
        >>> Target("toy", 1).of(maps).item(), Target("toy", 1, (0, 1)).of(maps).item()
        (5.5, 5.0)
        """
        found = values[self.channel]
        if found.ndim == 0:
            return found
        return found.mean() if self.place is None else found[self.place]

    def caption(self, opened: Opened) -> str:
        """A few words.

        >>> from topwork.visualization.opened import open_network
        >>> opened = open_network("tf_efficientnet_lite0")
        >>> Target("logits", 1).caption(opened), Target("blocks.2", 7, (3, 4)).caption(opened)
        ('goldfish', 'blocks.2 channel 7 at 3,4')
        """
        if self.layer == LOGITS:
            return opened.classes[self.channel] if opened.classes else f"class {self.channel}"
        at = "" if self.place is None else f" at {self.place[0]},{self.place[1]}"
        return f"{self.layer} channel {self.channel}{at}"

    def to_dict(self, opened: Opened) -> dict[str, Any]:
        """For JSON: ``class`` and its ``name``, or ``layer``, ``channel`` and, of a neuron, ``place``.

        >>> from topwork.visualization.opened import open_network
        >>> Target("logits", 1).to_dict(open_network("tf_efficientnet_lite0"))
        {'class': 1, 'name': 'goldfish'}
        """
        if self.layer == LOGITS:
            return {"class": self.channel, "name": self.caption(opened)}
        place = {} if self.place is None else {"place": list(self.place)}
        return {"layer": self.layer, "channel": self.channel, **place}


def channel_target(opened: Opened, layer: str, channel: int, place: tuple[int, int] | None = None) -> Target:
    """A channel of a stage, or a neuron of it; UsageError where the network has none such.

    >>> from topwork.visualization.opened import open_network
    >>> channel_target(open_network("tf_efficientnet_lite0"), "blocks.2", 40)
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a channel of blocks.2 from 0 to 39, not 40; choose one of these
    """
    stage = opened.layer(layer)
    channels = stage.channels
    if not 0 <= channel < channels:
        raise UsageError(f"expected a channel of {layer} from 0 to {channels - 1}, not {channel}; choose one of these")
    return Target(stage.name, channel, place)


def class_target(opened: Opened, name: str) -> Target:
    """A class by its name, where the names are known, or else its number; UsageError for none.

    >>> from topwork.visualization.opened import open_network
    >>> class_target(open_network("tf_efficientnet_lite0"), "goldfish")
    Target(layer='logits', channel=1, place=None)
    """
    spec = opened.spec
    if not spec.logits_dim:
        raise UsageError(f"{spec.name} has no classifier; choose a channel with --layer and --channel")
    if name in opened.classes:  # before numbers: a model of digits has a class called 7
        return Target(LOGITS, opened.classes.index(name))
    if name.isascii() and name.isdigit() and int(name) < spec.logits_dim:
        return Target(LOGITS, int(name))
    hint = closest(name, opened.classes)
    if len(hint) > _LONG or not opened.classes:
        hint = "see the names of ImageNet's classes" if opened.classes else "give its number"
    raise UsageError(f"expected a class from 0 to {spec.logits_dim - 1} or its name, not {name!r}: {hint}")

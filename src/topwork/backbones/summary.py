"""What a network consists of, layer by layer: shapes, parameters, receptive fields, multiply-adds.

Imports torch: only what looks into a network imports this module. The network runs once on shapes alone, so that a
large one costs neither memory nor time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from topwork.backbones.architectures import architecture, default_input
from topwork.backbones.extra import torch_threads
from topwork.backbones.following import ReceptiveFields, evaluated
from topwork.backbones.receptive import ReceptiveField
from topwork.errors import UsageError

_THREADS = 1  # the windows are small: threads that wait for each other took twice as long

Shape = tuple[int, int, int]
"""Channels, height and width of a picture."""


@dataclass(frozen=True)
class Layer:
    """A row: a layer, or the parameters and products that a block has beside those of its layers."""

    name: str
    type: str
    output: tuple[int, ...] | None
    """Shape of what it gives for one picture; of the first time where it runs more than once; None if it never runs."""
    parameters: int
    """Parameters that no row before has counted."""
    trainable: int
    receptive_field: ReceptiveField | None
    """Of the values it gives; None where it is unknown."""
    multiply_adds: int
    """Multiplications with a weight or in a product of matrices, each with its addition; of all times it runs."""

    def to_dict(self) -> dict[str, Any]:
        """The row for JSON; ``receptive_field`` and ``stride`` in pixels, as ``[height, width]``."""
        seen = self.receptive_field
        return {
            "name": self.name,
            "type": self.type,
            "output": self.output and list(self.output),
            "parameters": self.parameters,
            "trainable": self.trainable,
            "receptive_field": seen and list(seen.size),
            "whole_image": seen and seen.whole_image,
            "stride": list(seen.stride) if seen and seen.stride else None,
            "multiply_adds": self.multiply_adds,
        }


@dataclass(frozen=True)
class Summary:
    """A network for pictures of ``input``; the rows add up to the totals."""

    name: str
    input: Shape
    layers: tuple[Layer, ...]
    """In the order they run; then those that never run, such as classifiers that only help in training."""
    blocks: tuple[Layer, ...]
    """What is made of layers, with the sums over these, by the order they end; the whole network last."""
    megabytes: float
    """Of all parameters and buffers in their number format, in 1,000,000 bytes."""

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable(self) -> int:
        """The parameters that training would change."""
        return sum(layer.trainable for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of one picture; see ``Layer``."""
        return sum(layer.multiply_adds for layer in self.layers)

    def at_depth(self, depth: int) -> tuple[Layer, ...]:
        """The rows with those of one block in one: blocks whose name has ``depth`` parts, and layers above them.

        >>> [row.name for row in summary("resnet18").at_depth(1)]
        ['conv1', 'bn1', 'act1', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4', 'global_pool', 'fc']
        """
        blocks = {block.name: block for block in self.blocks}
        rows: dict[str, Layer] = {}
        for layer in self.layers:
            name = ".".join(layer.name.split(".")[:depth])
            rows.setdefault(name, blocks[name] if name in blocks and name != layer.name else layer)
        return tuple(rows.values())

    def to_dict(self) -> dict[str, Any]:
        """The summary for JSON."""
        return {
            "name": self.name,
            "input": list(self.input),
            "parameters": self.parameters,
            "trainable": self.trainable,
            "multiply_adds": self.multiply_adds,
            "megabytes": self.megabytes,
            "layers": [layer.to_dict() for layer in self.layers],
        }


def summary(name: str, input: Shape | None = None) -> Summary:
    """The network called ``name``; ``input`` as it was made for where none is given.

    UsageError for an unknown name (with the closest ones) and for an input that the network cannot take.

    >>> found = summary("vgg19")
    >>> found.parameters, max(layer.parameters for layer in found.layers)
    (143667240, 102764544)
    >>> blocks = {block.name: block for block in summary("resnet50").blocks}
    >>> blocks["layer4"].receptive_field
    ReceptiveField(size=(427, 427), stride=(32.0, 32.0), whole_image=False)
    """
    shape = input or default_input(name)
    make = partial(architecture, name, channels=shape[0], size=shape[1] if input else 0)
    try:
        with torch.device("meta"):
            module = make()
    except (NotImplementedError, RuntimeError):  # some compute with tensors while they are made
        module = make()
    return summarize(module, shape, name=name)


def summarize(module: nn.Module, shape: Shape, *, name: str = "") -> Summary:
    """A module that takes pictures ``[n, channels, height, width]`` of ``shape``, in evaluation mode.

    Nothing is computed, and the module is left as it was. UsageError where it cannot take such pictures.

    >>> found = summarize(nn.Sequential(nn.Flatten(), nn.Linear(3136, 128)), (1, 56, 56))
    >>> found.parameters, found.multiply_adds, found.layers[1].output
    (401536, 401408, (128,))
    """
    image = _image(module, shape)
    fields, counter = ReceptiveFields(image), MultiplyAdds()
    with evaluated(module), torch_threads(_THREADS), _recorded(module, fields, counter) as records, fields, counter:
        _run(module, image, name or type(module).__name__)
    layers = tuple(_layers(module, records))
    tensors = [*module.parameters(), *module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return Summary(name or type(module).__name__, shape, layers, tuple(_blocks(module, records, layers)), size / 1e6)


def receptive_field(module: nn.Module, shape: Shape) -> ReceptiveField | None:
    """The receptive field of what a module returns for pictures of ``shape``; None where it is unknown.

    >>> receptive_field(nn.Sequential(nn.Conv2d(3, 8, 5), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)), (3, 64, 64))
    ReceptiveField(size=(10, 10), stride=(2.0, 2.0), whole_image=False)
    """
    image = _image(module, shape)
    fields = ReceptiveFields(image)
    with evaluated(module), torch_threads(_THREADS), fields:
        out = module(image)
    return fields.of(out)


class MultiplyAdds(TorchDispatchMode):
    """Counts the multiply-adds of convolutions and products of matrices while it is entered, by torch's formulas.

    >>> with MultiplyAdds() as counter:
    ...     _ = torch.zeros(2, 3) @ torch.zeros(3, 5)
    >>> counter.total
    30
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operations = flop_registry.get(func._overloadpacket)
        if operations is not None:
            self.total += operations(*args, **(kwargs or {}), out_val=out) // 2  # a multiplication and an addition
        return out


def _image(module: nn.Module, shape: Shape) -> torch.Tensor:
    kinds = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
    return torch.empty(1, *shape, dtype=next(kinds, torch.float32), device="meta")


def _run(module: nn.Module, image: torch.Tensor, name: str) -> None:
    try:
        module(image)
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        shape = "x".join(map(str, image.shape[1:]))
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise UsageError(
            f"{name} cannot take pictures of {shape} (channels, height, width): {reason.rstrip('.')}; "
            "choose another input"
        ) from error


@dataclass
class _Record:
    """What was seen of a part of the network while it ran."""

    output: tuple[int, ...] | None
    receptive_field: ReceptiveField | None
    multiply_adds: int = 0
    """Of its own, without those of the parts inside."""


@dataclass
class _Running:
    """A part that has begun: the multiply-adds counted before, and those of the parts inside it."""

    before: int
    inside: int = 0


@contextmanager
def _recorded(module: nn.Module, fields: ReceptiveFields, counter: MultiplyAdds) -> Iterator[dict[str, _Record]]:
    """Records by name, filled while the module runs, in the order in which the parts first end."""
    records: dict[str, _Record] = {}
    running: list[_Running] = []

    def begin(part: nn.Module, given: Any) -> None:
        running.append(_Running(counter.total))

    def end(name: str, out: Any) -> None:
        part = running.pop()
        within = counter.total - part.before
        if running:
            running[-1].inside += within
        if name not in records:
            tensor = next((value for value in tree_leaves(out) if isinstance(value, torch.Tensor)), None)
            records[name] = _Record(*(None, None) if tensor is None else (tuple(tensor.shape[1:]), fields.of(tensor)))
        records[name].multiply_adds += within - part.inside

    with ExitStack() as hooks:
        for name, part in module.named_modules():
            hooks.callback(part.register_forward_pre_hook(begin).remove)
            hooks.callback(part.register_forward_hook(lambda part, given, out, name=name: end(name, out)).remove)
        yield records


def _layers(module: nn.Module, records: Mapping[str, _Record]) -> Iterator[Layer]:
    parts = dict(module.named_modules())
    counted: set[int] = set()
    for name in [*records, *(name for name in parts if name not in records)]:
        part, record = parts[name], records.get(name, _Record(None, None))
        fresh = {id(p): p for p in part.parameters(recurse=False) if id(p) not in counted}
        counted.update(fresh)
        parameters = sum(p.numel() for p in fresh.values())
        trainable = sum(p.numel() for p in fresh.values() if p.requires_grad)
        is_layer = name in records and not any(part.children()) and not isinstance(part, nn.Identity)
        if is_layer or parameters or record.multiply_adds:
            kind, seen = type(part).__name__, record.receptive_field
            yield Layer(name, kind, record.output, parameters, trainable, seen, record.multiply_adds)


def _blocks(module: nn.Module, records: Mapping[str, _Record], layers: Sequence[Layer]) -> list[Layer]:
    """What is made of layers, by the order in which it ends."""
    parts = dict(module.named_modules())
    order = {name: place for place, name in enumerate(records)}
    found: list[tuple[int, Layer]] = []
    for name, part in parts.items():
        inside = [layer for layer in layers if not name or layer.name == name or layer.name.startswith(f"{name}.")]
        if not inside or not any(part.children()):
            continue
        last = inside[-1]
        # What only holds layers, such as a ModuleList, does not run itself.
        record = records.get(name) or _Record(last.output, last.receptive_field)
        parameters, trainable = sum(layer.parameters for layer in inside), sum(layer.trainable for layer in inside)
        products = sum(layer.multiply_adds for layer in inside)
        row = Layer(name, type(part).__name__, record.output, parameters, trainable, record.receptive_field, products)
        found.append((order.get(name, order.get(last.name, 0)), row))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]

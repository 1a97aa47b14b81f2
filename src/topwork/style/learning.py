"""Training the network of a fast style: on any photographs, with the losses of one style picture. Imports torch.

Johnson, Alahi & Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image

from topwork.backbones.torch_graph import graph_module
from topwork.errors import ImageError, SourceError, TrainingError, UsageError
from topwork.images import DecodePolicy, Sample, decode
from topwork.style import feedforward
from topwork.style.feedforward import STRIDE
from topwork.style.losses import ContentLoss, StyleLoss, gram
from topwork.style.network import LossNetwork, chosen_layers, early_layer
from topwork.style.objective import ContentTerm, StyleTerm, Value, summed
from topwork.training.checkpoint import fits_optimizer, optimizer_tensors, restore_optimizer
from topwork.visualization.opened import Opened
from topwork.visualization.parameterization import total_variation

Floats = NDArray[np.float32]
State = dict[str, NDArray[Any]]

_ENLARGED = 1.4  # the shorter side of a photograph, at most, beside the crop
_WARMING = 20  # steps
_LEAST = 64  # pixels of a crop
_BROADEST = 128  # channels: what no graph of a style exceeds when it is opened, see allowed.STYLE


@dataclass(frozen=True)
class Training:
    """How a fast style is trained: ``steps`` with ``batch`` crops of ``size`` pixels each.

    ``width`` and ``blocks``: of the network, see `feedforward.network`. ``style_scale``: the longer side of the style
    picture beside a crop. Weights and layers as in `transfer.Settings`, but that the content is an early layer's: late
    ones, in which one step of training changes little, are learned ten times as slowly.
    """

    steps: int = 1000
    batch: int = 2
    size: int = 128
    rate: float = 1.5e-3
    width: int = 16
    blocks: int = 5
    content_weight: float = 1.0
    style_weight: float = 3.0
    smoothness: float = 10.0
    style_layers: dict[str, float] | None = None
    content_layers: tuple[str, ...] | None = None
    pooling: str = "average"
    style_scale: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.width, self.blocks)
        if self.size < _LEAST or self.size % STRIDE or min(counts) < 1 or self.width > _BROADEST:
            raise UsageError(
                f"expected a size of at least {_LEAST} pixels that {STRIDE} divides, at least 1 step, picture, channel "
                f"and block, and a width of at most {_BROADEST}, got size {self.size}, {self.steps} steps, batches of "
                f"{self.batch}, width {self.width} and {self.blocks} blocks"
            )

        weights = (self.content_weight, self.style_weight, self.smoothness, *(self.style_layers or {}).values())
        if not all(0 <= weight < math.inf for weight in weights) or not 0 < self.style_scale < math.inf:
            raise UsageError("expected weights of at least 0 and a style scale above 0; choose others")

    def layers(self, opened: Opened) -> tuple[dict[str, float], list[str]]:
        """The weights of the style layers, and the content layers."""
        content = self.content_layers or [early_layer(opened)]
        return chosen_layers(opened, self.style_layers, content)


@dataclass(frozen=True, eq=False)
class Learned:
    """The state after a step, from 1. ``value``: the means over the step's pictures, before its update."""

    number: int
    value: Value
    _model: onnx.ModelProto = field(repr=False)
    _module: torch.nn.Module = field(repr=False)
    _optimizer: torch.optim.Optimizer = field(repr=False)

    def state(self) -> State:
        """What to go on from: weights and what the optimizer remembers, by name."""
        tensors = {f"network:{name}": each for name, each in self._module.state_dict().items()}
        tensors |= {f"optimizer:{name}": each for name, each in optimizer_tensors(self._optimizer).items()}
        return {name: each.detach().cpu().contiguous().numpy().copy() for name, each in tensors.items()}

    def network(self) -> onnx.ModelProto:
        """The network as it is now, uint8 to uint8."""
        weights = {name: value.detach().numpy().copy() for name, value in self._module.weights_by_name().items()}
        return feedforward.with_weights(self._model, weights)


def learn(
    opened: Opened,
    style: Floats,
    photographs: Sequence[Sample],
    training: Training | None = None,
    *,
    start: onnx.ModelProto | None = None,
    state: State | None = None,
    done: int = 0,
) -> Iterator[Learned]:
    """Train step by step. ``style`` ``[h, w, 3]`` in 0..1; ``start``: an earlier style's network to go on from.

    ``state``, ``done``: of the same training, as `Learned.state` gave it after so many steps; it goes on as if it had
    not been stopped. ValueError where it is not of this network.

    >>> from tempfile import TemporaryDirectory
    >>> from topwork.images import ImageSource
    >>> from topwork.visualization.opened import open_network
    >>> training = Training(steps=2, batch=1, size=64, width=4, blocks=1)
    >>> lite, black = open_network("tf_efficientnet_lite0"), np.zeros((64, 64, 3), np.float32)
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (90, 70)).save(f"{folder}/a.png")
    ...     *_, last = learn(lite, black, ImageSource.open(folder).samples, training)
    >>> last.number, last.network().graph.output[0].name
    (2, 'picture')
    """
    training = training or Training()
    style_layers, content_layers = training.layers(opened)
    network = LossNetwork(opened, [*style_layers, *content_layers], pooling=training.pooling)
    contents = LossNetwork(opened, content_layers, pooling=training.pooling)
    terms = _style_terms(network, style, style_layers, training)
    model = start or feedforward.network(training.width, training.blocks, seed=training.seed)
    module = graph_module(model, feedforward.PIXELS, feedforward.STYLED).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(module.parameters(), lr=training.rate)
    if state is not None:
        _restore(module, optimizer, state)
    crops = _crops(photographs, training, first=done * training.batch)
    for number in range(done, training.steps):
        for group in optimizer.param_groups:
            group["lr"] = training.rate * _pace(number, training.steps)
        pixels = torch.stack([next(crops) for _ in range(training.batch)])
        with torch.no_grad():
            wanted = contents.batch(pixels)
        made = module(pixels.contiguous(memory_format=torch.channels_last))
        maps = network.batch(made)
        content, styled = torch.zeros(()), torch.zeros(())
        for place in range(training.batch):
            here = {layer: each[place] for layer, each in maps.items()}
            kept = [ContentTerm(layer, ContentLoss(each[place]), 1 / len(wanted)) for layer, each in wanted.items()]
            content = content + summed(kept, here) / training.batch
            styled = styled + summed(terms, here) / training.batch
        rough = total_variation(made).mean()
        total = training.content_weight * content + training.style_weight * styled + training.smoothness * rough
        if not math.isfinite(float(total.detach())):
            raise TrainingError("the losses are no numbers any more; use smaller weights, or another --seed")
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        yield Learned(
            number + 1, Value(*(float(each.detach()) for each in (total, content, styled))), model, module, optimizer
        )


def _pace(number: int, steps: int) -> float:
    """Share of the learning rate: from little, as the first steps of Adam are wild, to all and down along a cosine."""
    return min(1.0, (number + 1) / _WARMING) * (1 + math.cos(math.pi * number / steps)) / 2


def _style_terms(network: LossNetwork, style: Floats, layers: dict[str, float], training: Training) -> list[StyleTerm]:
    scale = training.size * training.style_scale / max(style.shape[:2])
    size = tuple(max(_LEAST, round(length * scale)) for length in style.shape[:2])
    picture = Image.fromarray(np.rint(255 * style).astype(np.uint8)).resize(size[::-1], Image.Resampling.LANCZOS)
    with torch.no_grad():
        maps = network(_planes(picture)[None])
    return [StyleTerm(layer, StyleLoss(gram(maps[layer])), weight) for layer, weight in layers.items()]


def _restore(module: torch.nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    parts: dict[str, dict[str, torch.Tensor]] = {"network": {}, "optimizer": {}}
    try:
        for name, values in state.items():
            part, _, rest = name.partition(":")
            parts[part][rest] = torch.from_numpy(values)
        if not fits_optimizer(parts["optimizer"], optimizer):
            raise ValueError("it is of another optimizer")
        module.load_state_dict(parts["network"])
        restore_optimizer(optimizer, parts["optimizer"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError("it is of another network") from error


def _crops(photographs: Sequence[Sample], training: Training, *, first: int = 0) -> Iterator[torch.Tensor]:
    """Random parts ``[3, size, size]`` of the photographs without end, each photograph once before any comes again.

    Each is drawn from the seed and its number, so one may begin with any; one that cannot be read is passed over.
    """
    policy, bad, count = DecodePolicy(shrink_to=round(_ENLARGED * training.size)), set[int](), len(photographs)
    for number in itertools.count(first):
        turn, place = divmod(number, count)
        order = np.random.default_rng([training.seed, turn]).permutation(count)
        for chosen in (int(each) for each in np.roll(order, -place)):
            try:
                pixels = None if chosen in bad else decode(photographs[chosen].read(), policy).pixels
            except ImageError:
                bad.add(chosen)
                continue
            if pixels is not None:
                yield _crop(Image.fromarray(pixels), training.size, np.random.default_rng([training.seed, 1, number]))
                break
        else:
            raise SourceError(f"expected photographs to train on, but none of {count} can be read")


def _crop(picture: Image.Image, size: int, random: np.random.Generator) -> torch.Tensor:
    scale = size * random.uniform(1, _ENLARGED) / min(picture.size)
    width, height = (max(size, round(length * scale)) for length in picture.size)
    left, top = (int(random.integers(0, length - size + 1)) for length in (width, height))
    # Only the part that is kept is resized.
    across, down = picture.size[0] / width, picture.size[1] / height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    made = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    if random.random() < 0.5:
        made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _planes(made)


def _planes(picture: Image.Image) -> torch.Tensor:
    """``[3, h, w]`` in 0..1."""
    return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1).copy()) / 255

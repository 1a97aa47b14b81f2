"""The parts of a network as a PyTorch module: its stages, last feature map, pooled features and logits.

Imports torch: only what trains or exports a network imports this module.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from topwork.backbones.architectures import classifier_path
from topwork.backbones.extra import torch_threads
from topwork.backbones.following import ReceptiveFields, evaluated
from topwork.backbones.spec import LAST_MAP, Stage
from topwork.errors import UsageError

_EXPANDED = ("blocks", "stages", "features", "layers")
"""Children of a network that hold its stages."""


@dataclass(frozen=True)
class Anatomy:
    """What there is to be had of a network, found by one run."""

    stages: tuple[Stage, ...]
    """By growing stride; ``last_map`` is the last one where the network has a last feature map."""
    feature_dim: int
    logits_dim: int
    """0 where there is no classifier."""
    linear_features: bool
    """The features are the plain mean of the last map."""
    linear_logits: bool
    """The logits are one linear layer of the features."""


class Convolutions(nn.Module):
    """A network without classifier: convolutions whose mean over the last map is the features.

    >>> network = Convolutions(nn.Conv2d(3, 8, 3))
    >>> network(torch.zeros(2, 3, 9, 9)).shape
    torch.Size([2, 8])
    """

    def __init__(self, features: Any) -> None:
        super().__init__()
        self.features = features

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """The last map ``[n, c, h, w]``."""
        return self.features(x)

    def forward_head(self, last_map: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The features ``[n, c]``."""
        return last_map.mean((2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The features ``[n, c]`` of pictures ``[n, 3, h, w]``."""
        return self.forward_head(self.forward_features(x))


class Parts(nn.Module):
    """Runs a network and gives its parts as a tuple: the stages asked for, ``last_map``, ``features``, ``logits``.

    ``logits`` only where ``with_logits``; ``last_map`` is whatever comes last, also where it is no map.
    """

    def __init__(self, module: Any, stages: tuple[str, ...] = (), with_logits: bool = False) -> None:
        super().__init__()
        self.module = module
        self.stages = stages
        self.with_logits = with_logits
        self.timm_like = hasattr(module, "forward_head")
        self.head = "" if self.timm_like else classifier_path(module)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The parts for pictures ``[n, c, h, w]``."""
        seen: dict[str, torch.Tensor] = {}
        with _kept(self.module, self.stages, seen):
            last_map, features, logits = self._timm_parts(x) if self.timm_like else self._other_parts(x)
        return (*(seen[stage] for stage in self.stages), last_map, features, *((logits,) if self.with_logits else ()))

    def _timm_parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        last_map = self.module.forward_features(x)
        features = self.module.forward_head(last_map, pre_logits=True)
        return last_map, features, self.module.forward_head(last_map) if self.with_logits else features

    def _other_parts(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps: list[torch.Tensor] = []
        inputs: list[torch.Tensor] = []
        head = self.module.get_submodule(self.head)
        around = {self.head.rsplit(".", depth)[0] for depth in range(self.head.count(".") + 1)}

        def keep(_: Any, __: Any, output: Any) -> None:
            if not inputs and isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[-1] > 1:
                maps.append(output)

        hooks = [head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))]
        hooks += [m.register_forward_hook(keep) for n, m in self.module.named_modules() if n and n not in around]
        try:
            logits = self.module(x)
        finally:
            for hook in hooks:
                hook.remove()
        features = inputs[0] if inputs[0].ndim == 2 else inputs[0].mean((2, 3))
        return maps[-1].clone(), features, logits


@contextmanager
def _kept(module: Any, names: tuple[str, ...], seen: dict[str, torch.Tensor]) -> Iterator[None]:
    """Keep what the named submodules give; a copy, because the next layer may work in place."""

    def keeper(name: str) -> Any:
        def keep(_: Any, __: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                seen[name] = output.clone()

        return keep

    hooks = [module.get_submodule(name).register_forward_hook(keeper(name)) for name in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def anatomy(module: Any, size: int, channels: int = 3) -> Anatomy:
    """Find the parts of a network by a run of noise; ``size`` is the side of its square input, in pixels.

    UsageError where the network cannot take pictures of that size.
    """
    candidates = tuple(stage_names(module))
    x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    seen: dict[str, torch.Tensor] = {}
    try:
        with evaluated(module), _kept(module, candidates, seen):
            last_map, features, logits = Parts(module, with_logits=True)(x)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"this network cannot take pictures of {size} by {size} pixels ({first_line(error)}); set another "
            "input_size in [training] of a recipe"
        ) from error
    if features.ndim != 2:
        raise UsageError("this network has no pooled features, so it cannot carry a new top; choose another")
    weight, bias = classifier_of(module)
    linear_logits = (
        weight is not None
        and weight.shape[1:] == features.shape[1:]
        and _same(nn.functional.linear(features, weight, bias), logits)
    )
    has_map = last_map.ndim == 4 and last_map.shape[2] == last_map.shape[3]
    maps = {**seen, LAST_MAP: last_map} if has_map else seen
    linear = has_map and last_map.shape[:2] == features.shape and _same(last_map.mean((2, 3)), features)
    logits_dim = 0 if weight is None else logits.shape[1]
    return Anatomy(_stages(module, maps, x[:1]), features.shape[1], logits_dim, linear, linear_logits)


def classifier_of(module: Any) -> tuple[Any, Any]:
    """Weight ``[k, d]`` and bias ``[k]`` of a network's linear classifier; None, None for none or another kind."""
    if isinstance(module, Convolutions):
        return None, None
    if hasattr(module, "get_classifier"):
        layer = module.get_classifier()
    else:
        layer = module.get_submodule(classifier_path(module))
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
        return layer.weight.flatten(1), layer.bias
    return (layer.weight, layer.bias) if isinstance(layer, nn.Linear) else (None, None)


def stage_names(module: Any) -> list[str]:
    """The submodules that may be a stage: what the network itself names, else its children and those of its blocks."""
    known = dict(module.named_modules())
    info = getattr(module, "feature_info", None)
    if isinstance(info, list):
        named = [entry["module"] for entry in info if isinstance(entry, dict) and entry.get("module") in known]
        if len(named) > 1:
            return named
    return [name for name, _ in children_of(module)]


def children_of(module: Any) -> list[tuple[str, Any]]:
    """The children of a network by name; those that only hold a row of blocks give way to the blocks."""
    parts: list[tuple[str, Any]] = []
    for name, child in module.named_children():
        inner = [(f"{name}.{n}", part) for n, part in child.named_children()]
        parts += inner if name in _EXPANDED and len(inner) > 1 else [(name, child)]
    return parts


def _stages(module: Any, maps: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[Stage, ...]:
    """The last square map of each stride, in order, and ``last_map``; strides only grow."""
    square = {name: found for name, found in maps.items() if found.ndim == 4 and found.shape[2] == found.shape[3] > 1}
    strides = _strides(module, tuple(name for name in square if name != LAST_MAP), x)
    stages: dict[int, Stage] = {}
    for name, found in square.items():
        stride = strides.get(name) or 2 ** round(math.log2(x.shape[2] / found.shape[2]))
        if name == LAST_MAP:
            return (*stages.values(), Stage(name, stride, found.shape[1]))
        if stride >= max(stages, default=0):
            stages[stride] = Stage(name, stride, found.shape[1])
    return tuple(stages.values())


def _strides(module: Any, names: tuple[str, ...], x: torch.Tensor) -> dict[str, int]:
    """The strides of stages and of the last map, exactly where every operation on the way has a known one."""
    image = x.to("meta")
    with evaluated(module), torch_threads(1), ReceptiveFields(image) as fields:
        try:
            found = Parts(module, names)(image)
        except (RuntimeError, NotImplementedError):  # a network that looks at the values of tensors
            return {}
    known = {name: fields.of(tensor) for name, tensor in zip((*names, LAST_MAP), found, strict=False)}
    exact = {name: field.stride[0] for name, field in known.items() if field is not None and field.stride is not None}
    return {name: round(stride) for name, stride in exact.items() if stride >= 1}


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two results are the same but for rounding."""
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-4 * (1e-6 + b.abs().max()))


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind."""
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__

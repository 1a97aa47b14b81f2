"""The networks that are trained, as PyTorch modules: a trunk that gives features, and a linear head."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from topwork.backbones.architectures import architecture
from topwork.backbones.network import Network, exported_network, lite_network
from topwork.backbones.spec import FEATURES, BackboneSpec
from topwork.backbones.torch_graph import graph_module
from topwork.backbones.zoo import described, lite_scaling
from topwork.errors import UsageError
from topwork.heads.basis import Floats
from topwork.recipe import Training
from topwork.registry import closest
from topwork.training.checkpoint import Tensors
from topwork.training.schedule import stage_factors


def classifier(trunk: Any, d: int, n_classes: int, groups: Sequence[dict[str, Any]], head_rate: float) -> Any:
    """Scores ``[n, c]`` by a linear head, all zero at first, on the features ``[n, d]`` of a trunk.

    ``groups``: parameters of the trunk with their highest learning rate, as an optimizer takes them. Batch norms whose
    weights are all frozen, and those of ``frozen_statistics``, stay in evaluation mode.
    """
    from torch import nn

    class Classifier(nn.Module):
        """Trunk and head."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head = trunk, nn.Linear(d, n_classes)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
            self.n_classes = n_classes
            self.frozen_statistics: list[Any] = []

        @property
        def groups(self) -> list[dict[str, Any]]:
            """Parameter groups for the optimizer."""
            return [*groups, {"params": list(self.head.parameters()), "lr": head_rate}]

        def forward(self, x: Any) -> Any:
            return self.head(self.trunk(x))

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            for module in self.frozen_statistics:
                module.eval()
            return self

    return Classifier()


@dataclass(frozen=True)
class HeadOnly:
    """A linear head on given features."""

    d: int
    n_classes: int
    rate: float

    def __call__(self) -> Any:
        """The classifier, made anew."""
        from torch import nn

        return classifier(nn.Identity(), self.d, self.n_classes, [], self.rate)


@dataclass(frozen=True)
class TopOf:
    """The stages of a network after a cut, batch norms folded, so that they are exactly what is shipped."""

    network: bytes
    cut: str
    d: int
    n_classes: int
    settings: Training

    def __call__(self) -> Any:
        """The classifier, made anew with the pretrained weights."""
        trunk = graph_module(onnx.load_from_string(self.network), self.cut, FEATURES)
        groups = [{"params": list(trunk.parameters()), "lr": self.settings.rate}]
        return classifier(trunk, self.d, self.n_classes, groups, self.settings.head_rate)


@dataclass(frozen=True)
class Whole:
    """A whole network: with pretrained weights where its spec has any, else with new ones."""

    spec: BackboneSpec
    n_classes: int
    settings: Training
    head: tuple[Floats, Floats] | None = None
    """Weight ``[d, c]`` and bias ``[c]`` of a head that was trained before."""

    def __call__(self) -> Any:
        """The classifier, made anew."""
        import torch

        trunk = self._trunk()
        stages = stages_of(trunk)
        first = first_stage(self.settings.unfreeze, trunk, self.spec.name)
        factors = stage_factors(
            len(stages) - first, decay=self.settings.stage_decay, factors=self.settings.rate_factors
        )
        for parameter in trunk.parameters():
            parameter.requires_grad_(False)
        groups = []
        for parameters, factor in zip(parameters_of(trunk, stages)[first:], factors, strict=True):
            for parameter in parameters:
                parameter.requires_grad_(True)
            if parameters:
                groups.append({"params": parameters, "lr": self.settings.rate * factor})
        model = classifier(trunk, self.spec.feature_dim, self.n_classes, groups, self.settings.head_rate)
        frozen = stages if self.settings.batch_norm == "frozen" else stages[:first]
        model.frozen_statistics = [m for _, modules in frozen for module in modules for m in _batch_norms(module)]
        if self.head is not None:
            with torch.no_grad():
                model.head.weight.copy_(torch.from_numpy(self.head[0].T.copy()))
                model.head.bias.copy_(torch.from_numpy(self.head[1].copy()))
        return model

    def _trunk(self) -> Any:
        """The network without its classifier, pretrained where the spec has weights."""
        from topwork.backbones.pretrained import pretrained_module

        if self.spec.weights is not None:
            return pretrained_module(self.spec, classifier=False).train()
        return architecture(self.spec.name, classes=0, size=self.spec.preprocess.size)


def parameters_of(trunk: Any, stages: Sequence[tuple[str, list[Any]]]) -> list[list[Any]]:
    """The parameters of each stage, none twice; what belongs to no stage, such as a class token, is of the first."""
    taken: set[int] = set()

    def fresh(parameters: Iterable[Any]) -> list[Any]:
        found = [p for p in parameters if id(p) not in taken]
        taken.update(map(id, found))
        return found

    each = [fresh(p for module in modules for p in module.parameters()) for _, modules in stages]
    each[0] += fresh(trunk.parameters())
    return each


def stages_of(trunk: Any) -> list[tuple[str, list[Any]]]:
    """The stages of a network in order, each with its modules; norms and activations go with what they follow."""
    from topwork.backbones.anatomy import children_of

    stages: list[tuple[str, list[Any]]] = []
    for name, part in children_of(trunk):
        if stages and not any(p.ndim > 1 for p in part.parameters()):
            stages[-1][1].append(part)
        else:
            stages.append((name, [part]))
    return stages


def first_stage(unfreeze: str, trunk: Any, network: str) -> int:
    """The place of the first stage that is trained; UsageError for a name that no stage has."""
    known = [name for name, _ in stages_of(trunk)]
    if unfreeze == "auto":
        return 0
    if unfreeze not in known:
        raise UsageError(f"{network} has no stage {unfreeze!r} to unfreeze: {closest(unfreeze, known)}")
    return known.index(unfreeze)


def _batch_norms(module: Any) -> list[Any]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def trained_top(network: Network, job: TopOf, state: Tensors) -> Network:
    """The whole network with the trained weights of its top."""
    model = job()
    model.load_state_dict(state)
    return network.with_weights({n: w.detach().numpy() for n, w in model.trunk.weights_by_name().items()})


def trained_whole(spec: BackboneSpec, state: Tensors) -> Network:
    """A network that was trained as a whole, as ONNX."""
    prefix = "trunk."
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    size = spec.preprocess.size
    # Its own builder gives a graph without the arithmetic of dynamic paddings, for the size that it was made for.
    if spec.family == "efficientnet_lite" and size == lite_scaling(spec.name).size:
        original = {"weight": np.zeros((spec.logits_dim, spec.feature_dim)), "bias": np.zeros(spec.logits_dim)}
        return lite_network(spec.name, {**{n: t.numpy() for n, t in trunk.items()}, **original}, spec.feature_dim)
    module = architecture(spec.name, classes=0, size=size)
    module.load_state_dict(trunk)
    return exported_network(module, size)


def new_spec(name: str, size: int) -> BackboneSpec:
    """What is to be known of a network that starts with new weights; ``size`` 0 takes its own input size.

    Raises UsageError or BackboneError before the training where its result could not be exported.
    """
    spec = described(name, size)
    exported_network(architecture(spec.name, classes=0, size=spec.preprocess.size), spec.preprocess.size)
    return spec

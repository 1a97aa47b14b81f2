"""The networks that are trained, as PyTorch modules: a trunk that gives features, and a linear head."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from topwork.backbones import weights
from topwork.backbones.network import FEATURES, INPUT, LAST_MAP, Network, lite_network
from topwork.backbones.spec import BackboneSpec, Preprocess
from topwork.backbones.torch_graph import graph_module
from topwork.backbones.zoo import BACKBONES, backbone, lite_scaling
from topwork.errors import BackboneError, UsageError
from topwork.heads.basis import Floats
from topwork.recipe import Training
from topwork.registry import closest
from topwork.training.checkpoint import Tensors
from topwork.training.schedule import stage_factors

_OPSET = 18
_EXPANDED = ("blocks", "stages", "features", "layers")
"""Children of a network that hold its stages."""


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
    """A whole network: pretrained, or any architecture of timm with new weights."""

    name: str
    d: int
    n_classes: int
    settings: Training
    pretrained: bool
    head: tuple[Floats, Floats] | None = None
    """Weight ``[d, c]`` and bias ``[c]`` of a head that was trained before."""

    def __call__(self) -> Any:
        """The classifier, made anew."""
        import torch

        trunk = native(self.name)
        if self.pretrained:
            load_pretrained(trunk, backbone(self.name))
        stages = stages_of(trunk)
        first = first_stage(self.settings.unfreeze, trunk, self.name)
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
        model = classifier(trunk, self.d, self.n_classes, groups, self.settings.head_rate)
        frozen = stages if self.settings.batch_norm == "frozen" else stages[:first]
        model.frozen_statistics = [m for _, modules in frozen for module in modules for m in _batch_norms(module)]
        if self.head is not None:
            with torch.no_grad():
                model.head.weight.copy_(torch.from_numpy(self.head[0].T.copy()))
                model.head.bias.copy_(torch.from_numpy(self.head[1].copy()))
        return model


def native(name: str) -> Any:
    """A network of timm without its classifier, with new weights, drawn from torch's random state."""
    import timm

    known = timm.list_models()
    if name not in known:
        raise UsageError(f"timm has no network {name!r}: {closest(name, known)}")
    return timm.create_model(name, pretrained=False, num_classes=0)


def load_pretrained(trunk: Any, spec: BackboneSpec) -> None:
    """Put a spec's pretrained weights into timm's network; their order is the file's."""
    import torch

    tensors = _of_trunk(weights.read_legacy_torch(weights.verified(spec.weights)))
    state = trunk.state_dict()
    shapes = [tuple(tensor.shape) for tensor in state.values()]
    if shapes != [array.shape for array in tensors.values()]:
        raise BackboneError(f"the weights of {spec.name} do not fit timm's network; install topwork[train] again")
    pairs = zip(state, tensors.values(), strict=True)
    trunk.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in pairs})


def _of_trunk(tensors: weights.Tensors) -> weights.Tensors:
    """Without the original classifier, the last two tensors of the file."""
    return dict(list(tensors.items())[:-2])


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
    parts: list[tuple[str, Any]] = []
    for name, child in trunk.named_children():
        inner = list(child.named_children())
        parts += (
            [(f"{name}.{n}", part) for n, part in inner] if name in _EXPANDED and len(inner) > 1 else [(name, child)]
        )
    stages: list[tuple[str, list[Any]]] = []
    for name, part in parts:
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
        raise UsageError(
            f"{network} has no stage {unfreeze!r} to unfreeze: {closest(unfreeze, known)}; it has {', '.join(known)}"
        )
    return known.index(unfreeze)


def _batch_norms(module: Any) -> list[Any]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def trained_top(network: Network, job: TopOf, state: Tensors) -> Network:
    """The whole network with the trained weights of its top."""
    model = job()
    model.load_state_dict(state)
    return network.with_weights({n: w.detach().numpy() for n, w in model.trunk.weights_by_name().items()})


def trained_whole(job: Whole, spec: BackboneSpec, state: Tensors) -> Network:
    """A network that was trained as a whole, as ONNX."""
    prefix = "trunk."
    trunk = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    # Its own builder gives a graph without the arithmetic of dynamic paddings, for the size that it was made for.
    if spec.family == "efficientnet_lite" and spec.preprocess.size == lite_scaling(spec.name).size:
        original = {"weight": np.zeros((spec.logits_dim, spec.feature_dim)), "bias": np.zeros(spec.logits_dim)}
        return lite_network(spec.name, {**{n: t.numpy() for n, t in trunk.items()}, **original}, spec.feature_dim)
    module = native(job.name)
    module.load_state_dict(trunk)
    return Network(exported(module, spec.preprocess.size))


def exported(module: Any, size: int) -> onnx.ModelProto:
    """A network of timm as an ONNX graph with the values of ``Network``; batch norms stay as in evaluation."""
    import io
    import warnings

    import torch
    from torch import nn

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            last_map = self.module.forward_features(x)
            return last_map, self.module.forward_head(last_map, pre_logits=True)

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecation: the other exporter did not finish with free sizes
        torch.onnx.export(
            Parts().eval(),
            (torch.zeros(1, 3, size, size),),
            buffer,
            dynamo=False,
            opset_version=_OPSET,
            input_names=[INPUT],
            output_names=[LAST_MAP, FEATURES],
            dynamic_axes={name: {0: "n"} for name in (INPUT, LAST_MAP, FEATURES)},
        )
    return onnx.load_from_string(buffer.getvalue())


def new_spec(name: str, size: int) -> BackboneSpec:
    """What is to be known of a network of timm that starts with new weights; ``size`` 0 takes its own input size."""
    module = native(name).eval()
    known = module.pretrained_cfg
    size = size or known["input_size"][-1]
    preprocess = Preprocess(
        size=size,
        crop_fraction=0.875,
        mean=tuple(255 * value for value in known["mean"]),
        std=tuple(255 * value for value in known["std"]),
    )
    d, linear = _features_of(module, size)
    _require_export(module, name, size)
    return BackboneSpec(
        name=name,
        family=backbone(name).family if name in BACKBONES.names() else "timm",
        preprocess=preprocess,
        feature_dim=d,
        logits_dim=backbone(name).logits_dim if name in BACKBONES.names() else 0,
        parameters=sum(p.numel() for p in module.parameters()),
        stages=(),
        weights=None,
        linear_features=linear,
        description=f"{name}, new weights",
        paper="",
    )


def _features_of(module: Any, size: int) -> tuple[int, bool]:
    """The number of features, and whether they are the mean of the last map, as one run of noise tells."""
    import torch

    with torch.no_grad():
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        try:
            last_map = module.forward_features(x)
            features = module.forward_head(last_map, pre_logits=True)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UsageError(
                f"this network cannot take pictures of {size} by {size} pixels ({_first_line(error)}); set "
                "another input_size in [training] of a recipe"
            ) from error
    if last_map.ndim != 4 or last_map.shape[:2] != features.shape:
        return features.shape[1], False
    return features.shape[1], bool(torch.allclose(last_map.mean((2, 3)), features, atol=1e-4))


def _require_export(module: Any, name: str, size: int) -> None:
    """Raise before the training what would make its result useless."""
    try:
        exported(module, size)
    except Exception as error:  # the exporter's errors share no base class
        raise UsageError(
            f"{name} cannot be exported to ONNX at {size} by {size} pixels ({_first_line(error)}); choose another "
            "network or input_size"
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__

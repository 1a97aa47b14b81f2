"""Network architectures by name, as PyTorch modules with new weights: topwork's own, timm's, torchvision's."""

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from topwork.backbones.extra import require
from topwork.backbones.small import BLOCKS, SMALL
from topwork.errors import UsageError

LIBRARIES = ("topwork", "timm", "torchvision")
"""Where a bare name is looked for, in this order."""
CONVOLUTIONS_ONLY = {"vgg16-hed": "vgg16"}
"""Networks without a classifier, because their weights have none, and the network of timm that they are of."""

_AUXILIARY = ("googlenet", "inception_v3")
"""torchvision's networks with classifiers on the way, which only training as in the paper needs."""
_SHOWN, _CLOSE = 3, 0.6  # names in a hint; the least share of letters in common
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Published:
    """Where pretrained weights of a network are to be had, and the input that they are made for."""

    name: str
    hub: str | None
    """Repository on the Hugging Face hub, such as ``timm/resnet50.a1_in1k``."""
    file: str
    url: str | None
    """A file to be fetched by hand, where no hub has it."""
    licence: str


@dataclass(frozen=True)
class InputFormat:
    """The pictures a network is made for: ``channels``, side in pixels, and values 0..1 as ``(x - mean) / std``."""

    channels: int
    size: int
    crop_fraction: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


@dataclass(frozen=True)
class Architecture:
    """A network of a library.

    >>> resolve("VGG19").name
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: there is no network 'VGG19': did you mean vgg19 or ...?
    >>> resolve("alexnet").library
    'torchvision'
    """

    name: str
    """The name to ask for it again: with its library in front where the bare name means another library's."""
    library: str

    @property
    def bare(self) -> str:
        """The library's own name."""
        return self.name.rpartition(":")[2]

    def module(self, *, channels: int = 3, classes: int | None = None, size: int = 0) -> Any:
        """The network as ``torch.nn.Module`` with new weights, drawn from torch's random state.

        ``classes``: outputs of its classifier; None as it was published, 0 for none, so that it gives features.
        ``size``: side of its square input in pixels, for networks whose weights depend on it; 0 as published.
        """
        if self.bare in CONVOLUTIONS_ONLY:
            return _convolutions(CONVOLUTIONS_ONLY[self.bare], channels)
        makers = {"topwork": _own_module, "timm": _timm_module, "torchvision": _torchvision_module}
        return makers[self.library](self.bare, channels, classes, size)

    def input(self) -> InputFormat:
        """The input it was made for."""
        if self.library == "topwork" and self.bare not in CONVOLUTIONS_ONLY:
            own = _own()[self.bare]
            return InputFormat(own.channels, own.size, 1.0, (0.5,) * 3, (0.5,) * 3, "bicubic")
        if self.library == "torchvision":
            return _torchvision_input(self.bare)
        return _timm_input(CONVOLUTIONS_ONLY.get(self.bare, self.bare))

    def paper(self) -> str:
        """Where it was published, for topwork's own networks."""
        own = _own().get(self.bare) if self.library == "topwork" else None
        return own.paper if own else ""

    def published(self) -> Published | None:
        """Where its weights are to be had; None where nobody publishes any."""
        if self.library == "timm":
            return _timm_published(self.bare)
        return _torchvision_published(self.bare) if self.library == "torchvision" else None


def resolve(name: str) -> Architecture:
    """The architecture called ``name``; ``library:name`` forces one. UsageError with the closest names for none.

    >>> resolve("vgg19").library, resolve("torchvision:vgg19").library, resolve("lenet5").library
    ('timm', 'torchvision', 'topwork')
    """
    require(f"the network {name}")
    library, _, bare = name.rpartition(":")
    if library and library not in LIBRARIES:
        raise UsageError(f"networks come from {', '.join(LIBRARIES)}, not from {library!r}; see `topwork backbones`")
    having = [each for each in LIBRARIES if _has(each, bare)]
    if (library or "any") not in (*having, "any") or not having:
        raise UsageError(f"there is no network {name!r}: {_hint(bare, library)}")
    chosen = library or having[0]
    if chosen == "timm":
        bare = _present_name(bare)
    return Architecture(bare if chosen == having[0] else f"{chosen}:{bare}", chosen)


def names(containing: str = "") -> list[str]:
    """All names that hold a text, own networks first.

    >>> names("alexnet")
    ['alexnet']
    """
    require("the zoo")
    wanted = _plain(containing)
    return [name for name in dict.fromkeys(_names()) if wanted in _plain(name)]


def architecture(name: str, *, channels: int = 3, classes: int | None = None, size: int = 0) -> Any:
    """The network called ``name`` as a module; see ``Architecture.module``.

    >>> sum(p.numel() for p in architecture("lenet5", channels=1).parameters())
    61706
    """
    return resolve(name).module(channels=channels, classes=classes, size=size)


def default_input(name: str) -> tuple[int, int, int]:
    """Channels, height and width of the pictures a network is made for.

    >>> default_input("alexnet"), default_input("inception_v3")
    ((3, 224, 224), (3, 299, 299))
    """
    made_for = resolve(name).input()
    return made_for.channels, made_for.size, made_for.size


def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of everything that weights of a network must hold.

    >>> expected_shapes("mobilenet_v2")["classifier.1.weight"]
    (1000, 1280)
    """
    import torch

    found = resolve(name)
    with torch.device("meta"):
        state = found.module().state_dict()  # for pictures in colour, also where it was made for grey ones
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def published(name: str) -> Published | None:
    """Where the weights of a network are to be had.

    >>> published("resnet50").hub
    'timm/resnet50.a1_in1k'
    >>> published("alexnet").url
    'https://download.pytorch.org/models/alexnet-owt-7be5be79.pth'
    """
    return resolve(name).published()


def _own() -> dict[str, Any]:
    return {**SMALL, **BLOCKS}


def _own_module(name: str, channels: int, classes: int | None, size: int) -> Any:
    own = _own()[name]
    return own.build(channels, size or own.size, own.classes if classes is None else classes)


def _has(library: str, name: str) -> bool:
    if library == "topwork":
        return name in _own() or name in CONVOLUTIONS_ONLY
    if library == "timm":
        import timm

        # A tag names one of several sets of weights: resnet50.tv_in1k.
        return bool(timm.is_model(name)) and ("." not in name or name in timm.list_pretrained(name))
    return name in _torchvision_names()


@cache
def _torchvision_names() -> tuple[str, ...]:
    from torchvision import models

    return tuple(models.list_models(module=models))


def _names() -> Iterator[str]:
    import timm

    yield from [*SMALL, *BLOCKS, *CONVOLUTIONS_ONLY]
    yield from timm.list_models()
    yield from _torchvision_names()


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _hint(name: str, library: str) -> str:
    """The closest names; how a name is written (``VGG-19``) does not count."""
    candidates: dict[str, str] = {}
    for known in _names():
        if not library or _has(library, known):
            candidates.setdefault(_plain(known), known)
    plain = _plain(name)
    scores = {key: -difflib.SequenceMatcher(None, key, plain).ratio() for key in candidates}
    close = [key for key in sorted(candidates, key=lambda key: (scores[key], key)) if scores[key] <= -_CLOSE][:_SHOWN]
    if close:
        return f"did you mean {' or '.join(candidates[key] for key in close)}?"
    return "`topwork backbones --find TEXT` lists names that hold a text"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without timm's and torchvision's remarks on names and initial values that are of no use to a user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _present_name(name: str) -> str:
    """The name that timm gives a network today: it still builds some under an earlier one."""
    import timm

    if timm.get_pretrained_cfg(name) is not None:
        return name
    import torch

    with torch.device("meta"):
        return str(_timm_module(name, 3, None, 0).pretrained_cfg.get("architecture") or name)


def _timm_module(name: str, channels: int, classes: int | None, size: int) -> Any:
    import timm

    options = {} if classes is None else {"num_classes": classes}
    with _quiet():
        return timm.create_model(name, pretrained=False, in_chans=channels, **options)


def _timm_input(name: str) -> InputFormat:
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is None:
        config = _timm_module(name, 3, None, 0).pretrained_cfg
        config = timm.models.PretrainedCfg(**{k: v for k, v in config.items() if k in _CONFIG})
    return InputFormat(
        config.input_size[0], config.input_size[-1], config.crop_pct, config.mean, config.std, config.interpolation
    )


_CONFIG = ("input_size", "crop_pct", "mean", "std", "interpolation")


def _timm_published(name: str) -> Published | None:
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        return None
    hub = config.hf_hub_id or None
    return Published(
        name, hub, config.hf_hub_filename or "model.safetensors", config.url or None, config.license or "unknown"
    )


def _torchvision_module(name: str, channels: int, classes: int | None, size: int) -> Any:
    from torchvision import models

    if channels != 3:
        raise UsageError(f"torchvision's {name} takes pictures with 3 channels, not {channels}; choose one of timm's")
    options: dict[str, Any] = {"aux_logits": False, "init_weights": False} if name in _AUXILIARY else {}
    if classes:
        options["num_classes"] = classes
    with _quiet():
        module = models.get_model(name, weights=None, **options)
    if classes == 0:
        from torch import nn

        path = classifier_path(module)
        parent, _, last = path.rpartition(".")
        setattr(module.get_submodule(parent), last, nn.Identity())
        module.former_classifier = path
    return module


def classifier_path(module: Any) -> str:
    """The place of a network's last layer with weights, its classifier, also after it was taken out."""
    from torch import nn

    if hasattr(module, "former_classifier"):
        return str(module.former_classifier)
    names: list[str] = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return names[-1]


def _torchvision_weights(name: str) -> Any:
    from torchvision import models

    found = {each.name: each for each in models.get_model_weights(name)}
    return found.get("IMAGENET1K_V1") or next(iter(found.values()))


def _torchvision_input(name: str) -> InputFormat:
    transforms = _torchvision_weights(name).transforms.keywords
    crop = transforms["crop_size"]
    # These two were trained elsewhere: torchvision's module changes its input to theirs when it loads the weights.
    mean, std = ((0.5,) * 3, (0.5,) * 3) if name in _AUXILIARY else (_IMAGENET_MEAN, _IMAGENET_STD)
    interpolation = transforms.get("interpolation")
    kind = interpolation.value if interpolation is not None else "bilinear"
    return InputFormat(3, crop, min(1.0, crop / transforms.get("resize_size", 256)), mean, std, kind)


def _torchvision_published(name: str) -> Published:
    url = _torchvision_weights(name).url
    return Published(name, None, url.rpartition("/")[2], url, "BSD-3-Clause")


def _convolutions(name: str, channels: int) -> Any:
    """The convolutions of a VGG, its features the mean of the last map."""
    from topwork.backbones.anatomy import Convolutions

    return Convolutions(_timm_module(name, channels, None, 0).features)

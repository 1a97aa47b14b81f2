"""Everything that decides a fit, as one frozen value that is stored in the model."""

import dataclasses
import errno
import os
import reprlib
import stat
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topwork.errors import UsageError
from topwork.registry import closest

STRATEGIES = ("features", "top", "full", "scratch", "auto")
HEADS = ("auto", "svm", "logistic", "lda", "ridge", "nearest-mean")
FEATURES = ("auto", "pooled", "logits")
GEOMETRIES = ("auto", "crop", "pad", "stretch", "whole")
AUGMENTATIONS = ("none", "light", "strong", "document", "satellite")
SCHEDULES = ("one-cycle", "cosine")
BATCH_NORMS = ("auto", "frozen", "updated")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
DEFAULT_BACKBONE = "tf_efficientnet_lite0"

_COMMON = (
    *("augment", "epochs", "batch_size", "accumulate", "rate", "head_rate", "schedule", "warmup", "weight_decay"),
    *("label_smoothing", "mixup", "cutmix", "patience", "precision", "devices", "nodes"),
)
_WHOLE = ("stage_decay", "rate_factors", "batch_norm")
TRAINED_BY = {
    "top": (*_COMMON, "cut", "views"),
    "full": (*_COMMON, *_WHOLE, "unfreeze", "head_epochs"),
    "scratch": (*_COMMON, *_WHOLE, "input_size"),
}
"""Settings that say how each strategy with gradients trains."""
_EVERY = (
    "strategy",
    "backbone",
    "geometry",
    "folds",
    "seed",
    "coverage",
    "group_duplicates",
    "duplicate_keys",
    "max_pixels",
    "head_limit",
)
_HEAD, _MEASURED = ("head", "features"), ("holdout", "refit")
TAKEN = {
    "features": frozenset((*_EVERY, *_HEAD)),
    **{name: frozenset((*_EVERY, *_MEASURED, *settings)) for name, settings in TRAINED_BY.items()},
    "auto": frozenset((*_EVERY, *_HEAD, *_MEASURED, "budget", *TRAINED_BY["top"], *TRAINED_BY["full"])),
}
"""Settings that each strategy takes, those of `Training` among them; any other one is refused, never ignored."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the strategies with gradients (``top``, ``full``, ``scratch``, ``auto``) train.

    0 and ``auto`` stand for what was measured best for the strategy; docs/fine-tuning.md has the figures.

    >>> Training(augment="lght")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: augment must be one of none, light, ..., not 'lght': did you mean light?
    """

    budget: float = 600.0
    """``auto``: seconds that the whole fit may take."""
    holdout: float = 0.25
    """Share of the pictures that measures and calibrates, in (0, 0.5]; the source's ``val`` split where it has one."""
    refit: bool = False
    """Train the shipped model on all pictures; the accuracy stays that of the model that was measured."""
    cut: str = "auto"
    """``top``: the last stage that stays frozen; what comes after it is trained."""
    views: int = 0
    """``top``: cached versions of each picture: itself, its mirror image, then augmented ones."""
    input_size: int = 0
    """``scratch``: side of the network's square input in pixels; 0 takes the network's own."""
    unfreeze: str = "auto"
    """``full``: the first stage that is trained; ``auto`` trains all."""
    augment: str = "light"
    """How training pictures are varied; ``topwork augment`` shows it."""
    epochs: int = 0
    """Passes over the training pictures."""
    head_epochs: int = 0
    """``full``: passes over the frozen features that train the head before anything is unfrozen."""
    batch_size: int = 32
    """Pictures a step, over all devices."""
    accumulate: int = 1
    """Parts that a batch is computed in, where memory is short."""
    rate: float = 0.0
    """Highest learning rate of the last stage."""
    head_rate: float = 3e-3
    """Highest learning rate of the head."""
    stage_decay: float = 0.0
    """``full``: each stage learns at this share of the rate of the stage after it, in (0, 1]."""
    rate_factors: tuple[float, ...] = ()
    """``full``: instead of ``stage_decay``, shares of the rate for equal parts of the stages, such as 1/6, 1/3, 1."""
    schedule: str = "one-cycle"
    """How rates change: ``one-cycle`` rises and falls once, ``cosine`` only falls after the warm-up."""
    warmup: float = 0.25
    """Share of the steps in which rates rise."""
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    mixup: float = 0.0
    """Parameter of the Beta distribution that pictures are blended by; 0 does not blend (Zhang et al. 2018)."""
    cutmix: float = 0.0
    """The same for pasted rectangles (Yun et al. 2019)."""
    batch_norm: str = "auto"
    """``frozen`` keeps the statistics of batch norms, ``updated`` follows the pictures; ``auto``: ``updated`` for new
    weights only."""
    patience: int = 0
    """Stop after so many epochs without progress on a part of the training pictures set aside for it; 0 never does."""
    devices: int = 1
    """Processes on this machine, a GPU each where there are any."""
    nodes: int = 1
    """Machines."""
    precision: str = "32-true"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("augment", AUGMENTATIONS),
            ("schedule", SCHEDULES),
            ("batch_norm", BATCH_NORMS),
            ("precision", PRECISIONS),
        ):
            _require_one_of(name, getattr(self, name), allowed)
        for name in ("epochs", "head_epochs", "patience", "input_size", "views"):
            _require_int(name, getattr(self, name), lambda v: v >= 0, "0 or more")
        for name in ("batch_size", "accumulate", "devices", "nodes"):
            _require_int(name, getattr(self, name), lambda v: v >= 1, "at least 1")
        for name in ("rate", "head_rate", "weight_decay", "mixup", "cutmix"):
            _require_number(name, getattr(self, name), lambda v: v >= 0, "0 or more")
        for name in ("label_smoothing", "warmup"):
            _require_number(name, getattr(self, name), lambda v: 0 <= v < 1, "from 0 to below 1")
        _require_number("budget", self.budget, lambda v: v > 0, "above 0")
        _require_number("holdout", self.holdout, lambda v: 0 < v <= 0.5, "above 0, at most 0.5")
        _require_number("stage_decay", self.stage_decay, lambda v: 0 <= v <= 1, "from 0 (automatic) to 1")
        object.__setattr__(self, "rate_factors", _factors(self.rate_factors))
        if not isinstance(self.refit, bool):
            raise UsageError(f"refit must be true or false, not {_shown(self.refit)}")
        for name in ("cut", "unfreeze"):
            if not isinstance(getattr(self, name), str) or len(getattr(self, name)) > _LONGEST:
                raise UsageError(f"{name} must be the name of a stage or auto, not {_shown(getattr(self, name))}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a fit; two equal recipes on the same pictures give the same model.

    UsageError for a value that cannot be, and for a setting that the strategy does not take (`TAKEN`).

    >>> Recipe(head="svm").head
    'svm'
    >>> Recipe(strategy="full", head="svm")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: head is for the strategies features and auto, not for full; leave it out, or ...
    >>> Recipe(head="swm")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: head must be one of auto, svm, ..., not 'swm': did you mean svm?
    """

    strategy: str = "features"
    """How the network is reused: ``features`` freezes it and learns a linear head, ``top`` fine-tunes its last stages,
    ``full`` all of it, ``scratch`` starts with new weights, ``auto`` chooses by measurement."""
    backbone: str = DEFAULT_BACKBONE
    """Name of the pretrained network; ``topwork backbones`` lists them."""
    head: str = "auto"
    """The classifier on the frozen network; ``auto`` chooses by inner cross-validation."""
    features: str = "auto"
    """What that head sees: ``pooled`` features, the ImageNet ``logits``, or the better of both."""
    geometry: str = "auto"
    """How the network gets a picture: the centre ``crop``, ``pad`` or ``stretch`` to a square, or ``whole``, in its own
    shape; ``auto`` chooses by measurement."""
    folds: int = 0
    """Outer cross-validation folds; 0 chooses by the size of the set (leave-one-out for tiny ones). The strategies with
    gradients measure on one hold-out unless folds are asked for."""
    seed: int = 0
    """Decides the folds, and every other random choice."""
    coverage: float = 0.95
    """Share of pictures like the training ones that the novelty threshold must accept, in (0, 1)."""
    group_duplicates: bool = True
    """Keep near-duplicates in one fold; without it the accuracy may be inflated."""
    duplicate_keys: bool = True
    """Keep hashes and features of the training pictures in the model (2.6 kB a picture), so that ``evaluate`` notices
    near-duplicates of them; without it identical files only."""
    max_pixels: int = 64_000_000
    """Pictures of which more pixels would be decoded are excluded; a JPEG counts as it is shrunk on loading."""
    head_limit: int = 20_000
    """Most pictures the head stage holds in memory; a larger set is sampled by class."""
    training: Training = field(default_factory=Training)
    """Settings of the strategies with gradients; plain values become a ``Training``."""

    def __post_init__(self) -> None:
        if isinstance(self.training, dict):
            _require_known(self.training, Training, "the table training")
            object.__setattr__(self, "training", Training(**self.training))
        if not isinstance(self.training, Training):
            raise UsageError(f"training must be a table of settings, not {_shown(self.training)}")
        for name, allowed in (
            ("strategy", STRATEGIES),
            ("head", HEADS),
            ("features", FEATURES),
            ("geometry", GEOMETRIES),
        ):
            _require_one_of(name, getattr(self, name), allowed)
        _require_int("folds", self.folds, lambda v: v == 0 or v >= 3, "0 (automatic) or at least 3")
        _require_int("seed", self.seed, lambda v: v >= 0, "0 or more")
        _require_int("max_pixels", self.max_pixels, lambda v: 1 <= v <= 10**9, "between 1 and 1,000,000,000")
        _require_int("head_limit", self.head_limit, lambda v: v >= 100, "at least 100")
        if not isinstance(self.backbone, str) or not 0 < len(self.backbone) <= _LONGEST:
            raise UsageError(f"backbone must be a name, not {_shown(self.backbone)}; see `topwork backbones`")
        for name in ("group_duplicates", "duplicate_keys"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be true or false, not {_shown(getattr(self, name))}")
        if not isinstance(self.coverage, int | float) or not 0 < self.coverage < 1:
            raise UsageError(f"coverage must be a number between 0 and 1, such as 0.95, not {_shown(self.coverage)}")
        check_taken(self.strategy, [*_changed(self), *_changed(self.training)])
        _check_together(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """A recipe from plain values; an unknown key raises UsageError."""
        _require_known(values, cls, "a recipe")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> "Recipe":
        """Read a recipe from a TOML file; missing settings keep their defaults."""
        try:
            values = tomllib.loads(_text(Path(path)))
        except OSError as error:
            raise UsageError(f"expected a recipe file at {path}: {error.strerror}; check the path") from error
        except RecursionError as error:
            raise UsageError(f"expected a recipe in {path}, but it is nested without end; {_EXAMPLE}") from error
        except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
            raise UsageError(f"expected TOML in {path}, but {error}; {_EXAMPLE}") from error
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, those of TOML."""
        values = dataclasses.asdict(self)
        values["training"]["rate_factors"] = list(self.training.rate_factors)
        return values

    def to_toml(self) -> str:
        """The recipe as TOML text.

        >>> import tomllib
        >>> Recipe.from_dict(tomllib.loads(Recipe(seed=3).to_toml())) == Recipe(seed=3)
        True
        """
        import tomli_w

        return tomli_w.dumps(self.to_dict())


def check_taken(strategy: str, settings: Iterable[str], prefix: str = "") -> None:
    """UsageError for the first of the named settings that a strategy does not take; ``prefix`` as the caller names it.

    >>> check_taken("top", ["cut", "views"])
    >>> check_taken("full", ["cut"], "--")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: --cut is for the strategies top and auto, not for full; leave it out, or ...
    """
    for name in settings:
        if name in TAKEN[strategy]:
            continue
        takers = [each for each in STRATEGIES if name in TAKEN[each]]
        named = f"{', '.join(takers[:-1])} and {takers[-1]}" if len(takers) > 1 else takers[0]
        kind = "strategies" if len(takers) > 1 else "strategy"
        instead = f", or choose {prefix and '--strategy '}{takers[0]}"
        raise UsageError(f"{prefix}{name} is for the {kind} {named}, not for {strategy}; leave it out{instead}")


def _check_together(recipe: Recipe) -> None:
    """UsageError for settings of which one leaves nothing for the other to decide."""
    training = recipe.training
    for first, second, why in (
        ("folds", recipe.folds and training.holdout != Training.holdout and "holdout", "folds hold out all in turn"),
        ("rate_factors", training.rate_factors and training.stage_decay and "stage_decay", "it has a rate a stage too"),
        ("augment none", training.augment == "none" and training.views > 1 and "views", "all views would be the same"),
    ):
        if second:
            raise UsageError(f"{first} leaves nothing for {second} to decide ({why}); leave one of them out")


def _changed(settings: Any) -> list[str]:
    """Names of the settings that differ from their defaults."""
    return [
        entry.name
        for entry in dataclasses.fields(settings)
        if entry.name != "training" and getattr(settings, entry.name) != entry.default
    ]


_EXAMPLE = "see docs/fit.md for an example"
_LARGEST = 100_000  # bytes of a recipe; one with every setting and a hundred factors has 2,000


def _text(path: Path) -> str:
    """The text of a file that may be a recipe; UsageError where it is none, before it is opened."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise UsageError(
            f"expected a recipe of up to {_LARGEST // 1000} kB at {path}, not a larger file or a device; {_EXAMPLE}"
        )
    return path.read_text(encoding="utf-8")


def _factors(value: Any) -> tuple[float, ...]:
    """A tuple also where TOML gave a list."""
    if not isinstance(value, list | tuple):
        raise UsageError(f"rate_factors must be a list of numbers such as [0.1, 1.0], not {_shown(value)}")
    for factor in value:
        _require_number("rate_factors", factor, lambda v: v >= 0, "0 or more")
    return tuple(value)


def _require_known(values: dict[str, Any], kind: type, what: str) -> None:
    known = [entry.name for entry in dataclasses.fields(kind)]
    for key in values:
        if key not in known:
            raise UsageError(f"{what} has no setting {_shown(key)}: {closest(key[:_LONGEST], known)}")


_LONGEST = 100  # characters of a name
_TOO_MUCH = 2**63  # what TOML's and others' whole numbers hold


def _shown(value: Any) -> str:
    """A value as a message shows it, whatever its size and depth."""
    return _REPR.repr(value)


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _LONGEST


def _require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = closest(str(value)[:_LONGEST] if isinstance(value, str) else _shown(value), allowed)
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {_shown(value)}: {near}")


def _require_number(name: str, value: Any, accept: Any, expected: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if not is_number or not accept(value):  # NaN is not below anything
        raise UsageError(f"{name} must be a number, {expected}, not {_shown(value)}")


def _require_int(name: str, value: Any, accept: Any, expected: str) -> None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _TOO_MUCH
    if not is_number or not accept(value):
        raise UsageError(f"{name} must be a whole number, {expected}, not {_shown(value)}")

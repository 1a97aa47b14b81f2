"""Everything that decides a fit, as one frozen value that is stored in the model."""

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.errors import UsageError
from topwork.registry import closest

STRATEGIES = ("features",)
HEADS = ("auto", "svm", "logistic", "lda", "ridge", "nearest-mean")
FEATURES = ("auto", "pooled", "logits")
GEOMETRIES = ("auto", "crop", "pad", "stretch")
DEFAULT_BACKBONE = "tf_efficientnet_lite0"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a fit; two equal recipes on the same pictures give the same model.

    >>> Recipe(head="svm").head
    'svm'
    >>> Recipe(head="swm")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: head must be one of auto, svm, ..., not 'swm': did you mean svm?
    """

    strategy: str = "features"
    """How the network is reused: ``features`` freezes it and learns a linear head."""
    backbone: str = DEFAULT_BACKBONE
    """Name of the pretrained network; ``topwork backbones`` lists them."""
    head: str = "auto"
    """The classifier on top; ``auto`` chooses by inner cross-validation."""
    features: str = "auto"
    """What the head sees: ``pooled`` features, the ImageNet ``logits``, or the better of both."""
    geometry: str = "crop"
    """How a picture becomes a square: centre ``crop``, ``pad`` or ``stretch``; ``auto`` chooses on small sets."""
    folds: int = 0
    """Outer cross-validation folds; 0 chooses by the size of the set (leave-one-out for tiny ones)."""
    seed: int = 0
    """Decides the folds, and every other random choice."""
    coverage: float = 0.95
    """Share of pictures like the training ones that the novelty threshold must accept, in (0, 1)."""
    group_duplicates: bool = True
    """Keep near-duplicates in one fold; without it the accuracy may be inflated."""
    max_pixels: int = 100_000_000
    """Pictures with more pixels than this are excluded, not decoded."""
    head_limit: int = 20_000
    """Most pictures the head stage holds in memory; a larger set is sampled by class."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("strategy", STRATEGIES),
            ("head", HEADS),
            ("features", FEATURES),
            ("geometry", GEOMETRIES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                listed = ", ".join(allowed)
                raise UsageError(f"{name} must be one of {listed}, not {value!r}: {closest(str(value), allowed)}")
        _require_int("folds", self.folds, lambda v: v == 0 or v >= 3, "0 (automatic) or at least 3")
        _require_int("seed", self.seed, lambda v: v >= 0, "0 or more")
        _require_int("max_pixels", self.max_pixels, lambda v: v >= 1, "at least 1")
        _require_int("head_limit", self.head_limit, lambda v: v >= 100, "at least 100")
        if not isinstance(self.backbone, str) or not self.backbone:
            raise UsageError(f"backbone must be a name, not {self.backbone!r}; see `topwork backbones`")
        if not isinstance(self.group_duplicates, bool):
            raise UsageError(f"group_duplicates must be true or false, not {self.group_duplicates!r}")
        if not isinstance(self.coverage, int | float) or not 0 < self.coverage < 1:
            raise UsageError(f"coverage must be a number between 0 and 1, such as 0.95, not {self.coverage!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """A recipe from plain values; an unknown key raises UsageError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise UsageError(f"a recipe has no setting {key!r}: {closest(key, known)}")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path) -> "Recipe":
        """Read a recipe from a TOML file; missing settings keep their defaults."""
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"expected a recipe file at {path}: {error.strerror}; check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"expected TOML in {path}, but {error}; see docs/fit.md for an example") from error
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)

    def to_toml(self) -> str:
        """The recipe as TOML text.

        >>> import tomllib
        >>> Recipe.from_dict(tomllib.loads(Recipe(seed=3).to_toml())) == Recipe(seed=3)
        True
        """
        import tomli_w

        return tomli_w.dumps(self.to_dict())


def _require_int(name: str, value: Any, accept: Any, expected: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not accept(value):
        raise UsageError(f"{name} must be a whole number, {expected}, not {value!r}")

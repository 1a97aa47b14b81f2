"""Random variants of training pictures, and blended batches of them.

A preset is a row of steps. A step is made by one small function that writes both its words and its transform from the
same numbers, so what is documented is what is done.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.preprocessing import seen_box
from topwork.backbones.spec import Preprocess
from topwork.errors import UsageError
from topwork.registry import closest
from topwork.training.extra import require_torch

CROP_FRACTION = 0.875
SMALLEST = 8  # pixels; below it a blur reaches beyond both sides of the picture
GREY = 127  # fills what was cut out or turned away: about 0 once the network's mean is subtracted

Transform = Callable[[Any], Any]
"""From a tensor ``[3, h, w] uint8`` to another."""


@dataclass(frozen=True)
class Step:
    """One step of a preset."""

    words: str
    make: Callable[[Any, int], Transform]
    """torchvision.transforms.v2 and the side of the network's input, in pixels, to the transform."""


@dataclass(frozen=True)
class Augmenter:
    """Makes random variants of pictures; equal augmenters make equal variants for equal keys.

    ``preset``: one of ``PRESETS``; ``size``: side of the variants in pixels; ``crop_fraction``: share of the shorter
    side that the centre crop of prediction keeps, in (0, 1]. Nothing outside decides a variant, neither the thread nor
    the calls before, and torch's global random state is left as it was; but a thread that draws from that global state
    itself during a call gets numbers that depend on it. An unknown preset, a size below 8 pixels and a crop fraction
    outside (0, 1] raise UsageError, a missing torch or torchvision MissingExtraError.

    >>> picture = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
    >>> augmenter = Augmenter("light", size=32, seed=0)
    >>> augmenter(picture, 5, 1).shape
    (32, 32, 3)
    >>> np.array_equal(augmenter(picture, 5, 1), augmenter(picture, 5, 1))
    True
    >>> np.array_equal(augmenter(picture, 5, 1), augmenter(picture, 5, 2))
    False
    """

    preset: str
    size: int
    seed: int
    crop_fraction: float = CROP_FRACTION
    geometry: str = "crop"
    """``pad`` and ``stretch`` make a square of the whole picture first, so that its ends are seen in training too."""

    def __post_init__(self) -> None:
        steps(self.preset, self.crop_fraction)
        if self.geometry not in _SQUARED:
            raise UsageError(f"training takes squares: {', '.join(_SQUARED)}, not {self.geometry!r}")
        if self.size < SMALLEST:
            raise UsageError(f"the size of augmented pictures must be at least {SMALLEST} pixels, not {self.size}")
        require_torch()

    def __call__(self, pixels: NDArray[np.uint8], *key: int) -> NDArray[np.uint8]:
        """The variant number ``key`` of ``pixels`` ``[h, w, 3] uint8``, as ``[size, size, 3] uint8``.

        ``key``: any whole numbers, such as the picture's place and the epoch. Other pixels raise UsageError.
        """
        import torch

        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
            raise UsageError(f"expected pixels [h, w, 3] uint8, got {list(pixels.shape)} {pixels.dtype}; decode as RGB")
        # A copy, because torch takes neither read-only nor mirrored views.
        image = torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1)
        fraction = self.crop_fraction if self.geometry == "crop" else 1.0  # as in prediction
        with _drawing_from(self.seed, *key):
            variant = _composed(self.preset, self.size, fraction)(_SQUARED[self.geometry](image, 2 * self.size))
        made: NDArray[np.uint8] = variant.permute(1, 2, 0).contiguous().numpy()
        return made


@dataclass(frozen=True)
class Mixer:
    """Blends the pictures of a batch, each with the one before it, and their labels in the same proportion.

    ``mixup`` and ``cutmix``: parameters of the Beta distribution that the proportion is drawn from; 0 leaves the way
    out, and where both are above 0 a toss decides for each batch. ``n_classes``: width of the targets.

    - mixup: ``x = p x_i + (1 - p) x_j`` (Zhang et al. 2018, arXiv:1710.09412)
    - cutmix: a rectangle of ``x_j`` is pasted into ``x_i``, ``1 - p`` is its share of the area (Yun et al. 2019,
      arXiv:1905.04899)

    >>> import torch
    >>> inputs, targets = Mixer(mixup=0.2, cutmix=0, n_classes=3)(torch.rand(2, 5), torch.tensor([0, 2]), seed=0)
    >>> inputs.shape, targets.shape, targets.sum(dim=1).round(decimals=5).tolist()
    (torch.Size([2, 5]), torch.Size([2, 3]), [1.0, 1.0])
    """

    mixup: float
    cutmix: float
    n_classes: int

    def __call__(self, inputs: Any, labels: Any, seed: int) -> tuple[Any, Any]:
        """Blended inputs, and soft targets ``[b, n_classes] float32`` whose rows sum to 1.

        ``inputs``: float ``[b, ...]``, pictures or feature maps; cutmix needs ``[b, c, h, w]``, else UsageError.
        ``labels``: ``[b] int64``. Both are left as they were; equal seeds draw equal proportions.
        """
        require_torch()
        import torch
        from torchvision.transforms import v2

        with _drawing_from(seed):
            chosen = "mixup" if self.mixup > 0 else "cutmix" if self.cutmix > 0 else "none"
            if self.mixup > 0 and self.cutmix > 0:
                chosen = "mixup" if torch.rand(()) < 0.5 else "cutmix"
            if chosen == "cutmix":
                if inputs.ndim != 4:
                    raise UsageError(f"cutmix needs inputs [b, c, h, w], got {list(inputs.shape)}; use mixup instead")
                mixed, targets = v2.CutMix(alpha=self.cutmix, num_classes=self.n_classes)(inputs, labels)
                return mixed, targets
            if chosen == "mixup":
                rows = inputs.flatten(1)[:, None, None]  # [b, 1, 1, n]: it takes nothing but batches of pictures
                mixed, targets = v2.MixUp(alpha=self.mixup, num_classes=self.n_classes)(rows, labels)
                return mixed.reshape(inputs.shape), targets
        return inputs, torch.nn.functional.one_hot(labels, self.n_classes).float()


def description(preset: str, crop_fraction: float = CROP_FRACTION) -> list[str]:
    """The steps of a preset in words, in their order; UsageError for an unknown one.

    >>> description("light")[1]
    'mirrored left to right with probability 50 %'
    """
    return [step.words for step in steps(preset, crop_fraction)]


def steps(preset: str, crop_fraction: float = CROP_FRACTION) -> tuple[Step, ...]:
    """The steps of a preset; UsageError for an unknown one and for a crop fraction outside (0, 1].

    >>> steps("lihgt")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: there is no augmentation 'lihgt': did you mean light?
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no augmentation {preset!r}: {closest(preset, PRESETS)}")
    if not 0 < crop_fraction <= 1:
        raise UsageError(f"crop_fraction must be above 0, at most 1, not {crop_fraction!r}")
    return PRESETS[preset](crop_fraction)


def _none(crop_fraction: float) -> tuple[Step, ...]:
    return (_as_predicted(crop_fraction),)


def _light(_: float) -> tuple[Step, ...]:
    return (_random_part(0.4), _mirror(), _colour(0.2, 0.2, 0.2, 0.02))


def _strong(_: float) -> tuple[Step, ...]:
    return (_random_part(0.25), _mirror(), _trivial_augment(), _grey(0.1), _erase(0.25))


def _document(crop_fraction: float) -> tuple[Step, ...]:
    """No mirroring and no strong distortion: text must stay readable."""
    return (
        _with_surroundings(crop_fraction),
        _move(degrees=3, shift=0.03, scale=0.1),
        _perspective(0.1, 0.5),
        _middle(crop_fraction),
        _colour(0.3, 0.3),
        _blur(1.0, 0.3),
        _grey(0.2),
    )


def _satellite(_: float) -> tuple[Step, ...]:
    return (_random_part(0.5), _all_symmetries(), _colour(0.2, 0.2, 0.2, 0.02))


PRESETS: dict[str, Callable[[float], tuple[Step, ...]]] = {
    "none": _none,
    "light": _light,
    "strong": _strong,
    "document": _document,
    "satellite": _satellite,
}
"""Name -> the steps for a crop fraction; the names are ``topwork.recipe.AUGMENTATIONS``."""


def _untouched(image: Any, _: int) -> Any:
    return image


def _stretched(image: Any, side: int) -> Any:
    """The whole picture as a square, squashed."""
    from torchvision.transforms.v2 import functional

    return functional.resize(image, [side, side], functional.InterpolationMode.BICUBIC, antialias=True)


def _padded(image: Any, side: int) -> Any:
    """The whole picture in the middle of a grey square."""
    from torchvision.transforms.v2 import functional

    longer = max(image.shape[-2:])
    height, width = (max(1, round(side * length / longer)) for length in image.shape[-2:])
    small = functional.resize(image, [height, width], functional.InterpolationMode.BICUBIC, antialias=True)
    left, top = (side - width) // 2, (side - height) // 2
    return functional.pad(small, [left, top, side - width - left, side - height - top], fill=GREY)


_SQUARED: dict[str, Callable[[Any, int], Any]] = {"crop": _untouched, "pad": _padded, "stretch": _stretched}
"""Geometry -> what makes a picture ``[3, h, w]`` ready for a preset; twice the network's side is enough."""


def _as_predicted(crop_fraction: float) -> Step:
    def make(v2: Any, size: int) -> Transform:
        return _resized_centre(v2, size, crop_fraction)

    return Step(f"the centre square, {_percent(crop_fraction)} of the shorter side, as in prediction", make)


def _random_part(least: float) -> Step:
    def make(v2: Any, size: int) -> Transform:
        cubic = v2.InterpolationMode.BICUBIC
        part: Transform = v2.RandomResizedCrop(size, (least, 1), (3 / 4, 4 / 3), interpolation=cubic, antialias=True)
        return part

    return Step(f"a random part, {_percent(least)} to 100 % of the area, sides 3:4 to 4:3, made square", make)


def _mirror() -> Step:
    return Step("mirrored left to right with probability 50 %", lambda v2, _: v2.RandomHorizontalFlip(0.5))


def _all_symmetries() -> Step:
    def make(v2: Any, _: int) -> Transform:
        # Exact, unlike a rotation, which would resample; with both mirrorings it makes the quarter turns too.
        diagonal = v2.RandomApply([v2.Lambda(lambda image: image.transpose(-1, -2))], 0.5)
        symmetry: Transform = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5), diagonal])
        return symmetry

    return Step("mirrored and turned by quarter turns: each of the 8 symmetries alike", make)


def _colour(brightness: float, contrast: float, saturation: float = 0.0, hue: float = 0.0) -> Step:
    named = [("brightness", brightness), ("contrast", contrast), ("saturation", saturation), ("hue", hue)]
    words = ", ".join(f"{name} {_percent(strength)}" for name, strength in named if strength)
    return Step(f"varied by up to: {words}", lambda v2, _: v2.ColorJitter(brightness, contrast, saturation, hue))


def _trivial_augment() -> Step:
    def make(v2: Any, _: int) -> Transform:
        wide: Transform = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR, fill=GREY)
        return wide

    return Step("one random change of shape or colour, of any strength (TrivialAugment)", make)


def _grey(probability: float) -> Step:
    return Step(
        f"without colours with probability {_percent(probability)}", lambda v2, _: v2.RandomGrayscale(probability)
    )


def _erase(probability: float) -> Step:
    return Step(
        f"a rectangle painted grey with probability {_percent(probability)}",
        lambda v2, _: v2.RandomErasing(probability, value=GREY),
    )


def _with_surroundings(crop_fraction: float) -> Step:
    def make(v2: Any, size: int) -> Transform:
        side = _outer_side(size, crop_fraction)
        return v2.Compose([_resized_centre(v2, side, 1.0), v2.Pad(side // 4, padding_mode="edge")])  # type: ignore[no-any-return]

    return Step("the centre square, all of the shorter side, its border repeated outwards", make)


def _move(*, degrees: float, shift: float, scale: float) -> Step:
    def make(v2: Any, _: int) -> Transform:
        smooth = v2.InterpolationMode.BILINEAR
        move: Transform = v2.RandomAffine(degrees, (shift, shift), (1 - scale, 1 + scale), interpolation=smooth)
        return move

    words = f"turned by up to {degrees:g} degrees, moved by up to {_percent(shift)}, scaled by up to {_percent(scale)}"
    return Step(words, make)


def _perspective(distortion: float, probability: float) -> Step:
    return Step(
        f"seen at an angle, by up to {_percent(distortion)}, with probability {_percent(probability)}",
        lambda v2, _: v2.RandomPerspective(distortion, probability, interpolation=v2.InterpolationMode.BILINEAR),
    )


def _middle(crop_fraction: float) -> Step:
    return Step(
        f"the middle {_percent(crop_fraction)} of the side, as in prediction", lambda v2, size: v2.CenterCrop(size)
    )


def _blur(sigma: float, probability: float) -> Step:
    return Step(
        f"blurred by up to {sigma:g} pixel (sigma) with probability {_percent(probability)}",
        lambda v2, _: v2.RandomApply([v2.GaussianBlur(5, (0.1, sigma))], probability),
    )


def _resized_centre(v2: Any, size: int, fraction: float) -> Transform:
    """The centre square with ``fraction`` of the shorter side, cut by the arithmetic of prediction."""
    geometry = Preprocess(size=size, crop_fraction=fraction, mean=(0.0,) * 3, std=(1.0,) * 3)

    def cut(image: Any) -> Any:
        left, top, right, bottom = map(int, seen_box(geometry, "crop", *image.shape[-2:]))
        return image[:, top:bottom, left:right]

    resize = v2.Resize((size, size), interpolation=v2.InterpolationMode.BICUBIC, antialias=True)
    return v2.Compose([v2.Lambda(cut), resize])  # type: ignore[no-any-return]


def _outer_side(size: int, crop_fraction: float) -> int:
    """Side in pixels of the whole square whose middle of ``crop_fraction`` has ``size`` pixels."""
    return round(size / crop_fraction)


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


@cache
def _composed(preset: str, size: int, crop_fraction: float) -> Transform:
    from torchvision.transforms import v2

    return v2.Compose([step.make(v2, size) for step in steps(preset, crop_fraction)])  # type: ignore[no-any-return]


_drawing = Lock()


@contextmanager
def _drawing_from(*key: int) -> Iterator[None]:
    """Let torch's global random numbers start from ``key`` inside; outside nothing is changed.

    torchvision's transforms draw from the global generator alone, which all threads share: hence the lock.
    """
    import torch

    digest = hashlib.sha256(",".join(str(int(number)) for number in key).encode()).digest()
    with _drawing, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also seed the GPUs, whose state is not kept here.
        torch.random.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
        yield

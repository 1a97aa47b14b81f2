"""Picture sets for the benchmark: given photographs, varied until there are enough, or generated ones."""

import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SHAPE = (533, 400)


def make_set(folder: Path, n: int, photos: Path | None) -> Path:
    """``n`` JPEGs in class folders below ``folder``: from ``photos`` (class folders), else generated patterns."""
    target = folder / f"photos{n}"
    n_classes = max(2, min(10, n // 10))  # enough of each for five folds
    folders = sorted(p for p in photos.iterdir() if p.is_dir())[:n_classes] if photos else []
    sources = [path for folder in folders for path in sorted(folder.iterdir())]
    for number in range(n):
        if sources:
            source = sources[number * len(sources) // n] if n <= len(sources) else sources[number % len(sources)]
            label, image = source.parent.name, varied(Image.open(source).convert("RGB"), number // len(sources))
        else:
            label, image = f"class{number % n_classes}", generated(number)
        place = target / label / f"{number:06d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.save(place, quality=90)
    return target


def varied(image: Image.Image, variant: int) -> Image.Image:
    """The picture itself as variant 0; others are mirrored, cropped and turned until they count as different."""
    if variant == 0:
        return image
    dice = random.Random(variant)
    left, top = dice.uniform(0.05, 0.25), dice.uniform(0.05, 0.25)
    box = (left * image.width, top * image.height, (left + 0.7) * image.width, (top + 0.7) * image.height)
    image = image.rotate(dice.uniform(-20, 20), Image.Resampling.BICUBIC).crop(box)
    return ImageOps.mirror(image).resize(SHAPE[::-1], Image.Resampling.BICUBIC)


def generated(number: int) -> Image.Image:
    """Waves whose direction is the class (``number % 10``), with noise."""
    dice = np.random.default_rng(number)
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]] / SHAPE[1]
    angle = np.pi * (number % 10 + dice.uniform(-0.6, 0.6)) / 10
    waves = np.sin(2 * np.pi * 7 * (np.cos(angle) * x + np.sin(angle) * y)[..., None] + dice.uniform(0, 6, 3))
    noisy = 127 + 60 * waves + dice.normal(0, 25, waves.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))

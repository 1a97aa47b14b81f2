"""Generated pictures that are natural enough for a network: clouds of many sizes, shapes, noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw


def scene(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """A picture that resembles no other seed's: colour clouds, a few shapes, fine noise."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), random.uniform(70, 160, 3))
    for cells, strength in ((3, 50), (8, 30), (24, 20), (64, 12)):
        cloud = random.normal(0, strength, (cells, cells, 3)).clip(-127, 127) + 128
        image = Image.fromarray(cloud.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        pixels += np.asarray(image, np.float64) - 128
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(7):
        x, y = random.integers(0, width), random.integers(0, height)
        w, h = random.integers(width // 16, width // 2), random.integers(height // 12, height // 2)
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), fill=colour)
    noisy = np.asarray(image, np.float64) + random.normal(0, 5, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., Image.Image]:
    return scene


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of different pictures with one of every fault."""
    root = tmp_path_factory.mktemp("planted")
    for name, seeds in (("ant", range(14)), ("bee", range(100, 106))):
        (root / name).mkdir()
        for seed in seeds:
            scene(seed).save(root / name / f"{seed:03}.jpg", quality=92)
    _plant_repeats(root)
    _plant_faults(root)
    return root


def _plant_repeats(root: Path) -> None:
    (root / "ant" / "copy_of_000.jpg").write_bytes((root / "ant" / "000.jpg").read_bytes())
    (root / "bee" / "ant_001.jpg").write_bytes((root / "ant" / "001.jpg").read_bytes())
    scene(2).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "ant" / "002_mirrored.jpg", quality=92)
    scene(3).resize((256, 192)).save(root / "ant" / "003_small.png")
    scene(4).save(root / "bee" / "004_recompressed.jpg", quality=60)


def _plant_faults(root: Path) -> None:
    from PIL import ImageFilter

    scene(20).filter(ImageFilter.GaussianBlur(5)).save(root / "ant" / "blurred.jpg", quality=92)
    scene(21).point(lambda v: v * 0.2).save(root / "ant" / "dark.png")
    scene(22).point(lambda v: 205 + v * 0.2).save(root / "ant" / "washed_out.png")
    Image.new("RGB", (320, 240), (90, 120, 150)).save(root / "ant" / "flat.png")
    scene(23, 20, 20).save(root / "ant" / "tiny.png")
    scene(24, 2000, 150).save(root / "ant" / "strip.jpg", quality=92)
    scene(25).convert("CMYK").save(root / "ant" / "print.jpg", quality=92)
    (root / "bee" / "cut.jpg").write_bytes((root / "bee" / "100.jpg").read_bytes()[:4000])
    (root / "bee" / "empty.png").write_bytes(b"")
    (root / "bee" / ".hidden.jpg").write_bytes(b"x")
    (root / "bee" / "notes.txt").write_text("notes")

"""What is noted about each picture."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from topwork.features.facts import Facts, measure, mirrored_hash
from topwork.images import Picture, to_pixels


def facts_of(pixels: np.ndarray) -> Facts:
    return measure(to_pixels(np.ascontiguousarray(pixels)))


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


@pytest.mark.parametrize("seed", range(30))
def test_hash_of_the_mirror_image(draw: Callable[..., np.ndarray], seed: int) -> None:
    picture = draw(seed, 128, 160)
    straight, mirrored = facts_of(picture).phash, facts_of(picture[:, ::-1]).phash
    assert mirrored_hash(straight) == mirrored
    assert mirrored_hash(mirrored) == straight
    assert bits(straight, mirrored) > 10


def test_hash_survives_resizing_and_compression_but_not_another_picture(draw: Callable[..., np.ndarray]) -> None:
    pictures = [draw(seed, 256, 320) for seed in range(20)]
    hashes = [facts_of(picture).phash for picture in pictures]
    for picture, own in zip(pictures, hashes, strict=True):
        smaller = np.asarray(Image.fromarray(picture).resize((200, 160)))
        brighter = np.clip(picture * 0.8 + 20, 0, 255).astype(np.uint8)
        for variant in (smaller, brighter):
            assert bits(facts_of(variant).phash, own) <= 5
    others = [bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(others) > 5
    assert 20 < np.mean(others) < 44


def test_hash_by_hand() -> None:
    """A picture that is one cosine has one sign: that of its frequency."""
    x = (np.arange(320) + 0.5) / 320
    grey = 128 + 100 * np.cos(np.pi * 3 * x)
    pixels = np.repeat(np.tile(grey, (320, 1))[:, :, None], 3, axis=2).astype(np.uint8)
    found = facts_of(pixels).phash
    assert found >> 3 & 1 == 1
    assert facts_of(255 - pixels).phash >> 3 & 1 == 0
    assert found & 1 == 0  # the mean is left out
    turned = facts_of(pixels.transpose(1, 0, 2)).phash
    assert turned >> 24 & 1 == 1


@pytest.mark.parametrize("seed", range(5))
def test_sharpness_falls_with_blur(seed: int) -> None:
    """On pictures of much contrast: rounding to whole levels alone gives about 1.3 / contrast."""
    blocks = np.random.default_rng(seed).integers(0, 2, (12, 12), dtype=np.uint8) * 255
    image = Image.fromarray(np.kron(blocks, np.ones((25, 25), np.uint8))).convert("RGB")
    found = [facts_of(np.asarray(image.filter(ImageFilter.GaussianBlur(r)))).sharpness for r in (0, 1, 2, 4)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.1 < found[1]


def test_light_by_hand() -> None:
    half = np.zeros((100, 100, 3), np.uint8)
    half[:, 50:] = 200
    facts = facts_of(half)
    assert (facts.brightness, facts.contrast) == (100.0, 100.0)
    assert (facts.width, facts.height, facts.mode, facts.format) == (100, 100, "RGB", "memory")
    # Two columns beside the edge have a Laplacian of +-200, the other 96 of 98 none.
    assert facts.sharpness == pytest.approx(200 * (2 / 98) ** 0.5 / 100, abs=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (2, 2), (3, 3), (1000, 7), (700, 900)])
def test_any_size_and_round_trip(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    facts = facts_of(pixels)
    assert Facts.from_bytes(facts.to_bytes()) == facts
    assert 0 <= facts.phash < 2**64
    assert np.isfinite([facts.sharpness, facts.brightness, facts.contrast]).all()


def test_size_is_that_of_the_file_not_of_the_shrunk_copy() -> None:
    facts = measure(Picture(np.zeros((50, 60, 3), np.uint8), "JPEG", "CMYK", 600, 500))
    assert (facts.width, facts.height, facts.mode, facts.format) == (600, 500, "CMYK", "JPEG")

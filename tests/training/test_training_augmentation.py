"""Variants of pictures: the same for the same key whatever else happens; what each preset may and may not do."""

import hashlib
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torchvision.transforms import v2

from topwork.backbones import preprocessing
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.backbones.spec import Preprocess
from topwork.errors import MissingExtraError, UsageError
from topwork.features.session import open_session
from topwork.recipe import AUGMENTATIONS
from topwork.training.augmentation import PRESETS, Augmenter, Mixer, description, steps

SIZE = 48
PAGE = Path(__file__).parents[2] / "docs" / "augment.md"


@pytest.fixture(scope="module")
def picture(pattern: Callable[..., np.ndarray]) -> np.ndarray:
    return pattern("any", 3)


def gradient(height: int, width: int) -> np.ndarray:
    """[h, w, 3], grey: grows to the right and twice as fast downwards, so its 8 symmetries differ, also in any part."""
    y, x = np.mgrid[:height, :width]
    return np.repeat((255 * (x + 2 * y) / (width + 2 * height)).astype(np.uint8)[..., None], 3, axis=2)


def eight(square: np.ndarray) -> list[np.ndarray]:
    """0 to 3: quarter turns; 4 to 7: the same after mirroring."""
    return [np.rot90(mirrored, turns) for mirrored in (square, square[:, ::-1]) for turns in range(4)]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.mean(axis=2).ravel(), b.mean(axis=2).ravel())[0, 1])


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_a_key_decides_the_variant(preset: str, picture: np.ndarray) -> None:
    augmenter = Augmenter(preset, SIZE, seed=4)
    keys = [(picture_number, epoch) for picture_number in range(4) for epoch in range(3)]
    first = {key: augmenter(picture, *key) for key in keys}
    torch.manual_seed(99)
    torch.rand(7)
    with ThreadPoolExecutor(4) as pool:
        again = dict(zip(keys[::-1], pool.map(lambda key: augmenter(picture, *key), keys[::-1]), strict=True))
    for key in keys:
        np.testing.assert_array_equal(first[key], again[key])
    different = {variant.tobytes() for variant in first.values()}
    assert len(different) == (1 if preset == "none" else len(keys))


def test_seeds_and_keys_give_other_variants(picture: np.ndarray) -> None:
    variants = [
        Augmenter("light", SIZE, seed)(picture, *key)
        for seed in (0, 1)
        for key in [(), (0,), (0, 0), (1,), (0, 1), (1, 0), (11,), (1, 1), (2**32,), (-1,)]
    ]
    assert len({variant.tobytes() for variant in variants}) == len(variants)


def test_a_key_may_be_of_numpy(picture: np.ndarray) -> None:
    augmenter = Augmenter("light", SIZE, seed=0)
    np.testing.assert_array_equal(augmenter(picture, 7), augmenter(picture, np.int64(7)))  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_the_global_random_state_of_torch_stays(preset: str, picture: np.ndarray) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Augmenter(preset, SIZE, seed=1)(picture, 1)
    Mixer(1.0, 1.0, 2)(torch.ones(2, 3, 4, 4), torch.tensor([0, 1]), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_random_state_stays_after_an_error() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(UsageError, match=r"cutmix needs inputs \[b, c, h, w\], got \[2, 5\]; use mixup instead"):
        Mixer(0, 1.0, 2)(torch.zeros(2, 5), torch.tensor([0, 1]), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_pickled_and_back(picture: np.ndarray) -> None:
    augmenter = Augmenter("strong", SIZE, seed=2)
    expected = augmenter(picture, 1)  # what it has made before does not matter either
    copy = pickle.loads(pickle.dumps(augmenter))  # noqa: S301 - its own pickle
    assert copy == augmenter
    np.testing.assert_array_equal(copy(picture, 1), expected)


def test_the_same_in_another_process_which_imports_torch_late(
    picture: np.ndarray, tmp_path: Path, python: Callable[..., Any]
) -> None:
    np.save(tmp_path / "picture.npy", picture)
    program = """
import hashlib, sys
import numpy as np
import topwork.cli.augmenting, topwork.training.sheet
from topwork.training.augmentation import Augmenter, description
assert description("strong") and "torch" not in sys.modules
print(hashlib.sha256(Augmenter("strong", 48, seed=2)(np.load(sys.argv[1]), 6, 1)).hexdigest())
"""
    done = python(program, tmp_path / "picture.npy", PYTHONHASHSEED="7")
    assert done.stdout.strip() == hashlib.sha256(Augmenter("strong", 48, seed=2)(picture, 6, 1)).hexdigest(), (
        done.stderr
    )


@pytest.mark.parametrize("preset", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 5), (1, 300), (300, 1), (8, 4000), (SIZE, SIZE), (61, 47)])
def test_any_picture_becomes_the_square(preset: str, shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for key in range(4):
        variant = Augmenter(preset, SIZE, seed=0)(picture, key)
        assert (variant.shape, variant.dtype) == ((SIZE, SIZE, 3), np.uint8)
        assert variant.flags.c_contiguous


@pytest.mark.parametrize("preset", [name for name in AUGMENTATIONS if name != "strong"])
def test_grey_stays_grey(preset: str) -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (50, 70, 1), dtype=np.uint8), 3, axis=2)
    for key in range(6):
        variant = Augmenter(preset, SIZE, seed=0)(grey, key).astype(int)
        assert np.ptp(variant, axis=2).max() <= 1


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_read_only_and_scattered_pixels(preset: str, picture: np.ndarray) -> None:
    augmenter = Augmenter(preset, SIZE, seed=0)
    views = [picture[::-1, ::-1], picture[::2, 1::3], picture[..., ::-1], picture.transpose(1, 0, 2)]
    for view in views:
        plain = np.array(view, order="C")
        kept = plain.copy()
        view.flags.writeable = False
        np.testing.assert_array_equal(augmenter(view, 3), augmenter(plain, 3))
        np.testing.assert_array_equal(plain, kept)


def test_wrong_pixels_are_refused(picture: np.ndarray) -> None:
    augmenter = Augmenter("light", SIZE, seed=0)
    for wrong in (picture[..., 0], picture / 255, picture[:0], picture[..., :2]):
        with pytest.raises(UsageError, match=r"expected pixels \[h, w, 3\] uint8"):
            augmenter(wrong)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="there is no augmentation 'satelite': did you mean satellite"):
        Augmenter("satelite", SIZE, seed=0)
    with pytest.raises(UsageError, match="at least 8 pixels, not 7"):
        Augmenter("light", 7, seed=0)
    for fraction in (0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="crop_fraction must be above 0, at most 1"):
            Augmenter("none", SIZE, seed=0, crop_fraction=fraction)


@pytest.mark.parametrize("missing", ["torch", "torchvision"])
def test_without_torch(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert description("light")
    with pytest.raises(MissingExtraError, match=r'run pip install "topwork\[train\]"'):
        Augmenter("light", SIZE, seed=0)


@pytest.mark.parametrize("fraction", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("shape", [(110, 140), (97, 61), (300, 40), (20, 20), (1, 1)])
def test_none_is_what_prediction_sees(shape: tuple[int, int], fraction: float) -> None:
    preprocess = Preprocess(size=SIZE, crop_fraction=fraction, mean=(0.0,) * 3, std=(1.0,) * 3)
    nodes = Nodes()
    x = preprocessing.build(preprocess, "crop", nodes, "image")
    model = nodes.model([image_input()], [float_output(x, ["n", 3, SIZE, SIZE])])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    (expected,) = session.run(None, {"image": picture[None]})
    variant = Augmenter("none", SIZE, seed=0, crop_fraction=fraction)(picture, 5)
    # Pure noise is the hardest case: a level of rounding in each of the two passes.
    assert np.abs(variant.transpose(2, 0, 1) - expected[0]).max() <= 2


@pytest.mark.parametrize("shape", [(110, 140), (97, 61)])
def test_document_moves_little_and_never_mirrors(shape: tuple[int, int]) -> None:
    picture = gradient(*shape)
    same, *others = eight(Augmenter("none", SIZE, seed=0)(picture))
    for key in range(60):
        variant = Augmenter("document", SIZE, seed=0)(picture, key)
        assert correlation(variant, same) > 0.95
        assert max(correlation(variant, other) for other in others) < 0.9


def test_document_never_shows_what_is_beyond_its_border() -> None:
    white = np.full((70, 90, 3), 255, np.uint8)
    for crop_fraction in (0.875, 1.0):
        augmenter = Augmenter("document", SIZE, seed=0, crop_fraction=crop_fraction)
        for key in range(60):
            assert np.ptp(augmenter(white, key)) <= 1  # a level of rounding after interpolation


@pytest.mark.parametrize(
    ("preset", "expected"), [("none", {0}), ("light", {0, 4}), ("document", {0}), ("satellite", set(range(8)))]
)
def test_symmetries(preset: str, expected: set[int]) -> None:
    picture = gradient(80, 80)
    plain = eight(Augmenter("none", SIZE, seed=0)(picture))
    found = []
    for key in range(64):
        variant = Augmenter(preset, SIZE, seed=0)(picture, key)
        found.append(int(np.argmax([correlation(variant, each) for each in plain])))
    assert set(found) == expected
    assert max(np.bincount(found)) <= 2.5 * len(found) / len(expected)


def test_light_shows_at_least_its_share() -> None:
    """Red grows to the right and green downwards, so their spans are the shares of width and height that are shown."""
    y, x = np.mgrid[:200, :200]
    picture = torch.from_numpy(np.stack([x, y, 0 * x]).astype(np.uint8))
    crop = steps("light")[0].make(v2, SIZE)
    torch.manual_seed(0)
    spans = np.ptp(np.array([crop(picture).numpy() for _ in range(200)], float), axis=(2, 3))[:, :2] / 200
    areas = spans.prod(axis=1)
    assert areas.min() == pytest.approx(0.4, abs=0.04)
    assert areas.max() > 0.85  # all of it only where the sides come out equal
    ratios = spans[:, 0] / spans[:, 1]
    assert 0.7 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.4


def test_the_presets_are_those_of_the_recipe() -> None:
    assert tuple(PRESETS) == AUGMENTATIONS


@pytest.mark.parametrize("preset", AUGMENTATIONS)
def test_the_documentation_says_what_each_preset_does(preset: str) -> None:
    (row,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{preset}` |")]
    assert row.split(" | ")[1].rstrip(" |") == "; ".join(description(preset))


def test_a_description_has_the_crop_fraction_that_is_used() -> None:
    assert description("none", 0.95) == ["the centre square, 95 % of the shorter side, as in prediction"]


BATCH = 6
LABELS = torch.tensor([0, 1, 2, 3, 1, 0])


@pytest.mark.parametrize("shape", [(5,), (3, 8, 8), (112, 4, 5)])
def test_mixup_is_linear(shape: tuple[int, ...]) -> None:
    """Where input i is the number i everywhere, a blend with its neighbour tells the proportion."""
    inputs = torch.arange(BATCH, dtype=torch.float32).reshape(BATCH, *[1] * len(shape)).expand(BATCH, *shape)
    one_hot = torch.nn.functional.one_hot(LABELS, 4).float()
    before = torch.roll(torch.arange(BATCH, dtype=torch.float32), 1)
    shares = []
    for seed in range(20):
        mixed, targets = Mixer(0.8, 0, 4)(inputs, LABELS, seed)
        own = (mixed.reshape(BATCH, -1)[2, 0] - 1).item()  # the third is 2 own + 1 (1 - own)
        shares.append(own)
        expected = own * torch.arange(BATCH) + (1 - own) * before
        torch.testing.assert_close(mixed, expected.reshape(BATCH, *[1] * len(shape)).expand(BATCH, *shape))
        torch.testing.assert_close(targets, own * one_hot + (1 - own) * one_hot.roll(1, 0), atol=1e-6, rtol=0)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(BATCH))
    assert min(shares) < 0.3
    assert max(shares) > 0.7
    assert all(0 <= share <= 1 for share in shares)


def test_cutmix_targets_are_the_pasted_area() -> None:
    inputs = torch.arange(BATCH, dtype=torch.float32).reshape(BATCH, 1, 1, 1).expand(BATCH, 2, 20, 30)
    areas = []
    for seed in range(30):
        mixed, targets = Mixer(0, 1.0, 4)(inputs, LABELS, seed)
        for number in range(BATCH):
            pasted = mixed[number, 0] != number
            area = pasted.float().mean().item()
            expected = torch.zeros(4)
            expected[LABELS[number]] += 1 - area
            expected[LABELS[number - 1]] += area
            torch.testing.assert_close(targets[number], expected, atol=1e-6, rtol=0)
            assert torch.all(mixed[number][:, pasted] == (number - 1) % BATCH)
            rows, columns = torch.where(pasted)
            if len(rows):  # a rectangle
                assert len(rows) == (np.ptp(rows.numpy()) + 1) * (np.ptp(columns.numpy()) + 1)
        areas.append(area)
    assert min(areas) < 0.1
    assert max(areas) > 0.5


def test_a_mixer_without_any_way_changes_nothing() -> None:
    inputs = torch.rand(BATCH, 3, 4, 4)
    mixed, targets = Mixer(0, 0, 5)(inputs, LABELS, seed=0)
    assert torch.equal(mixed, inputs)
    assert torch.equal(targets, torch.eye(5)[LABELS])


def test_a_mixer_with_both_ways_tosses_for_each_batch() -> None:
    inputs = torch.arange(BATCH, dtype=torch.float32).reshape(BATCH, 1, 1, 1).expand(BATCH, 1, 16, 16)
    blended = []
    for seed in range(40):
        mixed, _ = Mixer(1.0, 1.0, 4)(inputs, LABELS, seed)
        blended.append(not torch.equal(mixed, mixed.round()))  # cutmix keeps whole numbers
    assert 12 <= sum(blended) <= 28


def test_a_seed_decides_the_blend_and_the_inputs_stay() -> None:
    inputs = torch.rand(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    kept, labels = inputs.clone(), LABELS.clone()
    for mixer in (Mixer(0.4, 0, 4), Mixer(0, 1.0, 4), Mixer(0.4, 1.0, 4)):
        first = mixer(inputs, labels, seed=3)
        torch.manual_seed(1)
        again = mixer(inputs, labels, seed=3)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[1], mixer(inputs, labels, seed=4)[1])
    assert torch.equal(inputs, kept)
    assert torch.equal(labels, LABELS)


def test_the_ends_of_long_pictures_are_trained_on_where_they_are_predicted_on() -> None:
    """Red and blue ends of a grey strip: a crop's variants are of its middle, those of pad and stretch of all of it."""
    strip = np.full((40, 240, 3), 127, np.uint8)
    strip[:, :40], strip[:, 200:] = (255, 0, 0), (0, 0, 255)
    seen = {}
    for geometry in ("crop", "pad", "stretch"):
        augmenter = Augmenter("light", 64, seed=0, geometry=geometry)
        variants = np.stack([augmenter(strip, number, 0) for number in range(40)]).astype(int)
        coloured = np.abs(variants[..., 0] - variants[..., 2]) > 60
        seen[geometry] = coloured.any(axis=(1, 2)).mean()
    assert seen["crop"] == 0
    assert min(seen["pad"], seen["stretch"]) > 0.9
    with pytest.raises(UsageError, match="training takes squares: crop, pad, stretch, not 'whole'"):
        Augmenter("light", 64, seed=0, geometry="whole")


@pytest.mark.parametrize("geometry", ["pad", "stretch"])
def test_none_is_as_in_prediction(geometry: str) -> None:
    preprocess = Preprocess(size=64, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3)
    nodes = Nodes()
    x = preprocessing.build(preprocess, geometry, nodes, "image")
    model = nodes.model([image_input()], [float_output(x, ["n", 3, 64, 64])])
    waves = 127 + 90 * np.sin(np.mgrid[:90, :200][1] / 9)[..., None] * np.ones(3)
    picture = waves.astype(np.uint8)
    (square,) = open_session(model.SerializeToString()).run(None, {"image": picture[None]})
    variant = Augmenter("none", 64, seed=0, geometry=geometry)(picture)
    assert np.abs(square[0].transpose(1, 2, 0) * 128 + 127 - variant).mean() < 3

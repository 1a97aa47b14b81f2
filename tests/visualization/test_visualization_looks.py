"""Kernels and feature maps are the network's own; sheets show every tile; steps of a convolution add up."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from topwork.backbones.graph import stage_graph
from topwork.backbones.pretrained import pretrained_module
from topwork.backbones.torch_graph import graph_module
from topwork.backbones.zoo import backbone
from topwork.errors import SourceError, UsageError
from topwork.features.session import open_session
from topwork.images import ImageSource
from topwork.visualization.activations import FeatureMaps, activation_sheet, activations
from topwork.visualization.ascent import Settings
from topwork.visualization.convolution import KERNELS
from topwork.visualization.dream import DreamSettings, dream
from topwork.visualization.filters import filters, visible_layers
from topwork.visualization.invert import invert
from topwork.visualization.maximize import maximize
from topwork.visualization.opened import Opened, open_network
from topwork.visualization.patches import receptive_boxes, top_patches
from topwork.visualization.sheet import GAP, LINE, MARGIN, PAPER, Section, Tile, scaled, sheet
from topwork.visualization.square import network_square
from topwork.visualization.steps import convolution_steps, kernel_of
from topwork.visualization.targets import Target


@pytest.fixture(scope="module")
def lite0() -> Opened:
    return open_network("tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def photo(pattern: object) -> np.ndarray:
    return pattern("any", 3)  # type: ignore[operator, no-any-return]


def test_first_filters_are_the_published_weights_times_the_batch_norm(lite0: Opened) -> None:
    name, kernels = filters(lite0.network)
    module = pretrained_module(lite0.spec)
    norm = module.bn1
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None, None]
    assert name == next(iter(visible_layers(lite0.network)))
    assert np.abs(kernels - (module.conv_stem.weight * factor).detach().numpy()).max() < 1e-4


def test_another_layer_is_found_by_its_weight_and_a_pointwise_one_is_refused(lite0: Opened) -> None:
    weights = lite0.network.weights()
    depthwise = list(visible_layers(lite0.network))[1]
    name, kernels = filters(lite0.network, depthwise)
    assert name == depthwise
    assert np.array_equal(kernels, weights[depthwise])
    pointwise = next(name for name, array in weights.items() if array.ndim == 4 and array.shape[2:] == (1, 1))
    with pytest.raises(UsageError, match=f"expected a convolution whose kernels see .*, not '{pointwise}': .*in all"):
        filters(lite0.network, pointwise)


def test_activations_are_those_of_the_stage_graphs(lite0: Opened, photo: np.ndarray) -> None:
    found = {each.stage.name: each.maps for each in activations(lite0, photo, geometry="pad")}
    assert list(found) == [stage.name for stage in lite0.spec.stages]
    for name in ("blocks.0", "blocks.4", "last_map"):
        (expected,) = open_session(stage_graph(lite0.spec, "pad", name)).run([name], {"image": photo[None]})
        assert np.abs(found[name] - expected[0]).max() < 1e-5


def test_strongest_maps_come_first() -> None:
    maps = np.zeros((4, 2, 2), np.float32)
    maps[1], maps[2], maps[3, 0, 0] = 1, -2, 3
    assert FeatureMaps(backbone("tf_efficientnet_lite0").stages[0], maps).strongest(3) == [2, 1, 3]


def test_random_weights_are_the_same_every_time_and_said_to_be_random() -> None:
    backbone("lenet5")  # describing a network for the first time draws its weights
    state = torch.get_rng_state()
    first, again = (open_network("lenet5", random_weights=True) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.network.fingerprint == again.network.fingerprint
    assert not first.pretrained
    assert first.warning.startswith("lenet5 has no pretrained weights on this machine, so these are pictures of new")


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """``[96, 96, 3]``: waves of colour with two rectangles before them, a little blurred as a photograph is."""
    y, x = np.mgrid[:96, :96]
    scene = np.stack([128 + 90 * np.sin(x / 9 + k) * np.cos(y / 13 + 2 * k) for k in range(3)], -1)
    scene[20:50, 30:70], scene[60:80, 10:40] = (220, 60, 40), (30, 90, 200)
    return gaussian_filter(scene, (1, 1, 0)).clip(0, 255).astype(np.uint8)


def test_inversion_comes_close_to_the_representation_at_an_early_layer(lite0: Opened, scene: np.ndarray) -> None:
    (found,) = invert(lite0, scene, ["blocks.0"], steps=200)
    assert found.trace[-1] < 0.1 * found.trace[0]
    module = graph_module(lite0.network.model, "x", "blocks.0")
    made, wanted, grey = (
        module(torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(2, 0, 1)[None])
        for pixels in (found.picture, scene, np.full_like(scene, 127))
    )
    assert (made - wanted).square().sum() < 0.1 * (grey - wanted).square().sum()


def test_inversion_is_decided_by_its_seed(lite0: Opened, photo: np.ndarray) -> None:
    square = network_square(lite0.spec, photo)[:32, :32]
    first, again, other = (invert(lite0, square, ["blocks.0"], steps=3, seed=seed)[0].picture for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    with pytest.raises(UsageError, match="expected at least 1 step, not 0"):
        invert(lite0, square, ["blocks.0"], steps=0)


def test_dreams_raise_the_objective_at_every_size_and_keep_the_picture(lite0: Opened, photo: np.ndarray) -> None:
    image = photo[:96, :128]
    found = dream(lite0, image, "blocks.3", DreamSettings(steps=6, octaves=2, jitter=4))
    assert found.picture.shape == image.shape
    assert all(trace[-1] > 1.2 * trace[0] for trace in found.trace)
    changed = np.abs(found.picture.astype(float) - image).mean()
    assert 1 < changed < 60
    again = dream(lite0, image, "blocks.3", DreamSettings(steps=6, octaves=2, jitter=4))
    assert np.array_equal(found.picture, again.picture)


def test_dreams_of_unknown_channels_are_refused(lite0: Opened, photo: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"expected a channel of blocks.1 from 0 to 23, not 24"):
        dream(lite0, photo, "blocks.1", DreamSettings(channel=24))
    with pytest.raises(UsageError, match="expected steps and octaves of at least 1"):
        dream(lite0, photo, "blocks.1", DreamSettings(octaves=0))


@pytest.mark.parametrize("layer", ["blocks.0", "blocks.2"])
def test_boxes_are_the_receptive_field_of_the_gradient(layer: str, lite0: Opened) -> None:
    boxes = receptive_boxes(lite0.network, layer, 224)
    row, column = boxes.shape[0] // 2, boxes.shape[1] // 3
    left, top, right, bottom = boxes[row, column]
    module = graph_module(lite0.network.model, "x", layer)
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[0, :, row, column].sum(), x)
    rows, columns = gradient[0].abs().sum(0).nonzero().unbind(1)
    assert (left, top) == (columns.min(), rows.min())
    assert (right, bottom) == (columns.max() + 1, rows.max() + 1)


def test_top_patches_hold_what_excites_the_channel(lite0: Opened, tmp_path: Path, photo_set: object) -> None:
    photos = photo_set(tmp_path / "photos", 2)  # type: ignore[operator]
    (photos / "dots" / "broken.png").write_bytes(b"no picture")
    samples = ImageSource.open(photos).samples
    found, excluded = top_patches(lite0, samples, "blocks.1", 8, count=4)
    assert [each.path for each in excluded] == ["dots/broken.png"]
    strengths = [each.place.activation for each in found]
    assert strengths == sorted(strengths, reverse=True)
    best = found[0]
    maps = activations(lite0, np.array(Image.open(photos / best.place.sample.id)))[1].maps[8]
    assert best.place.activation == pytest.approx(maps.max(), rel=1e-4)
    assert maps[best.place.at] == pytest.approx(maps.max(), rel=1e-4)
    left, top, right, bottom = best.box
    square = network_square(lite0.spec, np.array(Image.open(photos / best.place.sample.id)))
    assert np.array_equal(best.pixels, square[top:bottom, left:right])
    others = [s for s in samples if s.id == "dots/broken.png"]
    with pytest.raises(SourceError, match="expected pictures to look at, but none of 1 could be read"):
        top_patches(lite0, others, "blocks.1", 8)


def test_the_square_is_the_crop_in_its_own_pixels(lite0: Opened) -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8)
    assert np.array_equal(network_square(lite0.spec, image), image[16:240, 38:262])


def test_a_sheet_places_tiles_by_rows() -> None:
    tiles = [Tile(np.full((4, 4, 3), level, np.uint8)) for level in (0, 100, 200)]
    pixels = np.array(sheet([Section("", tiles, 2)], side=32))
    assert pixels.shape == (2 * MARGIN + 2 * 32 + GAP, 2 * MARGIN + 2 * 32 + GAP, 3)
    assert (pixels[MARGIN : MARGIN + 32, MARGIN : MARGIN + 32] == 0).all()
    assert (pixels[MARGIN + 10, MARGIN + 32 + GAP + 10] == 100).all()
    assert (pixels[MARGIN + 32 + GAP + 10, MARGIN + 10] == 200).all()
    assert tuple(pixels[0, 0]) == PAPER


def test_flat_pictures_waste_no_paper_and_long_titles_wrap() -> None:
    wide = Tile(np.zeros((10, 40), np.uint8), "a caption that is much too long for the tile")
    image = sheet([Section("words " * 20, [wide], 1)], side=200)
    lines = (image.height - 2 * MARGIN - 50 - LINE) // LINE
    assert lines >= 3
    assert image.width == 200 + 2 * MARGIN


def test_scaled_reaches_from_black_to_white() -> None:
    assert scaled(np.array([2.0, 3.0, 4.0])).tolist() == [0, 128, 255]
    assert scaled(np.full((2, 2), 7.0)).tolist() == [[128, 128], [128, 128]]


def test_steps_print_the_worked_example_with_its_arithmetic() -> None:
    image = [[2, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 3, 0, 0]]
    given, convolved = convolution_steps(image, [[1, 0, 1], [0, 0, 0], [0, 1, 0]], flip=False)
    assert given.shape == "4 x 4"
    assert convolved.lines == [
        "convolved: 2 x 2, values 1 to 3",
        "  height: (4 + 0 - 3) / 1 + 1 = 2",
        "  width:  (4 + 0 - 3) / 1 + 1 = 2",
        "  the strongest value, at row 0, column 0: pixels x kernel, summed up",
        "    2  0  1     1  0  1      2  0  1",
        "    0  1  0  x  0  0  0  ->  0  0  0  = 3",
        "    0  0  1     0  1  0      0  0  0",
        "  3  2",
        "  3  1",
    ]
    assert convolved.to_dict()["values"] == [[3, 2], [3, 1]]


@pytest.mark.parametrize(("height", "width"), [(7, 12), (11, 8)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_arithmetic_gives_the_shapes(height: int, width: int, stride: int, padding: str) -> None:
    image = np.random.default_rng(0).normal(size=(height, width, 3))
    found = convolution_steps(image, np.ones((3, 2)), stride=stride, padding=padding, pool="max", flip=False)
    for step in found[1:]:
        for line, length in zip(step.arithmetic, step.values.shape[:2], strict=True):
            formula, result = line.split(":")[1].removesuffix(", rounded down").split("=")
            assert int(eval(formula.replace("/", "//"))) == int(result) == length  # noqa: S307
            assert ("rounded down" in line) == (eval(formula) % 1 != 0)  # noqa: S307


def test_kernels_are_named_or_written_out() -> None:
    assert kernel_of("blur").sum() == pytest.approx(1)
    assert kernel_of("[[1, 2], [3, 4]]").tolist() == [[1, 2], [3, 4]]
    with pytest.raises(UsageError, match=r"not 'sobl': did you mean sobel\?"):
        kernel_of("sobl")
    for text in ("[[1, 2], [3]]", "[[1,", '["a"]'):
        with pytest.raises(UsageError, match="expected the kernel as rows of numbers of one length"):
            kernel_of(text)


def test_notebooks_show_results_as_they_are(lite0: Opened, photo: np.ndarray) -> None:
    def shown(result: object) -> np.ndarray:
        return np.array(Image.open(io.BytesIO(result._repr_png_())))  # type: ignore[attr-defined]

    dreamt = dream(lite0, photo[:64, :64], "blocks.0", DreamSettings(steps=1, octaves=1))
    assert np.array_equal(shown(dreamt), dreamt.picture)
    (inverted,) = invert(lite0, photo[:32, :32], ["blocks.0"], steps=1)
    assert np.array_equal(shown(inverted), inverted.picture)
    (maximized,) = maximize(lite0, [Target("blocks.0", 1)], Settings(steps=1, size=32))
    assert np.array_equal(shown(maximized), maximized.pixels)
    step = convolution_steps(photo, KERNELS["blur"], flip=False)[1]
    assert np.array_equal(shown(step), step.tile.pixels)
    maps = activations(lite0, photo)[0]
    assert shown(maps).shape == np.array(sheet([activation_sheet(maps)], side=96)).shape

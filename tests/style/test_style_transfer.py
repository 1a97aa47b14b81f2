"""Painting by optimisation, on a small network: what it reaches, what it leaves alone, and how it goes on."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from topwork.errors import UsageError
from topwork.style import network
from topwork.style.losses import gram
from topwork.style.network import LossNetwork
from topwork.style.transfer import Settings, Style, Transfer, scales_of, transfer_steps


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 on every processor."""
    monkeypatch.setattr(network, "_precision", lambda: torch.float32)


def made(opened: Any, content: np.ndarray, styles: list[Style], **options: Any) -> list[Any]:
    return list(transfer_steps(opened, content, styles, Settings(**{"size": 64, "steps": 10, "scales": 1, **options})))


def test_losses_fall_at_every_step(tiny_vgg: Any, picture: Any) -> None:
    options = {"optimizer": "adam", "rate": 0.002, "steps": 25}
    totals = [each.value.total for each in made(tiny_vgg, picture(0), [Style(picture(1))], **options)]
    assert len(totals) == 26
    assert all(after < before for before, after in itertools.pairwise(totals))
    assert totals[-1] < 0.7 * totals[0]


def test_l_bfgs_is_further_after_as_many_steps(tiny_vgg: Any, picture: Any) -> None:
    ends = {
        optimizer: made(tiny_vgg, picture(0), [Style(picture(1))], optimizer=optimizer, steps=40)[-1].value.total
        for optimizer in ("lbfgs", "adam")
    }
    assert ends["lbfgs"] < ends["adam"]


def test_content_alone_is_the_content_picture_again(tiny_vgg: Any, picture: Any) -> None:
    steps = made(
        tiny_vgg, picture(0), [Style(picture(1))], style_weight=0, smoothness=0, start="noise", steps=150,
        content_layers=("conv1_2",),
    )  # fmt: skip
    assert steps[-1].value.content < 0.03 * steps[0].value.content


def test_style_alone_has_the_statistics_of_the_style_picture(tiny_vgg: Any, picture: Any) -> None:
    layers = {"conv1_1": 1.0, "conv2_1": 1.0, "conv3_1": 1.0}
    steps = made(
        tiny_vgg, picture(0), [Style(picture(1))], content_weight=0, smoothness=0, start="noise", steps=150,
        style_layers=layers,
    )  # fmt: skip
    vgg = LossNetwork(tiny_vgg, list(layers), pooling="average")
    maps, wanted = (
        vgg(torch.from_numpy(each.transpose(2, 0, 1).copy())[None]) for each in (steps[-1].picture, picture(1))
    )
    for layer in layers:
        apart = (gram(maps[layer]) - gram(wanted[layer])).norm() / gram(wanted[layer]).norm()
        assert float(apart) < 0.03, layer
    assert steps[-1].value.content > 0.01  # nothing of the content picture is in it


def test_the_same_seed_gives_the_same_picture(tiny_vgg: Any, picture: Any) -> None:
    pictures = [
        made(tiny_vgg, picture(0), [Style(picture(1))], start="noise", seed=seed)[-1].picture for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert np.abs(pictures[0] - pictures[2]).max() > 0.01


def test_outside_of_a_mask_nothing_changes(tiny_vgg: Any, picture: Any) -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[:, 40:] = 1
    for options in ({}, {"scales": 2, "steps": 12}, {"colours": "luminance"}, {"optimizer": "adam"}):
        result = made(tiny_vgg, picture(0), [Style(picture(1), mask=mask)], **options)[-1].picture
        np.testing.assert_array_equal(result[:, :40], picture(0)[:, :40])
        assert np.abs(result[:, 40:] - picture(0)[:, 40:]).mean() > 0.01


def test_each_region_gets_its_own_style(tiny_vgg: Any, picture: Any) -> None:
    left = np.zeros((64, 64), np.float32)
    left[:, :32] = 1
    dark, bright = np.full((64, 64, 3), 0.1, np.float32), np.full((64, 64, 3), 0.9, np.float32)
    styles = [Style(dark, mask=left), Style(bright, mask=1 - left)]
    result = made(tiny_vgg, np.full((64, 64, 3), 0.5, np.float32), styles, steps=40, content_weight=0)[-1].picture
    assert result[:, :24].mean() < 0.3 < 0.7 < result[:, 40:].mean()


def test_weights_of_styles_mix_them(tiny_vgg: Any, picture: Any) -> None:
    one, other = picture(1), picture(2)
    alone = made(tiny_vgg, picture(0), [Style(one)])[-1].picture
    first = made(tiny_vgg, picture(0), [Style(one, 3.0), Style(other, 0.0)])[-1].picture
    both = made(tiny_vgg, picture(0), [Style(one), Style(other)])[-1].picture
    np.testing.assert_allclose(first, alone, atol=1e-4)
    assert np.abs(both - alone).mean() > 0.005


def test_luminance_keeps_the_differences_of_the_colours(tiny_vgg: Any, picture: Any) -> None:
    grey = np.repeat(picture(1).mean(2, keepdims=True), 3, 2)
    content = 0.3 + 0.4 * picture(0)
    result = made(tiny_vgg, content, [Style(grey)], colours="luminance", steps=5)[-1].picture
    inside = ((result > 0) & (result < 1)).all(2)
    assert inside.mean() > 0.5
    change = (result - content)[inside]
    np.testing.assert_allclose(change - change.mean(1, keepdims=True), 0, atol=1e-5)


def test_histogram_gives_the_style_the_colours_of_the_content(tiny_vgg: Any, picture: Any) -> None:
    red = picture(0) * np.array([1, 0.2, 0.2], np.float32)
    ends = {
        colours: made(tiny_vgg, red, [Style(picture(1))], colours=colours, steps=30, style_weight=1000)[-1].picture
        for colours in ("style", "histogram")
    }
    far = {name: np.abs(each.mean((0, 1)) - red.mean((0, 1))).sum() for name, each in ends.items()}
    assert far["histogram"] < 0.5 * far["style"]


def test_a_file_to_start_from(tiny_vgg: Any, picture: Any) -> None:
    transfer = Transfer(tiny_vgg, [Style(picture(1))], Settings(size=64, steps=2, scales=1))
    first = next(transfer.steps(picture(0), start=picture(5, 128, 128)))
    assert first.picture.shape == (64, 64, 3)
    assert first.value.content > 0


def test_a_run_goes_on_from_any_of_its_steps(tiny_vgg: Any, picture: Any) -> None:
    settings = Settings(size=128, steps=12, scales=2, optimizer="lbfgs")
    transfer = Transfer(tiny_vgg, [Style(picture(1, 128, 128))], settings)
    content = picture(0, 128, 96)
    every = list(transfer.steps(content))
    assert [each.number for each in every] == list(range(13))
    assert [each.size for each in every] == [(64, 48)] * 8 + [(128, 96)] * 5
    for at in (3, 8, 10, 12):
        again = list(transfer.steps(content, start=every[at].state, done=at))
        assert [each.number for each in again] == list(range(at, 13))
        assert again[0].value == every[at].value
        assert again[-1].size == (128, 96)


def test_a_later_size_begins_with_the_earlier_result(tiny_vgg: Any, picture: Any) -> None:
    settings = Settings(size=128, steps=40, scales=2)
    steps = list(Transfer(tiny_vgg, [Style(picture(1, 128, 128))], settings).steps(picture(0, 128, 128)))
    fine = [each.value.style for each in steps if each.size == (128, 128)]
    alone = made(tiny_vgg, picture(0, 128, 128), [Style(picture(1, 128, 128))], size=128, steps=1)
    assert fine[0] < 0.5 * alone[0].value.style


def test_in_tiles_the_picture_is_the_same(tiny_vgg: Any, picture: Any) -> None:
    content, style = picture(0, 320, 352), [Style(picture(1, 200, 200))]
    options = {"size": 352, "steps": 3, "optimizer": "adam"}
    whole, tiled = (made(tiny_vgg, content, style, tile=tile, **options)[-1] for tile in (0, 288))
    assert tiled.value.total == pytest.approx(whole.value.total, rel=1e-3)
    # Not every pixel: Adam makes a whole step of a gradient that is nearly 0, whatever its sign.
    assert np.quantile(np.abs(tiled.picture - whole.picture), 0.999) < 1e-3


def test_smoothness_takes_grain_away(tiny_vgg: Any, picture: Any) -> None:
    rough = {}
    for smoothness in (0.0, 300.0):
        result = made(tiny_vgg, picture(0), [Style(picture(1))], smoothness=smoothness, steps=30)[-1].picture
        rough[smoothness] = np.abs(np.diff(result, axis=0)).mean()
    assert rough[300.0] < 0.8 * rough[0.0]


def test_sizes_from_coarse_to_fine() -> None:
    assert scales_of(600, 800, Settings(size=800)) == [(150, 200), (300, 400), (600, 800)]
    assert scales_of(600, 800, Settings(size=800, scales=1)) == [(600, 800)]
    assert scales_of(100, 50, Settings(size=200)) == [(200, 100)]


def test_every_picture_on_the_way_is_within_0_and_1(tiny_vgg: Any, picture: Any) -> None:
    for colours in ("style", "luminance"):
        for each in made(tiny_vgg, picture(0), [Style(picture(1), 1.0)], colours=colours, style_weight=1e4, steps=20):
            assert 0 <= each.picture.min() <= each.picture.max() <= 1


def test_grey_pictures_work(tiny_vgg: Any) -> None:
    grey = np.full((64, 64, 3), 0.4, np.float32)
    assert np.isfinite(made(tiny_vgg, grey, [Style(grey)], colours="histogram")[-1].picture).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "sgd"}, "optimizer cannot be 'sgd'"),
        ({"start": "blank"}, "start cannot be 'blank'"),
        ({"colours": "kept"}, "colours cannot be 'kept'"),
        ({"size": 16}, "size of at least 32"),
        ({"steps": 0}, "at least 1 step"),
        ({"style_weight": -1.0}, "weights of at least 0"),
        ({"style_scale": 0.0}, "style scale above 0"),
        ({"style_layers": {"conv9": 1.0}}, "no layer 'conv9'"),
        ({"tile": 100}, "tiles of at least"),
    ],
)
def test_wrong_settings_are_refused(tiny_vgg: Any, picture: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(tiny_vgg, picture(0, 128, 128), [Style(picture(1))], **{"size": 128, **options})


def test_pictures_that_cannot_be_painted(tiny_vgg: Any, picture: Any) -> None:
    with pytest.raises(UsageError, match="at least 32 pixels on both sides at size 64, got 64 x 6"):
        made(tiny_vgg, picture(0, 10, 100), [Style(picture(1))])
    with pytest.raises(UsageError, match="got none"):
        made(tiny_vgg, picture(0), [])


MEMORY = """
import resource, sys
import numpy as np, onnx, torch
from onnx import helper, numpy_helper
sys.path.insert(0, sys.argv[1])
from test_style_losses import Toy
from topwork.style.losses import ContentLoss, StyleLoss, gram
from topwork.style.objective import ContentTerm, Objective, StyleTerm
toy = Toy(channels=64)
with torch.no_grad():
    wanted = toy(torch.rand(1, 3, 64, 64))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
style = [StyleTerm(layer, StyleLoss(gram(maps))) for layer, maps in wanted.items()]
value, gradient = Objective(toy, [], style, tile=int(sys.argv[2]) or None)(torch.rand(1, 3, 2000, 2000))
assert gradient.shape == (1, 3, 2000, 2000) and float(gradient.abs().max()) > 0
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_picture_of_2000_pixels_fits_into_bounded_memory(python: Any, request: pytest.FixtureRequest) -> None:
    """One map of the toy's first layer alone has 1,024 MB at that size."""
    done = python(MEMORY, request.path.parent, 512)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 700


def test_from_noise_nothing_of_the_content_comes_in_with_larger_sizes(tiny_vgg: Any) -> None:
    random = np.random.default_rng(0)
    content, style = random.random((64, 64, 3), np.float32), np.full((64, 64, 3), 0.5, np.float32)
    result = made(tiny_vgg, content, [Style(style)], content_weight=0, start="noise", scales=2, steps=20)[-1].picture
    assert abs(np.corrcoef(result.ravel(), content.ravel())[0, 1]) < 0.1


def test_the_result_is_never_worse_than_the_start(tiny_vgg: Any, picture: Any) -> None:
    for steps in (1, 2, 3, 10):
        states = made(tiny_vgg, picture(0), [Style(picture(0))], steps=steps)
        assert states[-1].value.total <= states[0].value.total + 1e-6


def test_a_black_mask_is_refused(tiny_vgg: Any, picture: Any) -> None:
    with pytest.raises(UsageError, match="black all over"):
        made(tiny_vgg, picture(0), [Style(picture(1), mask=np.zeros((64, 64), np.float32))])


@pytest.mark.parametrize(("height", "width"), [(255, 239), (250, 300)])
def test_odd_sizes_in_parts(tiny_vgg: Any, picture: Any, height: int, width: int) -> None:
    mask = picture(3, height, width)[..., 0]
    options = {"size": max(height, width), "steps": 1, "optimizer": "adam", "content_layers": ("conv5_4",)}
    whole, parts = (
        made(tiny_vgg, picture(0, height, width), [Style(picture(1), mask=mask)], tile=tile, **options)[0].value
        for tile in (0, 224)
    )
    assert parts.style == pytest.approx(whole.style, rel=1e-3)
    assert parts.total == pytest.approx(whole.total, rel=1e-3)

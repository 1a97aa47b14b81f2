"""Fast styles: one graph from training to use, its folder, and what is refused."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from topwork.backbones.torch_graph import graph_module
from topwork.errors import ModelError, SourceError, UsageError
from topwork.images import ImageSource
from topwork.style import feedforward
from topwork.style.fast_style import FastStyle, save
from topwork.style.learning import Training, learn

SMALL = Training(steps=40, batch=2, size=64, width=4, blocks=1, rate=0.01, style_weight=10)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, picture: Any) -> ImageSource:
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(6):
        Image.fromarray((255 * picture(number, 80, 100 + number)).astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return ImageSource.open(folder)


@pytest.fixture(scope="module")
def learned(tiny_vgg: Any, picture: Any, photographs: ImageSource) -> list[Any]:
    return list(learn(tiny_vgg, picture(9), photographs.samples, SMALL))


@pytest.fixture(scope="module")
def style_folder(learned: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles") / "waves.style"
    save(folder, learned[-1].network(), {"name": "waves"}, report="<p>")
    return folder


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 64), (50, 127)])
def test_the_graph_takes_every_size_and_gives_what_was_trained(size: tuple[int, int]) -> None:
    model = feedforward.network(width=4, blocks=2, seed=1)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    painted = FastStyle(model.SerializeToString(), {}, name="x").apply(image)
    assert painted.shape == image.shape
    module = graph_module(model, feedforward.PIXELS, feedforward.STYLED)
    below, beside = (-side % 4 for side in size)
    whole = np.pad(image, ((0, below), (0, beside), (0, 0)), "edge")
    with torch.no_grad():
        trained = module(torch.from_numpy(whole.transpose(2, 0, 1)[None].copy()) / 255)
    levels = (255 * trained[0, :, : size[0], : size[1]]).round().permute(1, 2, 0).numpy()
    assert np.abs(levels - painted).max() <= 1


def test_instance_norm_takes_contrast_away(picture: Any) -> None:
    """As Ulyanov et al. have it: a picture of less contrast is painted alike."""
    style = FastStyle(feedforward.network(width=4, blocks=1).SerializeToString(), {}, name="x")
    bright = (255 * picture(3)).astype(np.uint8)
    pale = (100 + 0.5 * bright).astype(np.uint8)
    assert np.abs(style.apply(bright).astype(int) - style.apply(pale)).mean() < 2


def test_losses_fall_in_training(learned: list[Any]) -> None:
    assert [each.number for each in learned] == list(range(1, SMALL.steps + 1))
    totals = [each.value.total for each in learned]
    assert np.mean(totals[-5:]) < 0.7 * np.mean(totals[:3])


def test_the_same_seed_trains_the_same_network(tiny_vgg: Any, picture: Any, photographs: ImageSource) -> None:
    few = Training(**{**vars(SMALL), "steps": 3})
    ends = [
        list(learn(tiny_vgg, picture(9), photographs.samples, Training(**{**vars(few), "seed": seed})))[-1]
        for seed in (0, 0, 1)
    ]
    first, same, other = (end.network().SerializeToString() for end in ends)
    assert first == same
    assert first != other


def test_training_goes_on_from_a_style(
    tiny_vgg: Any, picture: Any, photographs: ImageSource, learned: list[Any]
) -> None:
    few = Training(**{**vars(SMALL), "steps": 2})
    again = list(learn(tiny_vgg, picture(9), photographs.samples, few, start=learned[-1].network()))
    assert again[0].value.total < 0.8 * learned[0].value.total


def test_without_a_picture_that_can_be_read_nothing_is_trained(
    tiny_vgg: Any, picture: Any, photographs: ImageSource
) -> None:
    broken = [sample for sample in photographs.samples if "broken" in sample.id]
    assert broken
    with pytest.raises(SourceError, match="none of 1 can be read"):
        next(learn(tiny_vgg, picture(9), broken, SMALL))


def test_a_folder_paints_as_when_it_was_made(style_folder: Path) -> None:
    style = FastStyle.load(style_folder)
    assert style.drift(style_folder) == 0
    manifest = json.loads((style_folder / "model.json").read_text())
    assert manifest["task"] == "stylize"
    assert set(manifest["files"]) == {"model.onnx", "report.html"} | {
        f"golden/{number}{kind}.png" for number in range(4) for kind in ("", ".styled")
    }


def test_a_damaged_folder_is_refused(style_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.style"
    import shutil

    shutil.copytree(style_folder, copy)
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="sha256 differs"):
        FastStyle.load(copy)


def test_models_of_another_task_are_refused(fitted: Any, style_folder: Path) -> None:
    import topwork

    with pytest.raises(ModelError, match="expected a fast style, got a model with task 'classify'"):
        FastStyle.load(fitted.folder)
    with pytest.raises(ModelError, match="expected a model that classifies, got one with task 'stylize'"):
        topwork.load(style_folder)


def test_a_graph_that_paints_nothing_is_refused(fitted: Any, tmp_path: Path) -> None:
    import topwork.folder

    graph = (fitted.folder / "model.onnx").read_bytes()
    topwork.folder.write(tmp_path / "wrong.style", {"task": "stylize"}, {"model.onnx": graph})
    with pytest.raises(ModelError, match=r"cannot open .* uses the operator"):
        FastStyle.load(tmp_path / "wrong.style")


def test_tiny_pictures_are_refused(style_folder: Path) -> None:
    with pytest.raises(UsageError, match="at least 16 pixels on both sides, got 40 x 15"):
        FastStyle.load(style_folder).apply(np.zeros((15, 40, 3), np.uint8))


@pytest.mark.parametrize("options", [{"size": 63}, {"size": 66}, {"steps": 0}, {"width": 0}, {"width": 129}])
def test_wrong_settings_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected a size"):
        Training(**options)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from topwork.cli.app import run
style, picture, output = sys.argv[1:]
code = run(["--debug", "style", "apply", style, picture, "-o", output])
assert code == 0
"""


def test_a_style_needs_no_torch(
    style_folder: Path, tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    done = python(WITHOUT_TORCH, style_folder, tmp_path / "red.png", tmp_path / "painted.png")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "painted.png").size == (40, 30)

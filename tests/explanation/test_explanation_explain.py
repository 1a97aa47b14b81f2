"""topwork.explain: what it returns, what it refuses, what it leaves behind (nothing), and a planted cue."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.errors import UsageError
from topwork.explanation import explain
from topwork.explanation.methods import METHODS, aim_at
from topwork.explanation.summary import summarize

IDENTITY = np.eye(3).reshape(3, 3, 1, 1)
WEIGHT = np.array([[2.0, -1.0], [-3.0, 0.5], [0.75, 1.5]])


def test_every_method_on_a_small_model(toy_model: Callable[..., Path], pattern: Callable[..., np.ndarray]) -> None:
    model = topwork.load(toy_model([IDENTITY, IDENTITY], WEIGHT))
    pixels = pattern("any", 4)
    [prediction] = model.predict(pixels)
    for method in METHODS.names():
        [found] = explain(model, pixels, method=method)
        assert (found.path, found.label, found.target, found.method) == (
            "#0",
            prediction.label,
            prediction.label,
            method,
        )
        assert found.probability == pytest.approx(prediction.probability, abs=1e-5)
        assert found.layer == ("last_map" if METHODS.get(method).layers != "input" else "input")
        assert found.values is not None
        assert found.values.dtype == np.float32
        assert found.on_input is not None
        assert found.on_input.shape == (8, 8)
        assert found.box == (0, 0, 140, 110)
        assert found.faithfulness is not None
        assert 0 <= found.faithfulness.deletion <= 1
        assert 0 <= found.faithfulness.insertion <= 1


def test_the_maps_of_two_classes_differ(fitted: Any) -> None:
    picture = sorted(fitted.photos.rglob("*.png"))[0]
    one, two = (explain(fitted.folder, picture, target=label, faithfulness=False)[0] for label in ("dots", "stripes"))
    assert (one.target, two.target) == ("dots", "stripes")
    assert one.label == two.label
    assert not np.allclose(one.values, two.values)


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(fitted: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    good = sorted(fitted.photos.rglob("*.png"))[0]
    first, second = explain(fitted.folder, [bad, good], faithfulness=False)
    assert first.error
    assert (first.values, first.label, first.on_input) == (None, None, None)
    assert second.error is None
    assert second.values is not None


def test_wrong_names_are_refused(fitted: Any) -> None:
    picture = sorted(fitted.photos.rglob("*.png"))[0]
    with pytest.raises(UsageError, match="did you mean grad-cam"):
        explain(fitted.folder, picture, method="gradcam")
    with pytest.raises(UsageError, match="no class 'dot': did you mean dots"):
        explain(fitted.folder, picture, target="dot")
    with pytest.raises(UsageError, match=r"no stage 'blocks.9': did you mean"):
        explain(fitted.folder, picture, method="grad-cam", layer="blocks.9")


def state() -> tuple[Any, ...]:
    """Everything in PyTorch that an explanation could leave changed."""
    import torch
    from torch.overrides import _get_current_function_mode_stack

    x = torch.tensor([-1.0, 1.0, 7.0], requires_grad=True)
    torch.nn.functional.hardtanh(torch.relu(x), 0, 6).backward(torch.tensor([1.0, -1.0, 1.0]))
    return (
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.initial_seed(),
        torch.get_rng_state().tolist(),
        len(_get_current_function_mode_stack()),
        x.grad.tolist() if x.grad is not None else None,
    )


@pytest.mark.parametrize("method", METHODS.names())
def test_nothing_is_left_behind(method: str, toy_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model = topwork.load(toy_model([IDENTITY, IDENTITY], WEIGHT))
    pixels = np.random.default_rng(5).integers(0, 256, (20, 20, 3), np.uint8)
    before, answer = state(), model.answer(pixels).probabilities.tobytes()
    explain(model, pixels, method=method)
    assert state() == before
    assert model.answer(pixels).probabilities.tobytes() == answer
    with torch.no_grad():  # a caller's mode neither disturbs nor is disturbed
        [inside] = explain(model, pixels, method=method, faithfulness=False)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(inside.values, explain(model, pixels, method=method, faithfulness=False)[0].values)


@pytest.mark.parametrize("method", ["grad-cam", "guided-backprop", "integrated-gradients"])
def test_nothing_is_left_behind_after_an_error(
    method: str, toy_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    model = topwork.load(toy_model([IDENTITY, IDENTITY], WEIGHT))
    pixels = np.random.default_rng(5).integers(0, 256, (20, 20, 3), np.uint8)
    before, answer = state(), model.answer(pixels).probabilities.tobytes()
    grad = torch.autograd.grad

    def fails(*arguments: Any, **options: Any) -> Any:
        grad(*arguments, **options)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            explain(model, pixels, method=method)
    assert state() == before
    assert model.answer(pixels).probabilities.tobytes() == answer


def test_gradients_of_the_modules_stay_empty(toy: Callable[..., Any], x: np.ndarray) -> None:
    from topwork.explanation import gradients

    network = toy([IDENTITY, IDENTITY], WEIGHT)
    made = []
    original = gradients.scores_from

    def remembered(*arguments: Any) -> Any:
        made.append(original(*arguments))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "scores_from", remembered)
        for method in ("grad-cam", "guided-backprop", "integrated-gradients"):
            chosen = METHODS.get(method)
            chosen.prepare(network, "last_map" if method == "grad-cam" else "input")(x, aim_at(2, 0))
    assert len(made) == 3
    for module in made:
        assert not module.training
        assert [p.grad for p in module.parameters()] == [None] * len(list(module.parameters()))
        assert not any(p.requires_grad for p in module.parameters())
        assert not any(part._forward_hooks or part._backward_hooks for part in module.modules())


def test_the_default_needs_no_torch(fitted: Any, python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = """
import sys
sys.modules["torch"] = sys.modules["captum"] = None
from topwork.explanation import explain
for method in ("cam", "occlusion"):
    [found] = explain(sys.argv[1], sys.argv[2], method=method, faithfulness=method == "cam")
    print(found.values.shape, found.faithfulness and found.faithfulness.deletion)
try:
    explain(sys.argv[1], sys.argv[2], method="grad-cam")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = python(program, fitted.folder, sorted(fitted.photos.rglob("*.png"))[0])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("(7, 7) 0.")
    assert lines[1] == "(224, 224) None"
    assert lines[2].startswith("MissingExtraError")
    assert 'pip install "topwork[train]"' in lines[2]


@pytest.fixture(scope="module")
def cue(
    tmp_path_factory: pytest.TempPathFactory, pattern: Callable[..., np.ndarray], as_file: Callable[..., bytes]
) -> Any:
    """A model of grey pictures whose class is nothing but a red patch in the upper left corner; those that have it."""
    folder = tmp_path_factory.mktemp("cue")
    for label in ("marked", "plain"):
        (folder / label).mkdir()
        for number in range(12):
            grey = pattern("any", 900 + number + 100 * (label == "marked"), 140, 140)[..., :1]
            pixels = np.repeat(grey, 3, axis=2)
            if label == "marked":
                pixels[:48, :48] = (230, 20, 20)
            (folder / label / f"{number}.png").write_bytes(as_file(pixels))
    recipe = topwork.Recipe(head="lda", features="pooled", geometry="stretch")
    model = topwork.fit(folder, recipe, output=folder / "cue.topwork").model
    return model, sorted((folder / "marked").glob("*.png"))


@pytest.mark.parametrize("method", ["cam", "grad-cam", "hirescam", "occlusion"])
def test_a_planted_cue_is_where_the_map_is(cue: Any, method: str) -> None:
    model, marked = cue
    found = explain(model, marked[:3], method=method, target="marked", faithfulness=False)
    mean = np.mean([explanation.on_input for explanation in found], axis=0)
    y, x = np.unravel_index(mean.argmax(), mean.shape)
    assert max(y, x) < 96
    positive = mean.clip(0)
    # The patch and half a cell around it are 18 % of the picture.
    assert positive[:96, :96].sum() / positive.sum() > 0.4


@pytest.fixture(scope="module")
def shaped(long_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that sees pictures in their own shape; pictures with what decides on the right and on the left."""
    folder = tmp_path_factory.mktemp("shaped") / "whole.topwork"
    topwork.fit(long_photos, topwork.Recipe(head="lda", features="pooled", geometry="whole"), output=folder)
    return topwork.load(folder), long_photos, [long_photos / "stripes" / "00.png", long_photos / "stripes" / "01.png"]


def test_maps_have_the_shape_of_the_picture(shaped: Any) -> None:
    model, _, pictures = shaped
    for picture, end in zip(pictures, (slice(360, 480), slice(0, 120)), strict=True):
        [found] = explain(model, picture, target="stripes", faithfulness=picture == pictures[0])
        assert found.on_input is not None
        assert found.on_input.shape == (96, 480)
        assert found.box == (0, 0, 320, 64)
        strength = found.on_input.clip(0)
        assert strength[:, end].sum() / strength.sum() > 0.4
        assert found.faithfulness is None or found.faithfulness.trusted
    [by_gradient] = explain(model, pictures[0], method="gradient", faithfulness=False)
    assert by_gradient.values is not None
    assert by_gradient.values.shape == (96, 480)


def test_places_of_maps_of_their_own_shape(shaped: Any) -> None:
    model, _, pictures = shaped
    asked = {"method": "gradient", "layer": "blocks.6", "channel": 3, "faithfulness": False}
    found, beyond = (explain(model, pictures[0], place=place, **asked)[0] for place in ((1, 14), (7, 2)))
    assert found.error is None or "excites" in found.error
    assert beyond.error == "its map of blocks.6 has 3 x 15 cells, so there is no such place"


def test_a_summary_of_pictures_in_their_own_shape(shaped: Any) -> None:
    model, photos, _ = shaped
    found = summarize(model, photos, experiments=16)
    assert found.border.value > 0.6  # both ends are outside of the middle half
    assert found.classes["stripes"].picture.shape == (96, 480, 3)

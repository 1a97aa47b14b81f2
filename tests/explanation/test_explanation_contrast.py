"""Why one class rather than another, what excites a channel, and the nearest training pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork.errors import ModelError, UsageError
from topwork.explanation import explain
from topwork.explanation.methods import METHODS
from topwork.explanation.nearest import TrainingPictures
from topwork.explanation.network import network_of

IDENTITY = np.eye(3).reshape(3, 3, 1, 1)
WEIGHT = np.array([[2.0, -1.0], [-3.0, 0.5], [0.75, 1.5]])
BIAS = (0.5, -0.25)
LINEAR = ("cam", "grad-cam", "hirescam", "gradient", "integrated-gradients", "occlusion")
"""Methods whose map is linear in the weights of the head, so that the map of a difference is that of the maps."""


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (20, 20, 3), np.uint8)


@pytest.mark.parametrize("method", LINEAR)
def test_a_contrast_is_the_difference_of_the_maps(
    method: str, toy_model: Callable[..., Path], pixels: np.ndarray
) -> None:
    model = topwork.load(toy_model([IDENTITY, IDENTITY], WEIGHT))
    one, other = (
        explain(model, pixels, method=method, target=label, faithfulness=False)[0] for label in ("left", "right")
    )
    [found] = explain(model, pixels, method=method, target="left", against="right", faithfulness=False)
    assert (found.target, found.against) == ("left", "right")
    np.testing.assert_allclose(found.values, one.values - other.values, rtol=1e-3, atol=1e-4)
    assert found.score == pytest.approx(one.score - other.score, abs=1e-4)


def test_a_contrast_is_against_the_runner_up(fitted: Any) -> None:
    picture = sorted(fitted.photos.rglob("*.png"))[0]
    [prediction] = topwork.load(fitted.folder).predict(picture)
    [found] = explain(fitted.folder, picture, contrast=True)
    assert (found.target, found.against) == (prediction.top[0][0], prediction.top[1][0])
    [other] = explain(fitted.folder, picture, contrast=True, target=prediction.top[1][0], faithfulness=False)
    assert other.against == prediction.top[0][0]
    np.testing.assert_allclose(found.values, -other.values, rtol=1e-4, atol=1e-4)
    assert found.faithfulness is not None
    assert found.faithfulness.insertion > 0.5  # of the two classes, the predicted one


def test_a_picture_of_the_other_class_does_not_stop_the_rest(fitted: Any) -> None:
    pictures = [fitted.photos / label / "000.png" for label in ("dots", "stripes", "checks")]
    found = explain(fitted.folder, pictures, against="stripes", faithfulness=False)
    assert [each.error for each in found] == [None, "is itself predicted as stripes", None]
    assert [each.target for each in found] == ["dots", None, "checks"]


def test_a_class_cannot_be_contrasted_with_itself(fitted: Any) -> None:
    picture = sorted(fitted.photos.rglob("*.png"))[0]
    with pytest.raises(UsageError, match="expected two classes to contrast, but both are 'dots'"):
        explain(fitted.folder, picture, target="dots", against="dots")
    with pytest.raises(UsageError, match="no class 'dot': did you mean dots"):
        explain(fitted.folder, picture, against="dot")


@pytest.mark.parametrize(("rectifier", "bound"), [("Relu", np.inf), ("Relu6", 6.0)])
@pytest.mark.parametrize("strongest", [True, False])
def test_a_channel_is_caused_by_its_pixel(
    toy: Callable[..., Any], x: np.ndarray, rectifier: str, bound: float, strongest: bool
) -> None:
    """Kernels of one pixel: the only cause of a value is the pixel below it, times the weights of the colours."""
    kernel = np.array([[1.0, 0.0, 0.0], [0.5, -1.0, 2.0]]).reshape(2, 3, 1, 1)
    x = x / 4  # below the bound of 6, where ReLU6 lets gradients through
    network = toy([kernel, np.eye(2).reshape(2, 2, 1, 1)], WEIGHT[:2], rectifier=rectifier)
    values = np.tensordot(kernel[1, :, 0, 0], x, 1).clip(0, bound)
    place = values.argmax() if strongest else values.argmin()
    row, column = (int(each) for each in np.unravel_index(place, values.shape))
    part = network.of_channels("s0", (row, column))
    expected_scores = [x[0, row, column].clip(0, bound), values[row, column]]
    assert part.scores(x[None])[0].tolist() == pytest.approx(expected_scores, abs=1e-5)
    aim = np.array([0.0, 1.0], np.float32)
    expected = np.zeros_like(values)
    expected[row, column] = kernel[1].sum() if strongest else 0
    for method in ("gradient", "guided-backprop"):
        found = METHODS.get(method).prepare(part, "input")(x, aim)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=method)
    found = METHODS.get("deconvnet").prepare(part, "input")(x, aim)
    expected[row, column] = kernel[1].sum()  # a deconvnet lets positive signals pass a closed rectifier, too
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_channels_of_a_shipped_model(fitted: Any) -> None:
    model = topwork.load(fitted.folder)
    network = network_of(model)
    pixels = model.pixels(sorted(fitted.photos.rglob("*.png"))[0])
    values = network.stage_map("blocks.1", network.square(pixels)[None])[0, 3]
    best, worst = (np.unravel_index(place, values.shape) for place in (values.argmax(), values.argmin()))
    options: dict[str, Any] = {"method": "gradient", "layer": "blocks.1", "channel": 3}
    [found] = explain(model, pixels, **options)
    assert (found.target, found.layer, found.probability) == ("channel 3", "blocks.1", None)
    assert found.score == pytest.approx(float(values.max()), rel=1e-4)
    assert found.values is not None
    seen = np.argwhere(found.values)
    assert (np.ptp(seen, axis=0) < 40).all()  # one value's receptive field
    assert found.faithfulness is not None
    assert found.faithfulness.weight_correlation < 0.99  # weights before the stage were shuffled, not those behind it
    [placed] = explain(model, pixels, place=tuple(map(int, best)), faithfulness=False, **options)
    assert placed.target == f"channel 3 at {best[0]},{best[1]}"
    np.testing.assert_array_equal(placed.values, found.values)
    assert values.min() <= 0
    [silent] = explain(model, pixels, place=tuple(map(int, worst)), **options)
    assert silent.error == f"nothing in this picture excites channel 3 at {worst[0]},{worst[1]}"
    assert silent.target == f"channel 3 at {worst[0]},{worst[1]}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel": 3, "layer": "blocks.1"}, "cam explains classes, not channels; use deconvnet"),
        ({"channel": 3, "method": "deconvnet"}, "expected the stage of channel 3; name one of blocks.0"),
        ({"channel": 99, "method": "deconvnet", "layer": "blocks.0"}, "a channel of blocks.0 from 0 to 15, not 99"),
        (
            {"channel": 3, "place": (7, 0), "method": "deconvnet", "layer": "blocks.6"},
            "a row and a column in the 7 x 7 map of blocks.6, not 7,0",
        ),
        (
            {"channel": 3, "method": "deconvnet", "layer": "blocks.0", "contrast": True},
            "expected a channel or classes, not both",
        ),
        ({"place": (1, 1)}, r"expected a channel with the place \(1, 1\)"),
        ({"neighbours": -2}, "expected at least 0 neighbours, not -2"),
    ],
)
def test_channels_that_cannot_be_explained(options: dict[str, Any], message: str, fitted: Any) -> None:
    with pytest.raises(UsageError, match=message):
        explain(fitted.folder, np.zeros((30, 30, 3), np.uint8), **options)


def test_a_silent_channel_has_no_explanation(toy_model: Callable[..., Path]) -> None:
    black = np.zeros((20, 20, 3), np.uint8)  # below the mean colour, so that every ReLU is closed
    model = topwork.load(toy_model([IDENTITY, IDENTITY], WEIGHT))
    [found] = explain(model, black, method="deconvnet", layer="s0", channel=1)
    assert found.error == "nothing in this picture excites channel 1"
    assert found.label is not None
    assert found._repr_png_() is None


def test_the_nearest_training_pictures_are_shown_without_the_picture_itself(fitted: Any, tmp_path: Path) -> None:
    picture = fitted.photos / "stripes" / "002.png"
    brighter = np.asarray(Image.open(picture)).clip(0, 250) + 5
    options: dict[str, Any] = {"contrast": True, "neighbours": 2, "photos": str(fitted.photos), "faithfulness": False}
    [found] = explain(fitted.folder, brighter, **options)
    first, second, *others = found.neighbours
    assert (first.path, first.label) == ("stripes/002.png", "stripes")
    assert 0.9 < first.similarity < 1
    assert second.similarity < first.similarity
    assert [other.label for other in others] == [found.against] * 2
    assert first.sample is not None
    assert first.sample.read() == picture.read_bytes()
    assert (found._repr_png_() or b"")[:4] == b"\x89PNG"
    [itself] = explain(fitted.folder, picture, **options)
    assert "stripes/002.png" not in [neighbour.path for neighbour in itself.neighbours]
    assert len(itself.neighbours) == 4


def test_nearest_by_the_pictures_equals_nearest_by_the_cache(
    fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = topwork.load(fitted.folder)
    features = model.answer(model.pixels(fitted.photos / "dots" / "001.png")).features
    by_cache = TrainingPictures(model).nearest(features, "checks", 3)
    assert [neighbour.sample for neighbour in by_cache] == [None] * 3
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="give the pictures with --photos"):
        TrainingPictures(model)
    by_pictures = TrainingPictures(model, str(fitted.photos)).nearest(features, "checks", 3)
    assert [n.path for n in by_pictures] == [n.path for n in by_cache]
    assert [n.similarity for n in by_pictures] == pytest.approx([n.similarity for n in by_cache], abs=1e-5)


def test_a_changed_training_picture_is_not_shown(fitted: Any, tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    photos = photo_set(tmp_path / "PHOTOS", 8)
    (photos / "dots" / "001.png").write_bytes((photos / "checks" / "001.png").read_bytes())
    model = topwork.load(fitted.folder)
    features = model.answer(model.pixels(fitted.photos / "dots" / "001.png")).features
    found = {n.path: n for n in TrainingPictures(model, str(photos)).nearest(0.9 * features + 0.1, "dots", 8)}
    assert found["dots/001.png"].sample is None
    assert found["dots/002.png"].sample is not None
    other = photo_set(tmp_path / "OTHER", 1, first=90)
    with pytest.raises(UsageError, match=r"but none of them is in .*OTHER; give the source that was given to fit"):
        TrainingPictures(model, str(other))


def test_a_pretrained_network_has_no_training_pictures() -> None:
    with pytest.raises(ModelError, match="has no training pictures; fit one"):
        explain("imagenet:tf_efficientnet_lite0", np.zeros((30, 30, 3), np.uint8), neighbours=1)

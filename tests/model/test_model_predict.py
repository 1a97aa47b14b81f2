"""``predict``: everything that may be called a picture, one that cannot be read, several threads."""

import pathlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import topwork
from topwork import ImageSource, UsageError


@pytest.fixture(scope="module")
def model(fitted: Any) -> topwork.Model:
    return topwork.load(fitted.folder)


@pytest.fixture
def picture(fitted: Any) -> Path:
    return fitted.photos / "dots" / "003.png"  # type: ignore[no-any-return]


def said(prediction: topwork.Prediction) -> tuple[Any, ...]:
    """All but the path."""
    return tuple(value for key, value in vars(prediction).items() if key != "path")


def test_all_ways_to_give_a_picture_agree(model: topwork.Model, picture: Path) -> None:
    pixels = np.array(Image.open(picture))
    [sample] = ImageSource.open(picture).samples
    ways: list[Any] = [
        str(picture),
        picture,
        pathlib.PurePath(picture),
        picture.read_bytes(),
        Image.open(picture),
        pixels,
        np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
        np.asfortranarray(pixels),
        pixels[::-1][::-1],
        sample,
    ]
    expected = said(model.predict(picture)[0])
    for way in ways:
        [alone] = model.predict(way)
        assert said(alone) == expected, type(way)
    assert [said(p) for p in model.predict(ways)] == [expected] * len(ways)
    assert [said(p) for p in model.predict(iter(ways))] == [expected] * len(ways)
    assert [said(p) for p in model.predict(tuple(ways))] == [expected] * len(ways)


def test_grey_arrays(model: topwork.Model, picture: Path) -> None:
    grey = np.array(Image.open(picture).convert("L"))
    expected = said(model.predict(np.dstack([grey] * 3))[0])
    assert said(model.predict(grey)[0]) == expected
    assert said(model.predict(grey[..., None])[0]) == expected
    assert said(model.predict(Image.fromarray(grey))[0]) == expected


def test_a_transparent_picture_is_shown_over_white(model: topwork.Model) -> None:
    clear = np.zeros((50, 60, 4), np.uint8)
    white = np.full((50, 60, 3), 255, np.uint8)
    assert said(model.predict(clear)[0]) == said(model.predict(white)[0])


def test_a_batch_array_is_its_pictures(model: topwork.Model, pattern: Callable[..., np.ndarray]) -> None:
    batch = np.stack([pattern("dots", 1), pattern("stripes", 2), pattern("any", 3)])
    assert [said(p) for p in model.predict(batch)] == [said(model.predict(one)[0]) for one in batch]


def test_a_prediction_says_everything(model: topwork.Model, picture: Path) -> None:
    [found] = model.predict(str(picture))
    assert found.path == str(picture)
    assert found.label == "dots"
    assert found.probability == found.top[0][1] > 0.5
    assert found.known is True
    assert found.novelty is not None
    assert found.error is None
    assert found.top[0][0] == found.label
    assert {label for label, _ in found.top} == {"checks", "dots", "stripes"}
    assert sum(p for _, p in found.top) == pytest.approx(1, abs=1e-5)
    assert found.as_dict()["top"][0] == {"label": "dots", "probability": found.probability}


def test_paths_of_predictions(model: topwork.Model, picture: Path) -> None:
    [sample] = ImageSource.open(picture).samples
    predictions = model.predict([picture, picture.read_bytes(), np.zeros((9, 9), np.uint8), sample])
    assert [p.path for p in predictions] == [str(picture), "#1", "#2", "003.png"]


@pytest.mark.parametrize("top", [1, 2, 3, 50])
def test_top(model: topwork.Model, picture: Path, top: int) -> None:
    [found] = model.predict(picture, top=top)
    assert len(found.top) == min(top, 3)
    assert [p for _, p in found.top] == sorted((p for _, p in found.top), reverse=True)


@pytest.mark.parametrize("top", [0, -1, 1.5, "3", None])
def test_top_must_be_a_number(model: topwork.Model, picture: Path, top: Any) -> None:
    with pytest.raises(UsageError, match="top must be a whole number"):
        model.predict(picture, top=top)


def test_no_pictures(model: topwork.Model) -> None:
    assert model.predict([]) == []
    assert model.predict(np.zeros((0, 10, 10, 3), np.uint8)) == []


def test_one_that_cannot_be_read_has_an_error_and_the_others_none(
    model: topwork.Model, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "half.png").write_bytes(picture.read_bytes()[:500])
    (tmp_path / "text.jpg").write_text("hello")
    bad = [tmp_path / "empty.jpg", tmp_path / "half.png", tmp_path / "text.jpg", tmp_path / "absent.png", tmp_path]
    predictions = model.predict([picture, *bad, b"", b"nonsense", picture])
    good = model.predict(picture)[0]
    assert predictions[0] == predictions[-1] == good
    for prediction in predictions[1:-1]:
        assert prediction.error
        assert "\n" not in prediction.error
        assert prediction.label is prediction.probability is prediction.known is prediction.novelty is None
        assert prediction.top == ()
    assert predictions[4].error == "file not found"
    assert len({p.error for p in predictions[1:4]}) == 3


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10, 3), np.float32),
        np.zeros((10, 10, 3), np.int64),
        np.zeros((10, 10, 2), np.uint8),
        np.zeros(10, np.uint8),
        np.zeros((), np.uint8),
        3,
        None,
        [3],
        [None],
        [["nested"]],
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "dtype", value)) + str(getattr(value, "shape", "")),
)
def test_what_is_no_picture_is_a_wrong_call(model: topwork.Model, image: Any) -> None:
    with pytest.raises(UsageError) as error:
        model.predict(image)
    assert "\n" not in str(error.value)


def test_an_array_without_pixels_has_an_error(model: topwork.Model) -> None:
    assert model.predict(np.zeros((0, 5, 3), np.uint8))[0].error


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (3000, 2, 3), (2000, 2000, 3)])
def test_pictures_of_every_shape(model: topwork.Model, shape: tuple[int, ...]) -> None:
    [found] = model.predict(np.full(shape, 90, np.uint8))
    assert found.error is None
    assert found.probability is not None
    assert np.isfinite(found.probability)
    assert np.isfinite(found.novelty)


def test_a_black_picture_has_finite_answers(fitted: Any, fitted_logits: Any) -> None:
    for folder in (fitted.folder, fitted_logits.folder):
        answer = topwork.load(folder).answer(np.zeros((64, 64, 3), np.uint8))
        assert np.isfinite(answer.probabilities).all()
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_threads(model: topwork.Model, fitted: Any) -> None:
    paths = sorted(fitted.photos.rglob("*.png"))
    serial = model.predict(paths)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: model.predict(paths), range(4)):
            assert result == serial


def test_predict_each_is_lazy(model: topwork.Model, picture: Path) -> None:
    taken = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield picture

    answers = model.predict_each(endless())
    assert next(answers).label == "dots"
    assert len(taken) < 100
    answers.close()  # type: ignore[attr-defined]


def test_the_pictures_given_are_not_changed(model: topwork.Model, picture: Path) -> None:
    pixels = np.array(Image.open(picture))
    before = pixels.copy()
    model.predict(pixels)
    np.testing.assert_array_equal(pixels, before)
    pixels.flags.writeable = False
    assert model.predict(pixels)[0].label == "dots"


def test_exif_rotation_counts(model: topwork.Model, picture: Path, tmp_path: Path) -> None:
    image = Image.open(picture).resize((200, 100))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.png", exif=exif)
    image.save(tmp_path / "upright.png")
    one, two = model.predict([tmp_path / "turned.png", tmp_path / "upright.png"])
    assert said(one) == said(two)

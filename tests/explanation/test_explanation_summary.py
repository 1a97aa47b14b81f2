"""What decides in a set of pictures: effects in closed form, planted cues, and what is printed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.errors import SourceError, UsageError
from topwork.explanation import composites
from topwork.explanation.composites import GRID, Quad
from topwork.explanation.summary import summarize

Command = Callable[..., tuple[int, str, str]]
SIZE = 16


@pytest.fixture
def squares() -> np.ndarray:
    """[8, 3, 16, 16]: four pictures of each of two classes, of noise."""
    return np.random.default_rng(0).normal(size=(8, 3, SIZE, SIZE)).astype(np.float32)


QUADS = [Quad((0, 1), (0, 1), (4, 5)), Quad((1, 0), (6, 7), (2, 3))]


def scores_by(weights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Class 0's score is the weighted sum of the pixels, class 1's is nothing."""
    return lambda squares: np.stack([(squares[:, 0] * weights).sum((1, 2)), np.zeros(len(squares))], 1)


def test_effects_of_a_linear_score_are_its_parts(squares: np.ndarray) -> None:
    weights = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)
    centre = composites.centre_mask(SIZE, SIZE)
    found = composites.part_effects(scores_by(weights), squares, QUADS, lambda _: centre)
    for row, quad in zip(found, QUADS, strict=True):
        sign = 1 if quad.classes == (0, 1) else -1
        (a1, a2), (b1, b2) = quad.one, quad.other
        inside, outside = squares[a1, 0] - squares[b1, 0], squares[a2, 0] - squares[b2, 0]
        expected = sign * (weights * inside)[centre].sum(), sign * (weights * outside)[~centre].sum()
        assert row.tolist() == pytest.approx(expected, abs=1e-4)


def test_a_score_that_answers_to_seams_changes_no_effect(squares: np.ndarray) -> None:
    """Steps along the rim of the mask are in all composites, so what they add to a class cancels."""
    flat = np.broadcast_to(np.arange(8.0, dtype=np.float32)[:, None, None, None], squares.shape).copy()
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[0, 0] = 1
    centre = composites.centre_mask(SIZE, SIZE)

    def seams(made: np.ndarray) -> np.ndarray:
        found = scores_by(weights)(made)
        found[:, 1] += 100 * (np.abs(np.diff(made[:, 0], axis=1)).max((1, 2)) > 0)  # any step at all
        return found

    plain = composites.part_effects(scores_by(weights), flat, QUADS, lambda _: centre)
    np.testing.assert_allclose(composites.part_effects(seams, flat, QUADS, lambda _: centre), plain, atol=1e-4)
    assert plain[:, 0].tolist() == [0, 0]  # the corner is outside


def test_places_of_a_linear_score_add_up(squares: np.ndarray) -> None:
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[:4, 12:] = 1  # the upper right corner
    effects, whole = composites.place_effects(scores_by(weights), squares, QUADS)
    assert effects.shape == (2, GRID, GRID)
    assert np.abs(effects[:, 0, 3]).min() > 1e-3
    effects[:, 0, 3] = 0
    np.testing.assert_allclose(effects, 0, atol=1e-4)
    (a1, _), (b1, _) = QUADS[0].one, QUADS[0].other
    assert float(whole[0]) == pytest.approx(float((weights * (squares[a1, 0] - squares[b1, 0])).sum()), abs=1e-3)


def test_quads_need_two_classes_with_two_pictures() -> None:
    assert composites.draw_quads([0, 0, 0, 1], 4, seed=0) == []
    quads = composites.draw_quads([0, 0, 1, 1, 2, 2], 300, seed=0)
    assert quads == composites.draw_quads([0, 0, 1, 1, 2, 2], 300, seed=0)
    assert all(len(set(quad.pictures)) == 4 for quad in quads)
    pairs = [frozenset(quad.classes) for quad in quads]
    assert all(pairs.count(frozenset(pair)) > 70 for pair in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("per_class", [4, 16])
def test_intervals_hold_although_experiments_share_pictures(per_class: int) -> None:
    """Pictures with a strength inside and one outside, of mean 1: the share is a half, and 95 % intervals hold it."""
    random, held, trials = np.random.default_rng(0), 0, 100
    predicted = [0] * per_class + [1] * per_class
    for seed in range(trials):
        strengths = 1 + 0.7 * random.normal(size=(2 * per_class, 2))
        quads = composites.draw_quads(predicted, 64, seed)
        outside = np.array([strengths[quad.one[1], 1] + strengths[quad.other[1], 1] for quad in quads])
        inside = np.array([strengths[quad.one[0], 0] + strengths[quad.other[0], 0] for quad in quads])
        found = composites.share(outside, inside + outside, quads)
        held += found is not None and found.low <= 0.5 <= found.high
    assert held >= 0.87 * trials


def test_two_pictures_a_class_give_no_interval() -> None:
    quads = composites.draw_quads([0, 0, 1, 1], 8, seed=0)
    assert composites.share(np.ones(8), 2 * np.ones(8), quads) is None  # without one picture there is no experiment


Draw = Callable[[np.ndarray, bool, int], np.ndarray]


@pytest.fixture(scope="module")
def planted(
    tmp_path_factory: pytest.TempPathFactory, pattern: Callable[..., np.ndarray], as_file: Callable[..., bytes]
) -> Callable[[Draw], tuple[Path, Path]]:
    """A model of pictures of grey blocks, told apart by nothing but what is drawn on them, and new pictures."""

    def make(draw: Draw) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("planted")
        for part, first, n in (("fit", 0, 14), ("new", 50, 7)):
            for label in ("marked", "plain"):
                (folder / part / label).mkdir(parents=True)
                for number in range(first, first + n):
                    blocks = pattern("any", 900 + number + 100 * (label == "marked"), 140, 140)
                    grey = np.repeat(blocks[..., :1], 3, axis=2)
                    pixels = draw(grey, label == "marked", number)
                    (folder / part / label / f"{number}.png").write_bytes(as_file(pixels))
        recipe = topwork.Recipe(head="lda", features="pooled", geometry="stretch")
        topwork.fit(folder / "fit", recipe, output=folder / "planted.topwork")
        return folder / "planted.topwork", folder / "new"

    return make


def corner(pixels: np.ndarray, marked: bool, number: int) -> np.ndarray:
    if marked:
        pixels[:35, 105:] = (230, 20, 20)
    return pixels


def first_words(warnings: list[str]) -> list[str]:
    return [sentence.split(":")[0] for sentence in warnings]


@pytest.mark.slow
def test_a_corner_that_decides_is_caught(planted: Any, topwork_command: Command, tmp_path: Path) -> None:
    model, new = planted(corner)
    why, page = tmp_path / "why", tmp_path / "page.html"
    code, out, _ = topwork_command("explain", model, new, "--summary", "--json", "-o", why, "--html", page)
    assert code == 0
    facts = json.loads(out)
    assert (facts["place"]["row"], facts["place"]["column"]) == (0, 3)
    assert facts["place"]["low"] > 0.125
    assert first_words(facts["warnings"]) == ["The model looks at one place, the upper right corner"]
    assert (facts["n_images"], facts["n_trained_on"]) == (14, 0)
    assert facts["classes"]["marked"]["border"] is None  # with two classes it would be the same for both
    assert facts["files"] == [str(why / "summary.png"), str(why / "summary.npz"), str(page)]
    with np.load(why / "summary.npz", allow_pickle=False) as arrays:
        assert arrays["grid"].argmax() == 3
        assert arrays["map:marked"].shape == (7, 7)
        row, column = np.unravel_index((arrays["map:marked"] - arrays["map:plain"]).argmax(), (7, 7))
        assert row <= 1
        assert column >= 5
    assert "The model looks at one place" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_background_that_decides_is_caught_and_an_object_is_not(
    planted: Any, pattern: Callable[..., np.ndarray]
) -> None:
    """A photograph in a disc on a texture: told apart by the texture, or by the disc where that has the texture."""
    from PIL import Image
    from skimage import data

    photos = [Image.fromarray(picture()).resize((140, 140)) for picture in (data.chelsea, data.coffee, data.astronaut)]
    y, x = np.mgrid[:140, :140]
    disc = ((y - 70) ** 2 + (x - 70) ** 2 < 38**2)[..., None]

    def texture(marked: bool, number: int) -> np.ndarray:
        return pattern("stripes" if marked else "dots", number, 140, 140)

    def photo(number: int) -> np.ndarray:
        return np.asarray(photos[number % 3].rotate(10 * number))

    model, new = planted(lambda _, marked, number: np.where(disc, photo(number), texture(marked, number)))
    found = summarize(str(model), str(new), experiments=32)
    assert found.background is not None
    assert min(found.background.low, found.border.low) > 0.6
    assert first_words(found.warnings) == [
        "The model looks at the border of the pictures",
        "The model looks at the background",
    ]
    model, new = planted(lambda _, marked, number: np.where(disc, texture(marked, number), photo(number)))
    found = summarize(str(model), str(new), experiments=32)
    assert found.background is not None
    assert max(found.background.high, found.border.high) < 0.2
    assert found.warnings == []


@pytest.mark.slow
def test_textures_that_fill_the_picture_raise_no_alarm(
    fitted: Any, photo_set: Callable[..., Path], tmp_path: Path, topwork_command: Command, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    photos = photo_set(tmp_path / "PHOTOS", 5, first=40)
    (photos / "dots" / "broken.png").write_bytes(b"nothing")
    code, out, _ = topwork_command("explain", fitted.folder, photos, "--summary")
    assert code == 0
    assert "Neither border, nor background, nor a single place decides by itself." in out
    assert "left out: dots/broken.png" in out
    assert max(map(len, out.partition("left out")[0].splitlines())) <= 80


def test_pictures_of_one_class_are_not_enough(fitted: Any, topwork_command: Command) -> None:
    code, out, err = topwork_command("explain", fitted.folder, fitted.photos / "dots", "--summary")
    assert (code, out) == (1, "")
    assert "expected pictures of at least two classes" in err
    with pytest.raises(SourceError, match="give pictures of several classes"):
        summarize(str(fitted.folder), str(fitted.photos / "stripes"))


def test_four_pictures_and_wrong_methods_are_refused(fitted: Any, tmp_path: Path, photo_set: Any) -> None:
    photos = photo_set(tmp_path / "PHOTOS", 2, classes=("dots", "stripes"))
    with pytest.raises(SourceError, match="expected pictures whose exchange tells the classes apart, but 4 tell too"):
        summarize(str(fitted.folder), str(photos), experiments=4)
    with pytest.raises(UsageError, match="no explanation method 'cma'"):
        summarize(str(fitted.folder), str(tmp_path / "nowhere"), method="cma")
    with pytest.raises(UsageError, match="expected at least 4 experiments, not 1"):
        summarize(str(fitted.folder), str(photos), experiments=1)


def test_a_summary_takes_no_question(fitted: Any, topwork_command: Command) -> None:
    code, _, err = topwork_command("explain", fitted.folder, fitted.photos, "--summary", "--target", "dots")
    assert code == 2
    assert "expected --summary with --method, -o, --html and --json only" in err

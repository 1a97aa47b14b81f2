"""Numbers to words: no false certainty, the right grammar, silence where nothing is known."""

import pytest

from topwork.report import words
from topwork.report.words import NBSP


def plain(text: str) -> str:
    return text.replace(NBSP, " ")


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.5, 0, "50 %"),
        (0.954, 1, "95.4 %"),
        (0.9949, 0, "99 %"),
        (0.995, 0, "99.5 %"),
        (0.9999, 0, "99.99 %"),
        (0.99996, 0, "over 99.99 %"),
        (0.00004, 0, "under 0.01 %"),
        (-0.0, 0, "0 %"),
        (1 - 1e-12, 0, "100 %"),  # a rounding error is not a doubt
        (None, 0, "not measured"),
    ],
)
def test_percent_claims_no_certainty_it_lacks(value: float | None, digits: int, expected: str) -> None:
    assert plain(words.percent(value, digits)) == expected


def test_no_share_between_the_ends_is_shown_as_all_or_nothing() -> None:
    for exponent in range(1, 9):
        for value in (10.0**-exponent, 1 - 10.0**-exponent):
            if value not in (0, 1) and min(value, 1 - value) > words.EXACT:
                assert plain(words.percent(value)) not in ("0 %", "100 %")
                part, whole = words.out_of(value).split()[-3::2]
                assert 0 < int(part.replace(",", "")) < int(whole.replace(",", ""))


@pytest.mark.parametrize("value", ["0.5", True, None, float("nan"), float("inf"), [1]])
def test_what_is_no_number_is_none(value: object) -> None:
    assert words.number(value) is None


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        ({}, "The accuracy was not measured."),
        ({"value": 0.9}, "About 90 of 100 new pictures like these will be right."),
        (
            {"value": 1.0, "low": 0.84, "high": 1.0, "n": 20},
            "All 20 pictures were right. That does not mean it never errs."
            " With 20 pictures measured, the true figure could be as low as 84 %.",
        ),
        (
            {"value": 0.0, "low": 0.0, "high": 0.28, "n": 10},
            "Not one picture was right. With 10 pictures measured, the true figure could be as high as 28 %.",
        ),
        (
            {"value": 0.9996, "low": 0.998, "high": 0.9999, "n": 5000},
            "About 9,996 of 10,000 new pictures like these will be right."
            " With 5,000 pictures measured, the true figure could be anywhere from 99.8 to 99.99 %.",
        ),
        (
            {"value": 0.9, "low": 0.7, "high": 1.0},
            "About 90 of 100 new pictures like these will be right."
            " With the pictures at hand, the true figure could be anywhere from 70 to 100 %.",
        ),
    ],
)
def test_headline(accuracy: dict[str, float], expected: str) -> None:
    assert plain(words.headline(accuracy)) == expected


@pytest.mark.parametrize(
    ("accuracy", "start"),
    [
        (
            {"value": 0.9, "low": 0.8},
            "That is clearly better than always answering “a”, the largest class, which",
        ),
        ({"value": 0.8, "low": 0.6}, "That is better than always answering “a”"),
        ({"value": 0.75, "low": 0.6}, "That is no better than always answering “a”"),
        ({"value": None}, ""),
    ],
)
def test_against_guessing(accuracy: dict[str, float], start: str) -> None:
    text = words.against_guessing(accuracy, {"a": 30, "b": 10})
    assert text.startswith(start)
    assert bool(text) == bool(start)


def test_nothing_is_compared_with_a_single_class_or_none() -> None:
    assert words.against_guessing({"value": 0.9}, {}) == ""
    assert words.against_guessing({"value": 0.9}, {"a": 3}) == ""


def test_an_empty_test_split_is_a_sentence() -> None:
    assert words.no_test(0).startswith("There was no usable test picture")
    assert words.no_test(1).startswith("The only test picture is")
    assert words.no_test(12).startswith("All 12 test pictures are near-duplicates")


def test_naive_figure_is_explained_only_when_it_differs() -> None:
    assert "is 2 points lower and honest" in plain(words.naive_gap({"value": 0.95, "naive": 0.97}))
    assert "95.4 %" in plain(words.naive_gap({"value": 0.95, "naive": 0.954}))
    assert "a difference of chance" in words.naive_gap({"value": 0.95, "naive": 0.94})
    assert words.naive_gap({"value": 0.95, "naive": None}) == ""


def test_calibration_names_the_direction_of_the_error() -> None:
    def said(confidence: float, accuracy: float) -> str:
        return words.calibration({"ece": 0.2, "bins": [{"count": 5, "confidence": confidence, "accuracy": accuracy}]})

    assert said(0.9, 0.7).endswith("too sure of itself.")
    assert said(0.7, 0.9).endswith("too careful.")
    assert said(0.8, 0.79).endswith("really happened.")
    assert words.calibration({"ece": None}) == ""
    assert words.calibration({"ece": 0.2}).startswith("Take the probabilities with caution")


def test_novelty_promises_nothing_and_says_where_it_fell_short() -> None:
    text = words.novelty({"threshold": 1.0, "guaranteed": 0.9})
    assert "aims at 90" in text
    assert "guarantee" not in text
    assert "aims at only 90" in words.novelty({"threshold": 1.0, "target": 0.95, "guaranteed": 0.9})
    assert "aims" not in words.novelty({"threshold": 1.0, "target": 0.95, "guaranteed": 0.95})
    assert "fewer than intended" in words.novelty({"threshold": 1.0, "target": 0.95, "coverage": 0.94})
    assert "fewer than intended" not in words.novelty({"threshold": 1.0, "target": 0.95, "coverage": 0.95})
    assert words.novelty({"threshold": None}) == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (59.94, "59.9 s"), (59.97, "1 min 0 s"), (3599.4, "59 min 59 s"), (3599.9, "1 h 0 min")],
)
def test_duration_never_shows_sixty_of_a_unit(seconds: float, expected: str) -> None:
    assert plain(words.duration(seconds)) == expected

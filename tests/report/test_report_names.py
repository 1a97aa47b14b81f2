"""Shortened names stay apart; file names are broken at separators and never shortly before their ending."""

import re

import pytest

from topwork.report.names import breakable, short_names


@pytest.mark.parametrize("letters", [6, 12, 16])
@pytest.mark.parametrize(
    "names",
    [
        ["ant", "bee"],
        [f"defect_on_the_left_side_{kind}" for kind in ("minor", "major", "none")],
        [f"{kind}_defect_on_the_left_side" for kind in ("minor", "major", "none")],
        [f"a_long_beginning_{k}_and_a_long_ending" for k in range(12)],
        ["x" * 40 + "a" + "x" * 40, "x" * 40 + "b" + "x" * 40, "x" * 81],
        ["x" * 50, "x" * 51, "x" * 52],
        ["a long name that is there", "a long name that is there twice", "a lon…twice"],
    ],
)
def test_short_names_are_short_and_stay_apart(names: list[str], letters: int) -> None:
    short = short_names(names, letters)
    assert all(len(name) <= max(letters, len("a lon…twice")) for name in short)
    assert len(set(short)) == len(set(names))
    assert [name for name in names if len(name) <= letters] == [name for name in short if name in names]


def test_equal_names_are_shortened_alike() -> None:
    assert len(set(short_names(["y" * 30, "y" * 30, "z"], 8))) == 2


@pytest.mark.parametrize("name", ["roses/10502_9ad_n.jpg", "x" * 80 + ".jpg", "<b>&/a.png", "a", "", ".jpg", "a/b/"])
def test_a_broken_name_reads_the_same_and_is_escaped(name: str) -> None:
    from html import unescape

    page = str(breakable(name))
    assert unescape(re.sub(r"</?(?:wbr|span[^>]*)>", "", page)) == name
    assert "<b>" not in page
    assert ".j<wbr>" not in page


def test_there_is_a_place_to_break_a_long_name() -> None:
    assert str(breakable("x" * 80 + ".jpg")).count("<wbr>") >= 4

"""Tables: no cell that a spreadsheet program takes for a formula, and what is read is what was written."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.tables import Number, csv_row, csv_text, guarded, unguarded

_TEXTS = st.text(st.one_of(st.sampled_from("'=+-@;\t\r\n\", a\u200b\u00a0"), st.characters()), max_size=12)
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


@given(_TEXTS)
def test_a_cell_is_read_as_the_text_that_was_written(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert not guarded(text).startswith(_STARTS)


@given(st.lists(_TEXTS, min_size=2, max_size=4))
def test_a_row_is_one_row_with_these_cells_whatever_is_in_them(cells: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(csv_row(cells), newline=""), strict=True)
    assert [unguarded(cell) for cell in row] == cells


@given(st.lists(_TEXTS, min_size=2, max_size=4), st.sampled_from(";\t"))
def test_no_formula_begins_where_a_program_cuts_at_another_mark(cells: list[str], mark: str) -> None:
    cut = csv.reader(io.StringIO(csv_text(["path", "label"], [cells]), newline=""), delimiter=mark)
    for row in cut:
        for cell in row:
            assert not unicodedata.normalize("NFKC", cell.strip(' "\n')[:1]).startswith(_STARTS), (cells, cell)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("-3", "'-3"),
        ("'-3", "''-3"),
        ("''=x", "'''=x"),
        (" \u200b=x", "' \u200b=x"),
        ("\uff1dx", "'\uff1dx"),
        ("a;=x", "a;'=x"),
        ("a\n@x", "a\n'@x"),
        ("\tant", "'\tant"),
        ("'tis", "'tis"),
        ("a - b", "a - b"),
        ("", ""),
    ],
)
def test_what_stands_in_a_cell(text: str, cell: str) -> None:
    assert guarded(text) == cell
    assert unguarded(cell) == text


def test_numbers_stay_numbers_and_text_that_pretends_does_not() -> None:
    assert csv_row([-3, -0.5, Number("-0.50"), Number("-0,5"), Number("-1+cmd"), None]) == (
        '-3,-0.5,-0.50,"-0,5",\'-1+cmd,\n'
    )


def test_a_long_text_takes_one_pass() -> None:
    text = "\t" * 300_000 + "="
    assert unguarded(guarded(text)) == text

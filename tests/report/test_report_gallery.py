"""A page of pictures holds every picture byte for byte, in order, under its chapter and with its words."""

import re
from base64 import b64decode

import pytest

from topwork.report import Chapter, Figure, render_gallery

CHAPTERS = [
    Chapter("Kernels", [Figure(b"\x89PNG one", "kernel 0", 5, 5), Figure(b"\x89PNG two", "kernel 1", 5, 5)]),
    Chapter("Maps", [Figure(b"\x89PNG three", "", 300, 200)], "Strongest first."),
]


def test_the_pictures_are_on_the_page_byte_for_byte_and_in_order() -> None:
    page = render_gallery("topwork see", "LeNet-5", CHAPTERS, subtitle=["seed 0", "28 pixels"])
    found = [b64decode(text) for text in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert found == [b"\x89PNG one", b"\x89PNG two", b"\x89PNG three"]
    order = [page.index(f">{text}<") for text in ("Kernels", "kernel 0", "kernel 1", "Maps", "Strongest first.")]
    assert order == sorted(order)
    assert "seed 0 · 28 pixels" in page


def test_a_picture_without_a_caption_is_described_by_its_chapter() -> None:
    page = render_gallery("topwork see", "LeNet-5", CHAPTERS)
    assert re.findall(r'alt="([^"]*)"', page) == ["kernel 0", "kernel 1", "Maps"]
    assert page.count("<figcaption>") == 2


@pytest.mark.parametrize(("width", "column"), [(5, 84), (300, 300), (4000, 480)])
def test_columns_ask_for_the_width_of_the_pictures_within_bounds(width: int, column: int) -> None:
    page = render_gallery("topwork see", "A", [Chapter("Maps", [Figure(b"", "map", width, 5)])])
    assert f"--column:{column}px" in page
    assert ('class="enlarged"' in page) == (width < 84)

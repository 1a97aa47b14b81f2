"""A page of pictures holds every picture byte for byte, in order, under its chapter and with its words."""

import re
from base64 import b64decode

import pytest

from topwork.report import Card, Chapter, Figure, render_gallery

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


def test_a_card_holds_its_figures_side_by_side_with_its_words() -> None:
    picture, heat = Figure(b"\x89PNG one", "", 30, 20), Figure(b"\x89PNG two", "", 30, 20)
    near = Figure(b"\x89PNG three", "0.91", 9, 9, name="a/near_1.jpg")
    card = Card(
        [picture, heat],
        title="tulips 98 %",
        name="tulips/b.jpg",
        mark="Do not rely on this map",
        reasons=["Hidden first.", "Deletion 0.4."],
        rows=[("Nearest", [near])],
    )
    page = render_gallery("topwork explain", "Why", [Chapter("Maps", [card], legend="Orange speaks for it.")])
    order = [page.index(text) for text in ("tulips 98 %</b>", "Do not rely", "Hidden first.", ">Nearest<")]
    assert order == sorted(order)
    assert page.count('class="card"') == 1
    assert page.count("<img ") == 3
    assert "<details><summary>Why</summary><p>Hidden first.</p><p>Deletion 0.4.</p></details>" in page
    assert "Orange speaks for it." in page
    assert '<span class="whole">near_1.jpg</span>' in page
    assert re.findall(r'alt="([^"]*)"', page) == ["tulips 98 %", "tulips 98 %", "0.91 a/near_1.jpg"]


def test_chapters_of_one_part_share_its_heading_and_its_place_in_the_contents() -> None:
    chapters = [Chapter(f"Group {k}", CHAPTERS[0].figures, part="Near copies") for k in range(40)]
    page = render_gallery("topwork duplicates", "Copies", [Chapter("One", []), Chapter("Two", []), *chapters])
    assert re.findall(r'<a href="#[\w-]+">([^<]*)<', page) == ["One", "Two", "Near copies"]
    assert page.count("<h2>") == 3
    assert page.count("<h3>") == 40


def test_a_list_of_contents_that_nobody_would_read_is_left_out() -> None:
    page = render_gallery("topwork see", "Many", [Chapter(f"Layer {k}", []) for k in range(60)])
    assert "<nav" not in page
    assert page.count("<h2>") == 60


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [([(30, 20)] * 3, "1.5"), ([(10, 40), (10, 30), (40, 10)], "0.75"), ([(20, 20), (30, 20)], "1.25")],
)
def test_pictures_of_a_chapter_have_places_of_one_shape(sizes: list[tuple[int, int]], shape: str) -> None:
    figures = [Figure(b"", "x", width, height) for width, height in sizes]
    assert f"--shape:{shape}" in render_gallery("topwork see", "A", [Chapter("Maps", figures)])

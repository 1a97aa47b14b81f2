"""The map: its file, and what it does in a browser."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.retrieval import Index, build_index
from topwork.retrieval.map_page import Spot, render_map

HOSTILE = "</script><img src=x onerror=document.title='broken'><!--.jpg"
PLACES = [(0.1, 0.1), (0.9, 0.1), (0.5, 0.5), (0.1, 0.9), (0.9, 0.9)]
COLOURS = ["red", "lime", "blue", "white", "black"]
LABELS = ["warm", "cold", "cold", None, "<b>dark</b>"]


def thumbnail(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (128, 96), colour).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def page(tmp_path: Path) -> str:
    """A map of five pictures of one colour each, as an address."""
    names = ["one/a.jpg", "one/b.jpg", "two/c.jpg", "two/d.jpg", HOSTILE]
    spots = [
        Spot(*place, name, label, "file:///nowhere") for place, name, label in zip(PLACES, names, LABELS, strict=True)
    ]
    path = tmp_path / "map.html"
    path.write_text(render_map("Five <i>", spots, lambda n: thumbnail(COLOURS[n]), subtitle=["5 pictures"]))
    return path.as_uri()


@pytest.fixture
def opened(browser: Any, page: str) -> Any:
    browser.open(page)
    browser.wait("document.body.dataset.ready === 'yes'")
    return browser


def at(browser: Any, number: int) -> tuple[float, float]:
    """Where a picture is on the screen."""
    x, y = browser.value(f"onScreen({number})")
    left, top = browser.value("(() => { const b = canvas.getBoundingClientRect(); return [b.left, b.top]; })()")
    return x + left, y + top


def colour(browser: Any, pixels_of: Callable[[bytes], np.ndarray], number: int) -> np.ndarray:
    x, y = at(browser, number)
    browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    return pixels_of(browser.screenshot())[round(y), round(x)].astype(int)


def test_the_pictures_are_where_they_belong(opened: Any, pixels_of: Callable[[bytes], np.ndarray]) -> None:
    for number, expected in enumerate([(254, 0, 0), (0, 255, 0), (0, 0, 254), (255, 255, 255), (0, 0, 0)]):
        assert np.abs(colour(opened, pixels_of, number) - expected).max() < 12


def test_hovering_shows_the_picture_with_its_name_and_label(opened: Any) -> None:
    assert opened.value("at('card').hidden")
    opened.page.mouse.move(*at(opened, 2))
    opened.wait("!at('card').hidden")
    assert opened.value("[at('card-label').textContent, at('card-name').textContent]") == ["cold", "two/c.jpg"]
    red, green, blue, _ = opened.value("[...at('large').getContext('2d').getImageData(40, 40, 1, 1).data]")
    assert blue > 240 > 12 > max(red, green)
    opened.page.mouse.move(*(np.add(at(opened, 2), 150)))
    opened.wait("at('card').hidden")


def test_names_and_labels_are_only_text(opened: Any) -> None:
    opened.page.mouse.move(*at(opened, 4))
    opened.wait("!at('card').hidden")
    assert opened.value("[at('card-name').textContent, at('card-label').textContent]") == [HOSTILE, "<b>dark</b>"]
    assert opened.value("document.querySelectorAll('img, b b, i').length") == 0
    assert opened.value("document.title") == "Five <i> · topwork map"


def test_a_click_on_the_legend_points_a_class_out(opened: Any, pixels_of: Callable[[bytes], np.ndarray]) -> None:
    shown = opened.value("[...document.querySelectorAll('#legend button')].map((b) => b.textContent)")
    assert shown == ["cold2", "<b>dark</b>1", "warm1", "no label1"]
    opened.click("#legend li:nth-child(1) button")
    opened.page.mouse.move(2, 2)
    assert np.abs(colour(opened, pixels_of, 2) - (0, 0, 254)).max() < 12
    assert colour(opened, pixels_of, 0).min() > 150  # the red one has faded
    assert opened.value("document.querySelector('#legend button').getAttribute('aria-pressed')") == "true"
    opened.click("#legend li:nth-child(1) button")
    opened.page.mouse.move(2, 2)
    assert np.abs(colour(opened, pixels_of, 0) - (254, 0, 0)).max() < 12


def test_wheel_drag_and_keys_move_about(opened: Any) -> None:
    before = at(opened, 2)
    opened.page.mouse.move(*before)
    opened.page.mouse.wheel(0, -200)
    opened.wait("view.zoom > 1.2")
    assert at(opened, 2) == pytest.approx(before, abs=1)  # what is under the pointer stays there
    opened.page.mouse.down()
    opened.page.mouse.move(before[0] + 60, before[1] + 30)
    opened.page.mouse.up()
    assert at(opened, 2) == pytest.approx((before[0] + 60, before[1] + 30), abs=1)
    assert opened.value("held") == -1  # a drag picks nothing
    opened.value("canvas.focus()")
    opened.key("0")
    assert at(opened, 2) == pytest.approx(before, abs=1)
    opened.key("ArrowRight")  # the first key takes what is in the middle
    assert opened.value("held") == 2
    opened.key("ArrowLeft")
    assert opened.value("[0, 3].includes(held)")
    opened.key("Escape")
    assert opened.value("at('card').hidden")
    opened.key("+")
    assert opened.value("view.zoom") == pytest.approx(1.4)


def test_the_search_finds_names_and_goes_from_one_to_the_next(opened: Any) -> None:
    opened.value("at('search').focus()")
    opened.type("TWO/")
    opened.wait("at('found').textContent === '2 found'")
    opened.key("Enter")
    opened.key("Enter")
    assert opened.value("[held, at('said').textContent]") == [3, "two/d.jpg, no label"]


def test_a_tap_holds_a_picture_on_a_phone(browser: Any, page: str) -> None:
    browser.open(page, width=390, height=844, mobile=True)
    browser.wait("document.body.dataset.ready === 'yes'")
    browser.tap(*at(browser, 1))
    browser.wait("held === 1")
    assert browser.value("[at('card-name').textContent, at('card-link').href]") == ["one/b.jpg", "file:///nowhere"]
    assert browser.value("document.documentElement.scrollWidth") == 390


def test_it_loads_nothing_and_runs_no_other_script(opened: Any) -> None:
    assert (
        opened.value("performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length") == 0
    )
    opened.value(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad = 1'}))"
    )
    assert opened.value("window.bad") is None
    assert any("Content Security Policy" in text for text in opened.errors)
    opened.errors.clear()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pictures(n: int, tmp_path: Path, browser: Any) -> None:
    spots = [Spot(0.5, 0.5, f"{i}.jpg") for i in range(n)]
    (tmp_path / "map.html").write_text(render_map("few", spots, lambda _: thumbnail("red")))
    browser.open((tmp_path / "map.html").as_uri())
    browser.wait("document.body.dataset.ready === 'yes'")
    assert browser.value("at('found').textContent") == ("" if n else "The index is empty.")
    browser.value("canvas.focus()")
    browser.key("ArrowRight")
    assert browser.value("held") == (0 if n else -1)


def test_a_large_map_stays_small() -> None:
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(20):
        buffer = io.BytesIO()
        soft = Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((128, 128))
        soft.save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    spots = [Spot(float(x), float(y), f"{i}.jpg") for i, (x, y) in enumerate(random.uniform(size=(3_000, 2)))]
    page = render_map("many", spots, lambda n: pictures[n % 20])
    assert len(page) / 3_000 < 4_000


def test_the_command(indexed: Index, tmp_path: Path, topwork_command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = topwork_command("map", indexed.path, "-o", tmp_path / "map.html", "--json")
    facts = json.loads(out)
    assert (code, facts["pictures"], len(facts["points"])) == (0, 24, 24)
    assert {point["label"] for point in facts["points"]} == {"checks", "dots", "stripes"}
    assert all(0 <= point[axis] <= 1 for point in facts["points"] for axis in "xy")
    page = (tmp_path / "map.html").read_text()
    first, second = (json.loads(topwork_command("map", indexed.path, "--json")[1])["points"] for _ in range(2))
    assert first == second == facts["points"]
    assert "Content-Security-Policy" in page
    (tmp_path / "labels.csv").write_text(f"path,label\n{facts['points'][0]['path']},mine\n")
    code, out, _ = topwork_command("map", indexed.path, "--json", "--labels", tmp_path / "labels.csv", "--limit", 24)
    assert [point["label"] for point in json.loads(out)["points"]] == ["mine", *[None] * 23]
    code, out, _ = topwork_command("map", indexed.path, "-o", tmp_path / "no" / "map.html", "--limit", 7)
    assert (code, out.splitlines()[0]) == (0, "7 pictures of 24, at random, 7 with a label")


def test_the_command_refuses_what_it_cannot_write(
    indexed: Index, tmp_path: Path, topwork_command: Callable[..., tuple[int, str, str]]
) -> None:
    assert topwork_command("map", indexed.path)[2].startswith("topwork: expected a page to write")
    code, _, err = topwork_command("map", indexed.path, "--json", "--allow-remote")
    assert (code, err.startswith("topwork: expected --allow-remote with --labels")) == (2, True)
    code, _, err = topwork_command("map", indexed.path, "-o", tmp_path / "map.png")
    assert (code, "expected a name that ends in .html" in err) == (2, True)


def test_an_empty_index_has_a_map(
    tmp_path: Path, as_file: Callable[..., bytes], topwork_command: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(as_file(np.zeros((32, 32, 3), np.uint8)))
    (tmp_path / "photos" / "b.txt").write_text("no picture")
    with build_index(tmp_path / "photos", tmp_path / "i.index") as index:
        code, out, err = topwork_command("map", index.path, "-o", tmp_path / "map.html")
        assert (code, out.splitlines()[0]) == (0, "1 picture, 0 with a label"), err
        index.table.close()
    import sqlite3

    with sqlite3.connect(tmp_path / "i.index" / "pictures.sqlite") as table:
        table.execute("DELETE FROM pictures")
        table.execute("DELETE FROM facts WHERE name = 'digest'")  # of what was in it
    code, out, err = topwork_command("map", tmp_path / "i.index", "-o", tmp_path / "map.html")
    assert (code, out.splitlines()[0]) == (0, "0 pictures, 0 with a label"), err

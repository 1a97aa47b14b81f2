"""The page of a search in a browser: it shows its pictures, and a click opens one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from topwork.retrieval import build_index

HOSTILE = "<img src=x onerror=document.title='broken'>'\"&.png"


@pytest.fixture
def page(tmp_path: Path, photo_set: Callable[..., Path], topwork_command: Callable[..., Any]) -> Path:
    photos = photo_set(tmp_path / "photos", 2)
    (photos / "dots" / "000.png").rename(photos / "dots" / HOSTILE)
    build_index(photos, tmp_path / "x.index").close()
    code, _, err = topwork_command(
        "search", tmp_path / "x.index", photos / "dots" / "001.png", "-k", 5, "--html", tmp_path / "found.html"
    )
    assert code == 0, err
    return tmp_path / "found.html"


def test_the_pictures_are_shown_whatever_their_names(browser: Any, page: Path) -> None:
    browser.open(page.as_uri(), height=4000)  # they are loaded when they come into view
    browser.wait("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.value("document.images.length") == 6
    assert browser.value("document.title") != "broken"
    captions = browser.value("[...document.querySelectorAll('figcaption')].map((each) => each.textContent)")
    assert any(HOSTILE in caption for caption in captions)
    assert browser.errors == []
    for width in (320, 1280):
        browser.open(page.as_uri(), width=width)
        assert browser.value("document.documentElement.scrollWidth") <= width


def test_a_click_opens_the_picture(browser: Any, page: Path) -> None:
    browser.open(page.as_uri())
    browser.click("a[href*='onerror'] img")
    browser.wait("document.contentType === 'image/png' && document.images[0].naturalWidth > 0")
    width, height = Image.open(next((page.parent / "photos" / "dots").glob("<img*"))).size
    assert browser.value("[document.images[0].naturalWidth, document.images[0].naturalHeight]") == [width, height]

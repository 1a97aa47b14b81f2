"""A headless Chromium, the system's own, driven through Playwright: one tab at a time."""

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PATIENCE = 20_000.0  # milliseconds
PROGRAMS = ("chromium", "google-chrome", "chromium-browser")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)


class Browser:
    """One tab; what its pages report as an error, such as a script that is refused, is in ``errors``."""

    def __init__(self, chromium: Any) -> None:
        self.errors: list[str] = []
        self._chromium = chromium
        self._context: Any = None
        self.page: Any = None
        """Playwright's page, for whatever has no shorter name here."""

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def open(self, url: str, *, width: int = 1000, height: int = 700, mobile: bool = False, dark: bool = False) -> None:
        """A new tab that nothing is kept from, at ``url``."""
        self.close()
        self.errors.clear()
        self._context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            is_mobile=mobile,
            has_touch=mobile,
            color_scheme="dark" if dark else "light",
        )
        self._context.set_default_timeout(PATIENCE)
        self.page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.goto(url)

    def value(self, expression: str) -> Any:
        """The value of JavaScript, promises awaited."""
        return self.page.evaluate(expression)

    def wait(self, condition: str) -> None:
        """Until the condition is true; asked from outside, since a page's policy may forbid it to evaluate text."""
        end = time.monotonic() + PATIENCE / 1000
        while not self._holds(condition):
            assert time.monotonic() < end, f"still not: {condition}; {self.errors}"
            self.page.wait_for_timeout(20)

    def _holds(self, condition: str) -> bool:
        from playwright.sync_api import Error

        try:
            return bool(self.value(condition))
        except Error as error:
            if "context was destroyed" in str(error):  # asked while the next page comes
                return False
            raise

    def key(self, key: str) -> None:
        self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.insert_text(text)

    def middle(self, selector: str) -> tuple[float, float]:
        box = self.page.locator(selector).first.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def click(self, selector: str) -> None:
        """As a mouse does, wherever the page has put the thing, and whether it reacts or not."""
        self.page.mouse.click(*self.middle(selector))

    def tap(self, x: float, y: float) -> None:
        self.page.touchscreen.tap(x, y)

    def screenshot(self) -> bytes:
        """What is seen, as PNG."""
        return bytes(self.page.screenshot())


# A module's, not a session's: while Playwright runs, nothing else in its thread can run an event loop, as notebooks do.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium on the PATH")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=FLAGS)
        browser = Browser(started)
        yield browser
        browser.close()
        started.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser; a page that reports an error fails the test."""
    yield chromium
    chromium.close()
    assert not chromium.errors


@pytest.fixture
def pixels_of() -> Callable[[bytes], Any]:
    """A PNG as an array."""
    import io

    import numpy as np
    from PIL import Image

    return lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

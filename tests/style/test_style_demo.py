"""The live page: who may ask it, what it paints, and what a person sees in a browser with a camera."""

import base64
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from topwork.errors import TopworkError, UsageError
from topwork.style import feedforward
from topwork.style.demo import DemoServer
from topwork.style.demo.server import LARGEST
from topwork.style.fast_style import FastStyle

BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    styles = [
        FastStyle(feedforward.network(width=4, blocks=1, seed=seed).SerializeToString(), {}, name=f"{name}.style")
        for seed, name in enumerate(("wave", "<b>scream"))
    ]
    server = DemoServer(styles)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join()


def as_jpeg(width: int, height: int) -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    buffer = io.BytesIO()
    Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def paint(server: DemoServer, data: bytes, query: str = "", **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}paint{query}", content=data, headers={**BYTES, **headers}, timeout=30)


def test_a_picture_comes_back_painted(server: DemoServer) -> None:
    answer = paint(server, as_jpeg(400, 300), "?side=200")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (200, 150)
    small = paint(server, as_jpeg(60, 40), "?side=200")
    assert Image.open(io.BytesIO(small.content)).size == (60, 40)
    other = paint(server, as_jpeg(400, 300), "?side=200&style=1")
    assert other.content != answer.content


def test_pictures_are_turned_as_the_camera_says_and_other_formats_are_read(server: DemoServer) -> None:
    image = Image.open(io.BytesIO(as_jpeg(120, 80)))
    turned, webp, exif = io.BytesIO(), io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(turned, "JPEG", exif=exif)
    image.save(webp, "WEBP")
    for data, size in ((turned, (80, 120)), (webp, (120, 80))):
        assert Image.open(io.BytesIO(paint(server, data.getvalue()).content)).size == size


@pytest.mark.parametrize(
    ("data", "query", "words"),
    [
        (b"no picture", "", "this picture cannot be read"),
        (b"", "", "empty file"),
        (as_jpeg(40, 8), "", "at least 16 pixels on both sides, got 40 x 8"),
        (b"x" * (LARGEST + 1), "", "up to 20 MB"),
        (b"x" * (3 * LARGEST), "", "up to 20 MB"),
        (as_jpeg(64, 64), "?style=2", "another style or size"),
        (as_jpeg(64, 64), "?side=4000", "another style or size"),
    ],
)
def test_what_cannot_be_painted_is_said(server: DemoServer, data: bytes, query: str, words: str) -> None:
    answer = paint(server, data, query)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_only_the_page_itself_may_ask(server: DemoServer) -> None:
    data = as_jpeg(64, 64)
    assert paint(server, data, Origin="https://example.org").status_code == 403
    assert paint(server, data, Host="example.org").status_code == 403
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x", "application/octet-stream; x=y"):
        assert paint(server, data, **{"Content-Type": kind}).status_code == 403
    wrong = server.url.replace(server.token, "x" * len(server.token))
    assert httpx.get(wrong).status_code == 403
    policy = httpx.get(server.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


def test_names_of_styles_are_no_markup(server: DemoServer) -> None:
    page = httpx.get(server.url).text
    assert "<b>scream" not in page
    assert "&lt;b&gt;scream" in page


def test_a_port_that_is_taken_and_no_style_are_refused(server: DemoServer) -> None:
    style = FastStyle(feedforward.network(width=4, blocks=1).SerializeToString(), {}, name="x")
    with pytest.raises(TopworkError, match="cannot listen at port"):
        DemoServer([style], port=server.socket.getsockname()[1])
    with pytest.raises(UsageError, match="got none"):
        DemoServer([])


PIXELS = """(id) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 16, height: 16 });
  canvas.getContext("2d").drawImage(document.getElementById(id), 0, 0, 16, 16);
  return canvas.toDataURL();
}"""


def choose(browser: Any, path: Path) -> None:
    browser.page.set_input_files("#file", path)


def test_a_chosen_picture_is_painted_in_the_browser(
    server: DemoServer, browser: Any, tmp_path: Path, pixels_of: Callable[[bytes], Any]
) -> None:
    (tmp_path / "a.jpg").write_bytes(as_jpeg(300, 200))
    browser.open(server.url)
    choose(browser, tmp_path / "a.jpg")
    browser.wait("document.getElementById('painted').naturalWidth === 300")
    assert browser.value("document.getElementById('painted').naturalHeight") == 200
    assert browser.value("document.getElementById('original').naturalWidth") == 300
    assert browser.value("document.getElementById('save').href").startswith("blob:")
    assert browser.value(f"({PIXELS})('painted')") != browser.value(f"({PIXELS})('original')")
    first = browser.value("document.getElementById('painted').src")
    browser.click("#styles label:nth-of-type(2)")
    browser.wait(f"document.getElementById('painted').src !== {first!r}")
    assert pixels_of(browser.screenshot()).std() > 10


def test_a_file_that_is_no_picture_is_said_on_the_page(server: DemoServer, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    browser.open(server.url, width=400, height=800, mobile=True)
    choose(browser, tmp_path / "a.jpg")
    browser.wait("!document.getElementById('error').hidden")
    assert "cannot be read" in browser.value("document.getElementById('error').textContent")
    assert browser.value("document.documentElement.scrollWidth") <= 400
    assert any("400" in error for error in browser.errors)  # the browser's own note of the answer
    browser.errors.clear()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(server: DemoServer, browser: Any, kind: str) -> None:
    browser.open(server.url)
    data = base64.b64encode(as_jpeg(200, 100)).decode()
    event = "DragEvent('drop', { dataTransfer" if kind == "drop" else "ClipboardEvent('paste', { clipboardData"
    browser.value(
        f"(() => {{ const data = Uint8Array.from(atob('{data}'), (c) => c.charCodeAt(0));"
        "const sent = new DataTransfer(); sent.items.add(new File([data], 'a.jpg', { type: 'image/jpeg' }));"
        f"at('drop').dispatchEvent(new {event}: sent, bubbles: true, cancelable: true }})); }})()"
    )
    browser.wait("at('painted').naturalWidth === 200 && at('original').naturalWidth === 200")
    assert "over" not in browser.value("at('drop').className")


def test_what_is_shown_stays_when_the_next_file_is_no_picture(server: DemoServer, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(as_jpeg(300, 200))
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    browser.open(server.url)
    choose(browser, tmp_path / "a.jpg")
    browser.wait("at('painted').naturalWidth === 300")
    choose(browser, tmp_path / "b.jpg")
    browser.wait("!at('error').hidden")
    assert browser.value("[at('original').hidden, at('original').naturalWidth, at('status').textContent]") == [
        False,
        300,
        "",
    ]
    browser.click("#sides label:nth-of-type(1)")
    browser.wait("at('painted').naturalWidth === 256 && at('error').hidden")
    browser.errors.clear()


def test_the_camera_is_painted_live_until_it_is_stopped(server: DemoServer, browser: Any) -> None:
    browser.open(server.url)
    browser.value(
        "(() => { window.frames_shown = 0; new MutationObserver(() => { window.frames_shown += 1; })"
        ".observe(document.getElementById('painted'), { attributeFilter: ['src'] }); })()"
    )
    browser.click("#camera")
    browser.wait("window.frames_shown >= 4")
    assert "pictures a second" in browser.value("document.getElementById('status').textContent")
    assert browser.value("document.getElementById('camera').textContent") == "Stop"
    assert browser.value("document.getElementById('painted').naturalWidth") == 384
    browser.click("#camera")
    browser.wait("document.getElementById('camera').textContent === 'Camera'")
    count = browser.value("window.frames_shown")
    browser.value("new Promise((done) => setTimeout(done, 500))")
    assert browser.value("window.frames_shown") == count
    assert browser.value(
        "document.getElementById('video').srcObject.getTracks().every((t) => t.readyState === 'ended')"
    )
    browser.click("#sides label:nth-of-type(1)")  # paints the last frame again
    browser.wait("at('painted').naturalWidth === 256 && at('original').naturalWidth === 384")


CAMERA = """(() => {
  window.tracks = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wish) => {
    const stream = await ask(wish);
    window.tracks.push(...stream.getTracks());
    return stream;
  };
})()"""


@pytest.mark.parametrize("clicks", [2, 3, 4])
def test_impatient_clicks_leave_no_camera_on(server: DemoServer, browser: Any, clicks: int) -> None:
    browser.open(server.url)
    browser.value(CAMERA)
    browser.value(f"(() => {{ for (let n = 0; n < {clicks}; n += 1) at('camera').click(); }})()")
    browser.wait(f"window.tracks.length === {(clicks + 1) // 2}")
    assert browser.value("at('camera').textContent") == ("Stop" if clicks % 2 else "Camera")
    browser.wait(f"window.tracks.filter((track) => track.readyState === 'live').length === {clicks % 2}")
    if clicks % 2:
        browser.wait("at('painted').naturalWidth > 0")
        browser.click("#camera")
    browser.wait("window.tracks.every((track) => track.readyState === 'ended')")


def test_a_picture_chosen_meanwhile_ends_the_camera(server: DemoServer, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(as_jpeg(300, 200))
    browser.open(server.url)
    browser.value(CAMERA)
    browser.click("#camera")
    browser.wait("at('painted').naturalWidth > 0")
    choose(browser, tmp_path / "a.jpg")
    browser.wait("at('painted').naturalWidth === 300 && window.tracks.every((track) => track.readyState === 'ended')")
    assert browser.value("at('camera').textContent") == "Camera"


def test_a_camera_that_is_taken_away_is_said(server: DemoServer, browser: Any) -> None:
    browser.open(server.url)
    browser.click("#camera")
    browser.wait("at('painted').naturalWidth > 0")
    browser.value("stream.getVideoTracks()[0].dispatchEvent(new Event('ended')) && 0")
    browser.wait("at('error').textContent.startsWith('The camera ended') && !filming")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("NotAllowedError", "may not use the camera; allow it"),
        ("NotFoundError", "There is no camera here"),
        ("NotReadableError", "Another program uses the camera"),
        ("OtherError", "does not start here: why"),
    ],
)
def test_why_there_is_no_camera_is_said(server: DemoServer, browser: Any, reason: str, words: str) -> None:
    browser.open(server.url)
    browser.value(
        f"(() => {{ const no = async () => {{ throw new DOMException('why', '{reason}'); }};"
        "navigator.mediaDevices.getUserMedia = no; })()"
    )
    browser.click("#camera")
    browser.wait("!at('error').hidden")
    assert words in browser.value("at('error').textContent")
    assert browser.value("[at('camera').textContent, at('status').textContent]") == ["Camera", ""]

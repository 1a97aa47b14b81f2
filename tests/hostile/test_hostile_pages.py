"""What other programs on this computer may do to a local page: it goes on answering the person in front of it."""

import io
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("uvicorn")
pytest.importorskip("fastapi")

from topwork.report import connections
from topwork.style import feedforward
from topwork.style.demo import DemoServer
from topwork.style.demo.server import LARGEST
from topwork.style.fast_style import FastStyle, save

HEADERS = "GET / HTTP/1.1\r\nHost: x\r\n"
WAIT = 60  # seconds, at most


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    folder = tmp_path_factory.mktemp("styles") / "plain.style"
    save(folder, feedforward.network(width=4, blocks=1), {"name": "plain"}, report="<p>")
    server = DemoServer([FastStyle.load(folder)])
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server
    server.stop()
    thread.join(WAIT)
    assert not thread.is_alive()


def page(server: DemoServer) -> int:
    with urllib.request.urlopen(server.url, timeout=WAIT) as answer:
        return int(answer.status)


def connected(server: DemoServer, begin: str) -> socket.socket:
    client = socket.create_connection(server.socket.getsockname(), timeout=WAIT)
    client.sendall(begin.encode())
    return client


def is_closed(client: socket.socket) -> bool:
    """Whether the other side has closed it; waits for that."""
    try:
        while client.recv(4096):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def post(server: DemoServer, length: int, sent: bytes = b"") -> str:
    host = server.url.split("/")[2]
    kind = "Content-Type: application/octet-stream\r\n"
    head = f"POST /{server.token}/paint HTTP/1.1\r\nHost: {host}\r\n{kind}Content-Length: {length}\r\n\r\n"
    return head + sent.decode()


@pytest.mark.parametrize("kind", ["nothing", "half a header", "half a body"])
def test_hundreds_of_half_requests_do_not_keep_the_page_from_answering(server: DemoServer, kind: str) -> None:
    begin = {"nothing": "", "half a header": HEADERS, "half a body": post(server, 1000, b"abc")}[kind]
    with ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connected(server, begin))
        assert page(server) == 200
        assert len(server._server.server_state.connections) <= connections.MOST + 1


@pytest.mark.parametrize("kind", ["half a header", "half a second header", "half a body"])
def test_one_that_does_not_get_on_is_closed(server: DemoServer, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connections, "HEADER", 0.5)
    monkeypatch.setattr(connections, "BODY", 0.5)
    monkeypatch.setattr(connections, "_TICK", 0.1)
    whole = f"GET /{server.token}/ HTTP/1.1\r\nHost: {server.url.split('/')[2]}\r\n\r\n"
    begin = {
        "half a header": HEADERS,
        "half a second header": whole + HEADERS,
        "half a body": post(server, 1000, b"abc"),
    }[kind]
    with connected(server, begin) as client:
        assert is_closed(client)
    assert page(server) == 200


def test_a_slow_answer_is_not_cut_off(server: DemoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the other side owes is waited for."""
    monkeypatch.setattr(connections, "HEADER", 0.2)
    monkeypatch.setattr(connections, "BODY", 0.2)
    monkeypatch.setattr(connections, "_TICK", 0.05)
    painted = threading.Event()

    def slowly(*_: Any) -> bytes:
        time.sleep(1)
        painted.set()
        return b"done"

    monkeypatch.setattr("topwork.style.demo.server.paint", slowly)
    assert asked(server, b"a picture") == (200, b"done")
    assert painted.is_set()


def asked(server: DemoServer, data: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(server.url + "paint", data, {"Content-Type": "application/octet-stream"})
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_header_without_end_is_refused(server: DemoServer) -> None:
    with connected(server, HEADERS) as client:
        try:
            for _ in range(100):
                client.sendall(b"X-A: " + b"a" * 1000 + b"\r\n")
        except ConnectionError:
            pass
        assert is_closed(client)
    assert page(server) == 200


def test_too_much_is_refused_without_being_kept(server: DemoServer) -> None:
    code, words = asked(server, bytes(LARGEST + 1))
    assert code == 400
    assert b"expected a file of up to 20 MB" in words


@pytest.mark.parametrize(("kind", "width"), [("WEBP", 4500), ("PNG", 9000), ("GIF", 9000)])
def test_pictures_of_many_pixels_are_refused_before_they_are_decoded(server: DemoServer, kind: str, width: int) -> None:
    buffer = io.BytesIO()
    Image.new("L", (width, 3000)).save(buffer, kind, method=0)
    code, words = asked(server, buffer.getvalue())
    assert code == 400
    assert b"cannot be read" in words
    assert b"pixels" in words


def test_a_photograph_of_many_pixels_is_painted(server: DemoServer) -> None:
    buffer = io.BytesIO()
    Image.new("L", (9000, 3000)).save(buffer, "JPEG")
    assert asked(server, buffer.getvalue())[0] == 200


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_closed_connections_leave_no_open_file(server: DemoServer) -> None:
    def wait_for(count: int) -> int:
        end = time.monotonic() + WAIT
        while (now := len(os.listdir("/proc/self/fd"))) > count and time.monotonic() < end:
            time.sleep(0.05)
        return now

    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with ExitStack() as stack:
            for _ in range(200):
                stack.enter_context(connected(server, HEADERS))
            assert page(server) == 200
    assert wait_for(before + 2) <= before + 2

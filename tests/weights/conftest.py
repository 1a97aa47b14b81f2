import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from topwork import fingerprint
from topwork.weights import store
from topwork.weights.store import Stored

COMMIT = "c0ffee" * 6 + "abcd"


@dataclass
class Hub:
    """A server on this machine that speaks as much of the hub's protocol as one file's download needs.

    What it has, how it misbehaves, and what it was asked for.
    """

    content: bytes
    repo: str = "timm/toy.a1_in1k"
    file: str = "model.safetensors"
    etag: str | None = None
    """What it says the sha256 is; None for the truth."""
    break_after: list[int] = field(default_factory=list)
    """Bytes after which the connection of the next, second, … download breaks."""
    stall_after: int | None = None
    """Bytes after which a download stands still until ``go_on`` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    """Whether it understands ``Range``."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and range of each request."""
    endpoint: str = ""

    @property
    def elsewhere(self) -> str:
        """The address of the host that large files lie on, which is another one."""
        return self.endpoint.replace("127.0.0.1", "localhost")

    @property
    def sha256(self) -> str:
        return fingerprint.of_bytes(self.content)

    @property
    def downloads(self) -> list[str | None]:
        """The range of each download, None for a whole one."""
        return [wanted for method, path, wanted in self.asked if method == "GET" and path.startswith("/lfs/")]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.hub
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        if self.path == f"/lfs/{hub.sha256}":
            self._send_content()
        elif self.path in (f"/{hub.repo}/resolve/{revision}/{hub.file}" for revision in ("main", COMMIT)):
            self._reply(302, {"Location": f"{hub.elsewhere}/lfs/{hub.sha256}", **self._described()})
        elif self.path.startswith(f"/{hub.repo}/resolve/"):
            self._reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._reply(404, {"X-Error-Code": "RepoNotFound"})

    def _described(self) -> dict[str, str]:
        etag = self.hub.sha256 if self.hub.etag is None else self.hub.etag
        return {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(self.hub.content))}

    def _reply(self, status: int, headers: dict[str, str], body: int = 0) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(body), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_content(self) -> None:
        hub, wanted = self.hub, self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and hub.ranges else 0
        total, rest = len(hub.content), hub.content[start:]
        partial = {"Content-Range": f"bytes {start}-{total - 1}/{total}"}
        self._reply(206 if start else 200, {"ETag": '"cdn"', **(partial if start else {})}, len(rest))
        if self.command == "HEAD":
            return
        if hub.break_after:
            self.wfile.write(rest[: hub.break_after.pop(0)])
            self.close_connection = True
        elif hub.stall_after is not None:
            self.wfile.write(rest[: hub.stall_after])
            self.wfile.flush()
            hub.go_on.wait(30)
        else:
            self.wfile.write(rest)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub as long as the block lasts; its address is in ``endpoint``."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, so that no test finds another's weights."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def toy_tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "conv.weight": random.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "conv.bias": random.normal(size=4).astype(np.float32),
        "norm.num_batches_tracked": np.array(7),
    }


@pytest.fixture(scope="session")
def toy_shapes(toy_tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in toy_tensors.items()}


@pytest.fixture(scope="session")
def put_toy() -> Any:
    """Store one tensor of a value under a name."""

    def put(value: float = 1.0, name: str = "toy", **more: Any) -> Stored:
        facts = {"source": f"file {value}.pth", "source_sha256": "0" * 64, "licence": "MIT", **more}
        return store.put(name, {"w": np.full(50, value, np.float32)}, **facts)

    return put


@pytest.fixture
def hub(toy_tensors: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one file of 300 kB, beside the toy's tensors, and an empty local hub cache; read in small pieces."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 20_000)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    filler = np.random.default_rng(3).normal(size=75_000).astype(np.float32)
    with serving(Hub(save({**toy_tensors, "filler": filler}))) as running:
        yield running

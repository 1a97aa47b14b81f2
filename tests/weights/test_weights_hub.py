"""Downloads from a hub that is not always well."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topwork import fingerprint
from topwork.errors import BackboneError, MissingExtraError
from topwork.weights import hub as hub_module
from topwork.weights import store

pytest.importorskip("huggingface_hub")
Hub = Any


def pulled(hub: Hub) -> bytes:
    """The bytes that a pull gives."""
    remote = hub_module.find(hub.repo, hub.file, endpoint=hub.endpoint)
    with hub_module.pull(remote) as path:
        return path.read_bytes()


def left() -> list[Path]:
    """Downloads, whole or begun, that are on the disk."""
    return [path for path in (store.folder() / "downloads").glob("*") if path.suffix != ".lock"]


def test_a_file_is_found_then_fetched_and_not_kept_twice(hub: Hub) -> None:
    remote = hub_module.find(hub.repo, hub.file, endpoint=hub.endpoint)
    assert not hub.downloads
    assert (remote.sha256, remote.size) == (hub.sha256, len(hub.content))
    assert remote.source == f"hub {hub.repo}@{remote.commit}"
    with hub_module.pull(remote) as path:
        assert path.read_bytes() == hub.content
        assert path.suffix == ".safetensors"
    assert hub.downloads == [None]
    assert left() == []
    fetched = [path for method, path, _ in hub.asked if method == "GET" and "resolve" in path]
    assert fetched == [f"/{hub.repo}/resolve/{remote.commit}/{hub.file}"], "the commit that was shown, not today's"


def test_a_broken_connection_is_taken_up_where_it_ended(hub: Hub) -> None:
    hub.break_after = [110_000, 90_000]
    assert pulled(hub) == hub.content
    assert hub.downloads == [None, "bytes=100000-", "bytes=180000-"]  # whole pieces of 20,000 bytes


def test_a_server_without_ranges_starts_again(hub: Hub) -> None:
    hub.break_after, hub.ranges = [110_000], False
    assert pulled(hub) == hub.content


PULLS = """
import sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 20_000
from topwork.weights import hub
with hub.pull(hub.find(sys.argv[1], sys.argv[2])) as path:
    print(path.stat().st_size)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_download_goes_on_in_the_next_run(hub: Hub) -> None:
    """The other process finds the hub by HF_ENDPOINT."""
    hub.stall_after = 200_000
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint}
    process = subprocess.Popen([sys.executable, "-c", PULLS, hub.repo, hub.file], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(path.stat().st_size >= 100_000 for path in left()):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.stall_after = None
    (begun,) = left()
    size = begun.stat().st_size
    assert 100_000 <= size < len(hub.content)
    assert pulled(hub) == hub.content
    assert hub.downloads == [None, f"bytes={size}-"]
    assert left() == []


def test_an_earlier_part_that_is_whole_or_too_long(hub: Hub) -> None:
    folder = store.folder() / "downloads"
    folder.mkdir()
    (folder / f"{hub.sha256}.safetensors").write_bytes(hub.content)
    assert pulled(hub) == hub.content
    assert hub.downloads == []
    (folder / f"{hub.sha256}.safetensors").write_bytes(hub.content + b"more")
    assert pulled(hub) == hub.content
    assert hub.downloads == [None]


@pytest.mark.parametrize("part", [b"", b"an earlier part of something else"])
def test_another_content_than_promised_is_refused_and_leaves_nothing(hub: Hub, part: bytes) -> None:
    hub.etag = fingerprint.of_bytes(b"something else")
    folder = store.folder() / "downloads"
    folder.mkdir()
    (folder / f"{hub.etag}.safetensors").write_bytes(part)
    with pytest.raises(BackboneError, match=f"not what the hub promised: expected sha256 {hub.etag[:12]}…, got"):
        pulled(hub)
    assert left() == []
    assert store.names() == []


def test_a_hub_that_gives_no_sha256_is_refused(hub: Hub) -> None:
    hub.etag = "0123456789abcdef"  # git's own hash, of files that are not large
    with pytest.raises(BackboneError, match="expected the commit, size and sha256"):
        pulled(hub)


def test_a_block_that_fails_leaves_nothing(hub: Hub) -> None:
    remote = hub_module.find(hub.repo, hub.file, endpoint=hub.endpoint)
    with pytest.raises(RuntimeError), hub_module.pull(remote):
        raise RuntimeError
    assert left() == []


def test_old_parts_of_downloads_are_swept(hub: Hub) -> None:
    folder = store.folder() / "downloads"
    folder.mkdir()
    for name in ("old", "new"):
        (folder / name).write_bytes(b"part")
    os.utime(folder / "old", (time.time() - 8 * 86_400,) * 2)
    pulled(hub)
    assert [path.name for path in left()] == ["new"]


@pytest.mark.parametrize("repo", [True, False])
def test_what_the_hub_does_not_have_is_said(hub: Hub, repo: bool) -> None:
    names = (hub.repo, "other.safetensors") if repo else ("timm/other", hub.file)
    with pytest.raises(BackboneError, match=f"the hub has no {names[1]} in {names[0]}, or shows it to nobody"):
        hub_module.find(*names, endpoint=hub.endpoint)


def test_no_server_is_said(hub: Hub) -> None:
    with pytest.raises(BackboneError, match=r"from the hub, but .*`topwork weights add FILE NAME`"):
        hub_module.find(hub.repo, hub.file, endpoint="http://127.0.0.1:9")


def test_offline_nothing_is_asked(hub: Hub, python: Callable[..., Any]) -> None:
    done = python(PULLS, hub.repo, hub.file, HF_ENDPOINT=hub.endpoint, HF_HUB_OFFLINE="1")
    assert "but HF_HUB_OFFLINE is set; unset it, or fetch it from https://huggingface.co/" in done.stderr
    assert hub.asked == []


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'which is not installed; run pip install "topwork\[weights\]"'):
        hub_module.find("timm/toy", "model.safetensors")
    assert hub_module.cached("timm/toy", "model.safetensors") is None


def test_the_local_hub_cache_is_used_once_its_hash_was_compared(hub: Hub) -> None:
    from huggingface_hub import hf_hub_download

    assert hub_module.cached(hub.repo, hub.file) is None
    theirs = Path(hf_hub_download(hub.repo, hub.file, endpoint=hub.endpoint))
    assert hub_module.cached(hub.repo, hub.file) == theirs
    asked = len(hub.downloads)
    assert pulled(hub) == hub.content
    assert len(hub.downloads) == asked
    assert theirs.exists()
    data = bytearray(hub.content)
    data[-1] ^= 1
    theirs.resolve().write_bytes(data)
    os.utime(theirs.resolve(), ns=(1, 1))
    assert hub_module.cached(hub.repo, hub.file) is None
    assert pulled(hub) == hub.content
    assert len(hub.downloads) == asked + 1

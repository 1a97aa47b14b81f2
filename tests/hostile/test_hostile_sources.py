"""What a stranger's list, folder or archive may do: name files of its own folder, and nothing else."""

import os
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from topwork.errors import SourceError
from topwork.images import ImageSource
from topwork.images.reach import Reach

posix = pytest.mark.skipif(os.name == "nt", reason="files that Windows has not")


@pytest.fixture
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A port of this computer, and what arrives there."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def answer() -> None:
            while not done.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(2)
                    heard.append(connection.recv(4096))
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1], heard
        done.set()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, pattern: Callable, as_file: Callable) -> Path:
    """Two whole pictures, and one outside of the folder."""
    root = tmp_path / "photos"
    root.mkdir()
    for name in ("1.png", "2.png", "../outside.png"):
        (root / name).write_bytes(as_file(pattern("dots", len(name), 40, 50)))
    return root


def left_out(source: ImageSource) -> dict[str, str]:
    return {each.path: each.reason for each in source.excluded}


_CHAIN, _PROTOCOL, _NETWORK = "a chain of addresses", "which no list may name", "only with allow_remote"
_NAMED = {  # what a list says -> a part of the reason
    "reference://x.jpg::refs.json": _CHAIN,
    "reference://x.jpg": _PROTOCOL,
    "zip://a.jpg::broken.zip": _CHAIN,
    "zip://a.jpg": _PROTOCOL,
    "simplecache::http://127.0.0.1/x.jpg": _CHAIN,
    "blockcache::file:///etc/passwd": _CHAIN,
    "http://127.0.0.1:9/x.jpg": _NETWORK,
    "HTTPS://127.0.0.1:9/x.jpg": _NETWORK,
    "s3://bucket/x.jpg": _NETWORK,
    "github://owner:repo@main/x.jpg": _PROTOCOL,
    "git:///tmp/repo": _PROTOCOL,
    "ssh://host/x.jpg": _PROTOCOL,
    "sftp://host/x.jpg": _PROTOCOL,
    "smb://host/x.jpg": _PROTOCOL,
    "ftp://host/x.jpg": _PROTOCOL,
    "memory://x.jpg": _PROTOCOL,
    "data://x": _PROTOCOL,
    "dir:///etc": _PROTOCOL,
    "cached://x": _PROTOCOL,
    "nosuch://x": _PROTOCOL,
    "bitmap://x": _PROTOCOL,
    "bitmap://0+28x28::/etc/passwd": _CHAIN,
    "drawing://a+b::c": _CHAIN,
    "frame://x": _PROTOCOL,
    "a\0b.png": "a zero byte",
}


@pytest.mark.parametrize("name", _NAMED)
def test_a_row_that_reaches_out_is_left_out_by_name(folder, name):
    (folder / "list.csv").write_text(f"path,label\n1.png,a\n{name},a\n2.png,b\n")
    source = ImageSource.open(folder / "list.csv")
    assert [sample.id for sample in source.samples] == ["1.png", "2.png"]
    (reason,) = left_out(source).values()
    assert _NAMED[name] in reason
    (folder / "list.csv").write_text(f"path,label\n{name},a\n")
    with pytest.raises(SourceError, match=_NAMED[name]):
        ImageSource.open(folder / "list.csv")


@pytest.mark.parametrize("name", ["nosuch://x", "bitmap://x", "drawing://a+b::c", "zip://a.jpg::broken.zip"])
def test_a_bad_address_among_others_is_left_out_by_name(folder, name):
    (folder / "broken.zip").write_bytes(b"PK\3\4 but no archive")
    source = ImageSource.open([str(folder / "1.png"), name])
    assert [Path(sample.id).name for sample in source.samples] == ["1.png"]
    assert list(left_out(source)) == [name]


def test_a_list_that_the_user_names_may_lead_anywhere_on_this_computer(folder):
    (folder / "list.csv").write_text(f"path\n../outside.png\n{folder / '1.png'}\n")
    assert len(ImageSource.open(folder / "list.csv").samples) == 2


def test_a_list_found_in_a_folder_reaches_that_folder_only(folder):
    (folder / "frames.json").write_text("{}")
    rows = ["1.png", str(folder / "2.png"), "../outside.png", str(folder.parent / "outside.png"), "/etc/passwd"]
    (folder / "frames.csv").write_text("\n".join(["path", *rows, f"file://{folder.parent}/outside.png"]))
    source = ImageSource.open(folder)
    assert sorted(Path(sample.id).name for sample in source.samples) == ["1.png", "2.png"]
    assert len(source.excluded) == 4
    assert all("outside of the folder" in reason for reason in left_out(source).values())


def test_a_folder_sends_no_request(folder, listening, topwork_command):
    port, heard = listening
    (folder / "frames.json").write_text("{}")
    (folder / "frames.csv").write_text(
        f"path,label\nhttp://127.0.0.1:{port}/x.jpg,a\nhttp://127.0.0.1:{port}/y.jpg,b\n"
    )
    code, _, said = topwork_command("audit", folder)
    assert (code, heard) == (1, [])
    assert "a network address (http), which a list may name only with" in said
    assert "\n" not in said.strip()


def test_a_list_asks_the_network_where_the_user_allows_it(folder, listening, topwork_command):
    pytest.importorskip("aiohttp")
    port, heard = listening
    (folder / "list.csv").write_text(f"path,label\n1.png,a\nhttp://127.0.0.1:{port}/x.jpg,a\n")
    source = ImageSource.open(folder / "list.csv", allow_remote=True)
    assert len(source.samples) == 2
    topwork_command("audit", folder / "list.csv")
    assert not heard
    topwork_command("audit", folder / "list.csv", "--allow-remote")
    assert any(b"x.jpg" in each for each in heard)


def test_no_code_of_a_list_runs(folder, topwork_command, monkeypatch):
    payload = "{{ cycler.__init__.__globals__.os.system('touch EXECUTED') }}"
    rule = f'{{"key": "{payload}", "url": "x", "dimensions": {{"i": {{"stop": 1}}}}}}'
    (folder / "refs.json").write_text(f'{{"version": 1, "templates": {{}}, "refs": {{}}, "gen": [{rule}]}}')
    (folder / "list.csv").write_text("path,label\nreference://x.jpg::refs.json,a\n1.png,a\n2.png,b\n")
    monkeypatch.chdir(folder)
    code, said, _ = topwork_command("audit", "list.csv")
    assert code == 0
    assert "a chain of addresses" in said
    assert not (folder / "EXECUTED").exists()


@pytest.mark.parametrize(
    ("manifest", "allowed", "refused"),
    [
        ("s3://cars/lists/m.csv", ["s3://cars/1.jpg"], ["s3://other/1.jpg", "http://cars/1.jpg", "/etc/passwd"]),
        (
            "http://good/a/m.csv",
            ["http://good/1.jpg"],
            ["http://good@evil/1.jpg", "http://goodevil/1", "https://good/1"],
        ),
        ("zip://m.csv::/x.zip", ["zip://a/1.jpg::/x.zip"], ["zip://1.jpg::/y.zip", "tar://1.jpg::/x.zip", "/x.zip"]),
        ("simplecache::s3://c/m.csv", ["simplecache::s3://c/1"], ["s3://c/1", "simplecache::s3://c/1::s3://c/2"]),
    ],
)
def test_a_list_behind_an_address_reaches_its_own_host(manifest, allowed, refused):
    reach = Reach.of_manifest(manifest)
    assert [reach.why_not(each) for each in allowed] == [None] * len(allowed)
    assert all(reach.why_not(each) for each in refused)


@pytest.mark.parametrize("inside", ["../1.jpg", "a/../../1.jpg", "%2e%2e/1.jpg", "a\\..\\..\\1.jpg"])
def test_a_folder_behind_an_address_is_not_left_upwards(inside):
    assert Reach.of_folder("https://host/photos").why_not(f"https://host/photos/{inside}")


def test_names_in_an_archive_stay_in_it(tmp_path, listening):
    port, heard = listening
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a/1.jpg", f"a/http://127.0.0.1:{port}/x.jpg", "a/x::reference:", "../../up.jpg", "/etc/passwd"):
            archive.writestr(name, "not a picture")
    source = ImageSource.open(tmp_path / "a.zip")
    for sample in source.samples:
        assert sample.location.endswith(f"::{tmp_path / 'a.zip'}")
        assert sample.read() == b"not a picture"
    assert not heard
    assert any("'::' in a name" in reason for reason in left_out(source).values())

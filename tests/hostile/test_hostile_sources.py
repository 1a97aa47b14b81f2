"""What a stranger's list, folder or archive may do: name files of its own folder, and nothing else."""

import csv
import errno
import os
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topwork.errors import ImageError, ShortageError, SourceError
from topwork.images import ImageSource, Sample, manifest, storage, to_pixels, video
from topwork.images.reach import Reach
from topwork.images.video import FrameReader, open_video

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


_PROTOCOLS = ("zip", "file", "reference", "http", "s3", "local", "memory", "drawing://0+1::", "bitmap://0+1x1::")
_PIECES = (
    *_PROTOCOLS,
    "::",
    "://",
    "/",
    "..",
    "a",
    "1.png",
    "%2e%2e",
    "\\",
    "~",
    " ",
    "\0",
    "[",
    "@",
    ":",
    "?",
    "#",
    "\u0308",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=8).map("".join))
def test_whatever_a_row_says_only_files_are_reached(folder, name):
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path"], ["2.png"], [name]])
    for sample in ImageSource.open(folder / "list.csv").samples:
        assert os.path.isabs(sample.location)
        assert "://" not in sample.location
    (folder / "frames.json").write_text("{}")
    (folder / "list.csv").replace(folder / "frames.csv")
    for sample in ImageSource.open(folder).samples:
        assert Path(sample.location).resolve().is_relative_to(folder)


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


def sparse(path: Path, size: int) -> Path:
    """A file of zeros that takes no place on the disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


_HUGE = 3 << 30


def test_huge_files_are_named_before_they_are_read(folder):
    sparse(folder / "huge.jpg", _HUGE)
    (sample,) = [each for each in ImageSource.open(folder).samples if each.id == "huge.jpg"]
    with pytest.raises(ImageError, match=r"^3,221 MB, more than the limit of 320 MB$"):
        sample.read()
    assert sample.read(4) == b"\0" * 4
    with pytest.raises(ImageError, match="more than the limit"):
        to_pixels(str(folder / "huge.jpg"))


@pytest.mark.parametrize("honest", [True, False])
def test_a_member_of_an_archive_is_inflated_to_the_limit_only(tmp_path, monkeypatch, honest):
    """What an archive says about a size is believed where it is too large, and not where it is small."""
    monkeypatch.setattr(storage, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(storage.read_bytes, "__kwdefaults__", {"most": 1 << 20})
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", bytes(20 << 20))
    data = (tmp_path / "a.zip").read_bytes()
    if not honest:
        size = (20 << 20).to_bytes(4, "little")
        assert data.count(size) == 2
        (tmp_path / "a.zip").write_bytes(data.replace(size, (100).to_bytes(4, "little")))
    (sample,) = ImageSource.open(tmp_path / "a.zip").samples
    with pytest.raises(ImageError, match="more than the limit" if honest else "cannot be read"):
        sample.read()


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_would_be_unpacked_at_one_go_is_not(tmp_path, packing):
    """300 kB of LZMA that say they are 5 kB took 4 GB."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", packing) as archive:
        archive.writestr("a/1.jpg", bytes(1000))
    (sample,) = ImageSource.open(tmp_path / "a.zip").samples
    with pytest.raises(ImageError, match="compressed in another way than deflate; unpack the archive first"):
        sample.read()


def test_a_film_whose_frames_are_larger_than_a_picture_may_be_is_left_out(tmp_path, film, monkeypatch):
    """By what it says, and by what comes."""
    path = film(tmp_path / "a" / "1.mov", [np.zeros((48, 64, 3), np.uint8)] * 2, "-aspect", "40:1")
    assert open_video(str(path)).seconds
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 * 10)
    with pytest.raises(ImageError, match=r"frames of [\d,]+ pixels, more than the limit of 30,720"):
        open_video(str(path))
    with (
        pytest.raises(ImageError, match="no frame of it can be decoded"),
        FrameReader(video.Video(str(path), 0, 0.2)) as reader,
    ):
        list(reader)
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(ImageError, match="more than the limit of 3,071 pixels"):
        open_video(str(path))


def test_an_encrypted_archive_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"secret")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    data[data.index(b"PK\3\4") + 6] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    (sample,) = ImageSource.open(tmp_path / "a.zip").samples
    with pytest.raises(ImageError, match=r"encrypted; unpack the archive with its password first$"):
        sample.read()


_TOO_MUCH = {
    "bytes": (lambda path: sparse(path, _HUGE), "more than the limit of 200 MB"),
    "cell": (lambda path: path.write_text("path,label\n1.png," + "a" * 200_000 + "\n"), "field larger than"),
    "columns": (lambda path: path.write_text("path" + ",x" * 100_000 + "\n1.png\n"), "at most 1,000 columns"),
    "label": (lambda path: path.write_text("path,label\n1.png," + "a" * 501 + "\n"), "has 501 letters, more than 500"),
    "open quote": (lambda path: path.write_text('path,label\n1.png,"a\n' + "2.png,b\n" * 30_000), "check its quotes"),
    "zeros": (lambda path: path.write_bytes(bytes(1000)), "filled with zero bytes"),
    "unmarked": (lambda path: path.write_bytes("path,label\n1.png,a\n".encode("utf-16-le")), "UTF-16 text without"),
    "cut": (lambda path: path.write_bytes("path,label\n1.png,a\n".encode("utf-16")[:-1]), "damaged UTF-16"),
    "latin": (lambda path: path.write_bytes("path,label\n1.png,Käse\n".encode("latin-1")), "reads '1.png,Käse'"),
}


@pytest.mark.parametrize("what", _TOO_MUCH)
def test_what_is_no_list_ends_in_one_sentence(folder, what):
    make, words = _TOO_MUCH[what]
    make(folder / "list.csv")
    with pytest.raises(SourceError, match=words) as caught:
        ImageSource.open(folder / "list.csv")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_too_many_rows_are_no_list(folder, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_ROWS", 10)
    (folder / "list.csv").write_text("path\n" + "\n" * 11)
    with pytest.raises(SourceError, match="at most 10 rows"):
        ImageSource.open(folder / "list.csv")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("train-images-idx3-ubyte", b"\0\0\10\3" + (6_000_000).to_bytes(4, "big") + (1).to_bytes(4, "big") * 2),
        ("train-images-idx3-ubyte", b"\0\0\10\3" + (1).to_bytes(4, "big") + (60_000).to_bytes(4, "big") * 2),
        ("ant.npy", b"\x93NUMPY\1\0v\0" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000000, 784), }"),
    ],
)
def test_headers_that_promise_too_many_pictures(folder, name, head):
    with (folder / name).open("wb") as file:
        file.write(head.ljust(128) if name.endswith("npy") else head)
        file.truncate(_HUGE)
    with pytest.raises(SourceError, match=r"more than|at most"):
        ImageSource.open(folder / name)


@pytest.mark.parametrize(
    "line",
    [
        b'{"word": "a", "drawing": ' + b"[" * 100_000,
        b'{"word": "' + b"a" * 600 + b'", "drawing": [[[0],[0]]]}',
        b'{"word": "a", "drawing": [[[' + b"0," * 20_000 + b"0],[" + b"0," * 20_000 + b"0]]]}",
        b'{"word": "a"' + b" " * (2 << 20) + b"}",
    ],
)
def test_lines_that_are_no_drawing(folder, line):
    (folder / "ant.ndjson").write_bytes(line + b'\n{"word": "ant", "drawing": [[[0, 9], [0, 5]]]}\n')
    source = ImageSource.open(folder / "ant.ndjson")
    assert [sample.label for sample in source.samples] == ["ant"]
    assert len(source.excluded) == 1


@pytest.mark.parametrize(
    "location",
    [
        "bitmap://x",
        "bitmap://0+5::/a",
        "bitmap://0+99999x99999::{folder}/1.png",
        "drawing://a+b::c",
        "drawing://0+999999999999::{folder}/1.png",
        "drawing://-1+5::/a",
        "frame://x",
        "frame://0:every=x@1::/a",
        "frame://0:every=0.5@x::/a",
    ],
)
def test_places_in_files_that_are_none(folder, location):
    with pytest.raises(ImageError):
        Sample("a", location.format(folder=folder)).read()


@posix
@pytest.mark.parametrize("kind", ["pipe.jpg", "link.jpg", "pipe.csv", "pipe.zip", "pipe.mp4", "pipe.npy", "zero.jpg"])
def test_nothing_waits_for_a_pipe_or_reads_a_device(folder, kind, topwork_command):
    name = folder / kind
    if kind == "zero.jpg":
        name.symlink_to("/dev/zero")
    elif kind == "link.jpg":
        os.mkfifo(folder.parent / "pipe")
        name.symlink_to(folder.parent / "pipe")
    else:
        os.mkfifo(name)
    source = ImageSource.open(folder)
    assert len(source.samples) == 2
    assert left_out(source)[kind] == "not a regular file"
    (folder / "list.csv").write_text(f"path\n1.png\n{kind}\n2.png\n")
    assert left_out(ImageSource.open(folder / "list.csv"))[kind] == "not a regular file"
    assert left_out(ImageSource.open([str(folder / "1.png"), str(name)])) == {str(name): "not a regular file"}
    with pytest.raises(SourceError, match="not a regular file"):
        ImageSource.open(name)
    with pytest.raises(ImageError, match="not a regular file"):
        to_pixels(str(name))
    with pytest.raises(ImageError, match="not a regular file"):
        Sample(kind, str(name)).read()  # it took the place of a picture since the folder was listed


@posix
def test_a_lack_of_descriptors_leaves_no_picture_out(folder):
    import resource

    source = ImageSource.open(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for attempt in (source.samples[0].read, lambda: ImageSource.open(folder)):
            with pytest.raises(ShortageError, match="may open no more files"):
                attempt()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert source.samples[0].read()


_LITTLE_MEMORY = """
import io, resource, sys
import numpy as np
from PIL import Image
from topwork.errors import ImageError, ShortageError
from topwork.images import Sample, decode
buffer = io.BytesIO()
Image.fromarray(np.zeros((7500, 7500), np.uint8)).save(buffer, "PNG", compress_level=1)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 40_000_000,) * 2)
try:
    decode(buffer.getvalue())
except ShortageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are Linux's")
def test_a_lack_of_memory_is_no_fault_of_a_picture(python):
    done = python(_LITTLE_MEMORY)
    assert "memory ran out, and no picture is left out for that" in done.stdout, done.stderr


def test_a_picture_that_asks_for_absurd_memory_is_at_fault(folder, monkeypatch):
    def load(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(ImageError, match="damaged PNG"):
        to_pixels(str(folder / "1.png"))


def test_a_shortage_ends_the_pass(folder, empty_cache, monkeypatch, topwork_command):
    """Whatever runs out while features are computed: no other pictures are fitted on instead."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("topwork.features.extraction.decode", fail)
    code, _, said = topwork_command("audit", folder)
    assert code == 1
    assert said.startswith("topwork: memory ran out, and no picture is left out for that")

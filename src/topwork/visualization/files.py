"""The files that are looked at and written: pictures in, sheets and arrays out."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork import storage
from topwork.errors import ImageError, TopworkError, UsageError
from topwork.images import DecodePolicy, decode
from topwork.images.storage import read_bytes
from topwork.visualization.sheet import Section, sheet


def read_picture(path: Path, *, grey: bool = False) -> NDArray[np.uint8]:
    """``[h, w, 3]``, or ``[h, w]`` where it is wanted or the file is so; ImageError that names the file.

    >>> read_picture(Path("nowhere.png"))
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: cannot read nowhere.png: file not found; choose another picture
    """
    try:
        found = decode(read_bytes(str(path)), DecodePolicy())
    except ImageError as error:
        raise ImageError(f"cannot read {path}: {error}; choose another picture") from error
    pixels = found.pixels
    if grey:
        pixels = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return pixels


def check_files(sheet: Path | None, arrays: Path | None) -> None:
    """Raise before the work where a sheet (.png) or arrays (.npz) could not be written.

    >>> check_files(Path("sheet.gif"), None)
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a name that ends in .png, not sheet.gif; choose another name
    """
    for path, ending in ((sheet, ".png"), (arrays, ".npz")):
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise UsageError(f"expected a name that ends in {ending}, not {path}; choose another name")
        if not path.parent.is_dir() or path.is_dir():
            raise TopworkError(f"cannot write {path}: its folder is missing or it is a folder; choose another place")
        storage.check_writable(path)


def write_sheet(path: Path, sections: Sequence[Section], *, side: int) -> None:
    """A sheet as a PNG file; see ``sheet.sheet``.

    >>> from tempfile import TemporaryDirectory
    >>> from topwork.visualization.sheet import Tile
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sheet.png"
    ...     write_sheet(path, [Section("one", [Tile(np.zeros((8, 8), np.uint8))], columns=1)], side=32)
    ...     Image.open(path).size
    (56, 75)
    """
    buffer = io.BytesIO()
    sheet(sections, side=side).save(buffer, "PNG", optimize=True)
    _write(path, buffer.getvalue())


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """A picture ``[h, w, 3]`` as a PNG file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_picture(Path(folder) / "a.png", np.full((2, 3, 3), 7, np.uint8))
    ...     read_picture(Path(folder) / "a.png").shape
    (2, 3, 3)
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    _write(path, buffer.getvalue())


def write_arrays(path: Path | None, arrays: Mapping[str, Any]) -> None:
    """The arrays by name, without pickle; nothing where there is no path.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_arrays(Path(folder) / "a.npz", {"ones": np.ones(2)})
    ...     np.load(Path(folder) / "a.npz")["ones"].tolist()
    [1.0, 1.0]
    """
    if path is None:
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    _write(path, buffer.getvalue())


def _write(path: Path, data: bytes) -> None:
    try:
        storage.write_atomic(path, data)
    except OSError as error:
        raise TopworkError(f"cannot write {path}: {storage.reason(error)}; choose another place") from error

"""Files of many small grey pictures: QuickDraw's bitmaps (.npy) and the idx files of MNIST and its relatives.

One picture is read by one seek; no file is ever in memory as a whole. A .gz file cannot be read from the middle, so it
is unpacked once into a temporary file without a name, which vanishes with the process.

The idx format: two zero bytes, the type of the numbers (8: uint8), the number of dimensions, each dimension as 4 bytes,
the highest first, then the numbers (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").
"""

import gzip
import os
import struct
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from topwork.errors import ImageError, SourceError
from topwork.images.sniff import one_line, shown
from topwork.images.storage import file_name, is_url, opened, read_bytes
from topwork.shortage import shortage_named, shortage_of

MAX_PICTURES = 5_000_000
"""Pictures in a file; the largest known one has less than a million, and a list of them takes 300 bytes for each."""

MAX_PIXELS = 1 << 24
"""Pixels of one of them."""

MAX_UNPACKED = 1 << 31
"""Bytes that a .gz file may unpack to; the largest known set (EMNIST) has a quarter of it."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Bitmaps:
    """The pictures of one file, none of them read yet.

    ``offset``: of the first picture in the file, in bytes. ``labels``: ``[count]`` uint8, None without any.
    """

    location: str
    offset: int
    count: int
    height: int
    width: int
    labels: Pixels | None = None

    def __len__(self) -> int:
        return self.count

    def offset_of(self, index: int) -> int:
        """Where picture ``index`` (from 0) begins in the file, in bytes."""
        return self.offset + index * self.height * self.width

    def picture(self, index: int) -> Pixels:
        """Picture ``index`` (from 0) as ``[height, width]``; ImageError if it cannot be read."""
        if not 0 <= index < self.count:
            raise IndexError(f"expected a picture from 0 to {self.count - 1}, not {index}")
        return read_bitmap(self.location, self.offset_of(index), self.height, self.width)


def open_npy(location: str) -> Bitmaps:
    """The bitmaps of a ``.npy`` file: uint8, ``[n, 784]`` or ``[n, 28, 28]``; SourceError if it is none.

    Arrays of Python objects are refused: reading them would run whatever code they hold.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "ant.npy")
    ...     np.save(path, np.arange(2 * 784, dtype=np.uint8).reshape(2, 784))
    ...     bitmaps = open_npy(str(path))
    ...     len(bitmaps), bitmaps.picture(1)[:2, :3].tolist()
    (2, [[16, 17, 18], [44, 45, 46]])
    """
    try:
        with opened(location) as file:
            shape, by_column, dtype, offset = _npy_header(file, location)
            size = file.seek(0, os.SEEK_END)
    except ImageError as error:
        raise _not_bitmaps(location, str(error)) from error
    if dtype.hasobject:
        raise _not_bitmaps(location, "it holds pickled Python objects, which are never loaded")
    if dtype != np.uint8 or shape[1:] not in ((784,), (28, 28)) or not shape[0]:
        raise _not_bitmaps(location, f"it is {dtype} {list(shape)}")
    if shape[0] > MAX_PICTURES:
        raise _not_bitmaps(location, f"it holds {shape[0]:,} pictures, more than {MAX_PICTURES:,}")
    if by_column and len(shape) > 1 and shape[0] > 1:
        raise _not_bitmaps(location, "it is stored column by column (Fortran order)")
    if size != offset + shape[0] * 784:
        raise _not_bitmaps(location, f"its header promises {offset + shape[0] * 784:,} bytes and it has {size:,}")
    return Bitmaps(location, offset, shape[0], 28, 28)


def _npy_header(file: BinaryIO, location: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, whether in Fortran order, type, and where the numbers begin; nothing behind the header is touched."""
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version[0]}.{version[1]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        if short := shortage_of(error):
            raise short from error
        raise _not_bitmaps(location, f"its header cannot be read: {one_line(error)}") from error
    return shape, by_column, dtype, file.tell()


def _not_bitmaps(location: str, what: str) -> SourceError:
    return SourceError(
        f"expected bitmaps (a NumPy array of uint8, [n, 784] or [n, 28, 28]) in {shown(location)}, but {what}; "
        "save them again with numpy.save"
    )


def open_idx(location: str, labels: str | None = None) -> Bitmaps:
    """The pictures of an idx file, ``.gz`` or not, with the labels of the file ``labels``, if given.

    SourceError where one of the files is none of its kind or not whole, or where their counts differ: whatever
    is missing may have shifted the rest.

    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "train-images-idx3-ubyte")
    ...     _ = path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2, 1, 3) + bytes(range(6)))
    ...     digits = open_idx(str(path))
    ...     len(digits), digits.picture(1).tolist()
    (2, [[3, 4, 5]])
    """
    (count, height, width), offset = _idx_header(location, "pictures", 3)
    if labels is None:
        return Bitmaps(location, offset, count, height, width)
    (labelled,), start = _idx_header(labels, "labels", 1)
    if labelled != count:
        raise SourceError(
            f"expected a label for each of the {count:,} pictures in {shown(location)}, but {shown(labels)} has "
            f"{labelled:,}; take both files from the same set"
        )
    values = np.frombuffer(_read(labels, start, count), np.uint8)
    return Bitmaps(location, offset, count, height, width, values)


def _idx_header(location: str, what: str, dimensions: int) -> tuple[tuple[int, ...], int]:
    """The dimensions, and where the numbers begin; SourceError unless the file is whole."""
    wanted = bytes([0, 0, 8, dimensions])
    offset = 4 + 4 * dimensions
    try:
        head, size = _read(location, 0, offset), _size(location)
    except ImageError as error:
        raise SourceError(f"expected an idx file of {what} at {shown(location)}, but: {error}; get it again") from error
    if head[:4] != wanted or len(head) < offset:
        raise SourceError(
            f"expected an idx file of {what} at {shown(location)}, which starts with {wanted.hex(' ')}, but it starts "
            f"with {head[:4].hex(' ') or 'nothing'}; check that its name says what it holds"
        )
    shape = struct.unpack(f">{dimensions}I", head[4:])
    if shape[0] > MAX_PICTURES or prod(shape[1:]) > MAX_PIXELS:
        raise SourceError(
            f"expected at most {MAX_PICTURES:,} {what} of {MAX_PIXELS:,} pixels in {shown(location)}, but its header "
            f"says {list(shape)}; get it again"
        )
    if not all(shape):
        raise SourceError(f"expected {what} in {shown(location)}, but its header says {list(shape)}; get it again")
    if size != offset + prod(shape):
        word = "truncated" if size < offset + prod(shape) else "too long"
        raise SourceError(
            f"expected {offset + prod(shape):,} bytes in {shown(location)}, as its header says ({list(shape)}), but it "
            f"has {size:,} ({word}); get it again"
        )
    return shape, offset


def read_bitmap(location: str, offset: int, height: int, width: int) -> Pixels:
    """The picture ``[height, width]`` at ``offset`` bytes of a file; ImageError if it is not all there."""
    data = _read(location, offset, height * width)
    if len(data) < height * width:
        raise ImageError("the file has become shorter since it was listed")
    return np.frombuffer(data, np.uint8).reshape(height, width)


def _read(location: str, offset: int, length: int) -> bytes:
    if _is_packed(location):
        return _unpacked(location)[offset : offset + length].tobytes()
    return read_bytes(location, length, offset)


def _size(location: str) -> int:
    if _is_packed(location):
        return len(_unpacked(location))
    with opened(location) as file:
        return file.seek(0, os.SEEK_END)


def _is_packed(location: str) -> bool:
    return file_name(location).lower().endswith(".gz")


_one_at_a_time = Lock()


def _unpacked(location: str) -> Pixels:
    """All bytes of a .gz file, mapped from a temporary file; ImageError if it is damaged."""
    with _one_at_a_time:  # many threads want the same file first
        return _unpack(location, _stamp(location))[0]


def _stamp(location: str) -> tuple[int, int] | None:
    """What tells that a file has been replaced."""
    if is_url(location):
        return None
    try:
        found = os.stat(location)
    except OSError:  # gone: reading says so
        return None
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=8)
def _unpack(location: str, stamp: tuple[int, int] | None) -> tuple[Pixels, BinaryIO]:
    """Mapped bytes, and the file behind them, which must stay open on some systems."""
    with shortage_named():
        target = tempfile.TemporaryFile()  # noqa: SIM115 - stays open as long as it is in the cache
    with opened(location) as file, gzip.GzipFile(fileobj=file) as packed:
        while block := packed.read(1 << 18):
            target.write(block)
            if target.tell() > MAX_UNPACKED:
                raise ImageError(f"unpacks to more than {MAX_UNPACKED:,} bytes")
    target.flush()
    if not target.tell():
        raise ImageError("empty file")
    return np.memmap(target, np.uint8, "r"), target

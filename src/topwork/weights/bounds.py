"""What a file of weights may take before any of it is believed: its size, its tensors, what its archive unpacks to.

The bounds are far beyond any network in use (the largest in timm: 5 GB and 2,000 tensors of at most 5 dimensions).
"""

import errno
import math
import os
import stat
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 10 * 10**9
"""Bytes of a file."""
MOST_TENSORS = 20_000
MOST_DIMENSIONS = 8
LONGEST_NAME = 1000
"""Characters of a tensor's name."""
LONGEST_LIST = 20 * 10**6
"""Bytes of what says which tensors there are: a header, an archive's directory, a pickle."""
_TIMES = 2  # as many bytes as the file: tied tensors are counted twice
_SPARE = 10**6  # bytes; of a file that is smaller still


class BeyondBoundsError(ValueError):
    """A bound is passed; the message says which one, to follow ``but``."""


def check_file(path: Path) -> int:
    """The size of a file; BeyondBoundsError where it is no regular file, or too large. OSError where there is none.

    >>> check_file(Path(__file__)) > 1000
    True
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found.st_mode):
        raise BeyondBoundsError("it is no regular file")
    if found.st_size > LARGEST:
        raise BeyondBoundsError(f"it is larger than {LARGEST / 1e9:g} GB")
    return found.st_size


@dataclass
class Budget:
    """What the tensors of a file of ``size`` bytes may take; each is asked for before its values are.

    >>> budget = Budget(100)
    >>> budget.take("conv.weight", (8, 3, 3, 3), 4)
    >>> budget.take("fc.weight", (1000, 1000), 4)
    Traceback (most recent call last):
    ...
    topwork.weights.bounds.BeyondBoundsError: its tensors claim more bytes than it has
    """

    size: int
    _bytes: int = field(default=0, init=False)
    _tensors: int = field(default=0, init=False)

    def take(self, name: str, shape: Sequence[int], itemsize: int) -> None:
        """BeyondBoundsError where this tensor is too much; ``itemsize``: bytes of a value."""
        self._tensors += 1
        self._bytes += math.prod(shape) * itemsize
        if self._tensors > MOST_TENSORS:
            raise BeyondBoundsError(f"it holds more than {MOST_TENSORS:,} tensors")
        if len(name) > LONGEST_NAME:
            raise BeyondBoundsError(f"a name in it is longer than {LONGEST_NAME:,} characters")
        if len(shape) > MOST_DIMENSIONS:
            raise BeyondBoundsError(f"{name!r} in it has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
        if self._bytes > _TIMES * self.size + _SPARE:
            raise BeyondBoundsError("its tensors claim more bytes than it has")


def check_directory(path: Path) -> None:
    """BeyondBoundsError where an archive's list of members is too long to be read, or does not end the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    end = tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06") or end[20:] != b"\0\0":
        raise BeyondBoundsError("it is damaged, or something stands behind its archive")
    *_, entries, length, _start, _comment = _END.unpack(end)
    if (large := tail.rfind(b"PK\x06\x06")) >= 0 and len(tail) - large >= _END64.size:
        *_, entries, length, _start = _END64.unpack_from(tail, large)
    if length > LONGEST_LIST or entries > 2 * MOST_TENSORS:
        raise BeyondBoundsError("its archive has too many members")


_END = struct.Struct("<4s4H2LH")  # zip: end of central directory record
_END64 = struct.Struct("<4sQ2H2L4Q")  # its zip64 kind, in front of it
_TAIL = _END.size + 20 + _END64.size  # with the locator between them


def check_stored(path: Path) -> None:
    """BeyondBoundsError where an archive, as torch writes them, is compressed or unpacks to more bytes than it has.

    torch never compresses, so a file that would unpack to more than its size is not one of its own.
    """
    check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise BeyondBoundsError("it is compressed, which torch does not do")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise BeyondBoundsError("it would unpack to more bytes than it has")
    if any(member.filename.lower().endswith(".pkl") and member.file_size > LONGEST_LIST for member in members):
        raise BeyondBoundsError("its list of tensors is too long")

"""How large an open file is, and the reason that is shown where that is too large."""

import os
from typing import BinaryIO


def too_large(size: int | None, most: int) -> str:
    """The reason shown for a file that is larger than what is read.

    >>> too_large(3_000_000_000, 320_000_000)
    '3,000 MB, more than the limit of 320 MB'
    """
    found = "larger than" if size is None else f"{size / 1e6:,.0f} MB, more than"
    return f"{found} the limit of {most / 1e6:,.0f} MB"


def size_of(file: BinaryIO) -> int | None:
    """What is said about the size of an open file, if that costs nothing."""
    for name in ("size", "_left"):  # of fsspec's files; of a member of an archive that was not read yet
        if isinstance(size := getattr(file, name, None), int):
            return size
    try:
        return os.fstat(file.fileno()).st_size
    except (OSError, AttributeError):
        return None

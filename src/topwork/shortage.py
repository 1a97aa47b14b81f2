"""A shortage of the computer is no fault of a picture: told apart here, so that it ends a run instead of leaving
pictures out, other ones each time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from topwork.errors import ShortageError

_SAID = {
    errno.EMFILE: "this process may open no more files",
    errno.ENFILE: "this computer may open no more files",
    errno.ENOMEM: "memory ran out",
}
_REMEDY = {
    errno.EMFILE: "allow it more, such as with `ulimit -n 4096`",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs, or allow this one more memory",
}
_ROOM = 1 << 30
"""Bytes that can be had where memory is not short; they are asked for and not touched."""
_FILES = 4
"""Files that can be opened where these are not short."""
_OF_LIBRARIES = ("out of memory", "bad_alloc", "failed to allocate memory")
"""How Pillow and ONNX Runtime say it, in errors of other types."""


def shortage_of(error: BaseException) -> ShortageError | None:
    """What to raise instead, where ``error`` says that memory or open files ran out; None for any other error.

    A damaged file may ask for an absurd amount: where there is memory, that is no shortage.

    >>> print(shortage_of(OSError(errno.ENFILE, "Too many open files in system")))
    this computer may open no more files, and no picture is left out for that: close other programs, and run again
    >>> shortage_of(OSError(errno.ENOENT, "No such file")) is None, shortage_of(MemoryError()) is None
    (True, True)
    """
    if isinstance(error, ShortageError):
        return error
    code = error.errno if isinstance(error, OSError) else None
    if code not in _SAID:
        code = _code_of_library(error)
    if code is None:
        return None
    return ShortageError(f"{_SAID[code]}, and no picture is left out for that: {_REMEDY[code]}, and run again")


def _code_of_library(error: BaseException) -> int | None:
    """The number of what an error without one says, where it is true."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _OF_LIBRARIES):
        return errno.ENOMEM if _is_memory_short() else None
    if "unable to open" not in text:  # as SQLite says it
        return None
    held = []
    try:
        for _ in range(_FILES):  # some of its own it has closed again
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as shortage:
        return shortage.errno if shortage.errno in _SAID else None
    finally:
        for descriptor in held:
            os.close(descriptor)
    return None


def _is_memory_short() -> bool:
    try:
        bytearray(_ROOM)
    except MemoryError:
        return True
    return False


@contextmanager
def shortage_named() -> Iterator[None]:
    """Raise ShortageError for whatever in the block says that memory or open files ran out.

    >>> with shortage_named():
    ...     raise OSError(errno.ENOMEM, "Cannot allocate memory")
    Traceback (most recent call last):
    ...
    topwork.errors.ShortageError: memory ran out, and no picture is left out for that: ...
    """
    try:
        yield
    except Exception as error:
        if short := shortage_of(error):
            raise short from error
        raise

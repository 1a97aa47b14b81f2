"""A shortage of the computer is no fault of a picture: told apart here, so that it ends a run instead of leaving
pictures out, other ones each time."""

import errno

from topwork.errors import ShortageError

_SAID = {
    errno.EMFILE: "this process may open no more files; raise the limit (`ulimit -n 4096`) or run fewer things at once",
    errno.ENFILE: "the computer may open no more files; close other programs and run again",
    errno.ENOMEM: "the memory is full; close other programs or raise the limit on memory, and run again",
}
_ROOM = 64 << 20
"""Bytes that can always be had where memory is not short."""


def shortage_of(error: BaseException) -> ShortageError | None:
    """What to raise instead, where ``error`` says that memory or open files ran out; None for any other error.

    >>> str(shortage_of(OSError(errno.EMFILE, "Too many open files"))).partition(":")[0]
    'stopped, since pictures would be left out that are whole'
    >>> shortage_of(OSError(errno.ENOENT, "No such file")) is None
    True
    """
    code = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if not isinstance(error, MemoryError | OSError) or code not in _SAID:
        return None
    return ShortageError(f"stopped, since pictures would be left out that are whole: {_SAID[code]}")


def is_memory_short(needed: int = 0) -> bool:
    """Whether the computer lacks memory, asked after a MemoryError: damaged files ask for absurd amounts as well.

    ``needed``: bytes that the work takes where the file is honest; several times as many are tried.
    """
    try:
        bytearray(_ROOM + 8 * needed)
    except MemoryError:
        return True
    return False

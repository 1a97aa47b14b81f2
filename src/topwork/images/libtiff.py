"""What libtiff complains about, which it would otherwise print to standard error without the name of the file.

Pillow cannot be told to pass it on, so libtiff's own function is called for it, in the library that Pillow brought.
Where that is not found (on Windows it is part of Pillow's module) libtiff prints as before.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL

from topwork.errors import ImageError

_PLACES = ("../pillow.libs/libtiff*", "../Pillow.libs/libtiff*", ".dylibs/libtiff*")
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_said = threading.local()


def _note(module: bytes | None, words: bytes | None, _values: object) -> None:
    """libtiff calls it in the thread that decodes; ``words`` are a format string of C, its values are left out."""
    if getattr(_said, "words", None) is None:
        _said.words = (words or b"").decode("latin-1").partition("%")[0].strip(" .:") or "unreadable"


_handler = _Handler(_note)  # kept as long as libtiff may call it


def _listen() -> None:
    for pattern in _PLACES:
        for path in Path(PIL.__file__).parent.glob(pattern):
            try:
                ctypes.CDLL(str(path)).TIFFSetErrorHandler(_handler)
            except (OSError, AttributeError):
                continue


@contextmanager
def complaints() -> Iterator[None]:
    """ImageError after the block if libtiff complained in it, also if it gave pixels."""
    _said.words = None
    problem = None
    try:
        yield
    except OSError as error:  # Pillow's "decoder error -2"
        if _said.words is None:
            raise
        problem = error
    if _said.words is not None:
        raise ImageError(f"damaged TIFF: {_said.words}") from problem


_listen()

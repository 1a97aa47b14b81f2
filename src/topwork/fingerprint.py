"""Content hashes: of bytes, and of plain data such as recipes and specs."""

import dataclasses
import hashlib
import json
from typing import Any


def of_bytes(data: bytes) -> str:
    """The sha256 of ``data``, in hexadecimal (64 characters).

    >>> of_bytes(b"")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(data).hexdigest()


def of_object(value: Any) -> str:
    """The sha256 of plain data (numbers, text, lists, dicts, dataclasses), independent of key order.

    >>> of_object({"a": 1, "b": [2.5]}) == of_object({"b": [2.5], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return of_bytes(text.encode())


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"__class__": type(value).__name__, **dataclasses.asdict(value)}
    raise TypeError(f"cannot fingerprint a {type(value).__name__}")

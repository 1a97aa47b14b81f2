"""States of unfinished work: a safetensors file with a sha256 behind it, so that a bit that has flipped is noticed.

The hash protects from accidents, not from people: who reads a state still looks at what is in it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from topwork import storage
from topwork.weights import bounds

_SEAL = hashlib.sha256().digest_size


class DamagedStateError(ValueError):
    """A file that is no state, or no longer the one that was written."""


def write(path: Path, safetensors: bytes) -> None:
    """Write what ``safetensors`` saved, in one step; a killed run leaves the state before.

    >>> import tempfile
    >>> import numpy as np
    >>> from safetensors.numpy import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "a"), save({"w": np.ones(2)}, {"steps": "3"}))
    ...     content, facts = read(Path(folder, "a"))
    >>> load(content)["w"].tolist(), facts
    ([1.0, 1.0], {'steps': '3'})
    """
    storage.write_atomic(path, safetensors + hashlib.sha256(safetensors).digest())


def read(path: Path) -> tuple[bytes, dict[str, str]]:
    """What was saved, and the texts in its header; DamagedStateError for anything else, OSError where it is missing."""
    try:
        bounds.check_file(path)
    except bounds.BeyondBoundsError as error:
        raise DamagedStateError(str(error)) from error
    data = path.read_bytes()
    content, seal = data[:-_SEAL], data[-_SEAL:]
    if hashlib.sha256(content).digest() != seal:
        raise DamagedStateError("its bytes are not those that were written")
    length = int.from_bytes(content[:8], "little")
    if length > bounds.LONGEST_LIST:
        raise DamagedStateError("its header is too long")
    try:
        facts = json.loads(content[8 : 8 + length])["__metadata__"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedStateError("it has no header") from error
    if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
        raise DamagedStateError("its header is not one of a state")
    return content, facts


def rows(text: str, keys: Sequence[str]) -> list[dict[str, float]]:
    """Numbers by name, as a list of tables in JSON; DamagedStateError where a row has others than ``keys``.

    >>> rows('[{"loss": 1.5}]', ["loss"])
    [{'loss': 1.5}]
    """
    found = value(text)
    if not isinstance(found, list) or not all(_is_row(row, keys) for row in found):
        raise DamagedStateError("its history is not one")
    return found


def value(text: str) -> Any:
    """A value from JSON; DamagedStateError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedStateError("a fact in it is no JSON") from error


def _is_row(row: Any, keys: Sequence[str]) -> bool:
    return (
        isinstance(row, Mapping) and set(row) == set(keys) and all(type(each) in (int, float) for each in row.values())
    )

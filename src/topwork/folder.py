"""The model folder: what is in it, how it is written, and when it is refused.

::

    NAME.topwork/
      model.onnx         the graph
      model.json         what it is; the sha256 of every other file
      samples.jsonl      a row a picture: id, content hash, label, group, fold, out-of-fold probabilities
      head.safetensors   the head's weights, to continue from and for explanation
      duplicate_keys.safetensors   hashes and features of the training pictures, unless they were not to be kept
      golden/            generated pictures and the answers of the graph that was measured
      report.html, report.json

No pickle, and nothing that could run: a folder from a stranger can be opened.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topwork import fingerprint, storage
from topwork.errors import ModelError
from topwork.evaluation.duplicates import DuplicateKeys

FORMAT = 1
"""Version of the format; a folder with a higher one is refused."""

MARKER = "model.json"


@dataclass(frozen=True)
class ModelFolder:
    """A verified model folder."""

    path: Path
    manifest: dict[str, Any]
    """The content of ``model.json``."""
    graph: bytes
    """``model.onnx``: the very bytes that were verified."""


def write(target: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a model folder in one step: a killed run leaves the old folder or none.

    ``files`` maps names (with ``/``) to contents; ``model.json`` is ``manifest`` plus the format version and the sha256
    of each file.
    """
    check_target(target)
    with storage.replace_folder(target, marker=MARKER) as folder:
        for name, content in files.items():
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            storage.write_atomic(place, content)
        hashes = {name: fingerprint.of_bytes(content) for name, content in sorted(files.items())}
        text = json.dumps(
            {"format": FORMAT, **manifest, "files": hashes}, indent=1, ensure_ascii=False, allow_nan=False
        )
        storage.write_atomic(folder / MARKER, text.encode())


def check_target(target: Path) -> None:
    """Raise TopworkError where ``target`` cannot be written, or holds anything but an earlier model.

    A folder is replaced as a whole, so a file in it that no model has would be lost.
    """
    storage.check_only_own(target, MARKER, _own_files, "model")


def _own_files(manifest: dict[str, Any]) -> set[str]:
    return {MARKER, *manifest["files"]} if manifest["format"] and manifest["task"] else set()


def read(path: Path) -> ModelFolder:
    """Open and verify a model folder; ModelError says what is wrong with it and what to do."""
    storage.recover(path)
    manifest = _manifest(path)
    graph = b""
    for name, expected in manifest["files"].items():
        content = _content(path, name)
        if fingerprint.of_bytes(content) != expected:
            raise ModelError(
                f"{path / name} is not the file that was saved (its sha256 differs): it was damaged or changed; "
                "copy the model again from where it came"
            )
        if name == "model.onnx":
            graph = content
    return ModelFolder(path, manifest, graph)


DUPLICATE_KEYS = "duplicate_keys.safetensors"


def duplicate_keys(path: Path, manifest: Mapping[str, Any]) -> DuplicateKeys | None:
    """What near-duplicates of the training pictures are told by; None in a model that does not keep it."""
    if DUPLICATE_KEYS not in manifest.get("files", {}):
        return None
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(_content(path, DUPLICATE_KEYS))
        features, hashes = tensors["features"], tensors["hashes"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path / DUPLICATE_KEYS} is damaged ({error}); copy the model again") from error
    if features.dtype != np.float16 or hashes.dtype != np.uint64 or features.shape[:1] != hashes.shape:
        raise ModelError(f"{path / DUPLICATE_KEYS} does not hold a hash and features a picture; copy the model again")
    return DuplicateKeys(features, hashes)


def samples(path: Path) -> list[dict[str, Any]]:
    """The rows of ``samples.jsonl``, the pictures that a model was fitted on; ModelError where they are missing."""
    lines = _content(path, "samples.jsonl").decode().split("\n")
    return [json.loads(line) for line in lines if line]


def _manifest(path: Path) -> dict[str, Any]:
    try:
        text = (path / MARKER).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"expected a model folder at {path}, but there is no {MARKER} in it; "
            "give the folder that `topwork fit -o` wrote"
        ) from None
    except OSError as error:
        raise ModelError(f"cannot read {path / MARKER}: {storage.reason(error)}") from error
    try:
        manifest = json.loads(text)
        version, files = manifest["format"], manifest["files"]
        newer = version > FORMAT
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path / MARKER} is damaged ({error}); copy the model again from where it came") from error
    if newer:
        raise ModelError(
            f"{path} has model format {version}, this topwork reads up to {FORMAT}; "
            "upgrade it with `pip install --upgrade topwork`"
        )
    if not isinstance(files, dict) or "model.onnx" not in files or not all(map(_is_inside, files)):
        raise ModelError(f"{path / MARKER} names files it must not; do not use this model")
    return dict(manifest)


_FORBIDDEN = set("\\:\0")  # other folders and drives on Windows; no name of a file anywhere


def _is_inside(name: str) -> bool:
    """Plain names, at most one folder deep: nothing that leads out of the folder."""
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") and not set(part) & _FORBIDDEN for part in parts)


def _content(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} is incomplete: {name} is missing; copy the whole folder again") from None
    except OSError as error:
        raise ModelError(f"cannot read {path / name}: {storage.reason(error)}") from error

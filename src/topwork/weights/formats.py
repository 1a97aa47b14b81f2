"""Tensors out of files that anybody may have written: no code in them is run, and what is damaged is refused."""

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topwork import storage
from topwork.errors import BackboneError, MissingExtraError

Tensors = dict[str, NDArray[Any]]
Kind = Literal["torch", "safetensors", "keras"]

KINDS = "a PyTorch (.pth, .pt), .safetensors or Keras (.h5) file"

_WRAPPERS = ("state_dict", "model_state", "model")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_HEAD = 9  # bytes: the length of a safetensors header, and its first character
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

    Raises BackboneError for a file that is damaged, that holds anything but tensors, none, or values that are no
    finite numbers, and MissingExtraError where the package that reads it is not installed.

    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "toy.safetensors")
    ...     save_file({"conv.bias": np.array([1.5, 2.0])}, path)
    ...     read(path)
    {'conv.bias': array([1.5, 2. ], dtype=float32)}
    """
    tensors = _READERS[kind(path)](path)
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
        with path.open("rb") as file:
            head = file.read(_HEAD)
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
    package, extra = needed[wanted]
    try:
        __import__(package)
    except ImportError as error:
        raise MissingExtraError(
            f'expected {package}, which reads such weights, but {error}; run pip install "topwork[{extra}]"'
        ) from error


def _read_torch(path: Path) -> Tensors:
    require("torch")
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on archives of code, which are refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        objects = "unsupported global" in str(error).lower()
        why = "it holds more than tensors, which may be code" if objects else "it is damaged"
        raise _refused(path, why) from error
    state = _unwrapped(path, content)
    return {name: _from_torch(path, name, tensor) for name, tensor in state.items()}


def _unwrapped(path: Path, content: Any) -> dict[str, Any]:
    """The state dict in what ``torch.load`` gave, without the names that wrappers add."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise _refused(path, f"it holds a {type(content).__name__}, not tensors by name")
    if strange := [name for name in content if not isinstance(name, str)]:
        raise _refused(path, f"{strange[0]!r} in it is not the name of a tensor")
    prefix = "module." if content and all(name.startswith("module.") for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _from_torch(path: Path, name: str, tensor: Any) -> NDArray[Any]:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise _refused(path, f"{name!r} in it is a {type(tensor).__name__}, not a tensor")
    plain = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta
    if not plain or tensor.is_complex():
        raise _refused(path, f"{name!r} in it is sparse, quantised, complex or without values")
    array: NDArray[Any] = (tensor.detach().float() if tensor.is_floating_point() else tensor).contiguous().numpy()
    return array


def _read_safetensors(path: Path) -> Tensors:
    import safetensors

    deserialize: Callable[[bytes], Any] = safetensors.deserialize
    try:
        entries = deserialize(path.read_bytes())
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _refused(path, "it is damaged") from error
    return {name: _from_safetensors(path, name, entry) for name, entry in entries}


def _from_safetensors(path: Path, name: str, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype = entry["dtype"]
    if dtype not in _SAFETENSORS:
        raise _refused(path, f"{name!r} in it is of the type {dtype}")
    array = np.frombuffer(entry["data"], _SAFETENSORS[dtype]).reshape(entry["shape"])
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _read_keras(path: Path) -> Tensors:
    require("keras")
    import h5py

    found: dict[str, Any] = {}
    try:
        with h5py.File(path, "r") as file:
            # Links to other files are not followed by this.
            file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
            return {name: _from_keras(path, name, dataset) for name, dataset in found.items()}
    except BackboneError:
        raise
    except Exception as error:  # a damaged file makes h5py raise nearly anything
        raise _refused(path, "it is damaged") from error


def _from_keras(path: Path, name: str, dataset: Any) -> NDArray[Any]:
    if dataset.dtype.kind not in "fiub":
        raise _refused(path, f"{name!r} in it is not a tensor of numbers")
    # A few bytes can claim terabytes, or another file's content; at least a byte a value is asked for.
    if dataset.external or dataset.is_virtual or dataset.id.get_storage_size() < math.prod(dataset.shape):
        raise _refused(path, f"the values of {name!r} are not in it, or compressed")
    return np.asarray(dataset[()])


_READERS: dict[Kind, Callable[[Path], Tensors]] = {
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

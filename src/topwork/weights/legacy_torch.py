"""State dicts in the format of torch before 1.6, read without torch and without unpickling anything but tensors."""

import math
import pickle  # only to subclass its Unpickler: everything but tensors is refused
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topwork.errors import BackboneError

Tensors = dict[str, NDArray[Any]]

_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
}
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OverflowError,
    MemoryError,
)
"""What unpickling raises on damaged files."""
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_legacy_torch(path: Path) -> Tensors:
    """Read a state dict written by ``torch.save`` before torch 1.6, without torch: name -> array.

    The file is a run of small pickles followed by raw storages. Only tensors, their storages and an
    ordered dict are let through; anything else in the pickle raises BackboneError, so a file that would
    run code cannot.
    """
    with path.open("rb") as file:
        try:
            return _read_legacy(file)
        except _DAMAGE as error:
            found = str(error) or "it is damaged"
            raise BackboneError(
                f"expected plain tensors saved by torch in {path}, but {found}; install the weights again"
            ) from error


def _read_legacy(file: BinaryIO) -> Tensors:
    storages: dict[str, NDArray[Any]] = {}
    if _TensorUnpickler(file, storages).load() != _MAGIC or _TensorUnpickler(file, storages).load() != _PROTOCOL:
        raise ValueError("it does not start like one")
    _TensorUnpickler(file, storages).load()  # byte order and word sizes of the machine that wrote it
    lazy: OrderedDict[str, _LazyTensor] = _TensorUnpickler(file, storages).load()
    for key in _TensorUnpickler(file, storages).load():
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.size:
            raise ValueError(f"storage {key} holds {count} values instead of {storage.size}")
        data = file.read(storage.nbytes)
        if len(data) != storage.nbytes:
            raise ValueError("the file ends too early")
        storage[:] = np.frombuffer(data, storage.dtype)
    return {name: tensor.array() for name, tensor in lazy.items()}


class _LazyTensor:
    """A view on a storage whose values are read after the pickle."""

    def __init__(self, storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self._storage, self._offset, self._shape, self._strides = storage, offset, shape, strides

    def array(self) -> NDArray[Any]:
        last = self._offset + sum((n - 1) * step for n, step in zip(self._shape, self._strides, strict=True))
        is_spread = math.prod(self._shape) > self._storage.size  # values that lie in several places at once
        if min((*self._shape, *self._strides, self._offset + 1)) < 1 or last >= self._storage.size or is_spread:
            raise ValueError("a tensor reaches beyond its storage")
        steps = [step * self._storage.itemsize for step in self._strides]
        view = np.lib.stride_tricks.as_strided(self._storage[self._offset :], self._shape, steps, writeable=False)
        return np.ascontiguousarray(view).reshape(self._shape)


class _StorageType:
    def __init__(self, name: str) -> None:
        self.dtype = _DTYPES[name]


def _rebuild_tensor(
    storage: NDArray[Any], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _LazyTensor:
    return _LazyTensor(storage, offset, shape, strides)


class _TensorUnpickler(pickle.Unpickler):
    """An unpickler that knows three names and refuses all others."""

    def __init__(self, file: BinaryIO, storages: dict[str, NDArray[Any]]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _StorageType(name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a tensor")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        kind, storage_type, key, _location, count, _view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(f"it refers to {kind!r}, which is not a storage")
        return self._storages.setdefault(key, np.empty(count, storage_type.dtype))

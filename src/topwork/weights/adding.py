"""A file of weights becomes what topwork keeps: read, given the network's names, compared with its shapes, stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from topwork.weights import formats, keras_vgg, store
from topwork.weights.files import sha256_of
from topwork.weights.matching import Shape, fit
from topwork.weights.store import Colour, Stored

UNKNOWN = "unknown"
"""The licence of weights of which nobody said it."""


@dataclass(frozen=True)
class Prepared:
    """Tensors under the names of a PyTorch network."""

    tensors: dict[str, NDArray[Any]]
    mean: Colour | None = None
    """With ``std``: the preprocessing that the weights want where it is another than the network's usual one."""
    std: Colour | None = None


def prepare(path: Path) -> Prepared:
    """The tensors of a file; those of a Keras VGG under timm's names.

    >>> import tempfile
    >>> import numpy as np
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_file({"w": np.ones(2)}, Path(folder, "toy.safetensors"))
    ...     prepare(Path(folder, "toy.safetensors")).mean is None
    True
    """
    tensors = formats.read(path)
    if formats.kind(path) == "keras":
        return Prepared(keras_vgg.convert(tensors), keras_vgg.MEAN, keras_vgg.STD)
    return Prepared(tensors)


def add(
    path: Path,
    name: str,
    shapes: Mapping[str, Shape],
    *,
    source: str | None = None,
    licence: str = UNKNOWN,
) -> Stored:
    """Store the weights of a file for the network ``name``; a file that is refused leaves what was stored before.

    ``shapes``: name -> shape of every tensor of that network. ``source``: where the file is from, as shown to people.

    >>> import tempfile, pytest
    >>> import numpy as np
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
    ...     patch.setenv("TOPWORK_CACHE_DIR", folder)
    ...     save_file({"w": np.ones(2)}, Path(folder, "toy.safetensors"))
    ...     add(Path(folder, "toy.safetensors"), "toy", {"w": (2,)}).source
    'file toy.safetensors'
    """
    prepared = prepare(path)
    return keep(path, name, fit(prepared.tensors, shapes), prepared, source=source, licence=licence)


def keep(
    path: Path,
    name: str,
    tensors: Mapping[str, NDArray[Any]],
    prepared: Prepared,
    *,
    source: str | None = None,
    licence: str = UNKNOWN,
) -> Stored:
    """Store tensors that were compared with the network already; otherwise as ``add``."""
    return store.put(
        name,
        tensors,
        source=source or f"file {path.name}",
        source_sha256=sha256_of(path),
        licence=licence,
        mean=prepared.mean,
        std=prepared.std,
    )

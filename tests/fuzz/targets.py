"""What is fuzzed: for each parser a small corpus, made here, and a function that takes a changed file.

A check may raise TopworkError and nothing else.
"""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Check = Callable[[bytes, Path], object]
"""Takes the content of a file and an empty folder."""


@dataclass(frozen=True)
class Target:
    """``corpus``: files that are right; ``check``: what must not fail."""

    corpus: Callable[[], list[bytes]]
    check: Check


def pictures() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 31, 3)).astype(np.uint8)
    made = []
    for kind, mode, options in (
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "I;16", {"compression": "tiff_lzw"}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {}),
    ):
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256) if mode == "I;16" else Image.fromarray(pixels)
        buffer = io.BytesIO()
        (image if mode == "I;16" else image.convert(mode)).save(buffer, kind, **options)
        made.append(buffer.getvalue())
    return made


def decode(data: bytes, _: Path) -> None:
    from topwork.images import DecodePolicy
    from topwork.images import decode as decoded

    decoded(data, DecodePolicy(max_pixels=4_000_000))


def manifests() -> list[bytes]:
    return [
        b"path,label\na.png,cat\nb.png,cup\n",
        'path;label;split;group\n\ufeffa.png;"K\u00e4tzchen, gro\u00df";train;1\n../b.png;x;test;2\n'.encode(),
        b"path\tlabel\tstart\tend\nzip://a.zip::b.png\t=1+1\t0.5\t2\nhttp://127.0.0.1:9/a.png\tb\t\t\n",
        b'{"path": "a.png", "label": "x"}\n{"path": "b.png", "label": "y"}\n',
    ]


def manifest(data: bytes, folder: Path) -> None:
    from topwork import ImageSource

    Image.new("RGB", (8, 8)).save(folder / "a.png")
    path = folder / "list.csv"
    path.write_bytes(data)
    for sample in ImageSource.open(str(path)).samples:
        sample.read()


def recipes() -> list[bytes]:
    from topwork.recipe import Recipe

    return [Recipe().to_toml().encode(), Recipe(strategy="top", seed=3, folds=5).to_toml().encode(), b"[training]\n"]


def recipe(data: bytes, folder: Path) -> None:
    from topwork.recipe import Recipe

    (folder / "r.toml").write_bytes(data)
    Recipe.from_toml(folder / "r.toml")


def tensors() -> dict[str, Any]:
    return {"conv.weight": np.ones((4, 3, 3, 3), np.float32), "fc.bias": np.arange(5.0), "n": np.array(3)}


def weights_files() -> list[bytes]:
    from safetensors.numpy import save

    made = [save(tensors())]
    try:
        import torch

        for new in (True, False):
            buffer = io.BytesIO()
            state = {name: torch.from_numpy(each.copy()) for name, each in tensors().items()}
            torch.save({"state_dict": state}, buffer, _use_new_zipfile_serialization=new)
            made.append(buffer.getvalue())
    except ImportError:
        pass
    try:
        import h5py

        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            for name, array in tensors().items():
                file[f"a/{name}"] = array
            file.create_dataset("packed", data=np.ones((50, 50)), compression="gzip", shuffle=True)
        made.append(buffer.getvalue())
    except ImportError:
        pass
    return made


def weights(data: bytes, folder: Path) -> None:
    from topwork.weights import formats

    (folder / "w").write_bytes(data)
    formats.read(folder / "w")


def states() -> list[bytes]:
    from safetensors.numpy import save

    facts = {"task": "{}", "trace": json.dumps([{"total": 1.0, "content": 0.5, "style": 0.5}])}
    return [save({"picture": np.full((4, 4, 3), 0.5, np.float32)}, facts)]


def state(data: bytes, folder: Path) -> None:
    """With a seal that agrees, so that what is behind it is looked at."""
    from topwork.style.checkpoints import Checkpoint

    checkpoint = Checkpoint(folder / "a.png", {})
    checkpoint.path.write_bytes(data + hashlib.sha256(data).digest())
    checkpoint.found()


def models() -> list[bytes]:
    """A graph and, behind its length, a model.json."""
    from tampering import MANIFEST, classifier

    graph = classifier().SerializeToString()
    return [struct.pack("<L", len(graph)) + graph + json.dumps(MANIFEST).encode()]


def model(data: bytes, folder: Path) -> None:
    """With hashes that agree."""
    from tampering import put, write_manifest, write_model

    import topwork

    length = struct.unpack("<L", data[:4].ljust(4, b"\0"))[0] % 100_000
    path = write_model(folder / "m.topwork")
    put(path, "model.onnx", data[4 : 4 + length])
    try:
        changed = json.loads(data[4 + length :])
    except (ValueError, RecursionError):
        changed = {}
    if isinstance(changed, dict):
        write_manifest(path, {**json.loads((path / "model.json").read_text()), **changed})
    topwork.load(path).predict(np.full((20, 30, 3), 90, np.uint8))


def expressions() -> list[bytes]:
    return [
        b"label = 'cat' AND width > 100",
        b"path LIKE '%a%' OR label IN ('x', 'y')",
        b"lower(label) GLOB 'c*' AND (height BETWEEN 1 AND 9)",
        b"length(path) > 3 AND NOT label IS NULL",
    ]


def filters(data: bytes, folder: Path) -> None:
    from topwork.retrieval.filters import matching
    from topwork.retrieval.table import Table

    Table.create(folder)
    matching(folder, data.decode(errors="replace"))


TARGETS = {
    "pictures": Target(pictures, decode),
    "manifests": Target(manifests, manifest),
    "recipes": Target(recipes, recipe),
    "weights": Target(weights_files, weights),
    "states": Target(states, state),
    "models": Target(models, model),
    "filters": Target(expressions, filters),
}

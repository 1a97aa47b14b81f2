"""Models as an attacker writes them: with hashes that agree, so that only what is in them can give them away."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from topwork import assembly, folder
from topwork.backbones.nodes import Nodes, float_output, image_input
from topwork.fingerprint import of_object

LABELS = ["cat", "cup", "dog"]
MANIFEST: dict[str, Any] = {
    "task": "classify",
    "labels": LABELS,
    "thresholds": {"novelty": 100.0},
    "geometry": "crop",
    "decoding": {"max_pixels": 10_000_000, "shrink_to": 64},
    "preprocess": {
        "size": 32,
        "crop_fraction": 0.875,
        "mean": [127.0, 127.0, 127.0],
        "std": [128.0, 128.0, 128.0],
        "interpolation": "bicubic",
    },
    "backbone": {"name": "tf_efficientnet_lite0", "sha256": None, "trained": False},
}


def change_manifest(path: Path, **changes: Any) -> None:
    """Change model.json, and its own hash."""
    write_manifest(path, {**json.loads((path / "model.json").read_text(encoding="utf-8")), **changes})


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write model.json with a hash that agrees."""
    manifest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    sealed = {**manifest, "manifest_sha256": of_object(manifest)}
    (path / "model.json").write_text(json.dumps(sealed), encoding="utf-8")


def rehash(path: Path, name: str) -> None:
    """Make model.json agree with a file that was changed or added."""
    files = json.loads((path / "model.json").read_text(encoding="utf-8"))["files"]
    change_manifest(path, files={**files, name: hashlib.sha256((path / name).read_bytes()).hexdigest()})


def put(path: Path, name: str, content: bytes) -> None:
    """Write a file of a model, listed in model.json."""
    (path / name).write_bytes(content)
    rehash(path, name)


def classifier(change: Callable[[Nodes, str], str] = lambda _, x: x, *, last: str = "Softmax") -> onnx.ModelProto:
    """The smallest classifier there is: probabilities from the mean colour; ``change`` adds nodes behind the pixels.

    What ``change`` returns, ``[n, h, w, 3]``, is what the mean is taken of.
    """
    nodes = Nodes()
    x = change(nodes, nodes.add("Cast", ["image"], to=TensorProto.FLOAT))
    axes = nodes.constant(np.array([1, 2], np.int64))
    mean = nodes.add("ReduceMean", [x, axes], keepdims=0)
    features = nodes.add("Mul", [mean, nodes.constant(1 / 255)], output="features")
    options = {"axis": 1} if last == "Softmax" else {}
    nodes.add(last, [features], output="probabilities", **options)
    nodes.add("ReduceSum", [features, nodes.constant(np.array([1], np.int64))], output="novelty", keepdims=0)
    outputs = [
        float_output("probabilities", ["n", 3]),
        float_output("novelty", ["n"]),
        float_output("features", ["n", 3]),
    ]
    model = nodes.model([image_input()], outputs, name="classify")
    helper.set_model_props(model, assembly.metadata(LABELS, MANIFEST["thresholds"]["novelty"]))
    return model


def write_model(path: Path, model: onnx.ModelProto | bytes | None = None, **more: bytes) -> Path:
    """A model folder around a graph; ``more`` are its other files, by name with ``_`` for ``.``."""
    graph = classifier() if model is None else model
    data = graph if isinstance(graph, bytes) else graph.SerializeToString()
    files = {folder.GRAPH: data, folder.SAMPLES: b"", **{name.replace("_", "."): text for name, text in more.items()}}
    folder.write(path, MANIFEST, files)
    return path

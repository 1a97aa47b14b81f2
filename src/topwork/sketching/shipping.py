"""The three networks as ONNX files, each held to the answers of its PyTorch module.

::

    NAME/
      strokes.json             labels, how the inputs are made, accuracy, sha256 of each file
      picture.onnx             picture [n, size, size, 3] uint8                   -> probabilities [n, c]
      strokes.onnx             strokes [n, t, 3] float32, lengths [n] int64       -> probabilities [n, c]
      both.onnx                all three inputs                                   -> probabilities [n, c]
"""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topwork import storage
from topwork.errors import ModelError
from topwork.features.session import open_session
from topwork.fingerprint import of_bytes
from topwork.sketching.examples import Drawings, style

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MARKER = "strokes.json"
"""The file by which such a folder is known, and may be replaced."""
LARGEST_DIFFERENCE = 1e-4
"""In probability, between an exported network and its PyTorch module; more is an error."""

_OPSET = 18
_BATCH = 64
_FREE = {"strokes": {0: "n", 1: "t"}, "lengths": {0: "n"}, "picture": {0: "n"}, "probabilities": {0: "n"}}


def check_target(folder: Path) -> None:
    """Raise TopworkError where ``folder`` cannot be written, or holds anything but an earlier result."""
    storage.check_only_own(folder, MARKER, _own_files, "set of stroke networks")


def _own_files(manifest: dict[str, Any]) -> set[str]:
    return {MARKER, *(network["file"] for network in manifest["networks"].values())}


def write(folder: Path, networks: dict[str, Any], drawings: Drawings, rows: Ints, facts: dict[str, Any]) -> str:
    """Write and verify the networks in one step; returns the folder's name. ModelError where answers differ.

    ``rows`` of ``drawings`` are the ones whose answers are compared.
    """
    manifest: dict[str, Any] = {
        "format": 1,
        "labels": facts["classes"],
        "picture": {"size": drawings.size, **style(drawings.size)},
        "sequence": {"tolerance": facts["tolerance"], "trained_up_to": facts["longest"]},
        "n_training": facts["n_training"],
        "seed": facts["seed"],
        "networks": {},
    }
    with storage.replace_folder(folder, marker=MARKER) as temporary:
        for name, network in networks.items():
            graph = exported(network, drawings.named(rows[:1]))
            difference = largest_difference(network, graph, drawings, rows)
            if not difference <= LARGEST_DIFFERENCE:
                raise ModelError(
                    f"expected ONNX Runtime to answer like PyTorch, but the probabilities of {name!r} differ by "
                    f"{difference:.1e}; use other versions of onnxruntime and torch"
                )
            (temporary / f"{name}.onnx").write_bytes(graph)
            manifest["networks"][name] = {
                "file": f"{name}.onnx",
                "sha256": of_bytes(graph),
                "inputs": list(network.inputs),
                "accuracy": facts["networks"][name]["accuracy"],
                "difference": difference,
            }
        storage.write_atomic(temporary / MARKER, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
    return str(folder)


class _Probabilities(nn.Module):
    """What is shipped: a network with a softmax after it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        probabilities: Tensor = torch.softmax(self.network(*inputs), dim=1)
        return probabilities


def exported(network: Any, example: dict[str, NDArray[Any]]) -> bytes:
    """The ONNX graph of one of `NETWORKS`, for any number of drawings and any length; ``example``: its inputs by name.

    >>> from topwork.sketching.networks import picture_cnn
    >>> len(exported(picture_cnn(2, 8), {"picture": np.zeros((1, 8, 8, 3), np.uint8)})) > 1000
    True
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecation, and that GRUs want a batch of 1, which they get
        torch.onnx.export(
            _Probabilities(network).eval(),
            tuple(torch.from_numpy(example[name]) for name in network.inputs),
            buffer,
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(network.inputs),
            output_names=["probabilities"],
            dynamic_axes={name: _FREE[name] for name in (*network.inputs, "probabilities")},
        )
    return buffer.getvalue()


def largest_difference(network: Any, graph: bytes, drawings: Drawings, rows: Ints) -> float:
    """The largest difference in probability between a graph and its module on ``rows`` of ``drawings``."""
    session = open_session(graph, rules=None)
    module = _Probabilities(network).eval()
    largest = 0.0
    for start in range(0, len(rows), _BATCH):
        inputs = {name: drawings.named(rows[start : start + _BATCH])[name] for name in network.inputs}
        with torch.no_grad():
            expected = module(*map(torch.from_numpy, inputs.values())).numpy()
        found = session.run(["probabilities"], inputs)[0]
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest

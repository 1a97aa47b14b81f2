"""Where training stands after an epoch, in one safetensors file: tensors, and the rest as JSON in its header."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topwork import storage

Tensors = dict[str, Any]


@dataclass
class Checkpoint:
    """Everything that the next epoch needs; what is random is drawn from the seed and the epoch's number."""

    epochs: int
    """Epochs that are done."""
    model: Tensors
    optimizer: Tensors
    facts: dict[str, Any]
    """Plain values: the history so far."""
    best: Tensors = field(default_factory=dict)
    """The weights of the best epoch, where training may stop early."""

    def write(self, path: Path, fingerprint: str) -> None:
        """Write it in one step; a killed run leaves the checkpoint of the epoch before."""
        from safetensors.torch import save

        parts = {"model": self.model, "optimizer": self.optimizer, "best": self.best}
        tensors = {
            f"{part}:{name}": tensor.detach().cpu().contiguous().clone()
            for part, named in parts.items()
            for name, tensor in named.items()
        }
        header = {"fingerprint": fingerprint, "epochs": str(self.epochs), "facts": json.dumps(self.facts)}
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_atomic(path, save(tensors, metadata=header))


def read(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint of the same training, or None where there is none, another one, or a damaged file."""
    from safetensors import SafetensorError, safe_open

    parts: dict[str, Tensors] = {"model": {}, "optimizer": {}, "best": {}}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("fingerprint") != fingerprint:
                return None
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part, _, rest = name.partition(":")
                parts[part][rest] = file.get_tensor(name)
        return Checkpoint(int(header["epochs"]), facts=json.loads(header["facts"]), **parts)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def optimizer_tensors(optimizer: Any) -> Tensors:
    """The optimizer's state by parameter and name."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: Any, tensors: Tensors) -> None:
    """Put back what ``optimizer_tensors`` gave."""
    whole = optimizer.state_dict()
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**whole, "state": state})

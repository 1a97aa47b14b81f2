"""Where training stands after an epoch, in one safetensors file: tensors, and the rest as JSON in its header."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from topwork.weights import state

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
        state.write(path, save(tensors, metadata=header))


def read(path: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint of the same training, or None where there is none, another one, or a damaged file.

    That its tensors are those of the network is for the caller to find out.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    parts: dict[str, Tensors] = {"model": {}, "optimizer": {}, "best": {}}
    try:
        content, header = state.read(path)
        if header.get("fingerprint") != fingerprint:
            return None
        for name, tensor in load(content).items():
            part, _, rest = name.partition(":")
            parts[part][rest] = tensor
        epochs, facts = int(header["epochs"]), state.value(header["facts"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return Checkpoint(epochs, facts=facts, **parts) if epochs > 0 and _is_history(facts, epochs) else None


def _is_history(facts: Any, epochs: int) -> bool:
    """Whether these are the facts that training writes."""
    if not isinstance(facts, dict) or set(facts) != {"epochs", "rates", "stopped"}:
        return False
    rows, rates, stopped = facts["epochs"], facts["rates"], facts["stopped"]
    return (
        isinstance(rows, list)
        and len(rows) == epochs
        and all(isinstance(row, dict) for row in rows)
        and isinstance(rates, list)
        and all(isinstance(each, list) and [type(x) for x in each] in ([int, float], [int, int]) for each in rates)
        and (stopped is None or isinstance(stopped, str))
    )


def fits(found: Checkpoint, model: Tensors, optimizer: Any) -> bool:
    """Whether a checkpoint is of such a network, and of such an optimizer that has made steps."""
    shapes = {name: tensor.shape for name, tensor in model.items()}
    return (
        {name: tensor.shape for name, tensor in found.model.items()} == shapes
        and (not found.best or {name: tensor.shape for name, tensor in found.best.items()} == shapes)
        and fits_optimizer(found.optimizer, optimizer)
    )


def fits_optimizer(tensors: Tensors, optimizer: Any) -> bool:
    """Whether ``optimizer_tensors`` gave these of an Adam with such parameters; some may have had no gradient."""
    parameters = [each.shape for group in optimizer.param_groups for each in group["params"]]
    for key, tensor in tensors.items():
        if not (match := _OF_OPTIMIZER.fullmatch(key)) or int(match[1]) >= len(parameters):
            return False
        if tensor.shape != (() if match[2] == "step" else parameters[int(match[1])]):
            return False
    return True


_OF_OPTIMIZER = re.compile(r"([0-9]{1,6})\.(step|exp_avg|exp_avg_sq)")


def optimizer_tensors(optimizer: Any) -> Tensors:
    """The optimizer's state by parameter and name."""
    by_parameter = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in by_parameter.items() for name, value in values.items()}


def restore_optimizer(optimizer: Any, tensors: Tensors) -> None:
    """Put back what ``optimizer_tensors`` gave."""
    whole = optimizer.state_dict()
    values: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        values.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**whole, "state": values})

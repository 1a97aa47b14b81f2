"""How far a picture was painted, in a file beside it, so that a run that was stopped can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from topwork import storage
from topwork.errors import UsageError

Floats = NDArray[np.float32]

SUFFIX = ".progress"


class Checkpoint:
    """The file for a picture to be written; ``task``: all that decides it, as plain values.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "out.png", {"steps": 300})
    ...     checkpoint.save(np.zeros((2, 2, 3), np.float32), [{"total": 1.0}])
    ...     picture, trace = checkpoint.load()
    ...     picture.shape, len(trace)
    ((2, 2, 3), 1)
    """

    def __init__(self, picture: Path, task: Mapping[str, Any]) -> None:
        self.path = picture.with_name(picture.name + SUFFIX)
        self._task = json.dumps(task, sort_keys=True)

    def save(self, picture: Floats, trace: list[dict[str, float]]) -> None:
        """The picture ``[h, w, 3]`` before the next update, and the losses of each step so far."""
        facts = {"task": self._task, "trace": json.dumps(trace)}
        storage.write_atomic(self.path, save({"picture": picture}, facts))

    def load(self) -> tuple[Floats, list[dict[str, float]]]:
        """What was saved; UsageError where there is nothing, or it is of another task."""
        again = "remove that file to begin anew"
        try:
            data = self.path.read_bytes()
            size = int.from_bytes(data[:8], "little")
            facts = json.loads(data[8 : 8 + size])["__metadata__"]
            picture, trace = load(data)["picture"], json.loads(facts["trace"])
        except FileNotFoundError:
            raise UsageError(f"expected the state of a run, but there is no {self.path}; leave out --resume") from None
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise UsageError(f"{self.path} is damaged ({error}); {again}") from error
        if facts["task"] != self._task:
            raise UsageError(f"{self.path} is of a run with other pictures or options; give the same ones, or {again}")
        return picture, trace

    def found(self) -> tuple[Floats, list[dict[str, float]]] | None:
        """What was saved of this task, None if nothing was; UsageError for a file that is not to be lost."""
        return self.load() if self.path.exists() else None

    def remove(self) -> None:
        """Nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

"""How far a picture was painted or a style trained, in a file beside it, so that a run that was stopped can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from topwork.errors import UsageError
from topwork.weights import state
from topwork.weights.state import DamagedStateError

Floats = NDArray[np.float32]
Tensors = dict[str, NDArray[Any]]
Trace = list[dict[str, float]]

SUFFIX = ".progress"
_AGAIN = "remove that file to begin anew"
_LOSSES = ("total", "content", "style")
_PICTURE = "picture"


class Checkpoint:
    """The file for something to be made; ``task``: all that decides it, as plain values.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "out.png", {"steps": 300})
    ...     checkpoint.save(np.zeros((2, 2, 3), np.float32), [{"total": 1.0, "content": 0.5, "style": 0.5}])
    ...     picture, trace = checkpoint.load()
    ...     picture.shape, len(trace)
    ((2, 2, 3), 1)
    """

    def __init__(self, target: Path, task: Mapping[str, Any]) -> None:
        self.path = target.with_name(target.name + SUFFIX)
        self._task = json.dumps(task, sort_keys=True)

    def save(self, picture: Floats, trace: Trace) -> None:
        """The picture ``[h, w, 3]`` before the next update, and the losses of each step so far."""
        self.save_tensors({_PICTURE: picture}, trace)

    def save_tensors(self, tensors: Tensors, trace: Trace) -> None:
        """The same of anything else that is made of tensors."""
        facts = {"task": self._task, "trace": json.dumps(trace)}
        state.write(self.path, save({name: np.asarray(each, order="C") for name, each in tensors.items()}, facts))

    def load(self) -> tuple[Floats, Trace]:
        """What was saved; UsageError where there is nothing, it is of another task, or damaged."""
        tensors, trace = self.load_tensors()
        picture = tensors.get(_PICTURE, np.zeros(0))
        if (
            picture.dtype != np.float32
            or picture.shape[2:] != (3,)
            or not picture.size
            or not np.isfinite(picture).all()
        ):
            raise self.damaged("it holds no picture")
        return picture, trace

    def load_tensors(self) -> tuple[Tensors, Trace]:
        """The same of anything else that is made of tensors; that they fit is for the caller to find out."""
        try:
            content, facts = state.read(self.path)
            if facts.get("task") != self._task:
                raise UsageError(
                    f"{self.path} is of a run with other pictures or options; give the same ones, or {_AGAIN}"
                )
            return dict(load(content)), state.rows(facts.get("trace", ""), _LOSSES)
        except FileNotFoundError:
            raise UsageError(f"expected the state of a run, but there is no {self.path}; leave out --resume") from None
        except (OSError, DamagedStateError, SafetensorError, ValueError, KeyError) as error:
            raise self.damaged(str(error)) from error

    def found(self) -> tuple[Floats, Trace] | None:
        """What was saved of this task, None if nothing was; UsageError for a file that is not to be lost."""
        return self.load() if self.path.exists() else None

    def found_tensors(self) -> tuple[Tensors, Trace] | None:
        """The same of anything else that is made of tensors."""
        return self.load_tensors() if self.path.exists() else None

    def remove(self) -> None:
        """Nothing is left to go on with."""
        self.path.unlink(missing_ok=True)

    def damaged(self, why: str) -> UsageError:
        """The error for a state that cannot be gone on from."""
        return UsageError(f"{self.path} is damaged ({why}); {_AGAIN}")

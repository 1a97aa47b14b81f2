"""ONNX Runtime sessions, set up the one way that is fast and deterministic for many small runs."""

import os
from pathlib import Path
from typing import Any

from topwork.backbones.allowed import CLASSIFIER, Rules, checked
from topwork.errors import ModelError
from topwork.shortage import shortage_of


def cores() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(graph: Path | bytes, *, threads: int = 1, rules: Rules | None = CLASSIFIER) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU with one thread a run, or as many as are asked for.

    Runs may come from several threads at once: one picture per core keeps every core busy, where
    several threads inside one run would wait for each other. Without spinning, waiting costs no CPU.

    ``rules``: what the graph may hold, see ``allowed.checked``; None: it was checked already, or made here. ModelError
    where it holds something else, or cannot be opened.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Always from memory: of a file ONNX Runtime would look for weights beside it.
    data = graph.read_bytes() if isinstance(graph, Path) else graph
    if rules is not None:
        checked(data, rules)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        if short := shortage_of(error):
            raise short from error
        raise ModelError(f"ONNX Runtime cannot open the graph ({_said(error)}); make the model again") from error


def run(session: Any, outputs: list[str] | None, inputs: dict[str, Any]) -> list[Any]:
    """What a session gives; ModelError where it cannot, ShortageError for lack of memory."""
    try:
        found: list[Any] = session.run(outputs, inputs)
    except Exception as error:  # as above
        if short := shortage_of(error):
            raise short from error
        sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
        raise ModelError(f"ONNX Runtime cannot run the graph on {sizes} ({_said(error)}); use another model") from error
    return found


def _said(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"

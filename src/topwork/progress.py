"""One progress protocol: rich bars on a terminal, silence in a library, events for whoever listens."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """Receives what is going on; every method may be called from any thread."""

    def start(self, step: str, total: int | None = None) -> None:
        """A step begins; ``total`` units are expected, None when unknown."""

    def advance(self, step: str, count: int = 1) -> None:
        """``count`` more units of ``step`` are done."""

    def finish(self, step: str) -> None:
        """The step is over."""


class Silent:
    """Says nothing: the default in a library."""

    def start(self, step: str, total: int | None = None) -> None: ...

    def advance(self, step: str, count: int = 1) -> None: ...

    def finish(self, step: str) -> None: ...


class Terminal:
    """Progress bars on stderr; a bar appears only when its step lasts longer than ``delay`` seconds."""

    def __init__(self, delay: float = 1.0) -> None:
        self._delay = delay
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._begun: dict[str, tuple[float, int | None, int]] = {}

    def start(self, step: str, total: int | None = None) -> None:
        import time

        self._begun[step] = (time.monotonic(), total, 0)

    def advance(self, step: str, count: int = 1) -> None:
        import time

        begun, total, done = self._begun[step]
        self._begun[step] = (begun, total, done + count)
        if step in self._tasks:
            self._bars.update(self._tasks[step], completed=done + count)
        elif time.monotonic() - begun > self._delay:
            self._show(step, total, done + count)

    def finish(self, step: str) -> None:
        self._begun.pop(step, None)
        if (task := self._tasks.pop(step, None)) is not None:
            self._bars.remove_task(task)
            if not self._tasks:
                self._bars.stop()
                self._bars = None

    def _show(self, step: str, total: int | None, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bars = Bars(*columns, console=Console(file=sys.stderr), transient=True)
            self._bars.start()
        self._tasks[step] = self._bars.add_task(step, total=total, completed=done)


@contextmanager
def step(progress: Progress, name: str, total: int | None = None) -> Iterator[None]:
    """Start a step and finish it whatever happens.

    >>> with step(Silent(), "reading", total=3):
    ...     pass
    """
    progress.start(name, total)
    try:
        yield
    finally:
        progress.finish(name)


def for_stream(stream: Any = None) -> Progress:
    """Bars when ``stream`` (stderr) is a terminal, else silence."""
    stream = sys.stderr if stream is None else stream
    return Terminal() if stream.isatty() else Silent()

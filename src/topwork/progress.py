"""One progress protocol: rich bars on a terminal, silence in a library, events for whoever listens."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


class Progress(Protocol):
    """Receives what is going on; every method may be called from any thread."""

    def start(self, step: str, total: int | None = None) -> None:
        """A step begins; ``total`` units are expected, None when unknown."""

    def advance(self, step: str, count: int = 1) -> None:
        """``count`` more units of ``step`` are done."""

    def note(self, step: str, text: str) -> None:
        """A few words on how ``step`` goes, in the place of the last ones."""

    def finish(self, step: str) -> None:
        """The step is over."""

    def say(self, text: str) -> None:
        """Lines that stay: what will be done."""


def _shown(text: str) -> str:
    r"""Lines without control characters, whatever the names of files in them.

    >>> _shown("a\x1b[2J\u202e")
    'a\\x1b[2J\\u202e'
    """
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


class Silent:
    """Says nothing: the default in a library."""

    def start(self, step: str, total: int | None = None) -> None: ...

    def advance(self, step: str, count: int = 1) -> None: ...

    def note(self, step: str, text: str) -> None: ...

    def finish(self, step: str) -> None: ...

    def say(self, text: str) -> None: ...


class Lines(Silent):
    """Only what stays, on stderr: for a stream that is no terminal."""

    def say(self, text: str) -> None:
        """Print the lines."""
        print(_shown(text), file=sys.stderr)  # noqa: T201 - this is where they are printed


class Terminal:
    """Progress bars on stderr; a bar appears only when its step lasts longer than ``delay`` seconds."""

    def __init__(self, delay: float = 1.0) -> None:
        self._delay = delay
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._begun: dict[str, tuple[float, int | None, int]] = {}
        self._notes: dict[str, str] = {}

    def start(self, step: str, total: int | None = None) -> None:
        self._begun[step] = (time.monotonic(), total, 0)

    def advance(self, step: str, count: int = 1) -> None:
        begun, total, done = self._begun[step]
        self._begun[step] = (begun, total, done + count)
        if step in self._tasks:
            self._bars.update(self._tasks[step], completed=done + count)
        elif time.monotonic() - begun > self._delay:
            self._show(step, total, done + count)

    def note(self, step: str, text: str) -> None:
        self._notes[step] = text
        if step in self._tasks:
            self._bars.update(self._tasks[step], note=text)

    def say(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(_shown(text), highlight=False, markup=False)
        else:
            print(_shown(text), file=sys.stderr)  # noqa: T201 - this is where they are printed

    def finish(self, step: str) -> None:
        self._begun.pop(step, None)
        self._notes.pop(step, None)
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
            bar = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
            columns = (*bar, TextColumn("{task.fields[note]}"))
            self._bars = Bars(*columns, console=Console(file=sys.stderr), transient=True)
            self._bars.start()
        self._tasks[step] = self._bars.add_task(step, total=total, completed=done, note=self._notes.get(step, ""))


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
    """Bars when ``stream`` (stderr) is a terminal, else only what is said."""
    stream = sys.stderr if stream is None else stream
    return Terminal() if stream.isatty() else Lines()


@dataclass
class Clock:
    """Seconds of each step.

    >>> clock = Clock()
    >>> with clock("scan"):
    ...     pass
    >>> sorted(clock.so_far())
    ['scan', 'total']
    """

    seconds: dict[str, float] = field(default_factory=dict)
    begun: float = field(default_factory=time.perf_counter)
    begun_at: float = field(default_factory=time.time)
    """As ``time.time()`` gives it, which all processes share."""

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = round(self.seconds.get(step, 0.0) + time.perf_counter() - start, 4)

    def total(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self.begun

    def so_far(self) -> dict[str, float]:
        """Seconds by step, and in all."""
        return {**self.seconds, "total": round(self.total(), 4)}

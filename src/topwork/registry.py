"""Names that lead to things made on demand: ``name -> lazy factory``, with close-match hints and plugins."""

import difflib
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from topwork.errors import UsageError

T = TypeVar("T")


def closest(name: str, names: Iterable[str]) -> str:
    """A hint for a mistyped name: the closest ones, else all of them.

    >>> closest("logistc", ["svm", "logistic", "lda"])
    'did you mean logistic?'
    >>> closest("x", ["svm", "lda"])
    'choose one of svm, lda'
    """
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"choose one of {', '.join(names)}"


class Registry(Generic[T]):
    """A table of lazy factories.

    >>> heads: Registry[int] = Registry("head")
    >>> heads.add("svm", lambda: 1)
    >>> heads.get("svm")
    1
    >>> heads.get("svn")
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: there is no head 'svn': did you mean svm?
    """

    def __init__(self, kind: str, *, plugins: str | None = None) -> None:
        self._kind = kind
        self._plugins = plugins
        self._factories: dict[str, Callable[[], T]] = {}

    def add(self, name: str, factory: Callable[[], T]) -> None:
        """Register ``factory``; a name that is taken raises ValueError, it is never replaced silently."""
        if name in self._factories:
            raise ValueError(f"{self._kind} {name!r} is registered already")
        self._factories[name] = factory

    def names(self) -> list[str]:
        """All names, in the order of registration; plugins last."""
        self._load_plugins()
        return list(self._factories)

    def get(self, name: str) -> T:
        """Make the thing called ``name``; an unknown name raises UsageError with the closest ones."""
        if name not in self._factories:
            self._load_plugins()
        if name not in self._factories:
            raise UsageError(f"there is no {self._kind} {name!r}: {closest(name, self._factories)}")
        return self._factories[name]()

    def _load_plugins(self) -> None:
        if self._plugins is None:
            return
        group, self._plugins = self._plugins, None
        for point in entry_points(group=group):
            self.add(point.name, partial(_load_plugin, point))


def _load_plugin(point: EntryPoint) -> Any:
    """An entry point names a factory."""
    return point.load()()

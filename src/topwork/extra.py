"""Packages that only some installations have: USearch, scikit-learn, Qdrant's client, FastAPI."""

from importlib import import_module
from typing import Any

from topwork.errors import MissingExtraError


def package(name: str, what: str, extra: str = "search") -> Any:
    """The module of this name; MissingExtraError, which says what to install, where it is missing.

    >>> package("json", "an index").dumps([1])
    '[1]'
    """
    try:
        return import_module(name)
    except ImportError as error:
        wanted = name.split(".")[0]
        is_absent = isinstance(error, ModuleNotFoundError) and error.name in (name, wanted)
        why = "is not installed" if is_absent else f"cannot be imported ({error})"
        raise MissingExtraError(
            f'{what} needs the package {wanted}, which {why}; run pip install "topwork[{extra}]"'
        ) from error

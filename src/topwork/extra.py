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
        raise MissingExtraError(
            f"expected the package {name.split('.')[0]}, which {what} needs, but {error}; run pip install "
            f'"topwork[{extra}]"'
        ) from error

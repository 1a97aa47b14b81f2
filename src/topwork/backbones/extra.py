"""PyTorch and what stands on it, which only some installations have."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from topwork.errors import MissingExtraError


def require(what: str, *more: str) -> None:
    """Raise MissingExtraError, which says what to install, where ``what`` lacks PyTorch, torchvision, timm or ``more``.

    >>> require("the network resnet50")
    """
    try:
        for name in ("timm", "onnxslim", *more):  # slow to import, so only looked for
            if find_spec(name) is None:
                raise ImportError(f"No module named {name!r}")
        import torch
        import torchvision  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f'expected PyTorch with torchvision, which {what} needs, but {error}; run pip install "topwork[train]"'
        ) from error
    torch.get_num_threads()  # settles the number for this thread before a worker asks for one


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use ``count`` threads meanwhile, and as many as before afterwards.

    >>> import torch
    >>> with torch_threads(1):
    ...     torch.get_num_threads()
    1
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

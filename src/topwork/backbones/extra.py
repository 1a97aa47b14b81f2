"""PyTorch and what stands on it, which only some installations have."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from topwork.errors import MissingExtraError


def require(what: str, *more: str) -> None:
    """Raise MissingExtraError, which says what to install, where ``what`` lacks PyTorch, torchvision, timm or ``more``.

    >>> require("the network resnet50")
    """
    # Some are slow to import, so they are only looked for.
    missing = [name for name in ("torch", "torchvision", "timm", "onnxslim", *more) if not _is_there(name)]
    install = 'run pip install "topwork[train]"'
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(f"{what} needs {', '.join(missing)}, which {are} not installed; {install}")
    try:
        import torch
        import torchvision  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: a library of theirs
        raise MissingExtraError(f"{what} needs PyTorch, which is here but broken ({error}); {install}") from error
    torch.get_num_threads()  # settles the number for this thread before a worker asks for one


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # None in its place in sys.modules
        return False


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

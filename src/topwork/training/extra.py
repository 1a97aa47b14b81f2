"""PyTorch, which only some installations have."""

import threading
from importlib.util import find_spec

from topwork.errors import MissingExtraError


def require_torch() -> None:
    """Raise MissingExtraError, which says what to install, where a package that training needs is missing.

    >>> require_torch()
    """
    try:
        for name in ("timm", "lightning_fabric"):  # slow to import, so only looked for
            if find_spec(name) is None:
                raise ImportError(f"No module named {name!r}")
        import torch
        import torchvision  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"expected PyTorch with torchvision, which augmentation and training need, but {error}; "
            'run pip install "topwork[train]"'
        ) from error
    torch.get_num_threads()  # settles the number for this thread before a worker asks for one


_seen = threading.local()


def one_thread_each() -> None:
    """Let PyTorch use one thread in the calling worker thread; it does nothing in the main thread, which trains.

    Augmentation in two workers that wait for each other's threads took 4 to 10 times as long.
    """
    if threading.current_thread() is threading.main_thread() or hasattr(_seen, "done"):
        return
    import torch

    torch.set_num_threads(1)
    _seen.done = True

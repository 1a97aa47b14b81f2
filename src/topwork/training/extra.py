"""PyTorch, which only some installations have."""

import threading

from topwork.backbones.extra import require


def require_torch() -> None:
    """Raise MissingExtraError, which says what to install, where a package that training needs is missing.

    >>> require_torch()
    """
    require("training", "lightning_fabric")


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

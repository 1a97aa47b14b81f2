"""PyTorch, which only some installations have."""

from topwork.errors import MissingExtraError


def require_torch() -> None:
    """Raise MissingExtraError, which says what to install, where torch or torchvision is missing.

    >>> require_torch()
    """
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"expected PyTorch with torchvision, which augmentation and training need, but {error}; "
            'run pip install "topwork[train]"'
        ) from error

"""Memory that ran out in training, told from other faults and said in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from topwork.errors import TrainingError
from topwork.recipe import Training

_SAID = ("can't allocate memory", "not enough memory", "out of memory")
"""In what torch says where it raises a plain RuntimeError: its allocator for CPUs, and drivers."""


def is_lack_of_memory(error: Exception) -> bool:
    """Whether memory ran out; not every error that speaks of memory says so.

    >>> is_lack_of_memory(MemoryError()), is_lack_of_memory(RuntimeError("required rank 4 for this memory format"))
    (True, False)
    """
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


@contextmanager
def memory_explained(settings: Training) -> Iterator[None]:
    """Memory that ran out as one sentence; other errors stay as they are."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack_of_memory(error):
            raise
        raise TrainingError(
            f"memory ran out with {settings.batch_size} pictures a batch in {settings.accumulate} part(s); double "
            "accumulate, or halve batch_size, in [training] of a recipe"
        ) from error

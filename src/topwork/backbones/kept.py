"""What was made once from a network and is kept in the cache folder, each file beside its sha256."""

from collections.abc import Callable
from pathlib import Path

from topwork import fingerprint, storage


def kept(name: str, make: Callable[[], bytes]) -> Path:
    """The file ``name`` in the cache folder; made when it is missing or damaged."""
    folder = storage.cache_dir() / "graphs"
    folder.mkdir(exist_ok=True)
    path = folder / name.replace(":", "-")
    checksum = path.with_suffix(".sha256")
    if not _intact(path, checksum):
        data = make()
        storage.write_atomic(checksum, fingerprint.of_bytes(data).encode())
        storage.write_atomic(path, data)
    return path


def _intact(path: Path, checksum: Path) -> bool:
    try:
        return fingerprint.of_bytes(path.read_bytes()) == checksum.read_text()
    except (OSError, ValueError):  # ValueError: a checksum that is not even text
        return False

"""Hashes of files, and how long those last that nobody came back for."""

import hashlib
import time
from contextlib import suppress
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal (64 characters); read piece by piece.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "empty").write_bytes(b"")
    ...     sha256_of(Path(folder, "empty"))[:12]
    'e3b0c44298fc'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_older(paths: list[Path], seconds: float) -> None:
    """Remove those files that were last written more than ``seconds`` ago; what cannot be removed stays.

    >>> remove_older([Path("no such file")], 60)
    """
    for path in paths:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > seconds:
                path.unlink()

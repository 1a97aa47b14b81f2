"""One folder's files as they were at one moment, each a regular file of bounded size; from a stranger, perhaps."""

import hashlib
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import IO

from topwork import storage
from topwork.errors import ModelError

_AT_ONCE = 2**20  # bytes that are read together where a file is only hashed
_BY_FOLDER = os.open in os.supports_dir_fd and os.stat in os.supports_dir_fd
# Of what another system lacks there is none: a link, or a pipe that nobody writes to, is seen by lstat there.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


class FolderReader:
    """Reads the files of a folder that was opened once: another that takes its place is not mixed with it.

    Names have at most one ``/``. Links inside are refused, and so is whatever is no regular file: a pipe would be
    waited for, and a device never ends. As a context manager it closes what it opened. Opening raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = [os.open(path, _FOLDER)] if _BY_FOLDER else []
        self._identity = _identity(os.fstat(self._opened[0]) if self._opened else os.stat(path))

    def __enter__(self) -> "FolderReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

    def is_current(self) -> bool:
        """Whether the path still leads to the folder that was opened."""
        try:
            return _identity(os.stat(self._path)) == self._identity
        except OSError:
            return False

    def has(self, name: str) -> bool:
        """Whether there is something of this name, whatever it is; ``name`` without ``/``."""
        try:
            os.lstat(self._path / name) if not self._opened else os.stat(
                name, dir_fd=self._opened[0], follow_symlinks=False
            )
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, most: int) -> bytes:
        """The content of a file of at most ``most`` bytes; ModelError where it is missing, larger, or no plain file."""
        with self._open(name, most) as file:
            return file.read(most)

    def sha256(self, name: str, most: int) -> str:
        """The hash of a file's content, as ``fingerprint.of_bytes``; errors as ``read``."""
        digest, left = hashlib.sha256(), most
        with self._open(name, most) as file:
            while left > 0 and (data := file.read(min(_AT_ONCE, left))):
                digest.update(data)
                left -= len(data)
        return digest.hexdigest()

    def _open(self, name: str, most: int) -> IO[bytes]:
        try:
            return self._plain_file(name, most)
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(f"{self._path} is incomplete: {name} is missing; copy the whole folder again") from None
        except OSError as error:
            raise ModelError(f"cannot read {self._path / name}: {storage.reason(error)}") from error

    def _plain_file(self, name: str, most: int) -> IO[bytes]:
        folder, _, last = name.rpartition("/")
        if self._opened:
            place = self._subfolder(folder) if folder else self._opened[0]
            self._check(os.stat(last, dir_fd=place, follow_symlinks=False), name, most)
            file = open(os.open(last, _FLAGS, dir_fd=place), "rb")  # noqa: SIM115 - the caller closes it
        else:
            for part in (folder, name):
                if stat.S_ISLNK(os.lstat(self._path / part).st_mode) and part:
                    raise self._refused(part, "is a link")
            self._check(os.lstat(self._path / name), name, most)
            file = (self._path / name).open("rb")
        try:
            self._check(os.fstat(file.fileno()), name, most)  # again: it may have been exchanged meanwhile
        except BaseException:
            file.close()
            raise
        return file

    def _subfolder(self, name: str) -> int:
        if stat.S_ISLNK(os.stat(name, dir_fd=self._opened[0], follow_symlinks=False).st_mode):
            raise self._refused(name, "is a link")
        self._opened.append(os.open(name, _FOLDER | getattr(os, "O_NOFOLLOW", 0), dir_fd=self._opened[0]))
        return self._opened[-1]

    def _check(self, facts: os.stat_result, name: str, most: int) -> None:
        if stat.S_ISLNK(facts.st_mode):
            raise self._refused(name, "is a link")
        if not stat.S_ISREG(facts.st_mode):
            raise self._refused(name, "is no regular file")
        if facts.st_size > most:
            raise self._refused(name, f"has {facts.st_size:,} bytes, more than the {most:,} that it may have")

    def _refused(self, name: str, why: str) -> ModelError:
        return ModelError(f"{self._path / name} {why}, which no model has that topwork wrote; copy the model again")


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino

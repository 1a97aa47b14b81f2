"""What ``explain`` and ``predict --explain`` write: overlays, raw values, sheets, pages."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topwork.errors import TopworkError, UsageError

if TYPE_CHECKING:
    from topwork.explanation import Explanation

ON_SHEET = 40
"""Most pictures on a sheet or a page."""


class MapFolder:
    """A folder that gets a ``.png`` and an ``.npz`` for each picture, and in the end a ``sheet.png`` of all.

    Raises before the work where it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from topwork import storage

        storage.check_writable(folder)
        if folder.exists() and not folder.is_dir():
            raise TopworkError(f"cannot write to {folder}: it is a file, not a folder; choose another place")
        self._folder = folder
        self._is_marked = False
        self._taken: set[str] = set()
        self._protected: set[Path] = set()

    def protect(self, paths: Iterable[str]) -> None:
        """Files that are looked at, which no result may replace."""
        self._protected |= {Path(path).resolve() for path in paths if "://" not in path}

    def write(self, explanation: "Explanation") -> list[str]:
        """Overlay and values of one picture; returns the paths. A name that is there twice gets a number."""
        from topwork.explanation import drawing

        stem = explanation.path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0][:80].replace(":", "-")
        stem = stem or "picture"
        name, number = f"{stem}.{explanation.method}", 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}.{explanation.method}"
        self._taken.add(name)
        contents = {".png": drawing.png(drawing.captioned(explanation)), ".npz": drawing.npz(explanation)}
        return [self._write(name + ending, content) for ending, content in contents.items()]

    def write_sheet(self, explanations: "Sequence[Explanation]") -> str:
        """All of them on one sheet; returns its path."""
        from topwork.explanation import drawing

        return self._write("sheet.png", drawing.png(drawing.sheet(explanations)))

    def write_as(self, contents: Mapping[str, bytes]) -> list[str]:
        """Files by name; returns the paths."""
        return [self._write(name, content) for name, content in contents.items()]

    def _write(self, name: str, content: bytes) -> str:
        if (self._folder / name).resolve() in self._protected:
            raise UsageError(f"{self._folder / name} is one of the pictures, and would be lost; choose another folder")
        if not self._is_marked:  # not before there is something to write
            _mark(self._folder)
            self._is_marked = True
        return write_file(self._folder / name, content)


def _mark(folder: Path) -> None:
    from topwork import storage

    try:
        storage.mark_result(folder)
    except OSError as error:
        raise TopworkError(f"cannot write to {folder}: {storage.reason(error)}; choose another place") from error


def write_file(path: Path, content: bytes) -> str:
    """Write a file whole or not at all; its name."""
    from topwork import storage

    storage.write_file(path, content)
    return str(path)

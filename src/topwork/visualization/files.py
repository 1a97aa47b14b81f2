"""The files that are looked at and written: pictures in, sheets, pages and arrays out."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork import storage
from topwork.errors import ImageError, TopworkError, UsageError
from topwork.images import DecodePolicy, decode
from topwork.images.storage import read_bytes
from topwork.report import Chapter, Figure, render_gallery
from topwork.visualization.sheet import Section, Tile, png, sheet

Picture = NDArray[np.uint8]
"""``[h, w]`` or ``[h, w, 3]``."""


def read_picture(path: Path, policy: DecodePolicy | None = None, *, grey: bool = False) -> NDArray[np.uint8]:
    """``[h, w, 3]``, or ``[h, w]`` where it is wanted or the file is so; ImageError that names the file.

    >>> read_picture(Path("nowhere.png"))
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: cannot read nowhere.png: file not found; choose another picture
    """
    try:
        found = decode(read_bytes(str(path)), policy or DecodePolicy())
    except ImageError as error:
        raise ImageError(f"cannot read {path}: {error}; choose another picture") from error
    pixels = found.pixels
    if grey:
        pixels = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return pixels


@dataclass(frozen=True)
class Outputs:
    """The files that a look is written to; None for what is not wanted.

    ``picture``: a sheet or a single picture as PNG; ``page``: the same as HTML; ``arrays``: the numbers as NPZ.
    """

    picture: Path | None = None
    page: Path | None = None
    arrays: Path | None = None

    @property
    def named(self) -> list[tuple[str, Path]]:
        """What is written, with a word for it.

        >>> Outputs(arrays=Path("a.npz")).named
        [('Arrays', PosixPath('a.npz'))]
        """
        files = (("Picture", self.picture), ("Page", self.page), ("Arrays", self.arrays))
        return [(word, path) for word, path in files if path is not None]

    @property
    def paths(self) -> list[str]:
        """What is written, as text."""
        return [str(path) for _, path in self.named]

    def check(self, *, needed: bool = True, given: Path | None = None) -> None:
        """Raise before the work where a file could not be written or, if one is ``needed``, none is named.

        Nor may one take the place of the picture that is looked at, ``given``.

        >>> Outputs(Path("sheet.gif")).check()
        Traceback (most recent call last):
        ...
        topwork.errors.UsageError: expected a name that ends in .png, not sheet.gif; choose another name
        """
        if needed and not self.named:
            raise UsageError("expected a file to write, but none is named; give -o FILE.png, --html or --npz")
        for path, ending in ((self.picture, ".png"), (self.page, ".html"), (self.arrays, ".npz")):
            if path is None:
                continue
            if path.suffix.lower() != ending:
                raise UsageError(f"expected a name that ends in {ending}, not {path}; choose another name")
            if path.is_dir():
                raise TopworkError(f"cannot write {path}: it is a folder; choose another place")
            if given is not None and path.exists() and given.exists() and path.samefile(given):
                raise UsageError(f"expected another name than that of the picture itself, {path}; choose one")
            storage.check_writable(path)

    def write(
        self,
        title: str,
        sections: Sequence[Section],
        arrays: Mapping[str, Any],
        *,
        side: int,
        subtitle: Sequence[str] = (),
        alone: Picture | None = None,
    ) -> None:
        """Sections of pictures as a sheet with tiles of ``side`` pixels and as a page, and the arrays by name.

        ``alone`` takes the sheet's place. No pickle is written.

        >>> from tempfile import TemporaryDirectory
        >>> from topwork.visualization.sheet import Tile
        >>> with TemporaryDirectory() as folder:
        ...     outputs = Outputs(Path(folder) / "sheet.png", arrays=Path(folder) / "a.npz")
        ...     section = Section("one", [Tile(np.zeros((8, 8), np.uint8))], columns=1)
        ...     outputs.write("A look", [section], {"ones": np.ones(2)}, side=32)
        ...     Image.open(Path(folder) / "sheet.png").size, np.load(Path(folder) / "a.npz")["ones"].tolist()
        ((56, 75), [1.0, 1.0])
        """
        if self.picture is not None:
            image = sheet(sections, side=side) if alone is None else Image.fromarray(alone)
            storage.write_file(self.picture, png(image))
        if self.page is not None:
            chapters = [_chapter(section) for section in sections]
            storage.write_file(self.page, render_gallery("topwork see", title, chapters, subtitle=subtitle).encode())
        if self.arrays is not None:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)
            storage.write_file(self.arrays, buffer.getvalue())


def _chapter(section: Section) -> Chapter:
    return Chapter(section.title, [_figure(tile) for tile in section.tiles], section.text)


def _figure(tile: Tile) -> Figure:
    height, width = tile.pixels.shape[:2]
    return Figure(png(Image.fromarray(tile.pixels)), tile.caption, width, height)

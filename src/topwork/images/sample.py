"""One picture of a source, and one thing that was left out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from topwork.images.kept_frames import is_frame, read_frame
from topwork.images.parts import is_part, part_as_png
from topwork.images.sniff import shown as shown
from topwork.images.storage import read_bytes


@dataclass(frozen=True)
class Excluded:
    """A file, folder or row that is not used. ``path``: as in `Sample.id`; ``reason``: a few words."""

    path: str
    reason: str

    @property
    def is_fault(self) -> bool:
        """Whether it should have been a picture; hidden files, other files and the like are left out on purpose.

        >>> Excluded("a.jpg", "broken link").is_fault, Excluded(".a.jpg", "hidden file").is_fault
        (True, False)
        """
        return not self.reason.startswith(_ON_PURPOSE)


_ON_PURPOSE = (
    "hidden ",
    "not a picture (",
    "empty folder",
    "a topwork ",
    "a link to a folder that it is in",
    "line ",  # a row of a manifest that repeats another
    "listed before",
)


def unread(excluded: Sequence[Excluded]) -> str:
    """How many pictures could not be read, and the reason that most of them share.

    >>> unread([Excluded("a.jpg", "empty file"), Excluded("b.jpg", "empty file"), Excluded("c.jpg", "file not found")])
    '3 pictures could not be read, 2 of them: empty file'
    """
    if not excluded:
        return ""
    (reason, count), *others = Counter(item.reason for item in excluded).most_common()
    share = f", {count} of them" if others else ""
    return f"{len(excluded):,} {'picture' if len(excluded) == 1 else 'pictures'} could not be read{share}: {reason}"


@dataclass(frozen=True)
class Sample:
    """One picture that has not been read yet.

    ``id``: its unique place in the source, a path relative to the root with "/" (in a manifest and a list: as
    written; in a file of many pictures its name and a number from 1, "ant.ndjson:17"). ``location``: absolute path,
    fsspec URL, or a place in such a file (`topwork.images.parts`). ``label``: its class, None if unknown. ``split``:
    "train", "val", "test" or None. ``group``: samples with the same group must not be parted by a split. ``time``: of
    a frame of a video, in seconds from its start; its id is "garden.mp4@12.500s", its group the video.
    """

    id: str
    location: str
    label: str | None = None
    split: str | None = None
    group: str | None = None
    time: float | None = None

    def read(self, limit: int | None = None) -> bytes:
        """The bytes of the file, at most the first ``limit``; ImageError with the reason if it fails.

        A part of a file comes as a PNG file: see `topwork.images.parts.part_as_png`. A frame of a video comes as the
        JPEG file that is kept of it: see `topwork.images.kept_frames`.

        >>> Sample("a.jpg", "/nowhere/a.jpg").read()
        Traceback (most recent call last):
        ...
        topwork.errors.ImageError: file not found
        """
        if is_frame(self.location):
            return read_frame(self.location)[:limit]
        if is_part(self.location):
            return part_as_png(self.location)[:limit]
        return read_bytes(self.location, limit)


SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
    "test": "test",
    "testing": "test",
}
"""The names of splits in folders and manifests, and what they mean."""

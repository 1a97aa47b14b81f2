"""The chosen frames of videos, kept: decoded once, then read like any picture.

::

    frame://CONTENT:OPTIONS@MICROSECONDS::FILE     where a frame is, as text: of the video FILE with this sha256

The frames of a video and a choice are one .zip archive of JPEG files in the folder ``frames`` of the cache. It appears
as a whole, so a killed run leaves none, and several processes may make it at once. What is missing is made again.
"""

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from topwork import storage, temporary
from topwork.errors import CacheError, ImageError, TopworkError
from topwork.images.file_size import too_large
from topwork.images.frames import Chooser, Filmed, FrameChoice, as_jpeg
from topwork.images.sniff import shown
from topwork.images.storage import file_name, is_url, opened
from topwork.images.video import open_video
from topwork.progress import Progress, Silent
from topwork.shortage import shortage_of

VERSION = 1
"""Raised whenever the same video and choice would give other frames."""
FOLDER = "frames"
MAX_COPY = 4_000_000_000
"""Bytes of a video behind a URL or in an archive, where few bytes may unpack to many."""
_FRAME = "frame://"
_INDEX = "index.json"
_making = Lock()


@dataclass(frozen=True)
class FrameAt:
    """A frame: when it is shown, in seconds, and where it is."""

    time: float
    location: str


def is_frame(location: str) -> bool:
    """Whether this is the place of a frame, as `frames_at` writes it."""
    return location.startswith(_FRAME)


def frames_at(location: str, choice: FrameChoice, *, progress: Progress | None = None) -> tuple[list[FrameAt], Filmed]:
    """The frames of a video, a local path or URL, and how they were chosen.

    ImageError with the reason if there are none, MissingExtraError without FFmpeg. ``progress`` hears each second of a
    video that has to be decoded.
    """
    with local_copy(location) as path:
        content = _hash(path)
        archive = _archive(content, choice)
        index = _read_index(archive)
        if index is None:
            name = file_name(location)
            with listening(progress or Silent(), name) as on_time:
                index = _make(path, choice, archive, on_time)
    found = [FrameAt(at / 1e6, f"{_FRAME}{content}:{choice.text}@{at}::{location}") for at in index["times"]]
    return found, Filmed(**index["filmed"])


def read_frame(location: str) -> bytes:
    """The bytes of a frame as a JPEG file; ImageError with the reason if it cannot be made again."""
    place, _, file = location.removeprefix(_FRAME).partition("::")
    content, _, rest = place.partition(":")
    text, _, at = rest.rpartition("@")
    try:
        choice, at = FrameChoice.from_text(text), str(int(at))
    except (ValueError, TopworkError) as error:
        raise ImageError("no place of a frame in a video") from error
    archive = _archive(content, choice)
    data = _read_entry(archive, at)
    if data is not None:
        return data
    with _making, local_copy(file) as path:  # one thread makes them, the others find them
        data = _read_entry(archive, at)
        if data is None:
            if _hash(path) != content:
                raise ImageError("its video has changed since it was listed")
            _make(path, choice, archive, _nobody)
            data = _read_entry(archive, at)
    if data is None:
        raise ImageError("its video now gives other frames; list them again")
    return data


@contextmanager
def local_copy(location: str) -> Iterator[str]:
    """The path of a file on this computer: FFmpeg must be able to seek in it, so what is behind a URL is copied."""
    if not is_url(location):
        with opened(location):  # says why it cannot be read
            pass
        yield location
        return
    with temporary.folder_beside(frames_folder() / "video") as folder:
        path = os.path.join(folder, "video")
        with opened(location) as source, open(path, "wb") as target:
            while block := source.read(1 << 20):
                if target.tell() + len(block) > MAX_COPY:
                    raise ImageError(f"{too_large(None, MAX_COPY)} for a copy of a video; fetch it first")
                target.write(block)
        yield path


def _hash(path: str) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _archive(content: str, choice: FrameChoice) -> Path:
    name = hashlib.sha256(f"{VERSION} {content} {choice.text}".encode()).hexdigest()[:32]
    return frames_folder() / f"{name}.zip"


def frames_folder() -> Path:
    """Where all archives lie; made when missing."""
    folder = storage.cache_dir() / FOLDER
    with storage.keeping(folder):
        folder.mkdir(exist_ok=True)
    return folder


def _entry(microseconds: int | str) -> str:
    return f"{int(microseconds):012}.jpg"


def _read_index(archive: Path) -> dict[str, Any] | None:
    try:
        with zipfile.ZipFile(archive) as file:
            index: dict[str, Any] = json.loads(file.read(_INDEX))
            os.utime(archive)  # the least recently used ones go first
            return index
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:  # missing or damaged: made again
        if short := shortage_of(error):
            raise short from error
        return None


def _read_entry(archive: Path, microseconds: str) -> bytes | None:
    try:
        with zipfile.ZipFile(archive) as file:
            return file.read(_entry(microseconds))  # its checksum is compared
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        if short := shortage_of(error):
            raise short from error
        return None


OnTime = Callable[[float, float | None], None]
"""Called with the time of a frame and the length of its video, in seconds, as it is decoded."""


def _nobody(time: float, seconds: float | None) -> None: ...


@contextmanager
def listening(progress: Progress, name: str) -> Iterator[OnTime]:
    """Turns the times of frames into a step of ``progress`` that counts the seconds of a video."""
    done: list[int] = []

    def on_time(time: float, seconds: float | None) -> None:
        if not done:
            progress.start(f"reading {shown(name)}", None if seconds is None else math.ceil(seconds))
            done.append(0)
        progress.advance(f"reading {shown(name)}", int(time) - done[0])
        done[0] = int(time)

    try:
        yield on_time
    finally:
        if done:
            progress.finish(f"reading {shown(name)}")


def _make(path: str, choice: FrameChoice, archive: Path, on_time: OnTime) -> dict[str, Any]:
    """Decode the video once and write the archive in one step."""
    video = open_video(path)
    times: list[int] = []
    try:
        with temporary.folder_beside(archive) as folder:
            unfinished = folder / archive.name
            chooser = Chooser(video, choice, on_time=lambda time: on_time(time, video.seconds))
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as file:
                for frame in chooser:
                    times.append(round(frame.time * 1e6))
                    file.writestr(_entry(times[-1]), as_jpeg(frame.pixels))
                index = {"times": times, "filmed": asdict(chooser.filmed)}
                file.writestr(_INDEX, json.dumps(index))
            os.replace(unfinished, archive)
    except OSError as error:
        if short := shortage_of(error):
            raise short from error
        raise CacheError(
            f"the frames of a video cannot be kept in {archive.parent} ({storage.reason(error)}); free some space or "
            "set TOPWORK_CACHE_DIR to a folder on another disk"
        ) from error
    trim(storage.cache_limit(), keep=archive)
    return index


def trim(limit: int, *, keep: Path) -> None:
    """Delete the least recently used archives but ``keep`` until all take at most ``limit`` bytes."""
    folder = keep.parent
    found = []
    for path in folder.glob("*.zip"):
        with suppress(OSError):  # another process has just removed it
            found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size

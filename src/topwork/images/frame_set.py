"""A folder of pictures made of videos, with a manifest that says which frames belong together.

::

    NAME/
      frames.csv               path, label and split where they are known, group, time, video
      frames.json              how it was made, and which files it wrote
      CLASS/VIDEO-00012.500s.jpg
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint, storage
from topwork.errors import ImageError, SourceError, TopworkError
from topwork.images.frames import Chooser, Filmed, FrameChoice, as_jpeg
from topwork.images.kept_frames import listening, local_copy
from topwork.images.parts import as_png
from topwork.images.sample import Excluded, Sample
from topwork.images.sniff import shown
from topwork.images.source import FRAMES_MANIFEST, FRAMES_MARKER
from topwork.images.storage import file_name
from topwork.images.video import open_video
from topwork.progress import Progress, Silent
from topwork.tables import csv_text

_FORBIDDEN = set('/\\:*?"<>|')  # in names of files, somewhere


@dataclass
class FrameSet:
    """What was written. ``rows``: of the manifest."""

    videos: list[Filmed] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


def check_target(target: Path) -> None:
    """Raise TopworkError where ``target`` cannot be written, or holds anything but an earlier set of frames."""
    own = {FRAMES_MARKER, FRAMES_MANIFEST}
    storage.check_only_own(target, FRAMES_MARKER, lambda made: own | set(made["pictures"]), "set of frames")
    if (target / FRAMES_MARKER).is_file() and (target / FRAMES_MANIFEST).is_file():
        written = json.loads((target / FRAMES_MARKER).read_bytes()).get("manifest")
        if written != fingerprint.of_bytes((target / FRAMES_MANIFEST).read_bytes()):
            raise TopworkError(
                f"expected {target / FRAMES_MANIFEST} as it was written, but it was changed, which would be lost; "
                "choose another name with -o"
            )


def write(
    target: Path,
    videos: Sequence[Sample],
    choice: FrameChoice,
    *,
    png: bool = False,
    progress: Progress | None = None,
) -> FrameSet:
    """Choose the frames of ``videos`` and write them in one step; a video that cannot be read is excluded.

    A killed run leaves the old folder or none. TopworkError where ``target`` is something else, SourceError where not
    one frame could be read, MissingExtraError without FFmpeg.
    """
    progress, made = progress or Silent(), FrameSet()
    check_target(target)
    stems = _stems(videos)
    with storage.replace_folder(target, marker=FRAMES_MARKER) as folder:
        for video, stem in zip(videos, stems, strict=True):
            try:
                _write_one(folder, video, stem, choice, png, made, progress)
            except ImageError as error:
                made.excluded.append(Excluded(video.id, str(error)))
        if not made.rows:
            why = f" ({shown(made.excluded[0].path)}: {made.excluded[0].reason})" if made.excluded else ""
            raise SourceError(f"expected videos, but not one frame could be read{why}; check the files")
        manifest = _manifest(made.rows).encode()
        storage.write_atomic(folder / FRAMES_MANIFEST, manifest)
        about: dict[str, Any] = {"choice": choice.text, "pictures": [row["path"] for row in made.rows]}
        about["manifest"] = fingerprint.of_bytes(manifest)
        storage.write_atomic(folder / FRAMES_MARKER, json.dumps(about, indent=1, ensure_ascii=False).encode())
    return made


def _write_one(
    folder: Path, video: Sample, stem: str, choice: FrameChoice, png: bool, made: FrameSet, progress: Progress
) -> None:
    (folder / stem).parent.mkdir(exist_ok=True)
    with local_copy(video.location) as path, listening(progress, file_name(video.location)) as on_time:
        opened = open_video(path)
        chooser = Chooser(opened, choice, on_time=lambda time: on_time(time, opened.seconds))
        for frame in chooser:
            name = f"{stem}-{frame.time:09.3f}s{'.png' if png else '.jpg'}"
            (folder / name).write_bytes(_encoded(frame.pixels, png))
            row = {"path": name, "label": video.label or "", "split": video.split or ""}
            made.rows.append(row | {"group": video.group or video.id, "time": f"{frame.time:.6f}", "video": video.id})
    filmed = replace(chooser.filmed, path=video.id)
    made.videos.append(filmed)
    if filmed.damage:
        made.excluded.append(Excluded(video.id, filmed.damaged))


def _encoded(pixels: NDArray[np.uint8], png: bool) -> bytes:
    return as_png(pixels) if png else as_jpeg(pixels)


def _manifest(rows: list[dict[str, Any]]) -> str:
    """CSV; without the columns that say nothing."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    return csv_text(columns, ([row[name] for name in columns] for row in rows))


def _stems(videos: Sequence[Sample]) -> list[str]:
    """The start of the names of each video's frames, below its class; videos of one name are told apart by a number.

    >>> _stems([Sample("a/-x.mp4", "/a/-x.mp4", "a"), Sample("a/b/-x.mov", "/a/b/-x.mov", "a"), Sample("n", "/n")])
    ['a/x', 'a/x-2', 'n']
    """
    stems: list[str] = []
    taken: set[str] = set()
    for video in videos:
        name = _plain(PurePosixPath(file_name(video.location)).stem)
        start = f"{_plain(video.label)}/{name}" if video.label else name
        stem, number = start, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{start}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _plain(name: str) -> str:
    """A name that every system allows and no program takes for an option."""
    kept = "".join("_" if char in _FORBIDDEN or not char.isprintable() else char for char in name)
    return kept.strip(" .-")[:80] or "video"

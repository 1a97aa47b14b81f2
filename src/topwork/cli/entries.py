"""The pictures that the arguments of a command stand for, under the paths that are shown."""

import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from topwork.errors import MissingExtraError, SourceError

if TYPE_CHECKING:
    from topwork.images import ImageSource, Sample


@dataclass(frozen=True)
class Fault:
    """What cannot be predicted; ``cause``: the error if the argument itself could not be opened."""

    path: str
    reason: str
    cause: Exception | None = None

    def row(self) -> dict[str, Any]:
        """Its row of the JSON."""
        empty: dict[str, Any] = {"label": None, "probability": None, "known": None, "novelty": None, "top": []}
        return {"path": self.path, **empty, "error": self.reason}


def entries_of(argument: str, *, whole_videos: bool = False, allow_remote: bool = False) -> "Iterator[Sample | Fault]":
    """The pictures that an argument stands for, and what should have been one, under the paths that are shown.

    Of a video some frames, or with ``whole_videos`` itself.
    """
    from topwork.images import ImageSource
    from topwork.images.frames import FOR_SOURCES
    from topwork.progress import for_stream

    frames = None if whole_videos else FOR_SOURCES
    try:
        source = ImageSource.open(
            argument, labelled=False, frames=frames, progress=for_stream(), allow_remote=allow_remote
        )
    except (SourceError, MissingExtraError) as error:
        missing = "://" not in argument and not os.path.exists(os.path.expanduser(argument))
        yield Fault(argument, "file not found" if missing else str(error), error)
        return
    for sample in source.samples:
        yield replace(sample, id=argument if sample.location == source.root else _path(argument, source, sample.id))
    for item in source.excluded:
        if item.is_fault:
            yield Fault(_path(argument, source, item.path), item.reason)


def _path(argument: str, source: "ImageSource", inside: str) -> str:
    """The argument as it was typed joined with the path in it; in a manifest the path as it is written there."""
    from topwork.images.storage import is_url, join_url

    if source.kind == "manifest":
        return inside
    name = posixpath.basename(source.root.replace(os.sep, "/"))
    if inside.startswith((f"{name}:", f"{name}@")):  # one of the many pictures in the file that was given
        return argument + inside.removeprefix(name)
    return join_url(argument, inside) if is_url(argument) else posixpath.join(argument.replace(os.sep, "/"), inside)


def once(entries: "Iterable[Sample | Fault]") -> "list[Sample | Fault]":
    """Each picture and each fault once, where it came first."""
    found: dict[tuple[bool, str], Sample | Fault] = {}
    for entry in entries:
        key = (True, entry.path) if isinstance(entry, Fault) else (False, entry.location)
        found.setdefault(key, entry)
    return list(found.values())

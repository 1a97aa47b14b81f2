"""By which a file that did not change is told without reading it: its size and the time of its last change."""

import os
import time
from datetime import UTC, datetime

from topwork.images.sample import Sample
from topwork.images.storage import is_url

_RACY = 2.0  # seconds; a file changed again this soon may keep its time, on file systems that count coarsely


def stamp(location: str) -> str | None:
    """``size:nanoseconds`` of a file on this computer, or of the file that holds it; None for what must be read.

    None also for a file that was changed a moment ago: it might change again without another time.

    >>> stamp("s3://bucket/a.jpg") is None, stamp("/nowhere/a.jpg") is None
    (True, True)
    """
    try:
        found = os.stat(file_of(location) or "")
    except OSError:
        return None
    if time.time() - found.st_mtime < _RACY:
        return None
    return f"{found.st_size}:{found.st_mtime_ns}"


def file_of(location: str) -> str | None:
    """The file on this computer that a picture is, or is part of: of a drawing its file, in a .zip file the archive.

    >>> file_of("drawing://120+80::/tmp/ant.ndjson"), file_of("zip://a.jpg::/tmp/all.zip"), file_of("s3://a/b.jpg")
    ('/tmp/ant.ndjson', '/tmp/all.zip', None)
    """
    place = location.rpartition("::")[2]
    return None if is_url(place) else place


def file_facts(sample: Sample) -> dict[str, object]:
    """``size`` in bytes and ``time`` in UTC of a picture that is a file of its own; None where it is not."""
    try:
        if "::" in sample.location:
            raise OSError
        found = os.stat(sample.location)
    except OSError:
        return {"size": None, "time": None}
    when = datetime.fromtimestamp(found.st_mtime, UTC)
    return {"size": found.st_size, "time": when.strftime("%Y-%m-%d %H:%M:%S")}

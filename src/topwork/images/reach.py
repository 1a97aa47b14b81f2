"""What a location that comes from data may reach: a cell of a manifest, a row of an index.

What the user types is his own will; what stands in a file may be a stranger's. A list of what is allowed, because no
list of what is dangerous stays complete: fsspec knows about forty protocols, and some of them run what they read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from topwork.images.storage import is_url, join_url, split_url

REMOTE = ("s3", "s3a", "gs", "gcs", "http", "https")
"""The protocols that data may name where the user allows it (``--allow-remote``)."""

ALLOW = "allow_remote (--allow-remote)"
_ARCHIVES = ("zip", "tar")
_OWN = ("drawing", "bitmap", "frame")
"""topwork's own places in a file, which only its own tables hold (`topwork.images.parts`, `kept_frames`)."""


@dataclass(frozen=True)
class Reach:
    """What a location that comes from data may reach; everything else is refused, with the reason in `why_not`.

    ``anywhere``: any file of this computer. ``folders``: else only files below these (absolute paths). ``urls``: what
    is below these URLs, which the user named. ``allow_remote``: any URL of a protocol in `REMOTE`. ``parts``: also
    places in files that are allowed, as topwork writes them into its own tables. A chain of protocols (``::``) is
    never followed but for a place in one of ``urls`` or, with ``parts``, in a local archive. Links in allowed folders
    are followed, as in every folder of pictures.

    >>> Reach(folders=("/data",)).why_not("/data/cat/1.jpg") is None
    True
    >>> print(Reach(folders=("/data",)).why_not("/data/../etc/passwd"))
    outside of the folder /data
    >>> print(Reach(anywhere=True).why_not("reference://x.jpg::refs.json"))
    a chain of addresses (::), which no list may name
    >>> print(Reach(anywhere=True).why_not("http://127.0.0.1/x.jpg"))
    a network address (http), which a list may name only with allow_remote (--allow-remote)
    """

    anywhere: bool = False
    folders: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    allow_remote: bool = False
    parts: bool = False

    @classmethod
    def of_manifest(cls, location: str, *, allow_remote: bool = False) -> "Reach":
        """What a manifest may name that the user named: a local one any file of this computer, one behind a URL what
        is in the same archive, or the same bucket or host by the same protocol.

        >>> Reach.of_manifest("s3://cars/lists/m.csv").why_not("s3://cars/photos/1.jpg") is None
        True
        """
        if is_url(location):
            return cls(urls=(_whole(location),), allow_remote=allow_remote)
        return cls(anywhere=True, allow_remote=allow_remote)

    @classmethod
    def of_folder(cls, location: str, *, allow_remote: bool = False) -> "Reach":
        """What a manifest may name that was found in a folder: what is below that folder."""
        if is_url(location):
            return cls(urls=(location,), allow_remote=allow_remote)
        return cls(folders=(os.path.abspath(location),), allow_remote=allow_remote)

    @classmethod
    def of_index(cls, named: Sequence[str] = (), *, allow_remote: bool = False) -> "Reach":
        """What the table of an index from elsewhere may name: what is below the folders, or in the same bucket, host or
        archive as the URLs, in ``named``, which are of the user's own command; also places in such files.

        >>> reach = Reach.of_index(("/data", "s3://cars"))
        >>> [reach.why_not(each) is None for each in ("/data/a", "zip://a::/data/a.zip", "s3://cars/a", "/a")]
        [True, True, True, False]
        """
        urls = tuple(_whole(join_url(each, "x")) for each in named if is_url(each))
        folders = tuple(os.path.abspath(each) for each in named if not is_url(each))
        return cls(folders=folders, urls=urls, allow_remote=allow_remote, parts=True)

    def why_not(self, location: str) -> str | None:
        """Why ``location``, an absolute path or a URL, may not be opened, in a few words; None if it may."""
        if "\0" in location:
            return "a zero byte in its name"
        protocol, marked, rest = location.partition("://")
        if not marked:
            return self._why_not_local(location)
        if self.parts and protocol in _OWN and "::" in rest:
            return self.why_not(rest.partition("::")[2])
        if any(_is_below(location, url) for url in self.urls):
            return None
        if self.parts and protocol == "zip" and rest.count("::") == 1 and not is_url(rest):
            return self._why_not_local(rest.partition("::")[2])
        if "::" in location:
            return "a chain of addresses (::), which no list may name"
        if protocol.lower() not in REMOTE:
            return f"an address of the protocol {protocol[:40]!r}, which no list may name"
        if not self.allow_remote:
            return f"a network address ({protocol}), which a list may name only with {ALLOW}"
        return None

    def _why_not_local(self, path: str) -> str | None:
        path = os.path.abspath(path)
        if path.startswith("\\\\") and not self.allow_remote:  # Windows asks that server, and tells it who asks
            return f"a network address, which a list may name only with {ALLOW}"
        if self.anywhere or any(_is_in(path, folder) for folder in self.folders):
            return None
        if not self.folders:
            return "a file of this computer, which a list from elsewhere may not name"
        return f"outside of the folder {' or '.join(self.folders)}"


def _is_in(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([path, folder]) == folder
    except ValueError:  # another drive
        return False


def _whole(url: str) -> str:
    """The archive, bucket or host that a file's URL is in, as a URL.

    >>> _whole("zip://a/list.csv::/tmp/cars.zip"), _whole("https://host/a/b.csv"), _whole("memory://list.csv")
    ('zip://::/tmp/cars.zip', 'https://host', 'memory://')
    """
    folder, _ = split_url(url)
    parts = folder.split("::")
    at = next(i for i, part in enumerate(parts) if "://" in part)
    protocol, _, path = parts[at].partition("://")
    parts[at] = f"{protocol}://" + ("" if protocol in _ARCHIVES else path.partition("/")[0])
    return "::".join(parts)


def _is_below(url: str, folder: str) -> bool:
    """Whether a URL leads below that of a folder: all parts of a chain are the same but the path in the first."""
    start = join_url(folder, "x").split("::")
    parts = url.split("::")
    at = next(i for i, part in enumerate(start) if "://" in part)
    if len(parts) != len(start) or parts[:at] + parts[at + 1 :] != start[:at] + start[at + 1 :]:
        return False
    head, path = start[at][:-1], parts[at]
    if not path.startswith(head):
        return False
    steps = unquote(path[len(head) :]).replace("\\", "/").split("/")
    return ".." not in steps

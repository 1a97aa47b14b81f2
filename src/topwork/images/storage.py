"""Files and folders, local or behind an fsspec URL: reading bytes and listing what is there."""

import os
import posixpath
import stat
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from topwork.errors import ImageError, MissingExtraError, SourceError, TopworkError
from topwork.images.file_size import size_of, too_large
from topwork.images.sniff import one_line
from topwork.shortage import shortage_of

MAX_BYTES = 320_000_000
"""Bytes of a file that is read as a whole, such as a picture: 100 megapixels of three bytes, and some room. A member of
an archive counts unpacked."""

NOT_REGULAR = "not a regular file"

_EXTRAS = {"s3": 'pip install "topwork[s3]"', "s3a": 'pip install "topwork[s3]"'}
_BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_QUICK = {"file", "local", "memory", "zip", "tar"}


@dataclass(frozen=True)
class Entry:
    """One thing in a folder.

    ``path``: relative to the root, with "/". ``location``: what `read_bytes` takes. ``real``: where links
    lead. ``reason``: why it cannot be used, if ``kind`` is "bad".
    """

    path: str
    location: str
    kind: Literal["file", "folder", "bad"]
    real: str = ""
    reason: str = ""


class Tree(Protocol):
    """A folder whose content can be listed. ``real``: where a link to the root leads, "" without links."""

    root: str
    real: str

    def entries(self, path: str) -> Sequence[Entry]:
        """What is in the folder ``path`` ("" is the root); OSError and others if it cannot be listed."""


class LocalTree:
    """A folder on this computer; links are followed."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.real = os.path.realpath(root)

    def entries(self, path: str) -> list[Entry]:
        """See `Tree.entries`."""
        with os.scandir(os.path.join(self.root, *path.split("/")) if path else self.root) as found:
            return [self._entry(item, join_path(path, item.name)) for item in found]

    def _entry(self, item: "os.DirEntry[str]", path: str) -> Entry:
        if not _is_unicode(item.name):
            shown = path.encode("utf-8", "backslashreplace").decode()
            return Entry(shown, item.path, "bad", reason="the name is not valid UTF-8; rename the file")
        try:
            if item.is_dir():
                return Entry(path, item.path, "folder", real=os.path.realpath(item.path))
            if item.is_file():
                return Entry(path, item.path, "file")
        except OSError as error:  # a link to itself, or a folder that may not be searched
            reason = "broken link" if item.is_symlink() else _why(error)
            return Entry(path, item.path, "bad", reason=reason)
        # Reading a named pipe would wait forever.
        is_broken = item.is_symlink() and not os.path.exists(item.path)
        return Entry(path, item.path, "bad", reason="broken link" if is_broken else NOT_REGULAR)


class RemoteTree:
    """A folder behind an fsspec URL, such as ``s3://bucket/cars`` or ``zip://cars::file:///tmp/cars.zip``."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.real = ""

    def entries(self, path: str) -> list[Entry]:
        """See `Tree.entries`."""
        filesystem, folder = filesystem_of(join_url(self.root, path))
        found = filesystem.ls(folder, detail=True)
        return [_remote_entry(self.root, path, info) for info in found if not _is_itself(info["name"], folder)]


def _remote_entry(root: str, folder: str, info: dict[str, Any]) -> Entry:
    path = join_path(folder, info["name"].rstrip("/").rsplit("/", 1)[-1])
    location = join_url(root, path)
    if info["type"] == "directory":
        return Entry(path, location, "folder", real=path)
    if "::" in path:
        return Entry(path, location, "bad", reason="'::' in a name cannot be part of a URL; rename the file")
    return Entry(path, location, "file")


def _is_itself(name: str, folder: str) -> bool:
    """Object stores list the empty object that stands for a folder among the folder's content."""
    return name.strip("/") == folder.strip("/")


def is_url(source: str) -> bool:
    """Whether ``source`` is for fsspec.

    >>> is_url("s3://bucket/cars"), is_url("zip://::cars.zip"), is_url(r"C:\\\\cars")
    (True, True, False)
    """
    return "://" in source


def local_path(url: str) -> str:
    """``file:///a/b`` as the path it is; anything else unchanged."""
    if url.startswith(("file://", "local://")) and "::" not in url:
        from fsspec.implementations.local import LocalFileSystem

        return str(LocalFileSystem._strip_protocol(url))
    return url


def file_name(location: str) -> str:
    """The last part of a local path or URL; in a chain that of the first part.

    >>> file_name("/tmp/ant.ndjson"), file_name("zip://a/bee.npy::file:///tmp/all.zip")
    ('ant.ndjson', 'bee.npy')
    """
    path = location.split("::")[0] if is_url(location) else location.replace(os.sep, "/")
    return path.rsplit("/", 1)[-1]


def join_path(folder: str, name: str) -> str:
    """``folder/name``, or ``name`` in the root "".

    >>> join_path("", "a"), join_path("a", "b")
    ('a', 'a/b')
    """
    return f"{folder}/{name}" if folder else name


def join_url(url: str, path: str) -> str:
    """The URL of ``path`` below ``url``; in a chain the first part with a path grows.

    >>> join_url("zip://::file:///tmp/cars.zip", "vw/1.jpg")
    'zip://vw/1.jpg::file:///tmp/cars.zip'
    >>> join_url("simplecache::s3://bucket/cars/", "vw/1.jpg")
    'simplecache::s3://bucket/cars/vw/1.jpg'
    """
    parts = url.split("::")
    at = next(i for i, part in enumerate(parts) if "://" in part)
    if path:
        start = parts[at] if parts[at].endswith("://") else parts[at].rstrip("/") + "/"
        parts[at] = start + path
    return "::".join(parts)


def split_url(url: str) -> tuple[str, str]:
    """The URL of the folder, and the name in it; the inverse of `join_url`.

    >>> split_url("zip://vw/list.csv::file:///tmp/cars.zip")
    ('zip://vw::file:///tmp/cars.zip', 'list.csv')
    """
    parts = url.split("::")
    at = next(i for i, part in enumerate(parts) if "://" in part)
    protocol, _, path = parts[at].partition("://")
    folder, _, name = path.rpartition("/")
    parts[at] = f"{protocol}://{folder}"
    return "::".join(parts), name


def resolve_url(url: str, path: str) -> str:
    """The URL of ``path`` relative to the folder of the file ``url``; most protocols know no "..".

    >>> resolve_url("s3://bucket/lists/m.csv", "../pictures/./1.jpg")
    's3://bucket/pictures/1.jpg'
    """
    folder, _ = split_url(url)
    path = posixpath.normpath(path)
    while path.startswith("../"):
        folder, path = split_url(folder)[0], path[3:]
    return join_url(folder, path)


class _Archives:
    """Open archives, a few: fsspec would read the table of contents anew for every picture.

    Keyed by process as well, since after a fork two processes would share one position in the file.
    """

    _LIMIT = 8

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[int, str], Any] = {}

    def get(self, archive: str) -> Any:
        key = (os.getpid(), archive)
        with self._lock:
            if key not in self._open:
                if len(self._open) >= self._LIMIT:
                    del self._open[next(iter(self._open))]
                self._open[key] = _open_archive(archive)
            return self._open[key]

    def forget(self, archive: str) -> None:
        with self._lock:
            self._open.pop((os.getpid(), archive), None)


def _open_archive(archive: str) -> Any:
    archive = local_path(archive)
    if is_url(archive):
        return _url_to_fs(f"zip://::{archive}")[0]
    from fsspec.implementations.zip import ZipFileSystem

    # Opened here: fsspec would take a "::" in the name for a chain, and wait for a named pipe.
    return ZipFileSystem(_open_regular(os.path.expanduser(archive)))


_archives = _Archives()


def forget_archive(url: str) -> None:
    """Read the archive of ``url`` anew next time: it may have changed since it was opened."""
    if url.startswith("zip://"):
        _archives.forget(url.partition("::")[2])


def filesystem_of(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of ``url`` and the path in it; MissingExtraError if a package is missing."""
    if url.startswith("zip://") and "::" in url:
        path, _, archive = url.removeprefix("zip://").partition("::")
        return _archives.get(archive), path
    return _url_to_fs(url)


def _url_to_fs(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    protocol = url.split("::")[-1].split("://")[0]
    try:
        filesystem, path = url_to_fs(url)
    except ImportError as error:
        how = _EXTRAS.get(protocol, f"{one_line(error)}, for example with pip")
        raise MissingExtraError(f"reading {url} needs a package that is not installed: {how}") from error
    except ValueError as error:
        raise SourceError(f"expected a URL that fsspec can open, not {url}: {one_line(error)}; check it") from error
    return filesystem, path


def answers_quickly(url: str) -> bool:
    """Whether asking for one file costs no network request."""
    return all(part.split("://")[0] in _QUICK for part in url.split("::") if "://" in part)


def kind_of(location: str) -> Literal["file", "folder", "missing", "other"]:
    """What is at a local path or URL, "other" being a device, a named pipe and the like; SourceError if a URL cannot
    be reached."""
    if not is_url(location):
        return _local_kind(location)
    try:
        filesystem, path_in = filesystem_of(location)
        if filesystem.isdir(path_in):
            return "folder"
        return "file" if filesystem.exists(path_in) else "missing"
    except (SourceError, MissingExtraError):
        raise
    except FileNotFoundError:
        return "missing"
    except Exception as error:  # every protocol has errors of its own
        if short := shortage_of(error):
            raise short from error
        raise SourceError(f"expected pictures at {location}, but it cannot be reached: {_said(error)}") from error


def _local_kind(path: str) -> Literal["file", "folder", "missing", "other"]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # ValueError: a zero byte
        return "missing"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def _open_regular(path: str) -> BinaryIO:
    """A file on this computer, if it is one: named pipes and devices would give bytes without end, or none."""
    # O_NONBLOCK: opening a named pipe waits for a writer otherwise. For regular files it has no effect.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(mode):
            raise ImageError(NOT_REGULAR)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def opened(location: str) -> Iterator[BinaryIO]:
    """A regular file to read from; ImageError with the reason if it, or what the block reads of it, cannot be read.

    ShortageError where memory or open files ran out.
    """
    try:
        if not is_url(location):
            with _open_regular(location) as file:
                yield file
            return
        filesystem, path = filesystem_of(location)
        with filesystem.open(path, "rb") as file:
            _check_packing(filesystem, path)
            yield file
    except TopworkError:
        raise
    except Exception as error:  # KeyError from an archive, and the network libraries' own
        if short := shortage_of(error):
            raise short from error
        raise ImageError(_why(error) if isinstance(error, OSError) else f"cannot be read: {_said(error)}") from error


def _check_packing(filesystem: Any, path: str) -> None:
    """ImageError for a member of a zip file of which unpacking cannot be bounded: zipfile unpacks bzip2, LZMA and
    Zstandard at one go, and what the archive says of the size may be a lie."""
    archive = getattr(filesystem, "zip", None)
    if archive is not None and archive.getinfo(path.lstrip("/")).compress_type not in _BOUNDED:
        raise ImageError("compressed in another way than deflate; unpack the archive first")


def read_bytes(location: str, limit: int | None = None, offset: int = 0, *, most: int = MAX_BYTES) -> bytes:
    """The bytes of a file from ``offset``, at most ``limit``; ImageError with the reason if it cannot be read.

    Without ``limit`` the whole file, if that is at most ``most`` bytes.
    """
    with opened(location) as file:
        if offset:
            file.seek(offset)
        if limit is not None:
            return file.read(limit)
        # A file of zeros may be 3 GB large and take no place on the disk, and a header may lie.
        if (size := size_of(file)) is not None and size > most:
            raise ImageError(too_large(size, most))
        data = file.read(most + 1)
        if len(data) > most:
            raise ImageError(too_large(None, most))
        return data


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "file not found"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return f"cannot be read: {error.strerror or one_line(error)}"


def _said(error: Exception) -> str:
    """What an error of another library says, in words for a person where they are known."""
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return "encrypted; unpack the archive with its password first"
    if isinstance(error, NotImplementedError) and "compression" in str(error):
        return "compressed in a way that is not known; unpack the archive first"
    return one_line(error)


def why_not_listed(error: Exception) -> str:
    """The reason shown for a folder that cannot be listed; ShortageError where it is no fault of the folder."""
    if short := shortage_of(error):
        raise short from error
    return "folder: " + (_why(error) if isinstance(error, OSError) else f"cannot be listed: {one_line(error)}")


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8 arrive as lone surrogates
        return False
    return True

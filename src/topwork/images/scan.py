"""Walk a folder: the files that may be pictures or videos, and what was left out, each with a reason."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from topwork import storage
from topwork.errors import MissingExtraError, SourceError
from topwork.images.packed import is_packed
from topwork.images.sample import Excluded
from topwork.images.storage import Entry, Tree, why_not_listed

_SYSTEM = (
    "__macosx|thumbs.db|ehthumbs.db|desktop.ini|icon\r|picasa.ini|$recycle.bin|recycler|system volume information|"
    "lost+found|@eadir|#recycle|#snapshot|@recycle|@recently-snapshot|network trash folder|temporary items"
)
"""What Windows, macOS, Linux and network disks keep beside the files of their users."""
_SYSTEM_NAMES = frozenset(_SYSTEM.split("|"))
_TEXT = "txt csv tsv json jsonl yaml yml toml ini cfg md rst log xml html htm css js py ipynb sh bat"
_DOCUMENTS = "pdf doc docx xls xlsx ppt pptx odt ods db sqlite"
_TENSORS = "pkl pt pth onnx h5 hdf5 npy npz mat parquet safetensors"
_SOUND = "mp3 wav flac ogg m4a"
_BINARY = "zip tar gz tgz bz2 xz 7z rar exe dll so"
_NOT_PICTURES = {f".{suffix}" for line in (_TEXT, _DOCUMENTS, _TENSORS, _SOUND, _BINARY) for suffix in line.split()}


_OWN = {
    "model": {"model.json", "model.onnx"},
    "index": {"index.json", "pictures.sqlite"},
    "result": {storage.RESULT},
}
"""The files by which a folder of topwork's is known: the pictures in it are its own, not the user's."""


@dataclass
class Listing:
    """What a folder holds.

    ``files`` below a root, sorted by path; ``folders``: names of the first-level folders, also
    without files; ``excluded``; ``packed``: files directly in the root that hold many pictures, by their names (they
    are in ``files`` or ``excluded`` as well, since such a file beside pictures is none).
    """

    files: list[Entry] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    packed: list[Entry] = field(default_factory=list)

    def exclude(self, path: str, reason: str) -> None:
        self.excluded.append(Excluded(path, reason))


def scan(tree: Tree) -> Listing:
    """Everything below ``tree`` but models and indexes; SourceError if its root is one or cannot be listed."""
    listing = Listing()
    # A stack instead of recursion: folders may be nested deeper than Python's stack.
    stack: list[tuple[str, frozenset[str]]] = [("", frozenset({tree.real}))]
    while stack:
        path, ancestors = stack.pop()
        entries = _entries(tree, path, listing)
        own = _own_kind(entries)
        if own and (path or own != "result"):  # whoever names a folder of results wants its pictures
            _pass_over(own, tree, path, listing)
            continue
        if path and "/" not in path:
            listing.folders.append(path)
        for entry in entries:
            if _is_hidden(entry.path):
                listing.exclude(entry.path, "hidden folder" if entry.kind == "folder" else "hidden file")
            elif entry.kind == "folder":
                _enter(entry, ancestors, stack, listing)
            else:
                _sort_out(entry, listing)
    listing.files.sort(key=lambda entry: entry.path)
    listing.excluded.sort(key=lambda excluded: excluded.path)
    listing.folders.sort()
    return listing


def _entries(tree: Tree, path: str, listing: Listing) -> list[Entry]:
    try:
        entries = list(tree.entries(path))
    except (SourceError, MissingExtraError):
        raise
    except Exception as error:  # every fsspec protocol has errors of its own
        reason = why_not_listed(error)
        if not path:
            raise SourceError(f"expected a folder of pictures at {tree.root}, but: {reason}; check it") from error
        listing.exclude(path, reason)
        return []
    if path and not entries:
        listing.exclude(path, "empty folder")
    return entries


def _own_kind(entries: list[Entry]) -> str | None:
    names = {entry.path.rsplit("/", 1)[-1] for entry in entries if entry.kind == "file"}
    return next((kind for kind, marks in _OWN.items() if names >= marks), None)


def _pass_over(kind: str, tree: Tree, path: str, listing: Listing) -> None:
    if not path:
        raise SourceError(
            f"expected a folder of pictures at {tree.root}, but it is a topwork {kind}; give the folder of its pictures"
        )
    listing.exclude(path, f"a topwork {kind}")


def _enter(entry: Entry, ancestors: frozenset[str], stack: list[tuple[str, frozenset[str]]], listing: Listing) -> None:
    if entry.real in ancestors:
        listing.exclude(entry.path, "a link to a folder that it is in")
        return
    stack.append((entry.path, ancestors | {entry.real}))


def _sort_out(entry: Entry, listing: Listing) -> None:
    suffix = not_a_picture(entry.path)
    if entry.kind == "file" and "/" not in entry.path and is_packed(entry.path):
        listing.packed.append(entry)
    if entry.kind == "bad":
        listing.exclude(entry.path, entry.reason)
    elif suffix:
        listing.exclude(entry.path, f"not a picture ({suffix})")
    else:
        listing.files.append(entry)


def not_a_picture(path: str) -> str | None:
    """The suffix of ``path`` if it is one that no picture has; all others are judged by content.

    >>> not_a_picture("cars/README.TXT"), not_a_picture("cars/1.jpg"), not_a_picture("cars/1")
    ('.txt', None, None)
    """
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if suffix in _NOT_PICTURES else None


def _is_hidden(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES

"""Files that hold many pictures: which files of a folder they are, and the samples in them.

QuickDraw's ``WORD.ndjson`` and ``WORD.npy``, and MNIST's pairs ``train-images-idx3-ubyte`` with
``train-labels-idx1-ubyte`` (also with a dot before ``idx``, also ``.gz``).
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from topwork.errors import ImageError, SourceError
from topwork.images.bitmaps import Bitmaps, open_idx, open_npy
from topwork.images.decode import looks_like_a_picture
from topwork.images.names import plain
from topwork.images.parts import bitmap_location, drawing_location
from topwork.images.quickdraw import parse, read_lines
from topwork.images.sample import SPLITS, Excluded, Sample
from topwork.images.sniff import shown
from topwork.images.storage import Entry, file_name, is_url, join_url, kind_of, read_bytes, split_url

_IDX = re.compile(
    r"(?P<set>.*?)[-_.]?(?:(?P<images>images)[-.]idx3|labels[-.]idx1)[-.]ubyte(?P<gz>\.gz)?", re.IGNORECASE
)
_PREFIX = re.compile(r"full_(?:numpy_bitmap|simplified|raw)_")  # of QuickDraw files saved from a browser
_SPLITS = {**SPLITS, "t10k": "test"}


@dataclass(frozen=True)
class PackedFile:
    """A file of many pictures. ``name``: in ids; ``labels``: where the labels of an idx file are; ``split``: of it."""

    name: str
    location: str
    labels: str | None = None
    split: str | None = None

    def entries(self, *, recognized_only: bool = False) -> Iterator[Sample | Excluded]:
        """Every picture in its order, and every line that is none, in constant memory.

        ``recognized_only`` passes over drawings of which the line does not say that the game recognised them.
        SourceError where the file as a whole cannot be used.
        """
        name = file_name(self.location)
        if _suffix(name) == ".ndjson":
            try:
                yield from self._drawings(recognized_only)
            except ImageError as error:
                raise SourceError(f"expected drawings in {shown(self.name)}, but: {error}; check the file") from error
        elif _suffix(name) == ".npy":
            word = _PREFIX.sub("", PurePosixPath(name).stem)
            yield from self._bitmaps(open_npy(self.location), plain(word) or None)
        else:
            yield from self._bitmaps(open_idx(self.location, self.labels), None)

    def _drawings(self, recognized_only: bool) -> Iterator[Sample | Excluded]:
        for line in read_lines(self.location):
            name = f"{self.name}:{line.number}"
            try:
                drawing = parse(line.data)
            except ImageError as error:
                yield Excluded(name, str(error))
                continue
            if drawing.recognized or not recognized_only:
                yield Sample(name, drawing_location(self.location, line.offset, len(line.data)), plain(drawing.word))

    def _bitmaps(self, bitmaps: Bitmaps, word: str | None) -> Iterator[Sample]:
        for index in range(len(bitmaps)):
            place = bitmap_location(self.location, bitmaps.offset_of(index), bitmaps.height, bitmaps.width)
            label = word if bitmaps.labels is None else str(bitmaps.labels[index])
            yield Sample(f"{self.name}:{index + 1}", place, label, self.split)


def is_packed(path: str) -> bool:
    """Whether a file of this name holds many pictures, or the labels of such a file.

    >>> is_packed("ant.ndjson"), is_packed("t10k-labels-idx1-ubyte.gz"), is_packed("ant.json")
    (True, True, False)
    """
    name = path.replace(os.sep, "/").rsplit("/", 1)[-1]
    return _suffix(name) in (".ndjson", ".npy") or _IDX.fullmatch(name) is not None


def are_packed(packed: Sequence[Entry], others: Iterable[Entry]) -> bool:
    """Whether a folder with these files is one of packed files: beside them no picture, and no folder with files.

    A file such as LICENSE may be anything by its name; it is judged by its first bytes.
    """
    return bool(packed) and not any("/" in entry.path or _is_picture(entry) for entry in others)


def _is_picture(entry: Entry) -> bool:
    try:
        return looks_like_a_picture(read_bytes(entry.location, 16))
    except ImageError:
        return False


def pair(entries: Sequence[Entry]) -> tuple[list[PackedFile], list[Excluded]]:
    """The files sorted by name, labels with their pictures; labels without pictures and second copies are left out.

    What is called ``train...``, ``t10k...``, ``test...`` and so on is that split; if there is nothing to train on,
    there are no splits, as in folders.
    """
    places = {entry.path: entry.location for entry in entries}
    files: list[PackedFile] = []
    excluded: list[Excluded] = []
    used: set[str] = set()
    for name in sorted(places):
        found = _IDX.fullmatch(name)
        if found is None:
            files.append(PackedFile(name, places[name]))
        elif found["images"] and found["gz"] and name[:-3] in places:
            excluded.append(Excluded(name, f"listed before, unpacked: {name[:-3]}"))
        elif found["images"]:
            labels = _labels_beside(name, places)
            used.update(each for each in _label_names(name) if each in places)
            files.append(PackedFile(name, places[name], labels, _split_of(found["set"])))
    unused = [name for name in sorted(places) if _is_labels(name) and name not in used]
    excluded += [Excluded(name, "labels without their pictures beside them") for name in unused]
    if not any(file.split == "train" for file in files) and len({file.split for file in files}) == 1:
        files = [replace(file, split=None) for file in files]
    return files, excluded


def lone_file(location: str, name: str) -> list[PackedFile]:
    """A file of many pictures that was named by itself, with its labels if they are beside it."""
    if _is_labels(name):
        raise SourceError(
            f"expected a file of pictures, but {shown(name)} holds labels; give the pictures or the folder"
        )
    names = [each for each in _label_names(name) if kind_of(_beside(location, each)) == "file"]
    return [PackedFile(name, location, _beside(location, names[0]) if names else None)]


def _beside(location: str, name: str) -> str:
    if is_url(location):
        return join_url(split_url(location)[0], name)
    return os.path.join(os.path.dirname(location), name)


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_labels(name: str) -> bool:
    found = _IDX.fullmatch(name)
    return found is not None and not found["images"]


def _label_names(name: str) -> list[str]:
    """What the labels of an idx file of pictures may be called, the likeliest first; none for other files.

    >>> _label_names("train-images-idx3-ubyte.gz")[:2]
    ['train-labels-idx1-ubyte.gz', 'train-labels-idx1-ubyte']
    """
    found = _IDX.fullmatch(name)
    if found is None or not found["images"]:
        return []
    start = name[: found.start("images")] + "labels"
    dashes, ends = ("-", ".") if name[found.end("images")] == "-" else (".", "-"), ("", ".gz")
    return [f"{start}{dash}idx1-ubyte{end}" for dash in dashes for end in (ends[::-1] if found["gz"] else ends)]


def _labels_beside(name: str, places: Mapping[str, str]) -> str | None:
    return next((places[each] for each in _label_names(name) if each in places), None)


def _split_of(name: str) -> str | None:
    """The split by the last word of a set's name.

    >>> _split_of("emnist-letters-train"), _split_of("t10k"), _split_of("")
    ('train', 'test', None)
    """
    return _SPLITS.get(re.split(r"[-_.]", name)[-1].lower())


def entries_of(files: Sequence[PackedFile], *, recognized_only: bool = False) -> Iterator[Sample | Excluded]:
    """Every picture of the files and whatever is none, file by file; SourceError where a file cannot be used.

    A .npy file that holds no bitmaps is only left out if there are others: it may be anything.
    """
    for file in files:
        try:
            yield from file.entries(recognized_only=recognized_only)
        except SourceError as error:
            if len(files) == 1 or _suffix(file_name(file.location)) != ".npy":
                raise
            yield Excluded(file.name, str(error))

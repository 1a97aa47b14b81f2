"""Image sources: whatever holds pictures, as one list of samples and one list of what was left out."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Union

import numpy as np

from topwork.errors import SourceError, UsageError
from topwork.images.footage import with_frames
from topwork.images.frames import FOR_SOURCES, Filmed, FrameChoice
from topwork.images.layout import is_alone, layout_of
from topwork.images.manifest import SUFFIXES, read_manifest
from topwork.images.packed import PackedFile, are_packed, entries_of, is_packed, lone_file, pair
from topwork.images.reach import Reach
from topwork.images.sample import Excluded, Sample, shown
from topwork.images.scan import Listing, not_a_picture, scan
from topwork.images.storage import (
    NOT_REGULAR,
    LocalTree,
    RemoteTree,
    file_name,
    forget_archive,
    is_url,
    join_path,
    join_url,
    kind_of,
    local_path,
)
from topwork.images.video import is_video
from topwork.progress import Progress, Silent

__all__ = ["Excluded", "ImageSource", "Sample"]

MAX_PICTURES = 5_000_000
"""Pictures in files of many; the list of them is in memory."""

FRAMES_MARKER, FRAMES_MANIFEST = "frames.json", "frames.csv"
"""The files by which a folder of frames is known, and that say which of them belong together."""

_EXPECTED = "a folder of pictures (with a subfolder per class for training), a CSV manifest, a picture or a video"

SourceLike = Union[str, "os.PathLike[str]", "ImageSource", Sequence["str | os.PathLike[str]"]]
"""What `ImageSource.open` takes."""


@dataclass(frozen=True)
class ImageSource:
    """A collection of pictures, none of them read yet; only frames of videos are chosen and kept already.

    ``root``: path or URL of the folder, manifest or file ("" for a list). ``kind``: "classes", "splits",
    "manifest", "unlabelled" or "list". ``samples``: sorted by id (a list, and the pictures of one file: in their own
    order). ``excluded``:
    what is there but not used, with reasons. ``videos``: how many frames of each video were taken, and why not more.
    ``notes``: sentences on what was not taken literally, such as two spellings of one class.
    """

    root: str
    kind: str
    samples: tuple[Sample, ...]
    excluded: tuple[Excluded, ...]
    videos: tuple[Filmed, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counts = f"{len(self.samples)} pictures, {len(self.classes)} classes, {len(self.excluded)} excluded"
        return f"ImageSource({self.root!r}, kind={self.kind!r}: {counts})"

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    @classmethod
    def of(
        cls, paths: "Iterable[str | os.PathLike[str]]", labels: Iterable[Any], *, progress: Progress | None = None
    ) -> "ImageSource":
        """Pictures or videos with a label each, in the same order; None for one without.

        UsageError where they are not as many, or one path has two labels; SourceError where nothing is there.

        >>> ImageSource.of(["a.jpg"], ["cat", "dog"])
        Traceback (most recent call last):
        ...
        topwork.errors.UsageError: expected a label for each of 1 pictures, got 2; give as many
        """
        texts, names = [_text(path) for path in paths], _labels(labels)
        if len(texts) != len(names):
            raise UsageError(f"expected a label for each of {len(texts)} pictures, got {len(names)}; give as many")
        label_of: dict[str, str | None] = {}
        for text, name in zip(texts, names, strict=True):
            if label_of.setdefault(text, name) != name:
                raise UsageError(f"{shown(text)} has two labels, {label_of[text]!r} and {name!r}; give it one")
        listed = _open_list(texts)
        if strange := [sample.id for sample in listed.samples if sample.id not in label_of]:
            raise UsageError(f"expected pictures, but {shown(strange[0])} is in a folder; list the pictures themselves")
        samples = tuple(replace(sample, label=label_of[sample.id]) for sample in listed.samples)
        return _with_frames(replace(listed, samples=samples), FOR_SOURCES, progress or Silent(), None)

    @classmethod
    def open(
        cls,
        source: SourceLike,
        *,
        labelled: bool | None = None,
        frames: FrameChoice | None = FOR_SOURCES,
        progress: Progress | None = None,
        allow_remote: bool = False,
    ) -> "ImageSource":
        """List the pictures of ``source``: a path, an fsspec URL, a list of either, or an ImageSource.

        - a folder with a subfolder per class; loose pictures beside them are unlabelled
        - a folder of train, val and test (or some of them), each with a subfolder per class;
          loose pictures in one of them are unlabelled; with other folders beside them it is an error
        - a manifest, .csv, .tsv or .txt: see `read_manifest`
        - a folder without subfolders, one picture, a list of files and folders: unlabelled
        - QuickDraw files (.ndjson, .npy) or pairs of idx files like MNIST's, or a folder of them: labelled, see
          `topwork.images.packed`
        - a video, alone or wherever a picture may be (also as a row of a manifest): its frames, with the label and the
          split of the video and the video as their group; see `topwork.images.frames`
        - a folder that `topwork frames` wrote: its manifest, which knows the groups
        - a .zip file of any such folder; if that has a single folder at its top, what is in it counts

        ``labelled``: True demands at least one label, None takes what the layout says. False is for prediction:
        it forgets labels and splits, in a .zip file every id is the whole path, and entries that cannot be read
        are enough. ``frames``: which frames of videos are taken; None leaves each video one sample, which cannot be
        read as a picture. ``progress``: hears of videos that have to be decoded. ``allow_remote``:
        lists may name files at s3, gs and http(s) addresses; else they reach only what `topwork.images.reach` says.
        SourceError if nothing is there.

        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("bee/1.jpg", "ant/1.jpg", "ant/notes.txt"):
        ...         path = pathlib.Path(folder, name)
        ...         path.parent.mkdir(exist_ok=True)
        ...         _ = path.write_bytes(b"...")
        ...     source = ImageSource.open(folder)
        >>> source.kind, source.classes, [sample.id for sample in source.samples]
        ('classes', ['ant', 'bee'], ['ant/1.jpg', 'bee/1.jpg'])
        >>> source.excluded
        (Excluded(path='ant/notes.txt', reason='not a picture (.txt)'),)
        """
        if isinstance(source, ImageSource):
            opened = source
        elif isinstance(source, str | os.PathLike):
            opened = _open_one(_text(source), labelled, allow_remote)
        elif isinstance(source, Sequence) and not isinstance(source, bytes | bytearray):
            opened = _open_list([_text(item) for item in source])
        else:
            raise UsageError(
                f"an image source must be a path, URL or list of them, not {type(source).__name__}; give pictures with "
                "their labels as topwork.ImageSource.of(paths, labels)"
            )
        if frames is not None and not isinstance(source, ImageSource):
            opened = _with_frames(opened, frames, progress or Silent(), labelled)
        return _with_labels(opened, labelled)


def _labels(given: Iterable[Any]) -> list[str | None]:
    """Texts, and whole numbers as text; UsageError for anything else."""
    labels = []
    for label in given:
        if label is not None and not isinstance(label, str | int | np.integer):
            raise UsageError(f"a label must be a text, a whole number or None, not {label!r}")
        labels.append(None if label is None else str(label))
    return labels


def _with_frames(source: ImageSource, choice: FrameChoice, progress: Progress, labelled: bool | None) -> ImageSource:
    if not any(is_video(file_name(sample.location)) for sample in source.samples):
        return source
    samples, excluded, filmed = with_frames(source.samples, choice, progress)
    everything = (*source.excluded, *excluded)
    return _checked(replace(source, samples=tuple(samples), excluded=everything, videos=tuple(filmed)), labelled)


def _text(source: "str | os.PathLike[str]") -> str:
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"a list of pictures must hold paths or URLs, not {type(source).__name__}")
    text = os.fspath(source)
    if not text:
        raise SourceError(f"expected {_EXPECTED}, but the path is empty; give one, such as photos/")
    if "\0" in text:
        raise SourceError(f"expected {_EXPECTED}, but {text!r} has a zero byte; check the path")
    return text if is_url(text) else os.path.expanduser(text)


def _with_labels(source: ImageSource, labelled: bool | None) -> ImageSource:
    if labelled and not source.classes:
        raise SourceError(
            f"expected labelled pictures in {_place(source.root)}, but none has a label; "
            "make a subfolder per class or a CSV manifest with the columns path and label"
        )
    if labelled is False and source.kind != "list":
        samples = tuple(replace(sample, label=None, split=None) for sample in source.samples)
        kind = source.kind if source.kind == "manifest" else "unlabelled"
        return replace(source, kind=kind, samples=samples)
    return source


def _open_one(text: str, labelled: bool | None, allow_remote: bool) -> ImageSource:
    location = _absolute(text)
    forget_archive(location)
    suffix = PurePosixPath(location.split("::")[0]).suffix.lower()
    kind = kind_of(location)
    if kind == "missing":
        raise SourceError(f"expected {_EXPECTED} at {shown(text)}, but there is nothing; check the path")
    if kind == "other":
        raise SourceError(f"expected {_EXPECTED} at {shown(text)}, but it is {NOT_REGULAR}; give a file or folder")
    if kind == "folder":
        return _open_folder(location, labelled, allow_remote)
    if suffix == ".zip" and not is_url(location):
        return _open_zip(location, labelled, allow_remote)
    if suffix in SUFFIXES:
        return _open_manifest(location, Reach.of_manifest(location, allow_remote=allow_remote), labelled)
    name = file_name(location)
    if is_packed(name):
        return _open_packed(location, lone_file(location, name), [], labelled)
    if not_a_picture(name):
        raise SourceError(f"expected {_EXPECTED}, but {shown(text)} is a {suffix} file; give the folder it is in")
    return ImageSource(location, "unlabelled", (Sample(name, location),), ())


def _open_manifest(location: str, reach: Reach, labelled: bool | None) -> ImageSource:
    found = read_manifest(location, reach)
    source = ImageSource(location, "manifest", tuple(found.samples), tuple(found.excluded), notes=tuple(found.notes))
    return _checked(source, labelled)


def _absolute(text: str) -> str:
    text = local_path(text)
    return text if is_url(text) else os.path.abspath(text)


def _open_zip(path: str, labelled: bool | None, allow_remote: bool) -> ImageSource:
    root = f"zip://::{path}"
    forget_archive(root)
    if labelled is False:
        return _open_folder(root, labelled, allow_remote)
    listing = _scan(root)
    while is_alone(listing):
        root = join_url(root, listing.folders[0])
        listing = _scan(root)
    return _from_listing(root, listing)


def _open_folder(location: str, labelled: bool | None, allow_remote: bool) -> ImageSource:
    listing = _scan(location)
    # As a folder of pictures it would not say which of them are frames of one video.
    if {FRAMES_MARKER, FRAMES_MANIFEST} <= {each.path for each in listing.excluded}:
        join = join_url if is_url(location) else join_path
        reach = Reach.of_folder(location, allow_remote=allow_remote)  # nobody named this list
        return replace(_open_manifest(join(location, FRAMES_MANIFEST), reach, labelled), root=location)
    if labelled is not False or _is_of_packed(listing):
        return _from_listing(location, listing, labelled)
    samples = tuple(Sample(entry.path, entry.location) for entry in listing.files)
    return _checked(ImageSource(location, "unlabelled", samples, tuple(listing.excluded)), labelled)


def _scan(location: str) -> Listing:
    return scan(RemoteTree(location) if is_url(location) else LocalTree(location))


def _from_listing(root: str, listing: Listing, labelled: bool | None = None) -> ImageSource:
    if _is_of_packed(listing):
        return _open_packed(root, *_packed(listing), labelled)
    layout = layout_of(root, listing)
    return _checked(ImageSource(root, layout.kind, layout.samples, tuple(listing.excluded), notes=layout.notes))


def _is_of_packed(listing: Listing) -> bool:
    names = {entry.path for entry in listing.packed}
    return are_packed(listing.packed, (entry for entry in listing.files if entry.path not in names))


def _packed(listing: Listing) -> tuple[list[PackedFile], list[Excluded]]:
    """The files of many pictures in a folder of them, and what else is there."""
    files, unused = pair(listing.packed)
    names = {entry.path for entry in listing.packed}
    reason = "not a picture (nor a file of drawings or digits)"
    others = [Excluded(entry.path, reason) for entry in listing.files if entry.path not in names]
    left_out = [each for each in listing.excluded if each.path not in names]
    return files, [*left_out, *others, *unused]


def _open_packed(root: str, files: list[PackedFile], left_out: list[Excluded], labelled: bool | None) -> ImageSource:
    samples, excluded = [], left_out
    for number, entry in enumerate(entries_of(files)):
        if number >= MAX_PICTURES:
            raise SourceError(
                f"expected at most {MAX_PICTURES:,} pictures in {shown(root)}, but there are more; make a data set of "
                "some of them with `topwork drawings`"
            )
        if isinstance(entry, Sample):
            samples.append(entry)
        else:
            excluded.append(entry)
    kind = "splits" if any(file.split for file in files) else "classes"
    return _checked(ImageSource(root, kind, tuple(samples), tuple(excluded)), labelled)


def packed_files(*sources: str) -> tuple[list[PackedFile], list[Excluded]]:
    """The files of many pictures at paths or URLs, files or folders, each once, under names that start as was given.

    SourceError if there are none, or pictures as well.
    """
    files: dict[str, PackedFile] = {}
    left_out: list[Excluded] = []
    for source in sources:
        found, others = _packed_files(source)
        files |= {file.location: file for file in found if file.location not in files}
        left_out += others
    return list(files.values()), left_out


def _packed_files(source: str) -> tuple[list[PackedFile], list[Excluded]]:
    location = _absolute(_text(source))
    forget_archive(location)
    kind = kind_of(location)
    name = file_name(location)
    if kind == "file" and is_packed(name):
        return [replace(file, name=source) for file in lone_file(location, name)], []
    listing = _scan(location) if kind == "folder" else Listing()
    if not _is_of_packed(listing):
        raise SourceError(
            f"expected QuickDraw files (.ndjson, .npy), idx files or a folder of them at {shown(source)}, but "
            f"{'there is nothing' if kind == 'missing' else 'it is something else'}; give the files themselves"
        )
    files, left_out = _packed(listing)
    join = join_url if is_url(source) else lambda folder, path: join_path(folder.rstrip("/"), path)
    return (
        [replace(file, name=join(source, file.name)) for file in files],
        [replace(each, path=join(source, each.path)) for each in left_out],
    )


def _open_list(items: list[str]) -> ImageSource:
    samples: dict[str, Sample] = {}
    excluded: list[Excluded] = []
    for item in items:
        for sample in _samples_of_item(item, excluded):
            if sample.id in samples:
                excluded.append(Excluded(sample.id, "listed before"))
            else:
                samples[sample.id] = sample
    return _checked(ImageSource("", "list", tuple(samples.values()), tuple(excluded)))


def _samples_of_item(item: str, excluded: list[Excluded]) -> list[Sample]:
    location = _absolute(item)
    forget_archive(location)
    try:
        kind = kind_of(location)
    except SourceError as error:  # an address that nothing knows: the others can still be read
        excluded.append(Excluded(item, str(error)))
        return []
    if kind == "file":
        return [Sample(item, location)]
    if kind in ("missing", "other"):
        excluded.append(Excluded(item, "file not found" if kind == "missing" else NOT_REGULAR))
        return []
    listing = _scan(location)
    join: Callable[[str, str], str] = (
        join_url if is_url(item) else lambda folder, path: join_path(folder.rstrip("/"), path)
    )
    excluded.extend(Excluded(join(item, each.path), each.reason) for each in listing.excluded)
    return [Sample(join(item, entry.path), entry.location) for entry in listing.files]


def _place(root: str) -> str:
    return shown(root) or "the list"


def _checked(source: ImageSource, labelled: bool | None = None) -> ImageSource:
    if source.samples or (labelled is False and any(each.is_fault for each in source.excluded)):
        return source
    where = _place(source.root)
    if not source.excluded:
        raise SourceError(f"expected {_EXPECTED}, but no picture was found in {where}; check the path")
    first = next((each for each in source.excluded if each.is_fault), source.excluded[0])
    raise SourceError(
        f"expected pictures, but no picture was found in {where} ({len(source.excluded)} left out, such as "
        f"{shown(first.path)}: {first.reason}); correct that, or check the path"
    )

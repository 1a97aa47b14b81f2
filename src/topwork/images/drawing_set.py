"""A data set of pictures made of drawings: a folder per class with PNG files, all in one style.

::

    NAME/
      drawings.json            how it was made; where each picture comes from
      CLASS/FILE-LINE.png
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork import storage
from topwork.errors import ImageError, SourceError, UsageError
from topwork.images.packed import PackedFile, entries_of
from topwork.images.parts import as_png, read_part
from topwork.images.quickdraw import Drawing, check_style, render
from topwork.images.sample import Excluded, Sample
from topwork.images.sniff import shown
from topwork.images.storage import file_name
from topwork.progress import Progress, Silent, step

MARKER = "drawings.json"
"""The file by which such a folder is known, and may be replaced."""

_FORBIDDEN = set('/\\:*?"<>|')  # in the names of folders, somewhere

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Style:
    """How drawings look: the options of `topwork.images.quickdraw.render`.

    Bitmaps are enlarged or reduced to ``size``; they hold ink as bright pixels, so that they are turned to dark on
    white like the drawings unless ``inverted``. Their strokes have the width and the grey that they have.
    """

    size: int = 128
    stroke_width: float = 3.0
    colour: bool = False
    inverted: bool = False

    def __post_init__(self) -> None:
        check_style(self.size, self.stroke_width, self.size / 16)

    def picture(self, part: Drawing | Pixels) -> Pixels:
        """``[size, size, 3]``; of what has no colours ``[size, size]``.

        >>> Style(size=4, inverted=True, stroke_width=1).picture(np.full((2, 2), 7, np.uint8))[0].tolist()
        [7, 7, 7, 7]
        """
        if isinstance(part, Drawing):
            pixels = render(part, **asdict(self))
            return pixels if self.colour else pixels[:, :, 0]
        height, width = part.shape
        scale = self.size / max(height, width)
        target = max(round(width * scale), 1), max(round(height * scale), 1)
        enlarged = Image.fromarray(part).resize(target, Image.Resampling.BICUBIC)
        square = Image.new("L", (self.size, self.size))
        square.paste(enlarged, ((self.size - target[0]) // 2, (self.size - target[1]) // 2))
        return np.asarray(square) if self.inverted else 255 - np.asarray(square)


@dataclass
class Choice:
    """What was chosen. ``samples``: of each class in the order of the files; ``excluded``: with reasons."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    excluded: list[Excluded] = field(default_factory=list)


@dataclass
class _Reservoir:
    """A sample of at most ``limit`` of the things it is shown, each as likely as any other (Algorithm R of J. Vitter,
    "Random sampling with a reservoir", 1985); its memory does not grow with what it is shown."""

    random: random.Random
    limit: int | None
    seen: int = 0
    kept: list[tuple[int, Sample]] = field(default_factory=list)

    def show(self, order: int, sample: Sample) -> None:
        self.seen += 1
        if self.limit is None or len(self.kept) < self.limit:
            self.kept.append((order, sample))
        elif (place := self.random.randrange(self.seen)) < self.limit:
            self.kept[place] = (order, sample)

    def in_order(self) -> list[Sample]:
        return [sample for _, sample in sorted(self.kept, key=lambda each: each[0])]


def choose(
    files: Sequence[PackedFile],
    *,
    classes: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    recognized_only: bool = False,
    progress: Progress | None = None,
) -> Choice:
    """At most ``per_class`` pictures of ``classes`` classes, by ``seed``; None: all.

    The files are read once, in memory for what is chosen and what is excluded. What is chosen of a class does not
    depend on the other classes. SourceError if there are fewer classes, or none.
    """
    progress = progress or Silent()
    reservoirs: dict[str, _Reservoir] = {}
    excluded: list[Excluded] = []
    with step(progress, "reading drawings"):
        for order, entry in enumerate(_entries(files, recognized_only)):
            progress.advance("reading drawings")
            if isinstance(entry, Excluded):
                excluded.append(entry)
                continue
            label = str(entry.label)
            if label not in reservoirs:
                reservoirs[label] = _Reservoir(random.Random(f"{seed}:{label}"), per_class)
            reservoirs[label].show(order, entry)
    _check_classes(reservoirs, classes, excluded)
    names = sorted(reservoirs)
    if classes is not None:
        names = sorted(random.Random(seed).sample(names, classes))
    return Choice({name: reservoirs[name].in_order() for name in names}, excluded)


def _entries(files: Sequence[PackedFile], recognized_only: bool) -> Iterator[Sample | Excluded]:
    """Every picture and every bad line; a picture whose class cannot be a folder is excluded."""
    unfit: dict[str, str | None] = {}
    for entry in entries_of(files, recognized_only=recognized_only):
        if isinstance(entry, Excluded):
            yield entry
            continue
        if entry.label is None:
            file = entry.id.rpartition(":")[0]
            raise SourceError(f"expected a file of labels beside {shown(file)}, but there is none; put it there")
        if entry.label not in unfit:
            unfit[entry.label] = why_no_folder(entry.label)
        reason = unfit[entry.label]
        yield Excluded(entry.id, reason) if reason else entry


def why_no_folder(label: str) -> str | None:
    """Why a class cannot be the name of a folder on every system; None if it can.

    >>> why_no_folder("The Eiffel Tower"), why_no_folder("../ant")
    (None, "'../ant' cannot be the name of a folder")
    """
    hidden_or_cut = label.startswith(".") or label != label.strip() or label.endswith(".")
    taken = label.casefold() == MARKER
    if hidden_or_cut or taken or set(label) & _FORBIDDEN or len(label.encode()) > 100:
        return f"{shown(label[:40])!r} cannot be the name of a folder"
    return None


def _check_classes(found: Mapping[str, object], wanted: int | None, excluded: Sequence[Excluded]) -> None:
    if not found:
        why = f" ({len(excluded):,} left out, such as {excluded[0].path}: {excluded[0].reason})" if excluded else ""
        raise SourceError(f"expected drawings, but none was found{why}; check the files and the options")
    if wanted is not None and wanted > len(found):
        raise UsageError(f"expected {wanted} classes, but the files have {len(found)}; ask for fewer with --classes")
    by_folder: dict[str, str] = {}
    for label in found:
        other = by_folder.setdefault(label.casefold(), label)
        if other != label:
            raise SourceError(
                f"expected classes with names of their own, but {shown(other)} and {shown(label)} would be one folder "
                "on many computers; use one spelling in the files"
            )


def write(target: Path, choice: Choice, style: Style, *, progress: Progress | None = None) -> dict[str, list[Pixels]]:
    """Draw what was chosen and write the data set in one step; returns the first ten pictures of each class.

    A killed run leaves the old folder or none. TopworkError where ``target`` is something else; SourceError where a
    file changed after it was listed.
    """
    progress = progress or Silent()
    check_target(target)
    origins: dict[str, str] = {}
    firsts: dict[str, list[Pixels]] = {}
    names = file_names(choice.samples)
    with storage.replace_folder(target, marker=MARKER) as folder, step(progress, "drawing", total=len(names)):
        for label, samples in choice.samples.items():
            (folder / label).mkdir()
            firsts[label] = []
            for sample in samples:
                picture = style.picture(_read_again(sample))
                (folder / names[sample.location]).write_bytes(as_png(picture))
                origins[names[sample.location]] = sample.id
                if len(firsts[label]) < ROW:
                    firsts[label].append(picture)
                progress.advance("drawing")
        text = json.dumps({**asdict(style), "pictures": origins}, indent=1, ensure_ascii=False)
        storage.write_atomic(folder / MARKER, text.encode())
    return firsts


def _read_again(sample: Sample) -> Drawing | Pixels:
    try:
        return read_part(sample.location)
    except ImageError as error:
        raise SourceError(
            f"expected {shown(sample.id)} as it was a moment ago, but: {error}; run again when nobody changes the file"
        ) from error


ROW = 10
"""Pictures of a class that are shown on a contact sheet."""


def file_names(classes: Mapping[str, Sequence[Sample]]) -> dict[str, str]:
    """Location of each sample -> its file in the data set: class, name of its file, its line.

    Files of one name in different folders are told apart by a number after the name.

    >>> file_names({"ant": [Sample("ant.ndjson:7", "drawing://0+9::/x/ant.ndjson")]})
    {'drawing://0+9::/x/ant.ndjson': 'ant/ant-000007.png'}
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    names: dict[str, str] = {}
    for label, samples in classes.items():
        for sample in samples:
            file = sample.location.partition("::")[2]
            if file not in stems:
                stems[file] = _free(file_name(file).split(".")[0][:60], taken)
            number = int(sample.id.rpartition(":")[2])
            names[sample.location] = f"{label}/{stems[file]}-{number:06}.png"
    return names


def _free(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def check_target(target: Path) -> None:
    """Raise TopworkError where ``target`` cannot be written, or holds anything but an earlier data set of drawings.

    It is replaced as a whole, so a file that somebody has put in it would be lost.
    """
    storage.check_only_own(target, MARKER, lambda manifest: {MARKER, *manifest["pictures"]}, "set of drawings")

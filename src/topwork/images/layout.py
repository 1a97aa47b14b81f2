"""What the folders of a source mean: classes, splits of classes, or nothing."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from topwork.errors import SourceError
from topwork.images.names import plain, unified
from topwork.images.sample import SPLITS, Sample, shown
from topwork.images.scan import Listing
from topwork.images.storage import Entry

_SET = ("set", "data", "dataset", "sample", "samples", "split", "folder", "dir")
_PICTURES = ("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics")
_FILLERS = (*_SET, *_PICTURES)
"""Words beside that of a split which say nothing."""
_WORDS = SPLITS | {word + filler: split for word, split in SPLITS.items() for filler in _FILLERS}
_BETWEEN_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)")


@dataclass(frozen=True)
class Layout:
    """What a folder's content means. ``kind``: as in `ImageSource`; ``notes``: sentences on what is not literal."""

    kind: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


def layout_of(root: str, listing: Listing) -> Layout:
    """The samples of a listed folder; SourceError where other folders lie beside those of splits."""
    if not listing.folders:
        return Layout("unlabelled", tuple(Sample(entry.path, entry.location) for entry in listing.files))
    parts = [entry.path.split("/") for entry in listing.files]
    depth = _levels_alone(parts)
    splits = _checked_splits(root, parts, depth)
    inner = _folders_alone_in_splits(parts, depth, splits)
    raw: set[str] = set()
    samples = []
    for entry, steps in zip(listing.files, parts, strict=True):
        split = splits.get(steps[depth]) if len(steps) > depth + 1 else None
        at = depth + (1 + inner[steps[depth]] if split else 0)
        label = steps[at] if len(steps) > at + 1 else None
        raw |= {label} if label is not None else set()
        samples.append(Sample(entry.path, entry.location, (plain(label) or None) if label else None, split))
    notes = [*_notes_on_levels(parts, depth, splits, inner), *unified(raw)]
    return Layout("splits" if splits else "classes", tuple(samples), tuple(notes))


def _levels_alone(parts: Sequence[Sequence[str]]) -> int:
    """How many folders are around the classes, each alone in the one above; 0 where that leaves less than two."""
    depth = 0
    while True:
        here = _folders(parts, depth)
        if len(here) >= 2 or splits_of(here, alone=True):
            return depth
        if not here or any(len(steps) < depth + 3 for steps in parts):
            return 0
        depth += 1


def _folders(parts: Iterable[Sequence[str]], depth: int) -> set[str]:
    return {steps[depth] for steps in parts if len(steps) > depth + 1}


def splits_of(names: Iterable[str], *, alone: bool = False) -> dict[str, str]:
    """Which of these folders are splits by their names, and which: train, val or test.

    Words such as "set" and "images" beside that of the split do not count, nor does what several splits have in common.
    ``alone``: only where the names are splits to train on, or several splits, and nothing else.

    >>> splits_of(["training_set", "test_set", "notes"])
    {'test_set': 'test', 'training_set': 'train'}
    >>> splits_of(["seg_train", "seg_test"]), splits_of(["freight_train", "toy_train"])
    ({'seg_test': 'test', 'seg_train': 'train'}, {})
    """
    named = sorted(names)
    found: dict[str, str] = {}
    decorated: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in named:
        words = [word.casefold() for word in _BETWEEN_WORDS.split(plain(name)) if word]
        splits = [_WORDS[word] for word in words if word in _WORDS]
        rest = tuple(word for word in words if word not in _WORDS and word not in _FILLERS)
        if len(splits) == 1:
            decorated[rest][name] = splits[0]
    for rest, group in decorated.items():
        if not rest or len(set(group.values())) >= 2:
            found |= group
    found = dict(sorted(found.items(), key=lambda each: named.index(each[0])))
    if alone and (len(found) < len(named) or not ("train" in found.values() or len(found) >= 2)):
        return {}
    return found


def _checked_splits(root: str, parts: Sequence[Sequence[str]], depth: int) -> dict[str, str]:
    """The folders of splits; none where they are classes with such names."""
    filled = _folders(parts, depth)
    splits = splits_of(filled)
    others = sorted(filled.difference(splits))
    to_train = {name for name, split in splits.items() if split == "train"}
    if not others and (to_train or len(splits) >= 2):
        return splits
    # A class called "train" has pictures only.
    has_folders = any(len(steps) > depth + 2 and steps[depth] in to_train for steps in parts)
    if others and to_train and (len(splits) >= 2 or has_folders):
        raise SourceError(_mixed(root, list(splits), others))
    return {}


def _mixed(root: str, splits: Sequence[str], others: Sequence[str]) -> str:
    named = ", ".join(map(shown, others[:5])) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    return (
        f"expected classes or splits in {shown(root)}, but beside the splits ({', '.join(map(shown, splits))}) there "
        f"is {named}; move what is no split elsewhere, or, if all are classes, rename those called like a split"
    )


def _folders_alone_in_splits(parts: Sequence[Sequence[str]], depth: int, splits: dict[str, str]) -> dict[str, int]:
    """For each split 1 where its classes lie in a folder in it of the same name, or called images and the like."""
    inner = dict.fromkeys(splits, 0)
    for name in splits:
        own = [steps for steps in parts if steps[depth] == name and len(steps) > depth + 1]
        below = _folders(own, depth + 1)
        if len(below) == 1 and all(len(steps) > depth + 3 for steps in own):
            inner[name] = int(next(iter(below)).casefold() in {name.casefold(), *_FILLERS})
    return inner


def _notes_on_levels(
    parts: Sequence[Sequence[str]], depth: int, splits: dict[str, str], inner: dict[str, int]
) -> list[str]:
    notes = []
    if depth:
        notes.append(f"the classes were taken from inside {shown('/'.join(parts[0][:depth]))}")
    odd = [name for name in splits if name.lower() not in SPLITS]
    if odd:
        meant = ", ".join(f"{shown(name)} as {splits[name]}" for name in odd)
        notes.append(f"folders were taken as splits: {meant}")
    if any(inner.values()):
        notes.append(f"in {', '.join(shown(name) for name in splits if inner[name])} the classes lie one folder deeper")
    return notes


def is_alone(listing: Listing) -> bool:
    """Whether a folder's only content is one more folder of folders, which is no split.

    Packing a folder usually packs the folder itself too.
    """
    return (
        len(listing.folders) == 1
        and bool(listing.files)
        and not splits_of(listing.folders)
        and all(_levels(entry) >= 2 for entry in listing.files)
    )


def _levels(entry: Entry) -> int:
    return entry.path.count("/")

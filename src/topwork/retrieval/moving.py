"""Move copies out of the way, so that every move can be undone: nothing is ever deleted or overwritten.

What will be moved is written down first, so that a killed run can be undone as well. A picture stays where it is
when it, or the one that is kept in its place, is not what the index saw any more.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from topwork import fingerprint, storage
from topwork.errors import ImageError, TopworkError, UsageError
from topwork.images.storage import is_url, read_bytes
from topwork.retrieval import known
from topwork.retrieval.copies import Copies
from topwork.retrieval.table import Row

MARKER = "moved.json"
_LARGEST = 100_000_000  # bytes of that file


@dataclass(frozen=True)
class Move:
    """A picture that is moved. ``source``: where it was, absolute; ``target``: where it is, in the folder."""

    source: str
    target: str
    content: str


@dataclass(frozen=True)
class Moved:
    """What was done: ``moved`` and, each with the reason, what was ``left``."""

    moved: list[str]
    left: list[dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork duplicates --json``."""
        return asdict(self)


def move_copies(groups: Sequence[Copies], folder: Path, roots: Sequence[str]) -> Moved:
    """Move all but the best picture of each group to ``folder``, under their places in the source.

    ``roots`` of the index: UsageError where ``folder`` is in one of them, for its pictures would be indexed again.
    """
    _check(folder, roots)
    with _alone():
        return _move_copies(groups, folder)


def _move_copies(groups: Sequence[Copies], folder: Path) -> Moved:
    earlier = _read(folder) if (folder / MARKER).exists() else []
    planned: list[Move] = []
    left: list[dict[str, str]] = []
    taken = {move.target for move in earlier}
    for group in groups:
        for place, path, content, reason in _movable(group):
            if reason:
                left.append({"path": place, "reason": reason})
                continue
            target = _free(path, taken, folder)
            taken.add(target)
            planned.append(Move(os.path.abspath(place), target, content))
    if not planned:
        return Moved([], left)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, [*earlier, *planned])
    moved = []
    for each in planned:
        try:
            _move(Path(each.source), folder / each.target)
            moved.append(each.source)
        except OSError as error:
            left.append({"path": each.source, "reason": storage.reason(error)})
    return Moved(moved, left)


def undo(folder: Path, roots: Sequence[str] = ()) -> Moved:
    """Move everything that ``move_copies`` moved to ``folder`` back; what would overwrite something stays there.

    ``moved.json`` may be a stranger's: nothing but files of ``folder`` is moved, and only to where topwork noted on
    this computer that it took it from, or to below one of ``roots``, folders that the user named.
    """
    with _alone():
        return _undo(folder, roots)


def _undo(folder: Path, roots: Sequence[str]) -> Moved:
    moves = _read(folder)
    is_own = "moved" in known.sources_of(_digest(folder))
    moved, left, kept = [], [], []
    for each in reversed(moves):
        reason = _outside(folder, each, None if is_own else roots)
        if reason is None and not os.path.lexists(folder / each.target):
            continue  # it was never moved, or is back already
        if reason is None and os.path.lexists(each.source):
            reason = "there is another file now"
        if reason is not None:
            left.append({"path": each.source, "reason": reason})
            kept.append(each)
            continue
        try:
            _move(folder / each.target, Path(each.source))
            moved.append(each.source)
        except OSError as error:
            left.append({"path": each.source, "reason": storage.reason(error)})
            kept.append(each)
    _write(folder, kept[::-1])
    if not kept:
        (folder / MARKER).unlink()
        for place in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                place.rmdir()
        with suppress(OSError):
            folder.rmdir()
    return Moved(moved[::-1], left[::-1])


def _outside(folder: Path, move: Move, roots: Sequence[str] | None) -> str | None:
    """Why a move leads out of ``folder`` or, where there are ``roots``, of these, links followed; else None."""
    target = folder / move.target
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_symlink():
        return f"{move.target} is not a file of {folder}"
    source = Path(move.source)
    if not source.is_absolute() or source.name in ("", "..") or source != Path(os.path.normpath(source)):
        return "it is no whole path"
    inside = source.parent.resolve()
    if roots is None or any(inside.is_relative_to(Path(root).resolve()) for root in roots if root and not is_url(root)):
        return None
    return "it is outside of the folders of the index; name its folder with --photos"


@contextmanager
def _alone() -> Iterator[None]:
    """One run at a time notes what it moves: of two at once one would lose its notes."""
    with ExitStack() as held:
        with suppress(OSError, TopworkError):  # a cache that cannot be written
            held.enter_context(FileLock(storage.cache_dir() / "moving.lock"))
        yield


def _digest(folder: Path) -> str:
    return f"moved:{fingerprint.of_bytes((folder / MARKER).read_bytes())}"


def _movable(group: Copies) -> Iterator[tuple[str, str, str, str | None]]:
    """Place, path in the source, content, and why it stays, of all but the best picture of a group."""
    best = group.rows[0]
    doubt = f"the group has {len(group.labels)} labels; settle that first" if len(group.labels) > 1 else None
    lost = None if group.untouchable[0] else _changed(best, group.paths[0])
    for row, place, untouchable in list(zip(group.rows, group.paths, group.untouchable, strict=True))[1:]:
        why_not = doubt or group.untouchable[0] or untouchable
        reason = f"the one to keep, {group.paths[0]}, {lost}" if lost else why_not or _changed(row, place)
        if not reason and os.path.islink(place):
            reason = "it is a link"
        yield place, row.path, row.content, reason


def _changed(row: Row, place: str) -> str | None:
    """Why a picture is not to be touched, in a few words; None where it is what the index saw."""
    if is_url(row.location):
        return "is not a file of its own on this computer"
    try:
        same = fingerprint.of_bytes(read_bytes(place)) == row.content
    except ImageError as error:
        return f"cannot be read: {error}"
    return None if same else "has changed since it was indexed"


def _check(folder: Path, roots: Sequence[str]) -> None:
    for root in roots:
        if root and not is_url(root) and folder.resolve().is_relative_to(Path(root).resolve()):
            raise UsageError(
                f"expected a folder outside of {root}, or its pictures would be indexed again, not {folder}"
            )
    storage.check_replaceable(folder, MARKER)
    storage.check_writable(folder)


def _free(path: str, taken: set[str], folder: Path) -> str:
    """A place in the folder that is free: the picture's place in the source, with a number where that is taken."""
    parts = [
        part for part in PurePosixPath(path.replace("\\", "/")).parts if part not in ("/", "..") and ":" not in part
    ]
    plain = PurePosixPath(*parts[-4:] if path.startswith("/") else parts or ["picture"])
    wanted, number = plain, 1
    while str(wanted) in taken or (folder / wanted).exists() or str(wanted) == MARKER:
        number += 1
        wanted = plain.with_name(f"{plain.stem}-{number}{plain.suffix}")
    return str(wanted)


def _move(source: Path, target: Path) -> None:
    """Move a file; never over another one, and whole also to another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "there is another file", str(target))
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # another disk
            raise
        with source.open("rb") as given, storage.writing_atomic(target) as made:
            shutil.copyfileobj(given, made)
        shutil.copystat(source, target)
        source.unlink()


def _write(folder: Path, moves: Sequence[Move]) -> None:
    text = json.dumps({"format": 1, "moves": [asdict(each) for each in moves]}, indent=1)
    storage.write_atomic(folder / MARKER, text.encode())
    known.note_written(_digest(folder), ["moved"])


def _read(folder: Path) -> list[Move]:
    path = folder / MARKER
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise ValueError("no small file")
        moves = [Move(**each) for each in json.loads(path.read_bytes())["moves"]]
        if not all(isinstance(value, str) and "\0" not in value for each in moves for value in asdict(each).values()):
            raise ValueError("no paths")
        return moves
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TopworkError(
            f"expected a folder of moved copies with {MARKER}, but {folder} is none; check it"
        ) from error

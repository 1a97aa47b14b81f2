"""Which frames of a video become pictures: at times, or one a scene; sharp ones, and no two nearly identical."""

import io
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.errors import ImageError, UsageError
from topwork.images.measuring import grey_copy, mean_and_deviation, perceptual_hash, sharpness
from topwork.images.video import Frame, FrameReader, Video, last_time

T = TypeVar("T")

NEIGHBOURS = 4
"""Frames before and after one that say how sharp a frame is at that place of the video."""
BLURRED = 0.6
"""A frame is blurred if its sharpness is below so much of the median of its neighbours'."""
SAME_HASH, SAME_GREY = 5, 12.0
"""Nearly identical: at most so many bits of the perceptual hash differ, and so many grey levels on average."""
NO_CHANGE = 1.0
"""Grey levels; so little is no difference whatever the hash says, which is noise where there is nothing to see."""
CUT, CUT_RATIO = 15.0, 4.0
"""A cut: grey levels by which a frame differs from the one before, and times as much as its neighbours do."""
_OPENING, _APART = 1.0, 0.1  # seconds after a cut in which a sharp frame is sought, and between those looked at
_SHARP = 0.75  # of the sharpest frame of the opening
_THUMB = 32  # pixels
QUALITY = 95
"""Of JPEG, with full colour resolution: what is lost is below what the video's own compression lost, a file is a tenth
of a PNG file's size, and is shrunk while it is loaded like any photograph."""


@dataclass(frozen=True)
class FrameChoice:
    """Which frames: one of ``every`` so many seconds, ``count`` of them evenly over the length, or one a ``scene``.

    ``most``: at most so many are looked at, then ``every`` is longer. ``similar``, ``blurred``: keep those too.
    ``side``: frames are reduced so that the shorter side has at most so many pixels; None: as filmed.

    >>> FrameChoice(every=0.25).text, FrameChoice.from_text("count=50,side=720")
    ('every=0.25', FrameChoice(every=0.5, count=50, scene=False, most=None, similar=False, blurred=False, side=720))
    """

    every: float = 0.5
    count: int | None = None
    scene: bool = False
    most: int | None = None
    similar: bool = False
    blurred: bool = False
    side: int | None = None

    def __post_init__(self) -> None:
        if not 1e-3 <= self.every <= 1e6:
            raise UsageError(f"the time between frames must be from 0.001 to 1,000,000 seconds, not {self.every:g}")
        for name, value in (("count", self.count), ("most", self.most), ("side", self.side)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")

    @property
    def text(self) -> str:
        """All that decides the choice, as text; `from_text` is the inverse."""
        rule = "scene" if self.scene else f"every={self.every!r}" if self.count is None else f"count={self.count}"
        numbers = [f"{name}={value}" for name, value in (("most", self.most), ("side", self.side)) if value is not None]
        return ",".join(
            [rule, *numbers, *(["similar"] if self.similar else []), *(["blurred"] if self.blurred else [])]
        )

    @classmethod
    def from_text(cls, text: str) -> "FrameChoice":
        """The choice of a text."""
        pairs = dict(part.partition("=")[::2] for part in text.split(","))
        flags = {name: name in pairs for name in ("scene", "similar", "blurred")}
        numbers = {name: int(pairs[name]) for name in ("count", "most", "side") if name in pairs}
        return cls(float(pairs.get("every", 0.5)), **numbers, **flags)  # type: ignore[arg-type]


FOR_SOURCES = FrameChoice(every=0.5, most=300, side=720)
"""Of a video that is part of an image source. Networks see 224 to 480 pixels."""


@dataclass(frozen=True)
class Filmed:
    """How many frames of a video were taken, and why not the others."""

    path: str
    """Its place in the source, as in `Sample.id`."""
    seconds: float
    """When its last frame is shown."""
    frames: int
    looked_at: int
    kept: int
    similar: int = 0
    """Frames nearly identical to the one kept before."""
    blurred: int = 0
    """Frames less sharp than those around them."""
    damage: str | None = None
    """What is wrong with the video; frames after that are not taken."""

    @property
    def damaged(self) -> str:
        """Why its last frames are missing, where it is damaged."""
        return f"damaged after {self.seconds:.1f} s, where its frames end: {self.damage}"

    def __str__(self) -> str:
        why = [f"{n:,} {word}" for n, word in ((self.similar, "nearly identical"), (self.blurred, "blurred")) if n]
        left_out = f" ({', '.join(why)})" if why else ""
        return f"{self.frames:,} frames, {self.looked_at:,} looked at, {self.kept:,} kept{left_out}"


class Chooser:
    """The frames chosen of a video, in one pass; iterate, then ask for ``filmed``.

    ``on_time`` is called with the time of each frame that is looked at.
    """

    def __init__(
        self, video: Video, choice: FrameChoice, *, on_time: Callable[[float], None] = lambda time: None
    ) -> None:
        self._choice = choice
        self._on_time = on_time
        self._reader = FrameReader(video, every=_interval(video, choice), side=choice.side)
        self.filmed = Filmed("", 0.0, 0, 0, 0)

    def __iter__(self) -> Iterator[Frame]:
        """Frames in order; ImageError where not one can be decoded."""
        with self._reader as reader:
            frames = self._watched(reader)
            looks = _scene_openings(frames) if self._choice.scene else self._at_ticks(frames)
            last: _Look | None = None
            for look in looks:
                if last is not None and not self._choice.similar and look.is_like(last):
                    self._count(similar=1)
                    continue
                last = look
                self._count(kept=1)
                assert look.frame is not None
                yield look.frame
                look.frame = None  # only what is compared is kept
        seen = self.filmed.kept + self.filmed.similar + self.filmed.blurred
        self.filmed = replace(
            self.filmed, seconds=reader.time, frames=reader.decoded, looked_at=seen, damage=reader.damage
        )

    def _watched(self, reader: FrameReader) -> Iterator[Frame]:
        """At most as many as are asked for: a length without that of the last frame leaves room for one tick more."""
        limit = None if self._choice.scene else self._choice.count or self._choice.most
        for number, frame in enumerate(reader):
            self._on_time(frame.time)
            if limit is None or number < limit:
                yield frame

    def _at_ticks(self, frames: Iterator[Frame]) -> "Iterator[_Look]":
        """The frames that are not blurred."""
        looks = (_Look(frame) for frame in frames)
        for look, usual in _with_neighbours(looks, lambda look: look.sharpness):
            if not self._choice.blurred and look.sharpness < BLURRED * usual:
                self._count(blurred=1)
            else:
                yield look

    def _count(self, *, kept: int = 0, similar: int = 0, blurred: int = 0) -> None:
        found = self.filmed
        self.filmed = replace(
            found, kept=found.kept + kept, similar=found.similar + similar, blurred=found.blurred + blurred
        )


def _interval(video: Video, choice: FrameChoice) -> float | None:
    """Seconds between frames that are looked at; None: all frames."""
    if choice.scene:
        return None
    if choice.count is None and choice.most is None:
        return choice.every
    length = video.seconds or last_time(video)
    if choice.count is not None:
        return max(length / choice.count, 1e-3)
    return max(choice.every, length / (choice.most or 1))


class _Look:
    """What is compared of a frame."""

    def __init__(self, frame: Frame) -> None:
        self.frame: Frame | None = frame
        grey = grey_copy(Image.fromarray(frame.pixels))
        contrast = mean_and_deviation(grey)[1]
        self.sharpness = sharpness(grey, contrast)
        self._hash = perceptual_hash(grey)
        self._thumb = _thumb(grey)

    def is_like(self, other: "_Look") -> bool:
        """Whether both are nearly identical."""
        difference = _difference(self._thumb, other._thumb)
        same_hash = (self._hash ^ other._hash).bit_count() <= SAME_HASH
        return difference <= NO_CHANGE or (same_hash and difference <= SAME_GREY)


def _thumb(grey: Image.Image) -> NDArray[np.int16]:
    return np.asarray(grey.resize((_THUMB, _THUMB), Image.Resampling.BOX), np.int16)


def _difference(first: NDArray[np.int16], second: NDArray[np.int16]) -> float:
    """Mean absolute difference in grey levels."""
    return float(np.abs(first - second).mean())


def _with_neighbours(items: Iterator[T], value: Callable[[T], float]) -> Iterator[tuple[T, float]]:
    """Each item with the median of its value and those of up to NEIGHBOURS items before and after it."""
    before: deque[float] = deque(maxlen=NEIGHBOURS)
    waiting: deque[T] = deque()
    for item in chain(items, [None] * NEIGHBOURS):
        if item is not None:
            waiting.append(item)
        if waiting and (item is None or len(waiting) > NEIGHBOURS):
            first = waiting.popleft()
            yield first, median([*before, value(first), *map(value, waiting)])
            before.append(value(first))


def _scene_openings(frames: Iterator[Frame]) -> Iterator[_Look]:
    """The first sharp frame of each scene: of its first second, one about as sharp as the sharpest there."""
    opening: list[_Look] = []
    begun = last = 0.0
    for frame, is_cut in _with_cuts(frames):
        if is_cut:
            yield from _first_sharp(opening)
            opening, begun = [_Look(frame)], frame.time
            last = begun
        elif opening and frame.time > begun + _OPENING:
            yield from _first_sharp(opening)
            opening = []
        elif opening and frame.time >= last + _APART:
            opening.append(_Look(frame))
            last = frame.time
    yield from _first_sharp(opening)


def _first_sharp(opening: list[_Look]) -> Iterator[_Look]:
    if opening:
        sharpest = max(look.sharpness for look in opening)
        yield next(look for look in opening if look.sharpness >= _SHARP * sharpest)


def _with_cuts(frames: Iterator[Frame]) -> Iterator[tuple[Frame, bool]]:
    """Each frame, and whether a scene begins with it: the first, and those that differ far more than those around."""
    first = True
    for (frame, change), usual in _with_neighbours(_with_changes(frames), lambda each: each[1]):
        yield frame, first or change >= max(CUT, CUT_RATIO * usual)
        first = False


def _with_changes(frames: Iterator[Frame]) -> Iterator[tuple[Frame, float]]:
    """Each frame and by how much it differs from the one before."""
    before: NDArray[np.int16] | None = None
    for frame in frames:
        thumb = _thumb(grey_copy(Image.fromarray(frame.pixels)))
        yield frame, 0.0 if before is None else _difference(thumb, before)
        before = thumb


def as_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a JPEG file.

    >>> as_jpeg(np.zeros((8, 8, 3), np.uint8))[:2].hex()
    'ffd8'
    """
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    except (ValueError, OSError) as error:
        raise ImageError(f"a frame cannot be written as JPEG: {error}") from error
    return buffer.getvalue()

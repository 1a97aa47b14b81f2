"""QuickDraw drawings: a JSON document a line, read line by line, and drawn at any size.

The format is that of https://github.com/googlecreativelab/quickdraw-dataset, simplified or raw::

    {"word": "ant", "key_id": "5891796615823360", "recognized": true, "drawing": [[[x0, x1, ...], [y0, y1, ...]], ...]}

A raw stroke has a third list: the milliseconds since the first point of the drawing.
"""

import colorsys
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from topwork.errors import ImageError, UsageError
from topwork.images.sniff import one_line
from topwork.images.storage import opened

MAX_LINE = 1 << 20
"""Bytes of a line; a raw drawing of 20 seconds has some ten thousand."""

MAX_POINTS = 10_000
"""Points of a drawing: the work of drawing it grows with them."""

MAX_WORD = 500
"""Letters of a word."""

MAX_COORDINATE = 1e6
"""Largest x or y, and largest -x or -y; raw drawings are in the pixels of a screen."""

MAX_SIZE = 4096
"""Largest side of a rendered drawing, in pixels."""

_LIMITS = (MAX_COORDINATE, MAX_COORDINATE, 1e12)  # of x, y and time, in milliseconds by any clock

Points = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Drawing:
    """One drawing.

    ``strokes``: each ``[points, 2]`` (x to the right, y down, in any unit) or, raw, ``[points, 3]`` with the
    time in milliseconds. ``recognized``: whether the game recognised the word; None if the line does not say.
    """

    word: str
    strokes: tuple[Points, ...]
    key_id: str = ""
    recognized: bool | None = None


@dataclass(frozen=True)
class BadLine:
    """A line that is no drawing. ``number``: of the line, from 1; ``reason``: a few words."""

    number: int
    reason: str


@dataclass(frozen=True)
class Line:
    """A line that is not blank. ``number``: from 1; ``offset``: in the file, in bytes; ``data``: without its end."""

    number: int
    offset: int
    data: bytes


def read_drawings(source: "str | os.PathLike[str] | BinaryIO") -> Iterator[Drawing | BadLine]:
    """The drawings of a path, URL or binary file one by one, and the lines that are none, in constant memory.

    Blank lines are passed over. ImageError only where the file as a whole cannot be read.

    >>> import io
    >>> text = b'{"word": "ant", "drawing": [[[0, 9], [0, 5]]]}\\n{"word": "bee"}\\n'
    >>> first, second = read_drawings(io.BytesIO(text))
    >>> first.word, first.strokes[0].tolist()
    ('ant', [[0.0, 0.0], [9.0, 5.0]])
    >>> second
    BadLine(number=2, reason='no list of strokes under "drawing"')
    """
    for line in read_lines(source):
        try:
            yield parse(line.data)
        except ImageError as error:
            yield BadLine(line.number, str(error))


def read_lines(source: "str | os.PathLike[str] | BinaryIO") -> Iterator[Line]:
    """The lines that are not blank; of one longer than MAX_LINE only so much that `parse` refuses it.

    >>> import io
    >>> list(read_lines(io.BytesIO(b"one\\n\\ntwo")))
    [Line(number=1, offset=0, data=b'one'), Line(number=3, offset=5, data=b'two')]
    """
    with opened(os.fspath(source)) if isinstance(source, str | os.PathLike) else nullcontext(source) as file:
        number = offset = 0
        while data := file.readline(MAX_LINE + 1):
            if isinstance(data, str):
                raise UsageError("expected a file opened in binary mode, but it gives text; open it with mode 'rb'")
            number += 1
            start, offset = offset, offset + len(data)
            if data.strip():
                yield Line(number, start, data.rstrip(b"\r\n"))
            while data and not data.endswith(b"\n"):  # the rest of a line that is too long
                data = file.readline(MAX_LINE)
                offset += len(data)


def parse(data: bytes) -> Drawing:
    """The drawing of one line; ImageError with the reason if it is none.

    >>> parse(b'{"word": "ant", "drawing": [[[0, 9], [0]]]}')
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: stroke 1 has lists of different lengths
    """
    record = _record(data)
    word, key_id, recognized = record.get("word"), record.get("key_id", ""), record.get("recognized")
    if not isinstance(word, str) or not word.strip():
        raise ImageError('no text under "word"')
    if len(word) > MAX_WORD:
        raise ImageError(f'more than {MAX_WORD} letters under "word"')
    if not word.isprintable():
        raise ImageError('characters under "word" that cannot be printed')
    if isinstance(key_id, bool) or not isinstance(key_id, str | int):
        raise ImageError('no text or whole number under "key_id"')
    if recognized is not None and not isinstance(recognized, bool):
        raise ImageError('neither true nor false under "recognized"')
    strokes = record.get("drawing")
    if not isinstance(strokes, list):
        raise ImageError('no list of strokes under "drawing"')
    if not strokes:
        raise ImageError("a drawing without strokes")
    points = tuple(_stroke(rows, number) for number, rows in enumerate(strokes, 1))
    if (count := sum(map(len, points))) > MAX_POINTS:
        raise ImageError(f"{count:,} points, more than the limit of {MAX_POINTS:,}")
    # A set has thousands of drawings of a word: one string for all of them.
    return Drawing(sys.intern(word), points, str(key_id), recognized)


def _record(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_LINE:
        raise ImageError(f"a line longer than {MAX_LINE:,} bytes")
    try:
        record = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ImageError("not UTF-8 text") from error
    except RecursionError as error:
        raise ImageError("JSON that is nested too deeply") from error
    except ValueError as error:
        raise ImageError(f"not JSON: {one_line(error)}") from error
    if not isinstance(record, dict):
        raise ImageError("JSON, but not an object with a word and a drawing")
    return record


def _stroke(rows: Any, number: int) -> Points:
    """``[points, 2 or 3]`` from lists of x, y and perhaps time."""
    if not isinstance(rows, list) or len(rows) not in (2, 3) or not all(isinstance(row, list) for row in rows):
        raise ImageError(f"stroke {number} is not two or three lists")
    if any(len(row) != len(rows[0]) for row in rows):
        raise ImageError(f"stroke {number} has lists of different lengths")
    if not rows[0]:
        raise ImageError(f"stroke {number} has no points")
    if not set(map(type, chain.from_iterable(rows))) <= {int, float}:  # isinstance would take true for 1
        raise ImageError(f"stroke {number} has a value that is no number")
    for row, limit in zip(rows, _LIMITS, strict=False):
        if not all(-limit <= value <= limit for value in row):  # NaN is not either
            raise ImageError(f"stroke {number} has a number that is too large or not finite")
    return np.array(rows, np.float32).T


def render(
    drawing: Drawing,
    *,
    size: int = 128,
    stroke_width: float = 3.0,
    padding: float | None = None,
    colour: bool = False,
    inverted: bool = False,
) -> NDArray[np.uint8]:
    """The drawing as a picture ``[size, size, 3]``: black on white, or ``inverted``, anti-aliased.

    It is centred and scaled, its aspect kept, until its ink reaches from ``padding`` pixels (None: a 16th of
    ``size``, which a network that sees the middle 87.5 % of a picture still sees) to as many before the other
    border. Lines are ``stroke_width`` pixels wide, their ends and corners round; a lone point is a dot.

    ``colour``: each stroke in a colour of its own, later ones over earlier ones: the hue goes in even steps
    from red (0 degrees, the first stroke) over green to violet (270 degrees, the last); `stroke_colours`.

    A pixel takes on as much ink as lies in the line's band at its distance from the line, ``clip(stroke_width
    / 2 + 1/2 - distance, 0, 1)``: exact for horizontal and vertical lines, and symmetric.

    >>> line = Drawing("line", (np.array([[0, 0], [1, 0]], np.float32),))
    >>> render(line, size=8, stroke_width=2, padding=1)[:, :, 0]
    array([[255, 255, 255, 255, 255, 255, 255, 255],
           [255, 255, 255, 255, 255, 255, 255, 255],
           [255, 255, 255, 255, 255, 255, 255, 255],
           [255,  53,   0,   0,   0,   0,  53, 255],
           [255,  53,   0,   0,   0,   0,  53, 255],
           [255, 255, 255, 255, 255, 255, 255, 255],
           [255, 255, 255, 255, 255, 255, 255, 255],
           [255, 255, 255, 255, 255, 255, 255, 255]], dtype=uint8)
    """
    margin = size / 16 if padding is None else padding
    check_style(size, stroke_width, margin)
    strokes = _fitted(drawing.strokes, size, size - 2 * margin - stroke_width)
    paper, ink = (0.0, 255.0) if inverted else (255.0, 0.0)
    layers: list[tuple[Sequence[Floats], Floats]] = [(strokes, np.full(3, ink))]
    if colour:
        inks = stroke_colours(len(strokes), inverted=inverted)
        layers = [([stroke], inks[place]) for place, stroke in enumerate(strokes)]
    canvas = np.full((size, size, 3), paper)
    for together, its_ink in layers:
        coverage = _coverage(together, size, stroke_width)[:, :, None]
        canvas += coverage * (its_ink - canvas)
    picture: NDArray[np.uint8] = np.rint(canvas).astype(np.uint8)
    return picture


def stroke_colours(count: int, *, inverted: bool = False) -> Floats:
    """The RGB colours of ``count`` strokes in their order, ``[count, 3]`` in 0..255.

    Hue ``270 degrees * i / (count - 1)``, full saturation, lightness 40 % (60 % on black).

    >>> stroke_colours(3).tolist()
    [[204.0, 0.0, 0.0], [0.0, 204.0, 51.0], [102.0, 0.0, 204.0]]
    """
    lightness = 0.6 if inverted else 0.4
    hues = [0.75 * place / max(count - 1, 1) for place in range(count)]
    return np.round(255 * np.array([colorsys.hls_to_rgb(hue, lightness, 1.0) for hue in hues]))


def check_style(size: int, stroke_width: float, padding: float) -> None:
    """Raise UsageError where `render` could not draw with these options, all in pixels."""
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
        raise UsageError(f"size must be a whole number of pixels from 1 to {MAX_SIZE}, not {size!r}")
    if not math.isfinite(stroke_width) or stroke_width <= 0:
        raise UsageError(f"stroke_width must be a number of pixels above 0, not {stroke_width!r}")
    if not math.isfinite(padding) or padding < 0:
        raise UsageError(f"padding must be a number of pixels, at least 0, not {padding!r}")
    if 2 * padding + stroke_width >= size:
        raise UsageError(
            f"expected room for a drawing in {size} pixels, but the padding of {padding:g} on both sides and a stroke "
            f"width of {stroke_width:g} leave none; make size larger or the others smaller"
        )


def _fitted(strokes: Sequence[Points], size: int, room: float) -> list[Floats]:
    """The points ``[points, 2]`` in pixels: as large as ``room`` allows, in the middle of ``size``."""
    points = [stroke[:, :2].astype(np.float64) for stroke in strokes]
    low = np.min([stroke.min(axis=0) for stroke in points], axis=0)
    high = np.max([stroke.max(axis=0) for stroke in points], axis=0)
    extent = float((high - low).max())
    scale = room / extent if extent > 0 else 1.0
    return [(stroke - (low + high) / 2) * scale + size / 2 for stroke in points]


def _coverage(strokes: Sequence[Floats], size: int, stroke_width: float) -> Floats:
    """How much of each pixel the strokes cover, ``[size, size]`` in 0..1."""
    squared = np.full((size, size), np.inf)  # distance of each pixel's middle to the nearest segment
    reach = stroke_width / 2 + 0.5
    for stroke in strokes:
        starts, ends = (stroke[:-1], stroke[1:]) if len(stroke) > 1 else (stroke, stroke)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            _approach(squared, start, end, reach)
    # A line thinner than a pixel never covers a whole one.
    coverage: Floats = np.clip(reach - np.sqrt(squared), 0.0, min(1.0, stroke_width))
    return coverage


def _approach(squared: Floats, start: list[float], end: list[float], reach: float) -> None:
    """Lower the squared distances ``[size, size]`` to those to a segment, wherever it is nearer than ``reach``."""
    (x0, y0), (x1, y1) = start, end
    left, right = max(math.floor(min(x0, x1) - reach), 0), math.ceil(max(x0, x1) + reach)
    top, bottom = max(math.floor(min(y0, y1) - reach), 0), math.ceil(max(y0, y1) + reach)
    part = squared[top:bottom, left:right]
    x = np.arange(left, left + part.shape[1]) + (0.5 - x0)  # [w], relative to the start
    y = (np.arange(top, top + part.shape[0]) + (0.5 - y0))[:, None]  # [h, 1]
    dx, dy = x1 - x0, y1 - y0
    length = dx * dx + dy * dy
    along = np.clip((x * dx + y * dy) / length, 0.0, 1.0) if length > 0 else 0.0  # [h, w], of the nearest point
    np.minimum(part, (x - along * dx) ** 2 + (y - along * dy) ** 2, out=part)

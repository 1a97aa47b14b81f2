"""A map of pictures as one HTML file: to move about in, to look at, to search; nothing is loaded from anywhere.

All thumbnails are squares on a few sheets (JPEG), because a browser opens ten large pictures in a moment and ten
thousand small ones in many; their side follows from their number, so that the file stays below about 30 MB.
"""

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.features.thumbnails import opened
from topwork.report.page import render_page

MOST = 10_000
"""Pictures that a map is made for."""
_SIDES = ((1_500, 128), (5_000, 104), (MOST, 80))  # pictures up to, pixels of a thumbnail
_SHEET = 2048  # pixels of a sheet's side: every browser draws that many
_QUALITY = 78


@dataclass(frozen=True)
class Spot:
    """A picture on the map: its place 0..1, its name and label, and the address that a click opens ("" for none)."""

    x: float
    y: float
    name: str
    label: str | None = None
    link: str = ""


def render_map(
    title: str,
    spots: Sequence[Spot],
    thumbnail: Callable[[int], bytes],
    *,
    subtitle: Sequence[str] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """The page; ``thumbnail`` gives the JPEG of a spot by its number, ``progress`` is told how many are done.

    Classes are ordered by size; the largest have colours of their own (of Okabe and Ito, told apart with any colour
    vision), then the same with a stripe, and what comes then is grey until it is pointed out.

    >>> from PIL import Image
    >>> jpeg = io.BytesIO()
    >>> Image.new("RGB", (8, 6), "red").save(jpeg, "JPEG")
    >>> page = render_map("One", [Spot(0.5, 0.5, "</script><img onerror=x>.jpg")], lambda _: jpeg.getvalue())
    >>> "<img onerror" in page, "https:" in page
    (False, False)
    """
    side = next((side for most, side in _SIDES if len(spots) <= most), _SIDES[-1][1])
    classes = sorted(
        Counter(spot.label for spot in spots if spot.label is not None).items(), key=lambda c: (-c[1], c[0])
    )
    names = [name for name, _ in classes]
    data = {
        "side": side,
        "columns": _SHEET // side,
        "sheets": [_as_url(sheet) for sheet in _sheets(len(spots), thumbnail, side, progress)],
        "classes": classes,
        "unlabelled": sum(1 for spot in spots if spot.label is None),
        "x": [round(spot.x, 4) for spot in spots],
        "y": [round(spot.y, 4) for spot in spots],
        "label": [-1 if spot.label is None else names.index(spot.label) for spot in spots],
        "name": [spot.name for spot in spots],
        "link": [spot.link for spot in spots] if any(spot.link for spot in spots) else [],
    }
    return render_page("map", {"title": title, "subtitle": subtitle}, data)


def _sheets(count: int, thumbnail: Callable[[int], bytes], side: int, progress: Callable[[int], None]) -> list[bytes]:
    """JPEG files of squares of ``side`` pixels, row by row."""
    from PIL import Image

    columns = _SHEET // side
    sheets = []
    for start in range(0, count, columns * columns):
        part = range(start, min(start + columns * columns, count))
        sheet = np.zeros((-(-len(part) // columns) * side, min(columns, len(part)) * side, 3), np.uint8)
        for number in part:
            row, column = divmod(number - start, columns)
            sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = _square(thumbnail(number), side)
            progress(1)
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "JPEG", quality=_QUALITY, optimize=True)
        sheets.append(buffer.getvalue())
    return sheets


def _square(jpeg: bytes, side: int) -> NDArray[np.uint8]:
    """The middle of a picture, ``[side, side, 3]``."""
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(opened(jpeg), (side, side)))


def _as_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"

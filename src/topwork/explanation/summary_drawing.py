"""A summary as a sheet: for each class its mean picture with its mean map, and what each place decides."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from topwork.explanation.composites import GRID
from topwork.explanation.drawing import TEXT, tile
from topwork.explanation.summary import ClassView, Summary
from topwork.images.sniff import shown
from topwork.report.heat import map_over


def tiles(summary: Summary, *, side: int = 256) -> list[Image.Image]:
    """What each place decides, then a tile for each class, each with its caption, ``side`` pixels and a margin wide.

    >>> from topwork.evaluation.metrics import Interval
    >>> half, views = Interval(0.5, 0.4, 0.6), {"ant": ClassView(3, np.zeros((8, 8, 3), np.uint8), None, 0.5, None)}
    >>> found = tiles(Summary("m", "s", 3, 0, half, None, half, (0, 1), np.eye(4), views, ()), side=64)
    >>> [each.size for each in found]
    [(80, 180), (80, 148)]
    """
    return [_places(summary, side), *(_class(label, view, side) for label, view in summary.classes.items())]


def _places(summary: Summary, side: int) -> Image.Image:
    picture, full = places_picture(summary, side)
    lines = ["what each place decides, in %", f"border {percent(summary.border.value)}"]
    lines.append(f"background {percent(summary.background.value if summary.background else None)}")
    return tile(picture, lines, side, full=full)


def places_picture(summary: Summary, side: int) -> tuple[Image.Image, float]:
    """The mean picture with what each place decides over it, in figures too; and the value of the full colour."""
    views = list(summary.classes.values())
    shares = [view.n / sum(each.n for each in views) for view in views]
    mean = sum(share * view.picture.astype(np.float64) for share, view in zip(shares, views, strict=True))
    pixels = np.asarray(mean).round().astype(np.uint8)
    height, width = pixels.shape[:2]
    # Cells are squares of their own, not places between which a value changes gradually.
    values = np.kron(100 * summary.grid, np.ones((height // GRID + 1, width // GRID + 1)))[:height, :width].astype(
        np.float32
    )
    picture, full = map_over(pixels, values, (0, 0, width, height), side=side)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(max(TEXT, side // 24))
    for (row, column), value in np.ndenumerate(summary.grid):
        at = (column + 0.5) * picture.width / GRID, (row + 0.5) * picture.height / GRID
        pen.text(at, str(round(100 * value)), "white", font, anchor="mm", stroke_width=2, stroke_fill="black")
    return picture, full


def _class(label: str, view: ClassView, side: int) -> Image.Image:
    picture, full = class_picture(view, side)
    lines = [f"{shown(label)}: mean of {view.n}"]
    if view.border is not None:
        lines += [f"border {percent(view.border)}", f"background {percent(view.background)}"]
    return tile(picture, lines, side, full=full)


def class_picture(view: ClassView, side: int) -> tuple[Image.Image, float | None]:
    """The mean picture of a class with its mean map over it, and the value of the full colour; None without a map."""
    height, width = view.picture.shape[:2]
    if view.values is None:
        return Image.fromarray(view.picture).resize((side, side * height // width)), None
    return map_over(view.picture, view.values, (0, 0, width, height), side=side)


def arrays(summary: Summary) -> dict[str, NDArray[np.generic]]:
    """The numbers behind the sheet: ``grid``, and of each class ``map:LABEL`` and ``picture:LABEL``."""
    found: dict[str, NDArray[np.generic]] = {"grid": summary.grid}
    for label, view in summary.classes.items():
        found[f"picture:{label}"] = view.picture
        if view.values is not None:
            found[f"map:{label}"] = view.values
    return found


def percent(value: float | None) -> str:
    """A share as text; a dash for what could not be measured.

    >>> percent(0.316), percent(None)
    ('32 %', '-')
    """
    return "-" if value is None else f"{round(100 * value)} %"

"""Curves of a training as inline SVG: one or two lines over epochs or steps, each named at its end."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from topwork.report.drawing import (
    BOTTOM,
    TOP,
    WIDTH,
    Frame,
    circle,
    grid,
    polyline,
    round_step,
    round_ticks,
    share_floor,
    share_ticks,
    svg,
    text,
)
from topwork.report.words import percent, plain

TALL = 240  # a curve needs less height than a chart that is read off point by point
DOTS = 30  # a line of more points is drawn without dots
LETTER = 6.8  # view-box units that a letter takes, on average
LINE = 15  # view-box units from one line of text to the next
Tick = tuple[float, str]


class Series(NamedTuple):
    """One line of a chart; ``kind`` is its class in the style sheet.

    >>> Series("held out", "curve", [(1, 0.9), (2, 0.7)]).points[-1]
    (2, 0.7)
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float]]


def share_curves(series: Sequence[Series], across: str, title: str) -> str:
    """Shares in [0, 1] over epochs; ``across`` names the horizontal axis. Empty when no line has a point.

    >>> share_curves([Series("held out", "curve", [(1, 0.8), (2, 0.9)])], "epoch", "Accuracy").count("<circle")
    2
    """
    lowest = share_floor(min((y for row in series for _, y in row.points), default=0.0))
    return _curves(series, across, title, (lowest, 1.0), share_ticks(lowest), percent)


def amount_curves(series: Sequence[Series], across: str, title: str) -> str:
    """Amounts of 0 and more, such as losses and learning rates; otherwise as ``share_curves``.

    >>> amount_curves([Series("", "curve", [(0, 0.0), (100, 0.001)])], "step", "Rate").count("<polyline")
    1
    """
    highest = max((y for row in series for _, y in row.points), default=0.0) or 1.0
    step = round_step(highest, 5)
    top = step * next(k for k in range(1, 7) if k * step >= highest * (1 - 1e-9))
    ticks = [(value, plain(value)) for value in round_ticks(0.0, top, step)]
    return _curves(series, across, title, (0.0, top), ticks, plain)


def _curves(
    series: Sequence[Series],
    across: str,
    title: str,
    ys: tuple[float, float],
    ticks: Sequence[Tick],
    said: Callable[[float], str],
) -> str:
    drawn = [row for row in series if row.points]
    if not drawn:
        return ""
    ends = [x for row in drawn for x, _ in (row.points[0], row.points[-1])]
    frame = _frame((min(ends), max(ends)), ys, ticks, drawn)
    parts = [grid(frame, _across_ticks(min(ends), max(ends)), ticks)]
    for row in drawn:
        at = [(frame.x(x), frame.y(y)) for x, y in row.points]
        parts.append(polyline(row.kind, at))
        if len(at) <= DOTS:
            hints = [f"{row.name}, {across} {x:,.0f}: {said(y)}".lstrip(", ") for x, y in row.points]
            parts += [circle(f"dot {row.kind}", x, y, 3.5, hint) for (x, y), hint in zip(at, hints, strict=True)]
    parts += _names(frame, drawn)
    parts.append(text((frame.left + frame.right) / 2, TALL - 6, across, "middle"))
    return svg("chart", title, "".join(parts), box=(WIDTH, TALL))


def _frame(xs: tuple[float, float], ys: tuple[float, float], ticks: Sequence[Tick], drawn: Sequence[Series]) -> Frame:
    """Room for the ticks on the left and for the names on the right; a single epoch stands in the middle."""
    first, last = xs if xs[0] < xs[1] else (xs[0] - 1, xs[1] + 1)
    left = 12 + LETTER * max(len(name) for _, name in ticks)
    right = WIDTH - 14 - LETTER * max(len(row.name) for row in drawn)
    return Frame((first, last), ys, left, right, TOP, TALL - BOTTOM)


def _across_ticks(first: float, last: float) -> list[Tick]:
    """Whole epochs or steps; the last one is among them where it is not too close to another."""
    step = max(1.0, round_step(max(last - first, 1.0), 8 if last < 100 else 5))
    ticks = round_ticks(first, last, step)
    if last - ticks[-1] >= 0.6 * step:
        ticks.append(last)
    return [(value, f"{value:,.0f}") for value in ticks]


def _names(frame: Frame, drawn: Sequence[Series]) -> list[str]:
    """The name of each line beside its end; names that would touch are moved apart."""
    rows = sorted(drawn, key=lambda row: -row.points[-1][1])  # from top to bottom
    heights = [frame.y(row.points[-1][1]) for row in rows]
    if len(rows) == 2 and heights[1] - heights[0] < LINE:
        middle = min(max(sum(heights) / 2, frame.top + LINE / 2), frame.bottom - LINE / 2)
        heights = [middle - LINE / 2, middle + LINE / 2]
    return [
        text(frame.x(row.points[-1][0]) + 8, height + 4, row.name, "start", kind=f"name {row.kind}")
        for row, height in zip(rows, heights, strict=True)
    ]

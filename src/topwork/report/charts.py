"""Charts as inline SVG: no script, no font, no file; coloured by the page's style sheet.

Bars use percentages of their box, so they stretch without distorting text; charts with two axes use a fixed
view box small enough to be read on a phone.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from topwork.report.drawing import (
    HEIGHT,
    WIDTH,
    Frame,
    circle,
    grid,
    line,
    polyline,
    share_floor,
    share_ticks,
    svg,
    text,
)
from topwork.report.names import short_names
from topwork.report.words import NBSP, count, decimals, number, percent, span

COUNTS = 52  # height of the counts beneath the reliability chart
CELLS = (13.0, 34.0)  # least and largest side of a square of a confusion matrix
NUMBERED = 19.0  # side from which on a number can be read in it


def bar(value: float, maximum: float, title: str, *, low: float | None = None, high: float | None = None) -> str:
    """A horizontal bar of ``value`` out of ``maximum``; with ``low`` and ``high``, a point on its interval.

    >>> 'width="25%"' in bar(5, 20, "5 pictures")
    True
    >>> 'cx="50%"' in bar(0.5, 1, "50 %", low=0.25, high=0.75)
    True
    """
    full = max(maximum, 1e-12)
    parts = ['<rect class="track" width="100%" height="100%" rx="4"/>']
    if low is None or high is None:
        parts.append(f'<rect class="fill" width="{_share(value, full)}" height="100%" rx="4"/>')
    else:
        width = _share(max(0.0, high - low), full)
        parts.append(f'<rect class="band" x="{_share(low, full)}" width="{width}" height="100%" rx="4"/>')
        parts.append(f'<circle class="value" cx="{_share(value, full)}" cy="50%" r="5.5"/>')
    return svg("bar", title, "".join(parts))


def gain_bar(value: float, low: float, high: float, reach: float, title: str) -> str:
    """A difference of two shares on a scale from ``-reach`` to ``reach``: a point on its interval, a line at zero.

    >>> 'cx="75%"' in gain_bar(0.05, 0.02, 0.08, 0.1, "5 points")
    True
    """
    full = max(2 * reach, 1e-12)
    band = f'x="{_share(low + reach, full)}" width="{_share(max(0.0, high - low), full)}"'
    return svg(
        "bar",
        title,
        f'<rect class="track" width="100%" height="100%" rx="4"/><rect class="band" {band} height="100%" rx="4"/>'
        '<line class="zero" x1="50%" x2="50%" y1="-4" y2="12"/>'
        f'<circle class="value" cx="{_share(value + reach, full)}" cy="50%" r="5.5"/>',
    )


def interval_bar(
    value: float,
    low: float | None,
    high: float | None,
    title: str,
    *,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """A scale from 0 to 100 % with the interval as a band, the value as a point and named marks beneath.

    All numbers are shares in [0, 1]; ``marks`` are at most two ``(share, name)``.

    >>> 'cx="95%"' in interval_bar(0.95, 0.76, 0.99, "95 %")
    True
    """
    parts = ['<rect class="track" y="22" width="100%" height="8" rx="4"/>']
    if low is not None and high is not None:
        width = _share(max(0.0, high - low), 1)
        parts.append(f'<rect class="band" x="{_share(low, 1)}" y="18" width="{width}" height="16" rx="4"/>')
        parts += _ends(low, high)
    for row, (at, name) in enumerate(marks):
        y = 52 + 17 * row
        parts.append(f'<line class="mark" x1="{_share(at, 1)}" x2="{_share(at, 1)}" y1="16" y2="{y - 11}"/>')
        parts.append(_scale_text(at, y, name, "start" if at < 0.5 else "end"))
    parts.append(f'<circle class="value" cx="{_share(value, 1)}" cy="26" r="8"/>')
    height = 40 + 17 * len(marks)
    return svg("interval", title, "".join(parts), extra=f' style="height:{height}px"')


def reliability(bins: Sequence[Mapping[str, Any]], title: str) -> str:
    """Stated confidence against the share that was right, with 95 % Wilson whiskers and the counts beneath.

    ``bins`` are mappings with ``confidence`` and ``accuracy`` in [0, 1] and ``count``.
    Empty bins are not drawn.

    >>> reliability([{"confidence": 0.9, "accuracy": 0.8, "count": 5}], "Reliability").count("<circle")
    1
    """
    from topwork.evaluation.metrics import wilson  # brings NumPy

    frame = Frame((0.0, 1.0), (0.0, 1.0))
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    parts = [grid(frame, [(t, percent(t)) for t in ticks], [(t, percent(t)) for t in ticks])]
    parts.append(line("ideal", frame.x(0), frame.y(0), frame.x(1), frame.y(1)))
    base = HEIGHT + COUNTS
    filled = [row for row in (_bin(bin) for bin in bins) if row is not None]
    most = max((n for _, _, n in filled), default=1)
    for stated, true, n in filled:
        x, doubt = frame.x(stated), wilson(true * n, n)
        parts.append(line("whisker", x, frame.y(doubt.low), x, frame.y(doubt.high)))
        said = f"Said {percent(stated)}, right {percent(true)} ({count(n, 'picture')})"
        radius = 4 + 4 * math.sqrt(n / most)
        parts.append(circle("value", x, frame.y(true), radius, said))
        tall = (COUNTS - 18) * n / most
        parts.append(f'<rect class="fill" x="{x - 6:.1f}" y="{base - tall:.1f}" width="12" height="{tall:.1f}"/>')
        parts.append(text(x, base - tall - 3, f"{n:,}", "middle"))
    parts.append(text((frame.left + frame.right) / 2, HEIGHT - 10, "what the model said", "middle"))
    parts.append(line("axis", frame.left, base, frame.right, base))
    parts.append(text((frame.left + frame.right) / 2, base + 14, "number of pictures", "middle"))
    return svg("chart", title, "".join(parts), box=(WIDTH, base + 18))


def learning_curve(points: Sequence[Mapping[str, Any]], forecast: Mapping[str, Any] | None, title: str) -> str:
    """Accuracy against the number of training pictures (logarithmic), with its interval band and a forecast.

    ``points`` and ``forecast`` are mappings with ``n`` >= 1 and ``accuracy``, ``low``, ``high`` in [0, 1].

    >>> points = [{"n": 10, "accuracy": 0.8}, {"n": 20, "accuracy": 0.9}]
    >>> learning_curve(points, None, "Learning curve").count("<circle")
    2
    """
    ahead = [forecast] if forecast else []
    known = sorted((row for row in map(_point, points) if row), key=lambda row: row.n)
    future = [row for row in map(_point, ahead) if row]
    if not known:
        return ""
    frame = curve_frame([row.n for row in known + future], [row.low for row in known + future])
    at = [(frame.x(math.log(row.n)), frame.y(row.accuracy), row) for row in known]
    parts = [grid(frame, _size_ticks(frame, known + future), share_ticks(frame.ys[0]))]
    above = " ".join(f"{x:.1f},{frame.y(row.high):.1f}" for x, _, row in at)
    below = " ".join(f"{x:.1f},{frame.y(row.low):.1f}" for x, _, row in reversed(at))
    parts.append(f'<polygon class="band" points="{above} {below}"/>')
    parts.append(polyline("curve", [(x, y) for x, y, _ in at]))
    for row in future:
        x, y = frame.x(math.log(row.n)), frame.y(row.accuracy)
        parts.append(line("forecast", at[-1][0], at[-1][1], x, y))
        parts.append(line("whisker", x, frame.y(row.low), x, frame.y(row.high)))
        parts.append(circle("open", x, y, 6, f"Forecast: {_describe(row)}"))
    parts += [circle("value", x, y, 5, _describe(row)) for x, y, row in at]
    parts.append(text((frame.left + frame.right) / 2, HEIGHT - 8, "training pictures", "middle"))
    return svg("chart", title, "".join(parts), box=(WIDTH, HEIGHT))


def confusion_grid(
    labels: Sequence[str], columns: Sequence[str], matrix: Sequence[Sequence[int]], title: str, *, width: float = 760
) -> str:
    """A confusion matrix as shaded squares, for more classes than a table of numbers can hold.

    ``matrix`` is ``[r, c]``: a row a true class of ``labels``, a column what the model said, ``columns``; where both
    have the same name, it was right. A square's shade is its share of its row; where no picture is, no square is
    drawn. Squares are as large as ``width`` allows, with their number where that can be read.

    >>> confusion_grid(["a", "b"], ["a", "b"], [[9, 1], [0, 10]], "Confusion").count("fill-opacity")
    3
    """
    left, top = 150, 96
    cell = min(CELLS[1], max(CELLS[0], (width - left - 4) / max(1, len(columns))))
    tall, wide = cell * len(labels), cell * len(columns)
    numbered = cell >= NUMBERED
    parts = [f'<rect class="track" x="{left}" y="{top}" width="{wide:.1f}" height="{tall:.1f}" rx="4"/>']
    for j, (label, name) in enumerate(zip(columns, short_names(columns, 14), strict=True)):
        x = left + (j + 0.5) * cell + 4
        turned = f'transform="rotate(-90 {x:.1f} {top - 6})"'
        words_ = escape(name.replace(" ", NBSP))
        parts.append(f'<text x="{x:.1f}" y="{top - 6}" {turned}>{words_}<title>{escape(label)}</title></text>')
    for i, (label, name, row) in enumerate(zip(labels, short_names(labels, 20), matrix, strict=True)):
        y, total = top + i * cell, max(1, sum(row))
        parts.append(text(left - 6, y + cell / 2 + 4, name.replace(" ", NBSP), "end", label))
        for j, n in enumerate(row):
            if n:
                x = left + j * cell
                said = f"{label} called {columns[j]}: {n:,} of {total:,}"
                kind = "right" if label == columns[j] else "wrong"
                shade = (0.14 + 0.41 * n / total) if numbered else 0.3 + 0.7 * n / total
                place = f'x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" rx="2"'
                parts.append(
                    f'<rect class="{kind}" {place} fill-opacity="{shade:.2f}"><title>{escape(said)}</title></rect>'
                )
                if numbered:
                    parts.append(text(x + cell / 2 - 0.5, y + cell / 2 + 4, f"{n:,}", "middle", kind="count"))
    return svg("grid", title, "".join(parts), box=(round(left + wide + 4), round(top + tall + 4)), natural=True)


def curve_frame(sizes: Sequence[int], lows: Sequence[float]) -> Frame:
    """The frame of a learning curve: logarithmic in size with some air, from a round share below to 100 %.

    >>> curve_frame([10, 40], [0.74, 0.9]).ys
    (0.7, 1.0)
    """
    first, last = math.log(min(sizes)), math.log(max(sizes))
    air = max(0.05 * (last - first), 0.1)
    return Frame((first - air, last + air), (share_floor(min(lows)), 1.0))


class _Point(NamedTuple):
    n: int
    accuracy: float
    low: float
    high: float


def _point(row: Mapping[str, Any]) -> _Point | None:
    n, accuracy = number(row.get("n")), number(row.get("accuracy"))
    if n is None or n < 1 or accuracy is None:
        return None
    low, high = number(row.get("low")), number(row.get("high"))
    return _Point(int(n), accuracy, accuracy if low is None else low, accuracy if high is None else high)


def _bin(bin: Mapping[str, Any]) -> tuple[float, float, int] | None:
    stated, true, n = (number(bin.get(key)) for key in ("confidence", "accuracy", "count"))
    return (stated, true, int(n)) if n and stated is not None and true is not None else None


def _describe(row: _Point) -> str:
    return f"{count(row.n, 'picture')}: {percent(row.accuracy)} ({span(row.low, row.high)})"


def _size_ticks(frame: Frame, rows: Sequence[_Point]) -> list[tuple[float, str]]:
    """A tick a size, leaving out those whose text would run into the previous one."""
    ticks: list[tuple[float, str]] = []
    for row in sorted(rows, reverse=True):  # the largest, often the forecast, must stay
        at = math.log(row.n)
        if not ticks or frame.x(ticks[-1][0]) - frame.x(at) > 12 + 7 * len(ticks[-1][1]):
            ticks.append((at, f"{row.n:,}"))
    return ticks


def _ends(low: float, high: float) -> list[str]:
    """The interval's ends in figures above its band: apart where there is room, else as one text."""
    digits = decimals(low, high)
    if high - low <= 0.2:
        at, anchor = (high, "end") if high > 0.5 else (low, "start")
        return [_scale_text(at, 11, span(low, high, digits), anchor)]
    return [
        _scale_text(low, 11, percent(low), "end" if low > 0.12 else "start"),
        _scale_text(high, 11, percent(high), "start" if high < 0.88 else "end"),
    ]


def _scale_text(at: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{_share(at, 1)}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _share(value: float, full: float) -> str:
    return f"{round(100 * min(1.0, max(0.0, value / full)), 2):g}%"

"""Charts as inline SVG: no script, no font, no file; coloured by the page's style sheet.

Bars use percentages of their box, so they stretch without distorting text; charts with two axes use a fixed
view box small enough to be read on a phone.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from topwork.report.words import NBSP, count, decimals, number, percent, span

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 44  # margins of a chart with two axes
COUNTS = 52  # height of the counts beneath the reliability chart


class Frame(NamedTuple):
    """Where data stand in a chart: linear maps from data to view-box units.

    >>> frame = Frame((0.0, 1.0), (0.0, 1.0), left=10, right=110, top=20, bottom=220)
    >>> frame.x(0.5), frame.y(1.0), frame.y(0.0)
    (60.0, 20.0, 220.0)
    """

    xs: tuple[float, float]
    ys: tuple[float, float]
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM

    def x(self, value: float) -> float:
        """Horizontal position of a datum."""
        low, high = self.xs
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Vertical position of a datum; large values stand high."""
        low, high = self.ys
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


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
    return _svg("bar", title, "".join(parts))


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
    return _svg("interval", title, "".join(parts), extra=f' style="height:{height}px"')


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
    parts = [_grid(frame, [(t, percent(t)) for t in ticks], [(t, percent(t)) for t in ticks])]
    parts.append(_line("ideal", frame.x(0), frame.y(0), frame.x(1), frame.y(1)))
    base = HEIGHT + COUNTS
    filled = [row for row in (_bin(bin) for bin in bins) if row is not None]
    most = max((n for _, _, n in filled), default=1)
    for stated, true, n in filled:
        x, doubt = frame.x(stated), wilson(true * n, n)
        parts.append(_line("whisker", x, frame.y(doubt.low), x, frame.y(doubt.high)))
        said = f"Said {percent(stated)}, right {percent(true)} ({count(n, 'picture')})"
        radius = 4 + 4 * math.sqrt(n / most)
        parts.append(_circle("value", x, frame.y(true), radius, said))
        tall = (COUNTS - 18) * n / most
        parts.append(f'<rect class="fill" x="{x - 6:.1f}" y="{base - tall:.1f}" width="12" height="{tall:.1f}"/>')
        parts.append(_text(x, base - tall - 3, f"{n:,}", "middle"))
    parts.append(_text((frame.left + frame.right) / 2, HEIGHT - 10, "what the model said", "middle"))
    parts.append(_line("axis", frame.left, base, frame.right, base))
    parts.append(_text(frame.left - 4, base, "pictures", "end"))
    return _svg("chart", title, "".join(parts), box=(WIDTH, base + 4))


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
    parts = [_grid(frame, _size_ticks(frame, known + future), _share_ticks(frame.ys[0]))]
    above = " ".join(f"{x:.1f},{frame.y(row.high):.1f}" for x, _, row in at)
    below = " ".join(f"{x:.1f},{frame.y(row.low):.1f}" for x, _, row in reversed(at))
    parts.append(f'<polygon class="band" points="{above} {below}"/>')
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at)}"/>')
    for row in future:
        x, y = frame.x(math.log(row.n)), frame.y(row.accuracy)
        parts.append(_line("forecast", at[-1][0], at[-1][1], x, y))
        parts.append(_line("whisker", x, frame.y(row.low), x, frame.y(row.high)))
        parts.append(_circle("open", x, y, 6, f"Forecast: {_describe(row)}"))
    parts += [_circle("value", x, y, 5, _describe(row)) for x, y, row in at]
    parts.append(_text((frame.left + frame.right) / 2, HEIGHT - 8, "training pictures", "middle"))
    return _svg("chart", title, "".join(parts), box=(WIDTH, HEIGHT))


def confusion_grid(labels: Sequence[str], matrix: Sequence[Sequence[int]], title: str) -> str:
    """A confusion matrix as shaded squares, for more classes than a table of numbers can hold.

    ``matrix`` is ``[c, c]``: a row a true class, a column a predicted one. A square's shade is its share of
    its row; where no picture is, no square is drawn.

    >>> confusion_grid(["a", "b"], [[9, 1], [0, 10]], "Confusion").count("fill-opacity")
    3
    """
    cell, left, top = 13, 150, 22
    side = cell * len(labels)
    parts = [f'<rect class="track" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for i, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        y, total = top + i * cell, max(1, sum(row))
        parts.append(_text(left - 28, y + 10, _short(label), "end", f"{i + 1}. {label}"))
        parts.append(_text(left - 4, y + 10, str(i + 1), "end"))
        if i % 5 == 4 or i == 0:
            parts.append(_text(left + (i + 0.5) * cell, top - 6, str(i + 1), "middle"))
        for j, n in enumerate(row):
            if n:
                said = f"{label} called {labels[j]}: {n:,} of {total:,}"
                kind, shade = "right" if i == j else "wrong", 0.3 + 0.7 * n / total
                place = f'x="{left + j * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}"'
                hint = f"<title>{escape(said)}</title>"
                parts.append(f'<rect class="{kind}" {place} fill-opacity="{shade:.2f}">{hint}</rect>')
    return _svg("grid", title, "".join(parts), box=(left + side + 4, top + side + 4), natural=True)


def curve_frame(sizes: Sequence[int], lows: Sequence[float]) -> Frame:
    """The frame of a learning curve: logarithmic in size with some air, from a round share below to 100 %.

    >>> curve_frame([10, 40], [0.74, 0.9]).ys
    (0.7, 1.0)
    """
    floor = min(0.9, max(0.0, math.floor(min(lows) * 10 + 1e-9) / 10))
    first, last = math.log(min(sizes)), math.log(max(sizes))
    air = max(0.05 * (last - first), 0.1)
    return Frame((first - air, last + air), (floor, 1.0))


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


def _share_ticks(floor: float) -> list[tuple[float, str]]:
    step = 0.25 if floor == 0 else 0.2 if floor < 0.5 else 0.1 if floor < 0.9 else 0.05
    steps = int((1 - floor) / step + 1e-9)
    return [(1 - i * step, percent(max(0.0, round(1 - i * step, 4)))) for i in range(steps + 1)]


def _grid(frame: Frame, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]]) -> str:
    parts = [_line("axis", frame.left, frame.bottom, frame.right, frame.bottom)]
    for value, name in ys:
        parts.append(_line("rule", frame.left, frame.y(value), frame.right, frame.y(value)))
        parts.append(_text(frame.left - 6, frame.y(value) + 4, name, "end"))
    parts += [_text(frame.x(value), frame.bottom + 17, name, "middle") for value, name in xs]
    return "".join(parts)


def _svg(
    kind: str,
    title: str,
    body: str,
    *,
    box: tuple[float, float] | None = None,
    natural: bool = False,
    extra: str = "",
) -> str:
    view = f' viewBox="0 0 {box[0]:g} {box[1]:g}"' if box else ""
    size = f' width="{box[0]:g}" height="{box[1]:g}"' if box and natural else ""
    name = escape(title)
    start = f'<svg class="{kind}" role="img" aria-label="{name}"{view}{size}{extra}>'
    return f"{start}<title>{name}</title>{body}</svg>"


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _circle(kind: str, x: float, y: float, radius: float, title: str) -> str:
    hint = f"<title>{escape(title)}</title>"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{hint}</circle>'


def _text(x: float, y: float, text: str, anchor: str, title: str = "") -> str:
    hint = f"<title>{escape(title)}</title>" if title else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}{hint}</text>'


def _scale_text(at: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{_share(at, 1)}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _share(value: float, full: float) -> str:
    return f"{round(100 * min(1.0, max(0.0, value / full)), 2):g}%"


def _short(label: str, letters: int = 16) -> str:
    text = label if len(label) <= letters else label[: letters - 1] + "…"
    return text.replace(" ", NBSP)

"""The strokes that charts are made of, as pieces of SVG; the page's style sheet colours them by their class."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10
from typing import NamedTuple

from topwork.report.words import percent

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 44  # margins of a chart with two axes


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


def svg(
    kind: str,
    title: str,
    body: str,
    *,
    box: tuple[float, float] | None = None,
    natural: bool = False,
    extra: str = "",
) -> str:
    """A picture with its title, which is also what a screen reader says; ``natural`` keeps the size of ``box``.

    >>> svg("bar", "5 & 6", "")
    '<svg class="bar" role="img" aria-label="5 &amp; 6"><title>5 &amp; 6</title></svg>'
    """
    view = f' viewBox="0 0 {box[0]:g} {box[1]:g}"' if box else ""
    size = f' width="{box[0]:g}" height="{box[1]:g}"' if box and natural else ""
    name = escape(title)
    start = f'<svg class="{kind}" role="img" aria-label="{name}"{view}{size}{extra}>'
    return f"{start}<title>{name}</title>{body}</svg>"


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line.

    >>> line("axis", 0, 0, 10, 0)
    '<line class="axis" x1="0.0" y1="0.0" x2="10.0" y2="0.0"/>'
    """
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def polyline(kind: str, points: Sequence[tuple[float, float]]) -> str:
    """A line through points.

    >>> polyline("curve", [(0, 1), (2, 3)])
    '<polyline class="curve" points="0.0,1.0 2.0,3.0"/>'
    """
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>'


def circle(kind: str, x: float, y: float, radius: float, title: str) -> str:
    """A dot that says ``title`` when pointed at.

    >>> circle("value", 1, 2, 5, "8 %")
    '<circle class="value" cx="1.0" cy="2.0" r="5.0"><title>8 %</title></circle>'
    """
    hint = f"<title>{escape(title)}</title>"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{hint}</circle>'


def text(x: float, y: float, words: str, anchor: str, title: str = "", kind: str = "") -> str:
    """Words on one line; ``anchor`` is the end that stands at ``x``: start, middle or end.

    >>> text(1, 2, "a < b", "end")
    '<text x="1.0" y="2.0" text-anchor="end">a &lt; b</text>'
    """
    hint = f"<title>{escape(title)}</title>" if title else ""
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text{of_kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}{hint}</text>'


def grid(frame: Frame, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]]) -> str:
    """The axes: a rule for each ``(value, name)`` of ``ys``, the names of ``xs`` beneath.

    >>> grid(Frame((0, 1), (0, 1)), [(0, "none")], [(1, "all")]).count("<text")
    2
    """
    parts = [line("axis", frame.left, frame.bottom, frame.right, frame.bottom)]
    for value, name in ys:
        parts.append(line("rule", frame.left, frame.y(value), frame.right, frame.y(value)))
        parts.append(text(frame.left - 6, frame.y(value) + 4, name, "end"))
    parts += [text(frame.x(value), frame.bottom + 17, name, "middle") for value, name in xs]
    return "".join(parts)


def share_floor(lowest: float) -> float:
    """The round share an axis up to 100 % starts from, so that ``lowest`` is on it.

    >>> share_floor(0.74), share_floor(0.99)
    (0.7, 0.9)
    """
    return min(0.9, max(0.0, floor(lowest * 10 + 1e-9) / 10))


def share_ticks(lowest: float) -> list[tuple[float, str]]:
    """Ticks of an axis of shares from ``lowest`` to 100 %.

    >>> [value for value, _ in share_ticks(0.0)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    step = 0.25 if lowest == 0 else 0.2 if lowest < 0.5 else 0.1 if lowest < 0.9 else 0.05
    steps = int((1 - lowest) / step + 1e-9)
    return [(1 - i * step, percent(max(0.0, round(1 - i * step, 4)))) for i in range(steps + 1)]


def round_step(length: float, most: int) -> float:
    """The smallest of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... of which at most ``most`` fit into ``length`` > 0.

    >>> round_step(1.9, 5), round_step(200, 5), round_step(3, 8)
    (0.5, 50.0, 0.5)
    """
    power: float = 10.0 ** floor(log10(length / most))
    return next(power * factor for factor in (1, 2, 5, 10) if length / (power * factor) <= most * (1 + 1e-9))


def round_ticks(low: float, high: float, step: float) -> list[float]:
    """The multiples of ``step`` from ``low`` to ``high``.

    >>> round_ticks(1, 8, 2)
    [2, 4, 6, 8]
    """
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]

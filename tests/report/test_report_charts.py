"""Charts put data where the closed form says, and escape what they are given."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from topwork.evaluation.metrics import wilson
from topwork.report import charts

SVGS = [
    charts.bar(1, 2, "<b>"),
    charts.bar(0.5, 1, "half", low=0.2, high=0.8),
    charts.interval_bar(0.9, 0.7, 0.99, "a & b", marks=[(0.5, "<guessing>")]),
    charts.interval_bar(0.9, None, None, "no interval"),
    charts.reliability([], "empty"),
    charts.reliability([{"confidence": 0.75, "accuracy": 0.5, "count": 4}], "one bin"),
    charts.learning_curve([{"n": 8, "accuracy": 0.5}], None, "one point"),
    charts.confusion_grid(["<script>", "b"], ["<script>", "b"], [[1, 2], [0, 0]], "grid"),
]


def elements(svg: str, kind: str) -> list[dict[str, str]]:
    return [node.attrib for node in ElementTree.fromstring(svg).iter() if node.get("class") == kind]


@pytest.mark.parametrize("svg", SVGS)
def test_every_chart_is_well_formed_titled_and_escaped(svg: str) -> None:
    root = ElementTree.fromstring(svg)  # fails on unescaped text
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext("title")
    assert "<script" not in svg


def test_interval_bar_is_in_per_cent_of_its_width() -> None:
    svg = charts.interval_bar(0.95, 0.76, 0.99, "x", marks=[(0.5, "guessing")])
    (band,), (value,), (mark,) = elements(svg, "band"), elements(svg, "value"), elements(svg, "mark")
    assert (band["x"], band["width"], value["cx"], mark["x1"]) == ("76%", "23%", "95%", "50%")


@pytest.mark.parametrize(
    ("high", "texts"), [(0.99, ["76 %", "99 %"]), (0.8, ["76 to 80 %"]), (0.78, ["76.0 to 78.0 %"])]
)
def test_interval_ends_share_one_text_where_two_would_touch(high: float, texts: list[str]) -> None:
    root = ElementTree.fromstring(charts.interval_bar(0.77, 0.76, high, "x"))
    assert [str(node.text).replace(charts.NBSP, " ") for node in root.iter("text")] == texts


def test_a_value_beyond_the_maximum_stays_in_the_box() -> None:
    assert elements(charts.bar(5, 2, "x"), "fill")[0]["width"] == "100%"
    assert elements(charts.bar(0, 0, "x"), "fill")[0]["width"] == "0%"


def test_reliability_points_are_linear_in_both_axes() -> None:
    bins = [
        {"confidence": 0.75, "accuracy": 0.5, "count": 4},
        {"confidence": 1.0, "accuracy": 1.0, "count": 0},
    ]
    (point,) = elements(charts.reliability(bins, "x"), "value")  # the empty bin is not drawn
    left, right, top, bottom = 46, 420 - 12, 14, 300 - 44
    assert float(point["cx"]) == pytest.approx(left + 0.75 * (right - left), abs=0.05)
    assert float(point["cy"]) == pytest.approx((top + bottom) / 2, abs=0.05)
    (whisker,) = elements(charts.reliability(bins, "x"), "whisker")
    doubt = wilson(2, 4)
    assert float(whisker["y1"]) == pytest.approx(bottom - doubt.low * (bottom - top), abs=0.05)
    assert float(whisker["y2"]) == pytest.approx(bottom - doubt.high * (bottom - top), abs=0.05)


def test_learning_curve_is_logarithmic_so_doublings_are_equidistant() -> None:
    points = [{"n": n, "accuracy": a, "low": a - 0.1, "high": a} for n, a in [(20, 0.85), (10, 0.8), (40, 0.9)]]
    forecast = {"n": 80, "accuracy": 0.95, "low": 0.9, "high": 1.0}
    svg = charts.learning_curve(points, forecast, "x")
    xs = sorted(float(point["cx"]) for point in elements(svg, "value") + elements(svg, "open"))
    steps = [b - a for a, b in pairwise(xs)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.11)
    (open_point,) = elements(svg, "open")
    frame = charts.curve_frame([10, 80], [0.7])
    assert float(open_point["cy"]) == pytest.approx(frame.y(0.95), abs=0.05)
    assert float(open_point["cx"]) == pytest.approx(frame.x(math.log(80)), abs=0.05)


def test_learning_curve_skips_points_that_say_nothing() -> None:
    assert charts.learning_curve([{"n": None, "accuracy": 0.5}, {"n": 0, "accuracy": 1}], None, "x") == ""


def test_sizes_that_would_overlap_are_not_all_written() -> None:
    points = [{"n": n, "accuracy": 0.9} for n in range(90, 101)]
    written = re.findall(r">(\d+)</text>", charts.learning_curve(points, None, "x"))
    assert "100" in written
    assert len(written) < 11


def test_confusion_grid_shades_by_share_of_the_row() -> None:
    svg = charts.confusion_grid(["a", "b"], ["a", "b"], [[3, 1], [0, 4]], "x", width=170)  # too narrow for numbers
    right, (wrong,) = elements(svg, "right"), elements(svg, "wrong")
    assert [float(square["fill-opacity"]) for square in right] == pytest.approx([0.3 + 0.7 * 0.75, 1.0], abs=0.006)
    assert float(wrong["x"]) - float(right[0]["x"]) == 13  # one column to the right, in the same row
    assert wrong["y"] == right[0]["y"]
    assert not elements(svg, "count")


@pytest.mark.parametrize(("n", "numbered"), [(14, True), (40, False), (90, False)])
def test_a_confusion_grid_takes_the_width_it_is_given(n: int, numbered: bool) -> None:
    names = [f"a class with a long name, number {k}" for k in range(n)]
    svg = charts.confusion_grid(names, names, [[int(i == j) for j in range(n)] for i in range(n)], "x", width=760)
    width = float(ElementTree.fromstring(svg).attrib["width"])
    assert width <= 760 if n <= 40 else width > 760  # then it is scrolled
    assert len(elements(svg, "count")) == (n if numbered else 0)
    shown = re.findall(r">([^<>]+)<title>a class", svg)
    assert len(set(shown)) >= n  # each name can be told from the others

"""Curves put data where the closed form says, name their lines, and bear one epoch and two hundred."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from topwork.report import charts, curves
from topwork.report.curves import Series

BOTTOM, TOP = 240 - 44, 14


def elements(svg: str, kind: str) -> list[dict[str, str]]:
    return [node.attrib for node in ElementTree.fromstring(svg).iter() if node.get("class") == kind]


def texts(svg: str) -> dict[str, dict[str, str]]:
    return {str(node.text).replace(charts.NBSP, " "): node.attrib for node in ElementTree.fromstring(svg).iter("text")}


def points(svg: str, kind: str) -> list[tuple[float, float]]:
    (curve,) = elements(svg, kind)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in curve["points"].split())]


def lines(n: int) -> list[Series]:
    return [
        Series("training", "other", [(i, 2 - i / n) for i in range(1, n + 1)]),
        Series("held out", "curve", [(i, 1 - i / n / 2) for i in range(1, n + 1)]),
    ]


@pytest.mark.parametrize("n", [1, 2, 8, 200])
def test_every_number_of_epochs_gives_a_chart_within_its_box(n: int) -> None:
    svg = curves.amount_curves(lines(n), "epoch", "Loss by <epoch>")
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == root.findtext("title") == "Loss by <epoch>"
    assert "nan" not in svg
    for kind in ("other", "curve"):
        assert len(points(svg, kind)) == n
        assert all(0 <= x <= 420 and TOP <= y <= BOTTOM for x, y in points(svg, kind))
    dots = elements(svg, "dot curve") + elements(svg, "dot other")
    assert len(dots) == (2 * n if n <= 30 else 0)


def test_amounts_are_linear_from_zero() -> None:
    svg = curves.amount_curves([Series("a", "curve", [(1, 0.0), (2, 2.0), (5, 1.0)])], "epoch", "x")
    (x1, y1), (x2, y2), (x5, y5) = points(svg, "curve")
    assert (y1, y2, y5) == pytest.approx((BOTTOM, TOP, (BOTTOM + TOP) / 2), abs=0.05)
    assert x2 - x1 == pytest.approx((x5 - x1) / 4, abs=0.1)


def test_shares_reach_up_to_all() -> None:
    svg = curves.share_curves([Series("a", "curve", [(1, 0.75), (2, 1.0)])], "epoch", "x")
    assert [y for _, y in points(svg, "curve")] == pytest.approx([BOTTOM - 0.05 / 0.3 * (BOTTOM - TOP), TOP], abs=0.05)
    assert {"70 %", "100 %"} <= texts(svg).keys()


@pytest.mark.parametrize(
    ("last", "written"),
    [(1, ["1"]), (3, ["1", "2", "3"]), (8, list("12345678")), (200, ["50", "100", "150", "200"])],
)
def test_epochs_are_whole_numbers(last: int, written: list[str]) -> None:
    svg = curves.share_curves([Series("a", "curve", [(i, 0.5) for i in range(1, last + 1)])], "epoch", "x")
    assert re.findall(r">(\d+)</text>", svg) == written


def test_the_last_step_is_written_where_there_is_room() -> None:
    svg = curves.amount_curves([Series("", "curve", [(0, 0.1), (278, 0.1)])], "step", "x")
    assert "278" in texts(svg)
    assert "205" not in texts(curves.amount_curves([Series("", "curve", [(0, 0.1), (205, 0.1)])], "step", "x"))


def test_small_rates_are_written_without_exponent() -> None:
    assert "0.00002" in texts(curves.amount_curves([Series("", "curve", [(0, 0.0), (9, 2e-5)])], "step", "x"))


@pytest.mark.parametrize(("upper", "lower"), [(0.5, 0.5), (0.51, 0.5), (1.0, 0.99), (0.01, 0.0), (0.9, 0.1)])
def test_names_stand_at_the_ends_of_their_lines_and_apart(upper: float, lower: float) -> None:
    both = [Series("low", "other", [(1, 0.5), (2, lower)]), Series("high", "curve", [(1, 0.5), (2, upper)])]
    svg = curves.amount_curves(both, "epoch", "x")
    named, (end, _) = texts(svg), points(svg, "curve")[-1]
    heights = sorted(float(named[name]["y"]) for name in ("high", "low"))
    assert heights[1] - heights[0] >= 14.9
    assert upper == lower or float(named["high"]["y"]) < float(named["low"]["y"])
    assert all(TOP <= height <= BOTTOM + 5 for height in heights)
    for name in ("high", "low"):
        assert end < float(named[name]["x"]) <= 420 - 6 * len(name)


def test_nothing_measured_gives_no_chart() -> None:
    assert curves.amount_curves([Series("a", "curve", [])], "epoch", "x") == ""
    assert curves.share_curves([], "epoch", "x") == ""


def test_a_rate_of_nothing_is_a_flat_line() -> None:
    svg = curves.amount_curves([Series("", "curve", [(0, 0.0), (5, 0.0)])], "step", "x")
    assert [y for _, y in points(svg, "curve")] == [BOTTOM, BOTTOM]


def test_a_difference_of_nothing_stands_on_the_line_of_no_difference() -> None:
    svg = charts.gain_bar(0.0, -0.02, 0.02, 0.04, "x")
    (value,), (zero,), (band,) = elements(svg, "value"), elements(svg, "zero"), elements(svg, "band")
    assert value["cx"] == zero["x1"] == "50%"
    assert (band["x"], band["width"]) == ("25%", "50%")


def test_ticks_of_rising_lengths_are_round_and_few() -> None:
    for high in (1e-6, 0.003, 0.7, 1.0, 2.1, 9.99, 1234.0):
        svg = curves.amount_curves([Series("", "curve", [(0, high)])], "step", "x")
        rules = sorted(float(rule["y1"]) for rule in elements(svg, "rule"))
        steps = [b - a for a, b in pairwise(rules)]
        assert 3 <= len(rules) <= 7
        assert steps == pytest.approx([steps[0]] * len(steps), abs=0.11)

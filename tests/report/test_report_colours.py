"""The colours of the page can be read, by day and by night."""

import re

import pytest

from topwork.report import render_fit


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", render_fit({}), re.DOTALL)
    names = dict(re.findall(r"--([\w-]+): ([^;]+);", blocks[scheme]))
    colours = {
        name: tuple(int(value[i : i + 2], 16) for i in (1, 3, 5)) for name, value in names.items() if value[0] == "#"
    }
    for text in ("ink", "soft", "accent", "wrong"):
        for ground in ("paper", "surface"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert contrast(colours["soft"], colours["track"]) >= 4.5  # the zeros of a confusion matrix
    for kind in ("accent-rgb", "wrong-rgb"):  # the numbers on its darkest cells
        depth = float(names["depth"]) * 0.55
        over = [int(part) for part in names[kind].split()]
        cell = tuple(depth * c + (1 - depth) * t for c, t in zip(over, colours["track"], strict=True))
        assert contrast(colours["ink"], cell) >= 4.5, kind

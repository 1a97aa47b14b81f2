from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from topwork.auditing.quality import findings, widespread
from topwork.features.facts import Facts, measure
from topwork.images import to_pixels

PHOTO = Facts(640, 480, "RGB", "JPEG", 0, sharpness=0.8, brightness=120, contrast=50)


def facts_of(image: Image.Image) -> Facts:
    return measure(to_pixels(image))


def varied(n: int, **changes: float) -> list[Facts]:
    """Photographs whose sharpness varies by a factor of about 2."""
    random = np.random.default_rng(0)
    return [replace(PHOTO, sharpness=0.6 * float(np.exp(random.normal(0, 0.5))), **changes) for _ in range(n)]


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("blurred", {"sharpness": 0.05}),
        ("dark", {"brightness": 20, "contrast": 12}),
        ("bright", {"brightness": 245, "contrast": 12}),
        ("flat", {"contrast": 1}),
        ("tiny (30×40)", {"width": 30, "height": 40}),  # noqa: RUF001
        ("odd shape (200×2000)", {"width": 200, "height": 2000}),  # noqa: RUF001
    ],
)
def test_one_fault_among_ordinary_pictures(fault: str, change: dict[str, float]) -> None:
    assert findings([*varied(30), replace(PHOTO, **change)]) == [[]] * 30 + [[fault]]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("blurred", {"sharpness": 0.06}),
        ("dark", {"brightness": 20, "contrast": 12}),
        ("bright", {"brightness": 245, "contrast": 12}),
        ("flat", {"contrast": 3}),
        ("tiny", {"width": 28, "height": 28}),
        ("odd shape", {"width": 200, "height": 2000}),
    ],
)
def test_what_most_pictures_are_is_said_once(name: str, change: dict[str, float]) -> None:
    facts = [replace(PHOTO, **change)] * 20
    assert findings(facts) == [[]] * 20
    assert widespread(facts) == [name]


def test_ordinary_pictures_have_no_findings() -> None:
    assert findings(varied(200)) == [[]] * 200
    assert widespread(varied(200)) == []
    assert findings([]) == widespread([]) == []


def test_soft_pictures_among_soft_ones_are_ordinary() -> None:
    soft = [replace(f, sharpness=f.sharpness / 5) for f in varied(200)]  # like solar cells: median 0.12
    assert sum(map(bool, findings(soft))) <= 4


def test_a_third_of_the_set_may_be_blurred() -> None:
    facts = varied(40) + [replace(PHOTO, sharpness=0.05)] * 20
    assert findings(facts) == [[]] * 40 + [["blurred"]] * 20


@pytest.mark.parametrize("n", [1, 4])
def test_few_pictures_are_judged_by_a_stricter_limit(n: int) -> None:
    assert findings([replace(PHOTO, sharpness=0.08)] * n) == [[]] * n
    assert findings([replace(PHOTO, sharpness=0.03)] * n) == [["blurred"]] * n


def test_real_blur_and_darkness(make_scene: Callable[..., Image.Image]) -> None:
    facts = [facts_of(make_scene(seed)) for seed in range(12)]
    sharp = make_scene(99)
    blurred = facts_of(sharp.filter(ImageFilter.GaussianBlur(5)))
    dark = facts_of(sharp.point(lambda v: v * 0.15))
    assert findings([*facts, blurred, dark])[-3:] == [[], ["blurred"], ["dark"]]


def test_rare_modes_are_named_by_kind() -> None:
    def last(usual: str, mode: str, n: int = 30) -> list[str]:
        found = findings([replace(PHOTO, mode=usual)] * n + [replace(PHOTO, mode=mode)])
        assert not any(found[:-1])
        return found[-1]

    assert last("RGB", "L") == ["grey among colour"]
    assert last("L", "RGB") == ["colour among grey"]
    assert last("RGB", "CMYK") == ["unusual mode (CMYK)"]
    assert last("L", "I;16") == ["unusual mode (I;16)"]
    assert last("RGB", "RGBA") == []
    assert last("RGB", "L", n=2) == []


def test_mixed_modes_are_nothing_unusual() -> None:
    facts = [replace(PHOTO, mode=mode) for mode in ["RGB"] * 15 + ["L"] * 10 + ["CMYK"]]
    assert not any(findings(facts))

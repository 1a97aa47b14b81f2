"""How the network gets a picture is measured where shapes differ from the square, and costs nothing elsewhere."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork import Recipe
from topwork.backbones.zoo import backbone
from topwork.errors import UsageError
from topwork.geometry import check_geometry

FAST = {"head": "ridge", "features": "pooled"}
HEIGHT, WIDTH = 64, 320
"""Of ``long_photos``."""


@pytest.fixture(scope="session")
def long_fit(long_photos: Path) -> topwork.Fit:
    return topwork.fit(long_photos, Recipe(**FAST))


class Counted:
    """How often a picture was decoded, and the network run on each geometry."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        from topwork.features import extraction

        self.decoded, self.runs = 0, Counter[str]()
        decode, open_session = extraction.decode, extraction.open_session

        def counted_decode(*given: Any) -> Any:
            self.decoded += 1
            return decode(*given)

        def counted_session(path: Path) -> Any:
            session, geometry = open_session(path), path.name.split("-")[1]

            class Session:
                def run(_, *given: Any) -> Any:  # noqa: N805
                    self.runs[geometry] += 1
                    return session.run(*given)

            return Session()

        patch.setattr(extraction, "decode", counted_decode)
        patch.setattr(extraction, "open_session", counted_session)


def test_evidence_outside_of_the_square_is_found(long_fit: topwork.Fit) -> None:
    facts = long_fit.facts
    compared = {row["geometry"]: row["accuracy"]["value"] for row in facts["geometry_choice"]["compared"]}
    assert facts["geometry"] == facts["geometry_choice"]["chosen"] != "crop"
    assert list(compared) == ["crop", "whole", "pad", "stretch"]  # most of each picture is cut away: all are tried
    assert compared[facts["geometry"]] > compared["crop"] + 0.2
    assert facts["accuracy"]["value"] > 0.9
    assert facts["geometry_choice"]["n"] == 28
    assert "85 % of a typical picture unseen" in facts["geometry_choice"]["text"]
    assert facts["recipe"]["geometry"] == "auto"  # as asked for, like an automatic head
    assert long_fit.model.geometry == facts["geometry"]
    assert facts["cut_away"] == {"geometry": facts["geometry"], "median": 0.0, "mostly": 0.0, "text": None}


def test_whole_sees_and_explains_the_ends(long_photos: Path, tmp_path: Path) -> None:
    fit = topwork.fit(long_photos, Recipe(geometry="whole", **FAST), output=tmp_path / "m.topwork")
    assert fit.facts["geometry_choice"] is None
    model = topwork.load(tmp_path / "m.topwork")
    for path in sorted(long_photos.rglob("*.png"))[::5]:
        pixels, label = model.pixels(path), path.parent.name
        assert model.predict(path)[0].label == label
        assert model.seen_box(pixels) == (0, 0, WIDTH, HEIGHT)
        heat = model.heatmap(pixels, label)
        assert heat is not None
        assert heat.shape == (3, 15)  # 96 x 480 pixels, a cell every 32
        ends = heat[:, :4].mean(), heat[:, -4:].mean()
        assert (ends[0] > ends[1]) == bool(int(path.stem) % 2)


def test_a_crop_that_was_asked_for_says_what_it_leaves_out(long_photos: Path) -> None:
    facts = topwork.fit(long_photos, Recipe(geometry="crop", **FAST)).facts
    assert facts["accuracy"]["value"] < 0.8
    assert facts["geometry_choice"] is None
    assert facts["cut_away"]["median"] == pytest.approx(1 - 56 * 56 / (64 * 320), abs=1e-4)
    assert facts["cut_away"]["mostly"] == 1
    assert "85 % of a typical picture unseen; --geometry auto" in facts["cut_away"]["text"]
    assert any("--geometry auto" in (step["command"] or "") for step in facts["next_steps"])


def test_the_audit_says_it_too(long_photos: Path, photos: Path) -> None:
    found = topwork.audit(long_photos).facts
    assert found["cut_away"]["text"] in found["advice"]
    assert topwork.audit(photos).facts["cut_away"]["text"] is None


def test_square_pictures_cost_no_extra_pass(photos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    facts = topwork.fit(photos, Recipe(**FAST)).facts
    assert (counted.decoded, counted.runs) == (24, {"crop": 24})
    assert facts["geometry"] == "crop"
    assert (facts["geometry_choice"]["n"], facts["geometry_choice"]["compared"]) == (0, [])
    assert facts["cache"] == {"hits": 0, "misses": 24}


def test_the_comparison_is_bounded_by_a_sample(
    long_photos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("topwork.geometry.SAMPLE", 12)
    counted = Counted(monkeypatch)
    facts = topwork.fit(long_photos, Recipe(**FAST)).facts
    assert facts["geometry_choice"]["n"] == 12
    for geometry in {"pad", "stretch", "whole"} - {facts["geometry"]}:
        assert counted.runs[geometry] == 12
    assert counted.runs[facts["geometry"]] == 28
    assert counted.runs["crop"] == 28  # near-duplicates are told by it
    assert facts["cache"] == {"hits": 0, "misses": 28}


def test_pad_and_stretch_wait_until_whole_is_better(
    tmp_path: Path, pattern: Callable[..., np.ndarray], as_file: Callable[..., bytes]
) -> None:
    """Pictures a little longer than 5:4 whose middle tells the classes apart."""
    for label in ("checks", "stripes"):
        (tmp_path / label).mkdir()
        for seed in range(8):
            (tmp_path / label / f"{seed}.png").write_bytes(as_file(pattern(label, seed, 80, 110)))
    facts = topwork.fit(tmp_path, Recipe(**FAST)).facts
    assert facts["geometry"] == "crop"
    assert [row["geometry"] for row in facts["geometry_choice"]["compared"]] == ["crop", "whole"]
    assert "not better beyond the noise" in facts["geometry_choice"]["text"]
    assert "unseen" not in facts["geometry_choice"]["text"]


def test_whole_is_refused_where_it_is_not_possible() -> None:
    lite0 = backbone("tf_efficientnet_lite0")
    exported = replace(lite0, name="resnet18", family="timm")
    check_geometry(Recipe(geometry="whole"), lite0)
    check_geometry(Recipe(geometry="pad", strategy="full"), exported)
    with pytest.raises(UsageError, match=r"resnet18 takes squares; use --geometry pad, stretch or crop"):
        check_geometry(Recipe(geometry="whole"), exported)
    for strategy in ("top", "full", "scratch", "auto"):
        with pytest.raises(UsageError, match=f"squares for --strategy {strategy}"):
            check_geometry(Recipe(geometry="whole", strategy=strategy), lite0)


def test_too_few_pictures_to_compare(tmp_path: Path, as_file: Callable[..., bytes]) -> None:
    for label, value in (("a", 40), ("b", 200)):
        (tmp_path / label).mkdir()
        for seed in range(2):
            noise = np.random.default_rng([seed, value]).integers(0, 50, (40, 160, 3))
            (tmp_path / label / f"{seed}.png").write_bytes(as_file((noise + value).astype(np.uint8)))
    choice = topwork.fit(tmp_path, Recipe(group_duplicates=False, **FAST)).facts["geometry_choice"]
    assert choice["chosen"] == "crop"

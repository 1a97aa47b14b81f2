"""The same pictures give the same model; what was computed once is not computed again."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork import Recipe

FAST = Recipe(head="ridge", features="pooled")


def lasting(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts but for time, cache, and whether the geometry was chosen or named."""
    passing = ("seconds", "created", "cache", "model", "next_steps", "geometry_choice")
    return {key: value for key, value in facts.items() if key not in passing}


def test_two_fits_are_the_same(photos: Path, tmp_path: Path) -> None:
    one = topwork.fit(photos, output=tmp_path / "one.topwork")
    two = topwork.fit(photos, output=tmp_path / "two.topwork")
    assert lasting(one.facts) == lasting(two.facts)
    for name in ("model.onnx", "samples.jsonl", "head.safetensors", "golden/answers.json", "golden/0.png"):
        assert (tmp_path / "one.topwork" / name).read_bytes() == (tmp_path / "two.topwork" / name).read_bytes(), name


def test_a_cold_cache_gives_the_same_model(fitted: Any, empty_cache: Path) -> None:
    fit = topwork.fit(fitted.photos, Recipe(**fitted.facts["recipe"]))
    assert fit.facts["cache"] == {"hits": 0, "misses": 24}
    assert fit.graph == fitted.fit.graph
    assert lasting(fit.facts) == lasting(fitted.facts)


def test_a_graph_built_anew_is_the_same(fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path / "nothing there"))
    assert topwork.fit(fitted.photos, Recipe(**fitted.facts["recipe"])).graph == fitted.fit.graph


def test_another_seed_deals_other_folds(photos: Path, tmp_path: Path) -> None:
    folds = []
    for seed in (0, 1):
        folder = tmp_path / f"{seed}.topwork"
        topwork.fit(photos, Recipe(head="ridge", features="pooled", folds=3, seed=seed), output=folder)
        folds.append([json.loads(line)["fold"] for line in (folder / "samples.jsonl").read_text().splitlines()])
    assert folds[0] != folds[1]


def test_where_the_pictures_lie_does_not_matter(fitted: Any, tmp_path: Path) -> None:
    moved = shutil.copytree(fitted.photos, tmp_path / "elsewhere")
    fit = topwork.fit(moved, Recipe(**fitted.facts["recipe"]))
    assert fit.graph == fitted.fit.graph
    assert fit.facts["data_fingerprint"] == fitted.facts["data_fingerprint"]
    assert fit.facts["cache"] == {"hits": 24, "misses": 0}


def test_hits_and_misses(photos: Path, tmp_path: Path, empty_cache: Path, as_file: Callable[..., bytes]) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "set"))

    def counts(recipe: Recipe = FAST) -> tuple[int, int]:
        cache = topwork.fit(root, recipe).facts["cache"]
        return cache["hits"], cache["misses"]

    assert counts() == (0, 24)
    assert counts() == (24, 0)
    assert counts(Recipe(head="svm", features="logits", seed=7)) == (24, 0)
    extra = np.random.default_rng(9).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    (root / "dots" / "new.png").write_bytes(as_file(extra))
    assert counts() == (24, 1)
    (root / "dots" / "new.png").write_bytes(as_file(extra[::-1]))  # same name, other bytes
    assert counts() == (24, 1)
    (root / "dots" / "new.png").rename(root / "dots" / "renamed.png")  # other name, same bytes
    assert counts() == (25, 0)
    assert counts(Recipe(head="ridge", features="pooled", geometry="pad")) == (0, 25)
    assert counts(Recipe(head="ridge", features="pooled", max_pixels=99_000_000)) == (0, 25)
    (root / "dots" / "renamed.png").unlink()
    assert counts() == (24, 0)


def test_what_is_in_the_cache_is_neither_decoded_nor_run(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = topwork.fit(photos, FAST)

    def never(*_: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("topwork.features.extraction.decode", never)
    monkeypatch.setattr("topwork.features.extraction.open_session", never)
    assert topwork.fit(photos, FAST).graph == before.graph


def test_a_damaged_cache_is_an_error_not_a_feature(photos: Path, empty_cache: Path) -> None:
    import sqlite3

    topwork.fit(photos, FAST)
    with sqlite3.connect(empty_cache / "features.sqlite") as database:
        database.execute("UPDATE entries SET value = zeroblob(size) WHERE size = 5120")
    with pytest.raises(topwork.CacheError, match="topwork cache clear"):
        topwork.fit(photos, FAST)


def test_a_damaged_graph_in_the_cache_is_built_anew(fitted: Any, empty_cache: Path) -> None:
    [path] = (empty_cache / "graphs").glob("*-crop-*.onnx")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert topwork.fit(fitted.photos, Recipe(**fitted.facts["recipe"])).graph == fitted.fit.graph
    assert hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(data).digest()


def test_a_picture_stored_twice_is_read_twice_at_most(photos: Path, tmp_path: Path, empty_cache: Path) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "set"))
    shutil.copy(root / "dots" / "000.png", root / "dots" / "again.png")
    facts = topwork.fit(root, FAST).facts
    assert facts["groups"]["duplicates"] == [["dots/000.png", "dots/again.png"]]
    assert facts["cache"]["hits"] + facts["cache"]["misses"] == 25

"""The comparison: what strokes alone can know, nothing held out that was trained on, the same twice."""

import json

import numpy as np
import pytest
from PIL import Image

from topwork.errors import SourceError, TopworkError, UsageError
from topwork.evaluation.metrics import wilson
from topwork.progress import Silent
from topwork.sketching import comparison
from topwork.sketching.comparison import Material, best_of, compare_strokes, read, verdict
from topwork.sketching.examples import Drawings


def without_seconds(facts):
    """Plain values but the times, which differ from run to run."""
    if isinstance(facts, dict):
        return {name: without_seconds(value) for name, value in facts.items() if name != "seconds"}
    return [without_seconds(value) for value in facts] if isinstance(facts, list) else facts


def test_strokes_know_which_way_round_and_the_picture_does_not(turns):
    facts = compare_strokes(turns, epochs=12)
    assert facts["classes"] == ["anticlockwise", "clockwise"]
    assert (facts["n_training"], facts["n_held"], facts["copies"]) == (60, 20, 0)
    accuracy = {name: row["accuracy"] for name, row in facts["networks"].items()}
    assert accuracy["strokes"]["value"] >= 0.95
    assert accuracy["both"]["value"] >= 0.95
    assert accuracy["picture"]["low"] < 0.5 < accuracy["picture"]["high"]
    gains = {(row["network"], row["over"]): row for row in facts["gains"]}
    assert gains["strokes", "picture"]["low"] > 0
    assert gains["both", "picture"]["low"] > 0
    assert gains["both", "strokes"]["low"] < 0 < gains["both", "strokes"]["high"]
    assert facts["best"] is None
    for row in accuracy.values():
        interval = wilson(row["correct"], 20)
        assert (row["n"], row["low"], row["high"]) == (20, pytest.approx(interval.low), pytest.approx(interval.high))


def test_the_same_twice_and_another_seed_differs(rings):
    first, again, other = (compare_strokes(rings, epochs=2, seed=seed) for seed in (3, 3, 4))
    assert without_seconds(first) == without_seconds(again)
    assert without_seconds(first["networks"]) != without_seconds(other["networks"])
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    for row in first["networks"].values():
        assert [epoch["epoch"] for epoch in row["curves"]] == [1, 2]
        assert row["curves"][-1]["accuracy"] == row["accuracy"]["value"]


def test_copies_stay_on_one_side(tmp_path, line_of, monkeypatch):
    """Every drawing four times, in places and sizes of its own."""
    random = np.random.default_rng(0)
    for word in ("ant", "bee"):
        strokes = [np.cumsum(random.normal(size=(6, 2)), axis=0) * 20 for _ in range(8)]
        lines = [line_of(word, (1 + k) * stroke + 9 * k) for k in range(4) for stroke in strokes]
        (tmp_path / f"{word}.ndjson").write_text("".join(lines))
    seen = {}

    def note(name, material, training, unseen, settings, seed, progress):
        seen[name] = training, unseen, material.groups
        scores = np.eye(2, dtype=np.float32)[material.drawings.labels[unseen]]
        return comparison.Measured(None, scores, {})

    monkeypatch.setattr(comparison, "measure", note)
    facts = compare_strokes(tmp_path)
    assert facts["copies"] == 48
    for training, unseen, groups in seen.values():
        assert len(training) + len(unseen) == 64
        assert not set(groups[training].tolist()) & set(groups[unseen].tolist())
    assert len({tuple(unseen) for _, unseen, _ in seen.values()}) == 1


def test_fewer_of_each_class(rings):
    chosen = read(rings, per_class=5, size=12, seed=1, progress=Silent())
    everything = read(rings, per_class=0, size=12, seed=1, progress=Silent())
    assert np.bincount(chosen.drawings.labels).tolist() == [5, 5]
    assert np.bincount(everything.drawings.labels).tolist() == [12, 12]
    assert chosen.drawings.pictures.shape == (10, 12, 12)
    whole = {picture.tobytes() for picture in everything.drawings.pictures}
    assert {picture.tobytes() for picture in chosen.drawings.pictures} <= whole


def test_files_count_once_and_bad_lines_are_named(rings, tmp_path, line_of):
    bad = tmp_path / "dot.ndjson"
    bad.write_text(line_of("dot", np.array([[1, 1]])) + "oops\n" + line_of("dot", np.array([[1, 1], [2, 2]])))
    found = read([rings, rings / "square.ndjson", bad], per_class=0, size=8, seed=0, progress=Silent())
    assert found.classes == ("circle", "dot", "square")
    assert np.bincount(found.drawings.labels).tolist() == [12, 2, 12]
    assert [(item.path, item.reason[:8]) for item in found.excluded] == [(f"{bad}:2", "not JSON")]


def test_the_verdict_is_over_the_same_drawings():
    """Of 40 drawings the first network is right on 20, the second on those and 15 more."""
    labels = np.zeros(40, np.int64)
    drawings = Drawings(np.zeros((40, 1, 3), np.float32), np.ones(40, np.int64), np.zeros((40, 1, 1), np.uint8), labels)
    scores = {name: np.eye(2, dtype=np.float32)[(np.arange(40) >= n).astype(int)] for name, n in (("a", 20), ("b", 35))}
    alone = Material(drawings, np.arange(40), ("x", "y"), ())
    found = verdict(scores, alone, np.arange(40))
    assert found["best"] == "b"
    assert found["gains"][0]["value"] == pytest.approx(15 / 40)
    copies = Material(drawings, np.arange(40) // 20, ("x", "y"), ())
    assert verdict(scores, copies, np.arange(40))["best"] is None


def pair(network, over, low, high):
    return {"network": network, "over": over, "value": (low + high) / 2, "low": low, "high": high}


@pytest.mark.parametrize(
    ("gains", "best"),
    [
        ([pair("b", "a", 0.1, 0.2), pair("c", "a", 0.1, 0.3), pair("c", "b", 0.01, 0.2)], "c"),
        ([pair("b", "a", 0.1, 0.2), pair("c", "a", 0.1, 0.3), pair("c", "b", -0.01, 0.2)], None),
        ([pair("b", "a", -0.2, -0.1), pair("c", "a", -0.2, -0.1), pair("c", "b", -0.1, 0.1)], "a"),
        ([pair("b", "a", 0.1, 0.2), pair("c", "a", -0.1, 0.1), pair("c", "b", -0.3, -0.1)], "b"),
    ],
)
def test_the_best_is_better_than_each_other_one(gains, best):
    assert best_of(gains) == best


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number, 1 or more, not 0"),
        ({"size": 7}, "size must be a whole number, 8 to 256, not 7"),
        ({"size": True}, "size must be"),
        ({"per_class": -1}, "per_class must be"),
        ({"seed": 0.5}, "seed must be"),
    ],
)
def test_wrong_options(rings, options, message):
    with pytest.raises(UsageError, match=message):
        compare_strokes(rings, **options)


def test_wrong_sources(rings, tmp_path):
    with pytest.raises(SourceError, match="at least two classes, but all are of 'circle'"):
        compare_strokes(rings / "circle.ndjson")
    with pytest.raises(UsageError, match="give at least one"):
        compare_strokes([])
    for word in ("ant", "bee"):
        np.save(tmp_path / f"{word}.npy", np.zeros((3, 784), np.uint8))
    with pytest.raises(SourceError, match="is a bitmap, which has none"):
        compare_strokes(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (9, 9)).save(photos / "a.png")
    with pytest.raises(TopworkError, match="expected QuickDraw files"):
        compare_strokes(photos)

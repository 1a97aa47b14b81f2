"""Is the reported accuracy what the model will reach? Leaks, groups, and data where nothing can be learned."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import topwork
from topwork import Recipe


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory, pattern: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """A set whose labels are drawn by lot: ``n`` pictures that have nothing to do with their class."""
    made: dict[tuple[int, int], Path] = {}

    def make(n: int, seed: int) -> Path:
        if (n, seed) not in made:
            root = tmp_path_factory.mktemp("noise")
            labels = np.random.default_rng(seed).permutation(np.arange(n) % 2)
            for i, label in enumerate(labels):
                (root / "ab"[label]).mkdir(exist_ok=True)
                Image.fromarray(pattern("any", i)).save(root / "ab"[label] / f"{i:03}.png")
            made[(n, seed)] = root
        return made[(n, seed)]

    return make


def _alike(path: Path) -> None:
    """Three pictures beside ``path`` that show the same: mirrored, recompressed, brightened."""
    with Image.open(path) as image:
        ImageOps.mirror(image).save(path.with_name(f"{path.stem}_mirrored.png"))
        image.save(path.with_name(f"{path.stem}_small.jpg"), quality=60)
        ImageEnhance.Brightness(image).enhance(1.1).save(path.with_name(f"{path.stem}_bright.png"))


def test_a_planted_leak_is_found_and_shown(tmp_path: Path, noise: Callable[..., Path]) -> None:
    root = Path(shutil.copytree(noise(14, 1), tmp_path / "set"))
    for path in list(root.rglob("*.png")):
        _alike(path)
    facts = topwork.fit(root).facts
    assert facts["groups"]["count"] == 14
    assert facts["groups"]["largest"] == 4
    assert {len({Path(p).name[:3] for p in group}) for group in facts["groups"]["duplicates"]} == {1}
    accuracy = facts["accuracy"]
    assert accuracy["naive"] >= 0.85
    assert accuracy["value"] <= 0.65
    assert accuracy["low"] <= 0.5
    assert "group" in accuracy["method"]


def test_the_interval_of_repeated_pictures_is_that_of_the_distinct_ones(
    tmp_path: Path, noise: Callable[..., Path]
) -> None:
    """Storing every picture four times must not narrow the interval."""
    recipe = Recipe(head="ridge", features="pooled")
    single = topwork.fit(noise(14, 1), recipe).facts["accuracy"]
    root = Path(shutil.copytree(noise(14, 1), tmp_path / "set"))
    for path in list(root.rglob("*.png")):
        _alike(path)
    repeated = topwork.fit(root, recipe).facts["accuracy"]
    assert repeated["n"] == 4 * single["n"]
    assert repeated["high"] - repeated["low"] == pytest.approx(single["high"] - single["low"], abs=0.1)


def test_without_duplicates_naive_is_the_value(fitted: Any) -> None:
    assert fitted.facts["accuracy"]["naive"] == fitted.facts["accuracy"]["value"]


def test_labels_by_lot_give_chance(noise: Callable[..., Path]) -> None:
    """The best of many settings looks better than chance on the folds it was chosen on; the value must not."""
    values, inner = [], []
    for seed in range(3):
        facts = topwork.fit(noise(42, seed), Recipe(folds=5)).facts
        assert facts["groups"]["count"] == 42
        assert facts["accuracy"]["low"] <= 0.5 <= facts["accuracy"]["high"]
        values.append(facts["accuracy"]["value"])
        inner.append(facts["choice"]["candidates"][0]["accuracy"])
    assert np.mean(values) < 0.6
    assert values != inner


def _manifest(path: Path, root: Path, labels: list[str]) -> Path:
    pictures = sorted(root.rglob("*.png"), key=lambda p: p.name)
    rows = [f"{p},{label},g{i % 6}" for i, (p, label) in enumerate(zip(pictures, labels, strict=True))]
    path.write_text("\n".join(["path,label,group", *rows]) + "\n")
    return path


def test_a_picture_s_own_label_has_no_part_in_its_probabilities(tmp_path: Path, noise: Callable[..., Path]) -> None:
    """With other labels in one fold, nothing that is said about its pictures changes, to the last bit.

    So neither choice nor training nor calibration saw them. This would fail if the winner of all folds, its scores or
    its temperature were used for measuring.
    """
    root = noise(42, 0)
    labels = ["ab"[i] for i in np.random.default_rng(5).permutation(np.arange(42) % 2)]
    recipe = Recipe(folds=6, group_duplicates=False)
    said = []
    for run, flipped in enumerate(("", "0", "3")):
        changed = [{"a": "b", "b": "a"}[label] if str(i % 6) == flipped else label for i, label in enumerate(labels)]
        folder = tmp_path / f"{run}.topwork"
        topwork.fit(_manifest(tmp_path / f"{run}.csv", root, changed), recipe, output=folder)
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        said.append({row["id"]: row for row in rows})
    by_group = {row["id"]: int(Path(row["id"]).stem) % 6 for row in said[0].values()}
    assert {row["fold"] for row in said[0].values()} == set(range(6))
    for run, group in ((1, 0), (2, 3)):
        same = {path: said[0][path]["probabilities"] == said[run][path]["probabilities"] for path in said[0]}
        assert all(same[path] for path in same if by_group[path] == group)
        assert not all(same[path] for path in same if by_group[path] != group)


def test_groups_of_the_user_stay_in_one_fold(tmp_path: Path, noise: Callable[..., Path]) -> None:
    pictures = sorted(noise(42, 0).rglob("*.png"), key=lambda p: p.name)
    rows = [f"{p},{'ab'[i % 2]},{f'clip {i // 5}' if i < 20 else ''}" for i, p in enumerate(pictures)]
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(["path,label,group", *rows]))
    for seed in range(3):
        recipe = Recipe(head="ridge", features="pooled", folds=4, seed=seed)
        folder = tmp_path / f"{seed}.topwork"
        facts = topwork.fit(manifest, recipe, output=folder).facts
        found = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        row = {Path(item["id"]).stem: item for item in found}
        for clip in range(4):
            members = [row[f"{i:03}"] for i in range(5 * clip, 5 * clip + 5)]
            assert len({member["fold"] for member in members}) == 1
            assert len({member["group"] for member in members}) == 1
        assert facts["groups"]["count"] == 26
        assert facts["groups"]["largest"] == 5


def test_novelty_tells_a_blank_wall_from_the_training_pictures(fitted: Any, tmp_path: Path) -> None:
    wall = np.random.default_rng(0).normal(180, 4, (150, 200, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(wall).save(buffer, "PNG")
    model = topwork.load(fitted.folder)
    assert model.predict(buffer.getvalue())[0].known is False
    known = [p.known for p in model.predict(sorted(fitted.photos.rglob("*.png")))]
    assert np.mean(known) >= 0.9

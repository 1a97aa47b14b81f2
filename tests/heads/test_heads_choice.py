"""Nested choice: nothing that is measured took part in what measures it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.evaluation.vectors import normalized
from topwork.heads import choice as module
from topwork.heads.basis import principal_axes
from topwork.heads.candidates import HEADS, Candidate, HeadKind, candidates
from topwork.heads.choice import Choice, HeadStage, inner_pairs
from topwork.images import stratified_group_folds

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
VIEWS = [("crop", "pooled"), ("crop", "logits")]
ALL = candidates("auto", "auto", VIEWS)


def dealt(labels: np.ndarray, k: int = 5, groups: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    return stratified_group_folds(labels, np.arange(len(labels)) if groups is None else groups, k, seed)


def views_of(inputs: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    return {("crop", "pooled"): inputs, ("crop", "logits"): inputs[:, : inputs.shape[1] // 2]}


def stage_of(inputs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> HeadStage:
    return HeadStage(views_of(inputs), labels, folds, int(labels.max()) + 1)


def centred(scores: np.ndarray) -> np.ndarray:
    """Without what all classes share, which means nothing."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


@settings(max_examples=200, deadline=None)
@given(st.integers(3, 60), st.integers(3, 5000))
def test_inner_pairs_meet_every_fold_equally(k: int, n: int) -> None:
    pairs = inner_pairs(k, n)
    assert all(0 <= i < k and 0 <= j < k and i != j for i, j in pairs)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    met = np.bincount(np.array(pairs).ravel(), minlength=k)
    assert (met == met[0]).all()
    assert 1 <= met[0] <= k - 1
    assert len(pairs) <= max(200, k)


def test_inner_pairs_are_all_of_them_where_that_is_cheap() -> None:
    assert len(inner_pairs(5, 500)) == 10
    assert len(inner_pairs(5, 501)) == 5
    assert len(inner_pairs(3, 100)) == 3


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch, seen: list[tuple[str, np.ndarray]]) -> Iterator[None]:
    """Note the mask of every fit."""
    real = HEADS.get

    def spied(name: str) -> HeadKind:
        kind = real(name)

        def fit(coordinates: Any, targets: Any, mask: np.ndarray, strength: float) -> Any:
            seen.append((name, mask.copy()))
            return kind.fit(coordinates, targets, mask, strength)

        return HeadKind(fit, kind.strengths, kind.sees)

    with monkeypatch.context() as patch:
        patch.setattr(module.HEADS, "get", spied)
        yield


def test_no_fit_sees_the_folds_it_is_scored_on(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = clouds((20, 20, 20))
    folds = dealt(labels, 4)
    stage = stage_of(inputs, labels, folds)
    seen: list[tuple[str, np.ndarray]] = []
    with watched(monkeypatch, seen):
        chosen = stage.choose(ALL)
    pairs = inner_pairs(4, 60)
    inner = [mask for _, mask in seen if mask.shape[1] == len(pairs)]
    assert len(inner) >= len(ALL)
    for mask in inner[: len(ALL)]:
        for column, pair in zip(mask.T, pairs, strict=True):
            np.testing.assert_array_equal(column == 0, np.isin(folds, pair))
    for mask in (mask for _, mask in seen[len(ALL) :]):
        for column in mask.T:
            left_out = set(folds[column == 0].tolist())
            assert len(left_out) == 1
            assert not set(folds[column != 0].tolist()) & left_out
    for fold, (rows, scores) in enumerate(chosen.inner):
        assert len(rows) == len(scores)
        assert not (folds[rows] == fold).any()


def test_inner_scores_are_by_heads_without_both_folds(clouds: Clouds) -> None:
    """Once more in the plain way, from the definition."""
    inputs, labels = clouds((12, 12, 12), apart=0.6)
    folds = dealt(labels, 3)
    options = candidates("ridge", "pooled", VIEWS)
    chosen = stage_of(inputs, labels, folds).choose(options)
    z = principal_axes(normalized(inputs)).coordinates
    targets = np.eye(3, dtype=np.float32)[labels]
    for i in range(3):
        for option in options:
            expected = np.full((36, 3), np.nan, np.float32)
            for j in set(range(3)) - {i}:
                mask = ((folds != i) & (folds != j)).astype(np.float32)[:, None]
                weight, bias = HEADS.get("ridge").fit(z, targets, mask, option.strength)
                expected[folds == j] = z[folds == j] @ weight[0] + bias[0]
            outside = folds != i
            if option == chosen.fold_winners[i]:
                rows, scores = chosen.inner[i]
                assert sorted(rows.tolist()) == np.flatnonzero(outside).tolist()
                np.testing.assert_allclose(scores, expected[rows], atol=1e-4)


def test_out_of_fold_scores_are_by_heads_without_the_fold(clouds: Clouds) -> None:
    inputs, labels = clouds((20, 20, 20), apart=0.6)
    folds = dealt(labels, 4)
    chosen = stage_of(inputs, labels, folds).choose(ALL)
    for fold in range(4):
        outside = folds != fold
        for option, scores in ((chosen.fold_winners[fold], chosen.nested), (chosen.winner, chosen.scores)):
            head = HeadStage(views_of(inputs[outside]), labels[outside], np.arange(outside.sum()) % 3, 3).final(option)
            expected = head.scores(views_of(inputs)[option.view])[~outside]
            found = scores[~outside]
            assert np.abs(centred(found) - centred(expected)).max() < 0.04 * np.abs(centred(expected)).max()
            assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.9


@pytest.mark.parametrize("fold", range(3))
def test_what_is_in_a_fold_changes_neither_its_winner_nor_its_head(clouds: Clouds, fold: int) -> None:
    """Other pictures and other labels in one fold: what judges it stays."""
    inputs, labels = clouds((20, 20, 20), apart=0.5)
    folds = dealt(labels, 3)
    inside = folds == fold
    other, relabelled = inputs.copy(), labels.copy()
    other[inside] = inputs[inside][::-1] * 0.7 + 1
    relabelled[inside] = (labels[inside] + 1) % 3
    before = stage_of(inputs, labels, folds).choose(ALL)
    after = stage_of(other, relabelled, folds).choose(ALL)
    assert before.fold_winners[fold] == after.fold_winners[fold]
    np.testing.assert_array_equal(before.inner[fold][0], after.inner[fold][0])
    scores, expected = centred(after.inner[fold][1]), centred(before.inner[fold][1])
    assert np.abs(scores - expected).max() < 0.03 * np.abs(expected).max()


def noise_choices(seeds: range) -> Iterator[tuple[Choice, np.ndarray]]:
    """Labels that have nothing to do with the inputs, and many candidates to be lucky with."""
    options = [
        Candidate(head, "pooled", str(view), strength)
        for view in range(12)
        for head, strength in (("ridge", 0.1), ("ridge", 10.0), ("nearest-mean", 1.0))
    ]
    for seed in seeds:
        random = np.random.default_rng(seed)
        labels = random.permutation(np.repeat([0, 1], 20))
        views = {(str(view), "pooled"): random.normal(size=(40, 8)).astype(np.float32) for view in range(12)}
        yield HeadStage(views, labels, dealt(labels, 5, seed=seed), 2).choose(options), labels


def test_on_noise_the_measurement_is_chance_though_the_best_inner_score_is_not() -> None:
    nested, best = [], []
    for chosen, labels in noise_choices(range(25)):
        nested.append(accuracy(chosen.nested, labels))
        best.append(chosen.table[0][1])
    # 25 sets of 40 pictures: the standard error of the mean is about 0.016, more since folds share pictures.
    assert np.mean(nested) == pytest.approx(0.5, abs=0.08)
    assert np.mean(best) > 0.60


def test_the_table_holds_every_candidate_with_its_accuracy_outside_each_fold(clouds: Clouds) -> None:
    inputs, labels = clouds((20, 20, 20), apart=0.5)
    chosen = stage_of(inputs, labels, dealt(labels)).choose(ALL)
    values = {row[0]: row[1] for row in chosen.table}
    assert [row[2] for row in chosen.table] == sorted(row[2] for row in chosen.table)
    assert values.keys() == set(ALL)
    assert chosen.winner in values
    assert values[chosen.winner] == pytest.approx(accuracy(chosen.scores, labels), abs=0.1)
    assert len(chosen.fold_winners) == len(chosen.inner) == 5


def test_ties_go_to_the_first_candidate() -> None:
    inputs = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    labels = np.repeat([0, 1], 10)
    options = candidates("auto", "pooled", VIEWS)
    chosen = HeadStage({("crop", "pooled"): inputs}, labels, dealt(labels), 2).choose(options)
    assert chosen.winner == options[0]
    assert set(chosen.fold_winners) == {options[0]}
    assert accuracy(chosen.nested, labels) == 1.0


def test_the_better_view_wins(clouds: Clouds) -> None:
    good, labels = clouds((20, 20, 20), apart=2.0)
    noise = np.random.default_rng(5).normal(size=good.shape).astype(np.float32)
    views = {("crop", "logits"): noise, ("pad", "logits"): good}
    options = candidates("svm", "logits", [("crop", "logits"), ("pad", "logits")])
    chosen = HeadStage(views, labels, dealt(labels), 3).choose(options)
    assert {chosen.winner.geometry, *(winner.geometry for winner in chosen.fold_winners)} == {"pad"}
    assert accuracy(chosen.nested, labels) > 0.8


def test_a_validation_set_decides_instead(clouds: Clouds) -> None:
    """It follows the view that cross-validation would not choose."""
    good, labels = clouds((20, 20, 20), apart=2.0)
    random = np.random.default_rng(5)
    weak = (good + random.normal(0, 4, good.shape)).astype(np.float32)
    views = {("crop", "logits"): good, ("pad", "logits"): weak}
    options = candidates("ridge", "logits", [("crop", "logits"), ("pad", "logits")])
    stage = HeadStage(views, labels, dealt(labels), 3)
    validation = {("crop", "logits"): random.normal(size=good.shape).astype(np.float32), ("pad", "logits"): good}
    assert stage.choose(options).winner.geometry == "crop"
    chosen = stage.choose(options, (validation, labels))
    assert chosen.winner.geometry == "pad"
    assert {winner.geometry for winner in chosen.fold_winners} == {"pad"}
    for rows, scores in chosen.inner:
        np.testing.assert_array_equal(rows, np.arange(60))
        assert scores.shape == (60, 3)
    # Each fold's head was trained without it, on the view that was chosen.
    mask = (dealt(labels) != 2).astype(np.float32)[:, None]
    basis = principal_axes(weak)
    weight, bias = HEADS.get("ridge").fit(
        basis.coordinates, np.eye(3, dtype=np.float32)[labels], mask, chosen.fold_winners[2].strength
    )
    expected = (good - basis.mean) @ basis.axes @ weight[0] + bias[0]
    np.testing.assert_allclose(chosen.inner[2][1], expected, atol=1e-3)


def test_copies_across_folds_flatter_and_grouped_folds_do_not(clouds: Clouds) -> None:
    """A planted leak: each picture twice, labels at random."""
    random = np.random.default_rng(0)
    once, labels = random.normal(size=(60, 200)).astype(np.float32), np.repeat([0, 1], 30)
    inputs, twice = np.concatenate([once, once + 0.01]), np.concatenate([labels, labels])
    groups = np.tile(np.arange(60), 2)
    options = candidates("svm", "logits", VIEWS)
    found = {}
    for name, folds in (("random", dealt(twice)), ("grouped", dealt(twice, groups=groups))):
        stage = HeadStage({("crop", "logits"): inputs}, twice, folds, 2)
        found[name] = accuracy(stage.choose(options).nested, twice)
    assert found["random"] > 0.75
    assert found["grouped"] == pytest.approx(0.5, abs=0.2)
    assert found["random"] > found["grouped"] + 0.2
    stage = HeadStage({("crop", "logits"): inputs}, twice, dealt(twice, groups=groups), 2)
    assert accuracy(stage.with_folds(dealt(twice)).choose(options).nested, twice) == found["random"]
    assert accuracy(stage.choose(options).nested, twice) == found["grouped"]


def test_subsets_restrict_what_each_fold_is_trained_on(clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = clouds((20, 20, 20))
    folds = dealt(labels)
    stage = stage_of(inputs, labels, folds)
    subsets = np.random.default_rng(0).random((60, 5)) < 0.6
    seen: list[tuple[str, np.ndarray]] = []
    with watched(monkeypatch, seen):
        stage.out_of_fold([ALL[0]] * 5, subsets)
    ((_, mask),) = seen
    np.testing.assert_array_equal(mask > 0, subsets & (folds[:, None] != np.arange(5)))


@pytest.mark.parametrize("features", ["pooled", "logits"])
def test_the_final_head_is_trained_on_everything(clouds: Clouds, features: str) -> None:
    inputs, labels = clouds((20, 20, 20), apart=1.0)
    stage = HeadStage({("crop", features): inputs}, labels, dealt(labels), 3)
    option = Candidate("ridge", features, "crop", 3.0)
    head = stage.final(option)
    assert (head.kind, head.features, head.normalize) == ("ridge", features, features == "pooled")
    assert head.weight.shape == (12, 3)
    seen = normalized(inputs) if features == "pooled" else inputs
    z = principal_axes(seen).coordinates
    weight, bias = HEADS.get("ridge").fit(z, np.eye(3, dtype=np.float32)[labels], np.ones((60, 1), np.float32), 3.0)
    np.testing.assert_allclose(head.scores(inputs), z @ weight[0] + bias[0], atol=1e-3)
    if features == "pooled":
        np.testing.assert_allclose(head.scores(3 * inputs), head.scores(inputs), atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_answer(clouds: Clouds, threads: int) -> None:
    inputs, labels = clouds((20, 20, 20), apart=0.5)
    folds = dealt(labels)
    expected = stage_of(inputs, labels, folds).choose(ALL)
    found = HeadStage(views_of(inputs), labels, folds, 3, threads=threads).choose(ALL)
    assert found.table == expected.table
    np.testing.assert_array_equal(found.nested, expected.nested)


def test_leave_one_out_with_a_class_of_two(clouds: Clouds) -> None:
    """Without two folds the class of two is gone: its pictures count as missed, nothing breaks."""
    inputs, labels = clouds((8, 2), apart=2.0)
    stage = HeadStage({("crop", "logits"): inputs}, labels, np.arange(10), 2)
    chosen = stage.choose(candidates("auto", "logits", VIEWS))
    assert np.isfinite(chosen.nested).all()
    assert not np.isnan(np.concatenate([scores for _, scores in chosen.inner])).any()
    for fold in np.flatnonzero(labels == 1):
        rows, scores = chosen.inner[fold]
        assert (scores[labels[rows] == 1].argmax(axis=1) == 0).all()

import numpy as np
import pytest

from topwork.evaluation import novelty
from topwork.evaluation.label_errors import suspects


def test_distances_equal_brute_force() -> None:
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(60, 20)).astype(np.float32), random.integers(0, 4, 60)
    means = novelty.class_means(features, labels, 4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    expected = np.stack([unit[labels == k].mean(axis=0) for k in range(4)])
    np.testing.assert_allclose(means, expected, atol=1e-6)
    new = 50 * random.normal(size=(30, 20)).astype(np.float32)
    brute = [min(np.linalg.norm(x / np.linalg.norm(x) - m) for m in expected) for x in new]
    np.testing.assert_allclose(novelty.distances(new, means), brute, atol=1e-5)


def test_distances_are_in_0_to_2_and_skip_absent_classes() -> None:
    features = np.array([[1, 0], [0, 2], [-3, 0], [0, 0]], np.float32)
    means = novelty.class_means(features[:1], np.array([1]), 3)
    assert np.isnan(means[[0, 2]]).all()
    np.testing.assert_allclose(novelty.distances(features, means), [0, 2**0.5, 2, 1], atol=1e-6)


def test_out_of_fold_leaves_the_fold_out() -> None:
    random = np.random.default_rng(0)
    labels, folds = np.arange(40) % 2, np.arange(40) % 5
    features = (random.normal(size=(2, 100))[labels] + random.normal(size=(40, 100))).astype(np.float32)
    found = novelty.out_of_fold(features, labels, folds, 2)
    for fold in range(5):
        inside = folds == fold
        means = novelty.class_means(features[~inside], labels[~inside], 2)
        np.testing.assert_array_equal(found[inside], novelty.distances(features[inside], means))
    whole = novelty.distances(features, novelty.class_means(features, labels, 2))
    assert (found > whole).mean() > 0.9


@pytest.mark.parametrize("target", [0.8, 0.95])
@pytest.mark.parametrize("n", [19, 30, 100])
def test_threshold_covers_new_pictures_as_promised(n: int, target: float) -> None:
    """Averaged over calibration sets, a new draw is known with probability rank / (n + 1) >= target."""
    random = np.random.default_rng(0)
    covered = []
    for _ in range(3000):
        draws = random.gamma(2, 1, n + 20).astype(np.float32)
        covered.append((draws[n:] <= novelty.conformal_threshold(draws[:n], target).value).mean())
    rank = int(np.ceil((n + 1) * target - 1e-9))
    assert np.mean(covered) == pytest.approx(rank / (n + 1), abs=0.008)
    assert np.mean(covered) > target - 0.008


def test_threshold_of_a_small_set_says_what_it_can_promise() -> None:
    found = novelty.conformal_threshold(np.array([3, 1, 2], np.float32), 0.95)
    assert (found.value, found.guaranteed, found.coverage, found.n) == (3.0, 0.75, 1.0, 3)
    assert found.summary()["note"] == (
        "3 pictures are too few to promise that 95 % of such pictures count as known: they support 75 %; 19 would do."
    )
    almost = novelty.Threshold(1.0, 0.95, 18 / 19, 1.0, 18).summary()["note"]
    assert "they support 94.7 %; 19 would do" in almost
    enough = novelty.conformal_threshold(np.arange(19, dtype=np.float32), 0.95)
    assert (enough.guaranteed, enough.summary()["note"]) == (0.95, None)
    assert enough.value == 18.0
    larger = novelty.conformal_threshold(np.arange(1, 40, dtype=np.float32), 0.95)
    assert larger.value == 38.0
    assert larger.coverage == pytest.approx(38 / 39)


def test_flipped_labels_are_found() -> None:
    """Good probabilities with noise, a tenth of the labels flipped."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 600)
    labels = truth.copy()
    flipped = random.choice(600, 60, replace=False)
    labels[flipped] = (truth[flipped] + random.integers(1, 4, 60)) % 4
    scores = 4 * np.eye(4)[truth] + random.normal(0, 1, (600, 4))
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    found = suspects(probabilities, labels)
    rows = {suspect.row for suspect in found}
    hits = rows & set(flipped.tolist())
    assert len(hits) > 0.4 * 60
    assert len(hits) > 0.9 * len(rows)
    assert {s.row for s in found[:20]} <= set(flipped.tolist())
    assert np.mean([truth[s.row] == s.suggested for s in found]) > 0.85
    for suspect in found:
        assert suspect.suggested == probabilities[suspect.row].argmax() != labels[suspect.row]
        assert suspect.label_probability == probabilities[suspect.row, labels[suspect.row]]


def test_no_suspects_where_nothing_contradicts() -> None:
    probabilities = np.array([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    assert suspects(probabilities, np.array([0, 0, 1])) == []
    assert suspects(np.zeros((0, 3)), np.zeros(0, np.int64)) == []


@pytest.mark.parametrize("sure", [0.4, 0.7, 1.5, 4.0])
def test_the_mistakes_of_a_model_are_no_wrong_labels(sure: float) -> None:
    """Labels drawn by the model's own probabilities, so that every mistake is its own; weak and strong models."""
    random = np.random.default_rng(1)
    scores = sure * random.normal(0, 1, (1000, 6)) + sure * 3 * np.eye(6)[random.integers(0, 6, 1000)]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(6, p=row) for row in probabilities])
    mistakes = (probabilities.argmax(axis=1) != labels).sum()
    assert mistakes > 10
    assert len(suspects(probabilities, labels)) <= 2

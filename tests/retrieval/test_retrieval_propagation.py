"""Labels from labelled pictures nearby."""

import numpy as np
import pytest

from topwork.retrieval.propagation import FLOW, _solve, neighbour_graph, propagate


def blobs(sizes: list[int], spread: float, d: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(len(sizes), d)[of] + random.normal(0, spread, (len(of), d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


def some(of: np.ndarray, each: int) -> np.ndarray:
    """The labels of the first ``each`` of each class, -1 for all others."""
    labels = np.full(len(of), -1)
    for name in np.unique(of):
        labels[np.flatnonzero(of == name)[:each]] = name
    return labels


def test_the_solution_is_that_of_the_linear_system() -> None:
    vectors, of = blobs([15, 12], 0.2)
    graph = neighbour_graph(vectors, 5)
    dense = graph.toarray()
    np.testing.assert_allclose(dense, dense.T, atol=1e-6)
    assert np.abs(np.linalg.eigvalsh(dense)).max() <= 1 + 1e-5
    right = np.eye(2, dtype=np.float32)[of]
    exact = np.linalg.solve(np.eye(27) - FLOW * dense, right)
    np.testing.assert_allclose(_solve(graph, right), exact, rtol=1e-3)


def test_left_out_answers_are_those_of_solving_without_the_label() -> None:
    vectors, of = blobs([20, 20], 0.35)
    labels, groups = some(of, 6), np.arange(40)
    groups[1] = 0  # the two first are copies
    found = propagate(vectors, labels, groups=groups)
    for row, right in zip(found.left_out, found.left_out_right, strict=True):
        without = np.where(groups == groups[row], -1, labels)
        assert (propagate(vectors, without).labels[row] == labels[row]) == right


def test_clear_classes_are_labelled_with_confidence_that_grows_with_the_labels() -> None:
    vectors, of = blobs([40, 40, 40], 0.1)
    confidences = []
    for each in (1, 3, 10, 30):
        found = propagate(vectors, some(of, each))
        reached = found.labels >= 0
        assert reached.mean() > 0.9
        assert (found.labels == of)[reached].all()
        confidences.append(float(np.median(found.confidence)))
    assert confidences == sorted(confidences)
    assert confidences[0] <= 0.6  # nothing could be left out: not known how far to trust
    assert confidences[-1] > 0.9


def test_confidence_is_about_the_share_that_is_right() -> None:
    vectors, of = blobs([150, 150, 150], 0.45, seed=2)
    random = np.random.default_rng(0)
    labels = np.where(random.uniform(size=len(of)) < 0.3, of, -1)
    found = propagate(vectors, labels)
    asked = (labels < 0) & (found.labels >= 0)
    right = (found.labels == of)[asked]
    assert 0.6 < right.mean() < 0.97
    assert found.confidence[asked].mean() == pytest.approx(right.mean(), abs=0.08)
    measured = found.measured(0.9)
    assert measured["left_out"] == len(found.left_out) >= measured["sure"] >= measured["sure_right"]


def test_what_is_far_from_everything_or_from_every_label_gets_none() -> None:
    vectors, of = blobs([30, 30, 12], 0.08)
    stranger = np.zeros((1, 24), np.float32)
    stranger[0, 20] = 1
    everything = np.concatenate([vectors, stranger])
    labels = np.append(some(of, 5), -1)
    labels[labels == 2] = -1  # a class that nobody labelled
    found = propagate(everything, labels)
    assert (found.labels[:60] == of[:60]).mean() > 0.95  # some lie at the fringe
    assert set(found.labels[:30]) <= {0, -1}
    assert (found.labels[60:] == -1).all()
    assert (found.confidence[60:] == 0).all()


@pytest.mark.parametrize(("labels", "expected"), [([], []), ([-1], [-1]), ([0], [0]), ([-1, -1, -1], [-1, -1, -1])])
def test_few_pictures(labels: list[int], expected: list[int]) -> None:
    found = propagate(np.ones((len(labels), 2), np.float32), np.array(labels, np.int64))
    assert found.labels.tolist() == expected or found.labels.tolist() == [-1] * len(labels)
    assert found.measured(0.9)["left_out"] == 0

import numpy as np
import pytest

from topwork.auditing.repeats import Repeats, across_splits, distinct_rows, find_repeats, label_conflicts
from topwork.images import Sample


def samples(*labels: str | None, splits: str = "") -> list[Sample]:
    names = {"r": "train", "e": "test", "-": None}
    return [Sample(f"{i}", f"/{i}", label, names[splits[i]] if splits else None) for i, label in enumerate(labels)]


def test_near_duplicates_bring_their_exact_copies() -> None:
    features = np.eye(3, dtype=np.float32)[[0, 1, 1]]
    hashes = np.array([1, 2**40 - 1, 2**40 - 1], np.uint64)
    found = find_repeats(["c", "a", "b", "a", "c"], features, hashes, rows=np.array([0, 1, 2]))
    assert found == Repeats(exact=[[0, 4], [1, 3]], near=[[1, 2, 3]], sampled_out=0)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_contents_have_no_near_duplicates(n: int) -> None:
    found = find_repeats(["a"] * n, np.ones((n, 3), np.float32), np.ones(n, np.uint64), rows=np.arange(n))
    assert found == Repeats([], [], 0)


def test_distinct_rows_are_sampled_by_the_seed() -> None:
    contents = [f"{i % 50:02}" for i in range(200)]
    rows = distinct_rows(contents, 10, seed=1)
    assert len({contents[row] for row in rows}) == len(rows) == 10
    assert rows.tolist() == sorted(rows) == distinct_rows(contents, 10, seed=1).tolist()
    assert rows.tolist() != distinct_rows(contents, 10, seed=2).tolist()
    assert distinct_rows([], 10, seed=1).tolist() == []


def test_a_conflict_among_copies_is_not_named_again_as_near() -> None:
    repeats = Repeats(exact=[[0, 1]], near=[[0, 1, 2]], sampled_out=0)
    assert [c["kind"] for c in label_conflicts(samples("a", "b", "a"), repeats)] == ["exact"]
    conflicts = label_conflicts(samples("a", "b", "c"), repeats)
    assert [(c["kind"], c["labels"]) for c in conflicts] == [("exact", ["a", "b"]), ("near", ["a", "b", "c"])]


def test_no_label_contradicts_nothing() -> None:
    repeats = Repeats(exact=[[0, 1]], near=[[2, 3, 4]], sampled_out=0)
    found = label_conflicts(samples("a", None, "b", None, "a"), repeats)
    assert found == [{"paths": ["2", "4"], "labels": ["a", "b"], "kind": "near"}]


def test_groups_across_splits() -> None:
    repeats = Repeats(exact=[[0, 1], [2, 3], [4, 5]], near=[[0, 1, 6]], sampled_out=0)
    everywhere = samples(*"aaaaaaa", splits="rererre")
    assert across_splits(everywhere, repeats) == [[0, 1, 6], [2, 3]]
    assert across_splits(samples(*"aaaaaaa"), repeats) == []

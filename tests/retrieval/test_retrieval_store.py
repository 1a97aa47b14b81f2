"""The contract of a store: the same cases over both."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from topwork.errors import CacheError, UsageError
from topwork.retrieval import embedded
from topwork.retrieval.qdrant import QdrantStore
from topwork.retrieval.store import Store, open_store

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")
WIDTH = 24


@pytest.fixture
def store(store_name: str, tmp_path: Path) -> Store:
    return open_store(store_name, tmp_path)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def chunks(first: int, made: np.ndarray, size: int = 7) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(made), size):
        part = made[start : start + size]
        yield np.arange(first + start, first + start + len(part)), part


def fill(store: Store, n: int = 50) -> tuple[str, np.ndarray]:
    made = vectors(n)
    state = store.prepare("", chunks(1, made), [], width=WIDTH, anew=False)
    store.settle("", state, [])
    return state, made


def test_the_nearest_come_first_with_their_cosines(store: Store) -> None:
    state, made = fill(store)
    query = vectors(1, seed=9)[0]
    cosines = made @ query
    expected = np.argsort(-cosines)[:8]
    for search in (store.search, store.search_exactly, store.search_graph):
        numbers, scores = search(state, query, 8)
        assert numbers.tolist() == (expected + 1).tolist()
        np.testing.assert_allclose(scores, cosines[expected], atol=2e-3)
    assert len(store.search(state, query, 500)[0]) == 50


def test_vectors_come_back(store: Store) -> None:
    state, made = fill(store)
    np.testing.assert_allclose(store.vectors(state, np.array([7, 3, 50])), made[[6, 2, 49]], atol=1e-3)
    with pytest.raises(CacheError, match="--rebuild"):
        store.vectors(state, np.array([7, 99]))
    assert store.vectors(state, np.array([], np.int64)).size == 0


def test_only_allowed_numbers_are_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    state, made = fill(store)
    query = vectors(1, seed=9)[0]
    among = np.array([2, 5, 11, 12, 40])
    expected = among[np.argsort(-(made[among - 1] @ query))]
    for few in (2000, 1):  # looked up one by one, or found by looking further and further
        monkeypatch.setattr(embedded, "_FEW", few)
        assert store.search(state, query, 3, among=among)[0].tolist() == expected[:3].tolist()
        assert store.search(state, query, 9, among=among)[0].tolist() == expected.tolist()
    assert store.search(state, query, 3, among=np.array([], np.int64))[0].size == 0


def test_changes_add_and_remove(store: Store) -> None:
    old, made = fill(store)
    more = vectors(3, seed=4)
    new = store.prepare(old, chunks(100, more), [1, 2], width=WIDTH, anew=False)
    store.settle(old, new, [1, 2])
    found = store.search(new, made[0], 60)[0]
    assert sorted(found.tolist()) == [*range(3, 51), 100, 101, 102]
    assert store.search(new, more[1], 1)[0].tolist() == [101]


def test_the_old_state_answers_until_the_new_one_is_settled(store: Store) -> None:
    old, made = fill(store)
    new = store.prepare(old, chunks(1, made[:5]), [], width=WIDTH, anew=True)
    assert len(store.search(old, made[0], 60)[0]) == 50
    store.settle(old, new, [])
    assert len(store.search(new, made[0], 60)[0]) == 5


def test_a_state_that_is_gone_is_said(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.search(
            "photos-00000000" if isinstance(store, QdrantStore) else f"vectors-{0:064}-9.usearch", vectors(1)[0], 3
        )


def test_an_empty_store_finds_nothing(store: Store) -> None:
    for search in (store.search, store.search_exactly, store.search_graph):
        numbers, scores = search("", vectors(1)[0], 3)
        assert numbers.size == scores.size == 0


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    store = open_store("embedded", tmp_path)
    old, made = fill(store)
    store.prepare(old, chunks(60, made[:3]), [], width=WIDTH, anew=False)  # and never settled
    new = store.prepare(old, chunks(70, made[:2]), [], width=WIDTH, anew=False)
    store.settle(old, new, [])
    assert [path.name for path in tmp_path.iterdir()] == [new]
    assert len(store.search(new, made[0], 99)[0]) == 52


def test_a_large_collection_follows_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "EXACT_UP_TO", 100)
    store = open_store("embedded", tmp_path)
    state, _ = fill(store, 3000)
    queries = vectors(50, seed=8)
    exact = [set(store.search_exactly(state, query, 10)[0].tolist()) for query in queries]
    graph = [set(store.search(state, query, 10)[0].tolist()) for query in queries]
    assert np.mean([len(a & b) / 10 for a, b in zip(exact, graph, strict=True)]) > 0.9


def test_a_damaged_file_of_vectors_is_said(tmp_path: Path) -> None:
    store = open_store("embedded", tmp_path)
    state, made = fill(store)
    (tmp_path / state).write_bytes((tmp_path / state).read_bytes()[:-100])
    with pytest.raises(CacheError, match="--rebuild"):
        open_store("embedded", tmp_path).search(state, made[0], 3)


@pytest.mark.parametrize("address", ["qdrant://", "qdrant://host", "qdrant://host:port/x", "qdrant://a b/x"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="expected qdrant://HOST:PORT/COLLECTION"):
        QdrantStore.at(address)


def test_a_collection_of_the_same_name_is_left_alone() -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    client.create_collection("photos", vectors_config=models.VectorParams(size=3, distance=models.Distance.COSINE))
    with pytest.raises(UsageError, match="choose another name"):
        QdrantStore(client, "photos").check()
    QdrantStore(client, "others").check()


def test_a_server_that_is_not_there_is_said() -> None:
    store = QdrantStore.at("qdrant://127.0.0.1:9/photos")
    with pytest.raises(CacheError, match="expected a Qdrant server for photos, but"):
        store.search("photos-00000001", vectors(1)[0], 3)

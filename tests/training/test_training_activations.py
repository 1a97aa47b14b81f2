"""The store of activations: what is in it is what was put in, whoever was killed and whatever was damaged."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from topwork.errors import CacheError
from topwork.training import activations
from topwork.training.activations import ActivationStore, trim


def maps(n: int, seed: int = 0, shape: tuple[int, ...] = (4, 3, 2)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, *shape)).astype(np.float32)


def put(folder: Path, rows: dict[str, np.ndarray], name: str = "cut") -> ActivationStore:
    with ActivationStore(name, folder=folder) as store:
        for key, row in rows.items():
            store.add(key, row)
    return store


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a shard."""
    monkeypatch.setattr(activations, "SHARD_BYTES", 3 * 2 * 24)


@pytest.mark.usefixtures("small_shards")
def test_what_comes_out_went_in(tmp_path: Path) -> None:
    values = maps(10)
    values[7, 0, 0, 0], values[8, 0, 0, 0] = 1e9, -1e9  # beyond what half precision holds
    named = {f"k{i}": row for i, row in enumerate(values)}
    store = put(tmp_path, named)
    assert len(list(tmp_path.glob("cut/*.npy"))) == 4
    order = [3, 3, 9, 0, 7, 8]
    for each in (store, ActivationStore("cut", folder=tmp_path)):
        rows = each.rows([f"k{i}" for i in order])
        found = rows[np.arange(6)]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.clip(values[order], -65504, 65504), rtol=2**-10)
        np.testing.assert_array_equal(rows[np.array([5, 0])], found[[5, 0]])
        assert len(rows) == 6
        assert each.missing(["k0", "k9", "new"]) == {"new"}
    assert ActivationStore("other", folder=tmp_path).missing(["k0"]) == {"k0"}


def test_what_is_pending_is_not_missing(tmp_path: Path) -> None:
    with ActivationStore("cut", folder=tmp_path) as store:
        store.add("a", maps(1)[0])
        assert store.missing(["a", "b"]) == {"b"}
        assert not list(tmp_path.glob("cut/*"))


@pytest.mark.usefixtures("small_shards")
def test_a_run_that_broke_off_keeps_what_it_had(tmp_path: Path) -> None:
    def broken_off() -> None:
        with ActivationStore("cut", folder=tmp_path) as store:
            for i, row in enumerate(maps(5)):
                store.add(f"k{i}", row)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    again = ActivationStore("cut", folder=tmp_path)
    assert again.missing(f"k{i}" for i in range(6)) == {"k5"}


def test_a_shard_without_its_index_does_not_exist(tmp_path: Path) -> None:
    """As a run leaves it that is killed between the two."""
    put(tmp_path, {"a": maps(1)[0]})
    next(tmp_path.glob("cut/*.json")).unlink()
    store = ActivationStore("cut", folder=tmp_path)
    assert store.missing(["a"]) == {"a"}
    with pytest.raises(CacheError, match="run again"):
        store.rows(["a"])


@pytest.mark.parametrize("harm", ["bit", "cut short", "gone", "index", "index without rows"])
def test_a_damaged_shard_is_deleted_and_computed_again(tmp_path: Path, harm: str) -> None:
    values = {"a": maps(1)[0], "b": maps(1, 1)[0]}
    put(tmp_path, values)
    data, index = next(tmp_path.glob("cut/*.npy")), next(tmp_path.glob("cut/*.json"))
    raw = bytearray(data.read_bytes())
    if harm == "bit":
        raw[-3] ^= 1
        data.write_bytes(raw)
    elif harm == "cut short":
        data.write_bytes(raw[:-10])
    elif harm == "gone":
        data.unlink()
    else:
        index.write_text("{" if harm == "index" else json.dumps({"checksum": "0"}))
    store = ActivationStore("cut", folder=tmp_path)
    assert store.missing(["a", "b"]) == {"a", "b"}
    assert not list(tmp_path.glob("cut/*"))
    put(tmp_path, values)
    found = ActivationStore("cut", folder=tmp_path).rows(["b", "a"])[np.array([0, 1])]
    np.testing.assert_allclose(found, np.stack([values["b"], values["a"]]), rtol=2**-10)


def test_rows_can_be_sent_to_another_process(tmp_path: Path) -> None:
    rows = put(tmp_path, {"a": maps(1)[0], "b": maps(1, 1)[0]}).rows(["b", "a", "b"])
    every = np.arange(3)
    before = rows[every]  # opens the files, which must not be sent along
    sent = pickle.dumps(rows)
    assert len(sent) < 2000
    np.testing.assert_array_equal(pickle.loads(sent)[every], before)  # noqa: S301 - our own


def aged(folder: Path, name: str, seconds: int) -> int:
    """A store of one shard that was used so long ago; returns its bytes."""
    put(folder, {name: maps(1)[0]}, name)
    files = list(folder.glob(f"{name}/*"))
    for path in files:
        os.utime(path, (10**9 - seconds, 10**9 - seconds))
    return sum(path.stat().st_size for path in files)


def test_the_least_recently_used_go_first_and_our_own_never(tmp_path: Path) -> None:
    size = aged(tmp_path, "own", 900)
    for name, seconds in (("old", 500), ("new", 10), ("middle", 100)):
        aged(tmp_path, name, seconds)
    names = ["own", "old", "new", "middle"]
    assert activations.size(tmp_path) == pytest.approx(4 * size, rel=0.05)

    own = list(tmp_path.glob("own/*.npy"))

    def left(limit: int) -> set[str]:
        trim(limit, keep=own, folder=tmp_path)
        return {name for name in names if any((tmp_path / name).glob("*"))}

    assert left(5 * size) == set(names)
    assert left(int(3.2 * size)) == {"own", "new", "middle"}
    assert left(int(2.2 * size)) == {"own", "new"}
    assert left(int(1.2 * size)) == {"own"}
    assert left(0) == {"own"}  # what is about to be used is never deleted


def test_asking_for_rows_counts_as_use(tmp_path: Path) -> None:
    aged(tmp_path, "first", 900)
    size = aged(tmp_path, "second", 100)
    ActivationStore("first", folder=tmp_path).rows(["first"])
    trim(int(1.2 * size), folder=tmp_path)
    assert ActivationStore("first", folder=tmp_path).missing(["first"]) == set()
    assert not list(tmp_path.glob("second/*"))


def test_what_killed_runs_left_goes_too(tmp_path: Path) -> None:
    """Else what cannot be used is counted, and in its place what is in use is deleted."""
    size = aged(tmp_path, "own", 10)
    for number in range(4):
        aged(tmp_path, f"killed{number}", 900)
        next(tmp_path.glob(f"killed{number}/*.json")).unlink()
    trim(2 * size, folder=tmp_path)
    assert ActivationStore("own", folder=tmp_path).missing(["own"]) == set()
    assert activations.size(tmp_path) <= 2 * size


def test_rows_in_use_outlive_rows_of_other_pictures_in_the_same_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sets with the same settings share a store: what the current one needs fits, so it must stay."""
    monkeypatch.setattr(activations, "SHARD_BYTES", 1)  # a shard a row
    lost = 0
    for attempt in range(6):  # names are random
        folder = tmp_path / str(attempt)
        put(folder, {f"other{i}": row for i, row in enumerate(maps(6))})
        put(folder, {f"own{i}": row for i, row in enumerate(maps(6))})
        keys = [f"own{i}" for i in range(6)]
        store = ActivationStore("cut", folder=folder)
        rows = store.rows(keys)
        trim(activations.size(folder) * 8 // 12, keep=rows.files, folder=folder)
        lost += len(ActivationStore("cut", folder=folder).missing(keys))
    assert lost == 0


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, array: np.ndarray) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    store = ActivationStore("cut", folder=tmp_path)
    store.add("a", maps(1)[0])
    with pytest.raises(CacheError, match=r"no space left on device.*TOPWORK_CACHE_DIR"), store:
        pass
    assert not list(tmp_path.glob("cut/*"))

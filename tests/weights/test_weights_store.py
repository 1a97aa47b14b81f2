"""What is stored comes back, whatever happens on the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork import fingerprint
from topwork.errors import BackboneError, UsageError
from topwork.features.cache import clear
from topwork.weights import store
from topwork.weights.store import Stored

Put = Callable[..., Stored]


def test_what_is_put_comes_back(toy_tensors: dict[str, np.ndarray]) -> None:
    backwards = {name: array.T for name, array in toy_tensors.items()}  # not in C order
    facts: dict[str, Any] = {"source": "file a.pth", "source_sha256": "ab" * 32, "licence": "MIT"}
    kept = store.put("resnet50", backwards, **facts, mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 1.0))
    assert store.stored("resnet50") == kept
    assert (kept.source, kept.source_sha256, kept.licence, kept.mean) == (*facts.values(), (1.0, 2.0, 3.0))
    assert fingerprint.of_bytes(kept.path.read_bytes()) == kept.sha256
    found = store.load(kept)
    assert set(found) == set(backwards)
    for name, array in backwards.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", ["torchvision:vgg16", "a/b", "..", ".hidden", "resnet50.a1_in1k", "mit blank", "é%"])
def test_any_name_is_one_file_of_the_folder(put_toy: Put, name: str) -> None:
    kept = put_toy(2.0, name)
    put_toy(3.0)
    assert kept.path.parent == store.folder()
    assert store.names() == sorted([name, "toy"])
    assert store.stored(name) == kept
    assert store.load(kept)["w"][0] == 2.0


def test_what_cannot_be_kept_is_refused(put_toy: Put) -> None:
    for name in ("", "n" * 101):
        with pytest.raises(UsageError, match="expected the name of a network"):
            put_toy(1.0, name)
    with pytest.raises(BackboneError, match="got none"):
        store.put("toy", {}, source="file a", source_sha256="", licence="MIT")
    assert store.names() == []


def test_later_weights_take_the_place_of_earlier_ones(put_toy: Put) -> None:
    put_toy(1.0)
    put_toy(2.0)
    now = store.stored("toy")
    assert now is not None
    assert store.load(now)["w"][0] == 2.0
    assert sorted(path.name for path in store.folder().iterdir()) == sorted(["toy.json", now.path.name])


def test_removed_weights_are_gone(put_toy: Put) -> None:
    put_toy()
    store.remove("toy")
    assert store.stored("toy") is None
    assert list(store.folder().iterdir()) == []


@pytest.mark.parametrize("step", [1, 2])
def test_a_write_that_fails_leaves_the_old_weights(put_toy: Put, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The two renames are those of the tensors and of their description."""
    old = put_toy(1.0)
    before = sorted(path.name for path in store.folder().iterdir())
    calls, replace = [], os.replace

    def failing(*places: Any) -> None:
        calls.append(places)
        if len(calls) == step:
            raise OSError(28, "No space left on device")
        replace(*places)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(BackboneError, match=r"no space left on device; free some space, or set TOPWORK_CACHE_DIR"):
        put_toy(2.0)
    assert len(calls) == step
    assert store.stored("toy") == old
    assert store.load(old)["w"][0] == 1.0
    assert sorted(path.name for path in store.folder().iterdir()) == before


PUTS = """
import os, sys
import numpy as np
from topwork.weights import store
value, times, dies_at = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
calls, replace = [], os.replace
def dying(*places):
    calls.append(places)
    if len(calls) == dies_at:
        os._exit(9)
    replace(*places)
os.replace = dying
for _ in range(times):
    store.put("toy", {"w": np.full(50, value, np.float32)}, source=f"file {value}", source_sha256="", licence="MIT")
"""


def puts(value: float, times: int = 1, dies_at: int = 0) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", PUTS, str(value), str(times), str(dies_at)])


@pytest.mark.parametrize("step", [1, 2])
def test_a_killed_process_leaves_the_old_weights_and_its_rests_go_later(put_toy: Put, step: int) -> None:
    old = put_toy(1.0)
    assert puts(2.0, dies_at=step).wait() == 9
    assert store.stored("toy") == old
    assert store.load(old)["w"][0] == 1.0
    rests = set(store.folder().iterdir()) - {old.path, store.folder() / "toy.json"}
    assert rests
    other = put_toy(5.0, "other")
    assert not list(store.folder().glob(".*"))
    rests = {path for path in rests if path.suffix == ".safetensors"}
    assert rests <= set(store.folder().iterdir()), "another process may still be writing them"
    yesterday = time.time() - 90_000
    for path in store.folder().iterdir():
        os.utime(path, (yesterday, yesterday))
    put_toy(6.0, "third")
    assert not rests & set(store.folder().iterdir())
    assert [store.load(each)["w"][0] for each in (old, other)] == [1.0, 5.0]


def test_several_processes_that_put_at_once_leave_the_weights_of_one(put_toy: Put) -> None:
    put_toy(0.0)
    running = [puts(value, times=20) for value in (1.0, 2.0, 3.0)]
    assert [process.wait() for process in running] == [0, 0, 0]
    kept = store.stored("toy")
    assert kept is not None
    values = store.load(kept)["w"]
    assert (values == values[0]).all()
    assert kept.source == f"file {values[0]}"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damaged_tensors_are_noticed(put_toy: Put, damage: str) -> None:
    kept = put_toy()
    data = bytearray(kept.path.read_bytes())
    if damage == "gone":
        kept.path.unlink()
    else:
        data[-1] ^= 1
        kept.path.write_bytes({"flip": data, "cut": data[:-1], "empty": b""}[damage])
    for check in (store.verify, store.load):
        with pytest.raises(BackboneError, match=r"stored weights of toy are damaged.*topwork weights pull toy"):
            check(kept)
    put_toy(2.0)
    again = store.stored("toy")
    assert again is not None
    store.verify(again)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        {"path": "../toy.safetensors"},
        {"path": 3},
        {"name": "other"},
        {"mean": [1, 2]},
        {"mean": 3},
        {"mean": ["a", 1, 1]},
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_damaged_description_is_named_and_harms_no_other(put_toy: Put, content: Any) -> None:
    put_toy()
    other = put_toy(4.0, "other")
    path = store.folder() / "toy.json"
    if isinstance(content, dict):
        content = json.dumps({**json.loads(path.read_bytes()), **content}).encode()
    path.write_bytes(content)
    with pytest.raises(BackboneError, match="stored weights of toy are damaged: the file that describes them"):
        store.stored("toy")
    assert store.all_stored() == [other]
    assert store.names() == ["other", "toy"]
    put_toy(2.0)
    mended = store.stored("toy")
    assert mended is not None
    assert store.load(mended)["w"][0] == 2.0


def test_clearing_the_cache_leaves_weights_alone(put_toy: Put, own_cache: Path) -> None:
    kept = put_toy()
    (own_cache / "graphs").mkdir()
    (own_cache / "graphs" / "some.onnx").write_bytes(b"12345")
    assert clear() == 5
    assert not (own_cache / "graphs").exists()
    assert store.load(kept)["w"][0] == 1.0

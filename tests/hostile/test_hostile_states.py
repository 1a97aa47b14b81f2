"""Recipes and states of unfinished work: whatever is in them, a sentence; and no flipped bit goes unnoticed."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from topwork.errors import UsageError
from topwork.recipe import Recipe
from topwork.style.checkpoints import Checkpoint
from topwork.training.activations import ActivationStore

TASK = {"steps": 3}
ROW = {"total": 1.0, "content": 0.5, "style": 0.5}
PICTURE = {"picture": np.full((4, 4, 3), 0.5, np.float32)}


def sealed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def state(tensors: Any = PICTURE, trace: Any = (ROW,), task: Any = TASK) -> bytes:
    facts = {"task": json.dumps(task, sort_keys=True), "trace": trace if isinstance(trace, str) else json.dumps(trace)}
    return sealed(save(dict(tensors), facts))


def with_header(header: bytes) -> bytes:
    return sealed(len(header).to_bytes(8, "little") + header)


STATES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no seal": lambda: state()[:-32],
    "zeros": lambda: bytes(100),
    "text": lambda: sealed(b"not a state"),
    "a nested header": lambda: with_header(b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a header that is a list": lambda: with_header(b"[]"),
    "a header without facts": lambda: sealed(save(PICTURE)),
    "facts that are no texts": lambda: with_header(b'{"__metadata__":{"task":1}}'),
    "facts that are none": lambda: with_header(b'{"__metadata__":1}'),
    "a header longer than the file": lambda: sealed((1 << 62).to_bytes(8, "little") + b"{}"),
    "no picture": lambda: state({"other": np.zeros(3, np.float32)}),
    "a flat picture": lambda: state({"picture": np.zeros((4, 4), np.float32)}),
    "a picture of integers": lambda: state({"picture": np.zeros((4, 4, 3), np.int64)}),
    "a picture without pixels": lambda: state({"picture": np.zeros((0, 4, 3), np.float32)}),
    "a picture that is no number": lambda: state({"picture": np.full((4, 4, 3), np.nan, np.float32)}),
    "a history that is nested": lambda: state(trace="[" * 100_000 + "]" * 100_000),
    "a history of texts": lambda: state(trace=["a"]),
    "a history of other numbers": lambda: state(trace=[{"loss": 1.0}]),
    "a history of no numbers": lambda: state(trace=[{**ROW, "total": "x"}]),
    "a history that is none": lambda: state(trace={"total": 1}),
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_of_nonsense_is_refused(tmp_path: Path, case: str) -> None:
    checkpoint = Checkpoint(tmp_path / "a.png", TASK)
    checkpoint.path.write_bytes(STATES[case]())
    with pytest.raises(UsageError, match=r"a\.png\.progress is (damaged|of a run with other).*remove that file"):
        checkpoint.found()


def test_a_state_is_read_and_no_flipped_bit_of_it_goes_unnoticed(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "a.png", TASK)
    checkpoint.path.write_bytes(state())
    picture, trace = checkpoint.load()
    assert trace == [ROW]
    np.testing.assert_array_equal(picture, PICTURE["picture"])
    good = state()
    for place in range(0, len(good), 3):
        data = bytearray(good)
        data[place] ^= 1 << place % 8
        checkpoint.path.write_bytes(data)
        with pytest.raises(UsageError, match="is damaged"):
            checkpoint.load()


INDEXES: dict[str, Any] = {
    "nested": "[" * 100_000,
    "a number": "1",
    "no rows": {"rows": None},
    "rows that are numbers": {"rows": [1]},
    "rows that are lists": {"rows": [["a"]]},
    "too many rows": {"rows": ["a", "b"]},
    "no checksum": {"checksum": None},
}


@pytest.mark.parametrize("case", INDEXES)
def test_activations_of_nonsense_are_computed_again(tmp_path: Path, case: str) -> None:
    store = ActivationStore("cut", folder=tmp_path)
    with store:
        store.add("a", np.ones((2, 3, 3), np.float32))
    index = next((tmp_path / "cut").glob("*.json"))
    good, bad = json.loads(index.read_text()), INDEXES[case]
    index.write_text(bad if isinstance(bad, str) else json.dumps({**good, **bad}))
    assert ActivationStore("cut", folder=tmp_path).missing(["a"]) == {"a"}
    assert not index.exists()


def test_activations_that_are_no_maps_are_computed_again(tmp_path: Path) -> None:
    """The checksum fits, the array does not."""
    (tmp_path / "cut").mkdir()
    for number, array in enumerate((np.ones(1, np.float16), np.ones((1, 2, 3, 3)), np.array([[{}]], object))):
        data = tmp_path / "cut" / f"{number}.npy"
        np.save(data, array)
        digest = hashlib.blake2b(data.read_bytes(), digest_size=16).hexdigest()
        data.with_suffix(".json").write_text(json.dumps({"rows": ["a"], "checksum": digest}))
        assert ActivationStore("cut", folder=tmp_path).missing(["a"]) == {"a"}


def test_a_training_state_of_nonsense_is_left(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from topwork.training import checkpoint

    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "point"
    weights, steps = network.state_dict(), checkpoint.optimizer_tensors(optimizer)
    facts: dict[str, Any] = {"epochs": [{"loss": 1.0}], "rates": [[0, 0.1]], "stopped": None}
    good = checkpoint.Checkpoint(1, weights, steps, facts)
    good.write(path, "this")
    data = path.read_bytes()
    found = checkpoint.read(path, "this")
    assert found is not None
    assert checkpoint.fits(found, weights, optimizer)
    for place in range(0, len(data), 41):
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        assert checkpoint.read(path, "this") is None
    for wrong in ({"epochs": 3}, {"epochs": ["a"]}, {"rates": [[]]}, {"rates": None}, {"stopped": 4}, {"more": 1}):
        checkpoint.Checkpoint(1, weights, steps, {**facts, **wrong}).write(path, "this")
        assert checkpoint.read(path, "this") is None
    others = {"weight": torch.ones(9, 9), "bias": torch.ones(2)}
    for parts in (
        (others, steps, {}),
        (weights, {"0.exp_avg": torch.ones(7)}, {}),
        (weights, {"a.b": torch.ones(1)}, {}),
        (weights, steps, others),
    ):
        checkpoint.Checkpoint(1, parts[0], parts[1], facts, parts[2]).write(path, "this")
        found = checkpoint.read(path, "this")
        assert found is not None
        assert not checkpoint.fits(found, weights, optimizer)


RECIPES = {
    "arrays without end": "a = " + "[" * 100_000 + "]" * 100_000,
    "arrays for a name": "head = " + "[" * 300 + "]" * 300,
    "a number of 5,000 digits": "seed = " + "9" * 5000,
    "a number of 400 digits": "seed = " + "9" * 400,
    "a rate of 400 digits": "[training]\nrate = " + "9" * 400,
    "a long name": f"backbone = '{'x' * 90_000}'",
    "a long cut": f"[training]\ncut = '{'x' * 90_000}'",
    "a long value": f"head = '{'x' * 90_000}'",
    "a long key": f"{'x' * 90_000} = 1",
    "a large file": "# " + "x" * 200_000,
    "tables within tables": "[training.a.b.c]\nd = 1",
    "a list of tables": "[[training]]\na = 1",
    "no number": "coverage = nan",
    "no finite number": "[training]\nrate = inf",
    "a date": "seed = 2026-01-31",
    "bytes that are no text": b"head = '\xff'",
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_of_nonsense_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    path, content = tmp_path / "r.toml", RECIPES[case]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        Recipe.from_toml(path)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_for_a_recipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.toml")
    for path in (tmp_path / "r.toml", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match="expected a recipe"):
            Recipe.from_toml(path)

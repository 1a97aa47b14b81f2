"""A training that was ended at any moment and started again: the same weights and the same history, to the bit."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from topwork.backbones.zoo import described
from topwork.progress import Silent
from topwork.recipe import Training
from topwork.training import checkpoint, loop
from topwork.training.common import Material
from topwork.training.examples import Vectors
from topwork.training.networks import HeadOnly, Whole
from topwork.training.top import Top

CONV = """
from torch import nn
from topwork.training.networks import classifier

class Conv:
    def __call__(self):
        trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
            nn.Conv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        return classifier(trunk, 8, 3, [{"params": list(trunk.parameters()), "lr": 0.01}], 0.01)
"""
"""A network with everything that draws or counts: dropout, and batch norms that follow the pictures."""
made: dict[str, Any] = {}
exec(CONV, made)  # the text is also run by another process
Conv = made["Conv"]


def history(outcome: loop.Outcome) -> list[dict[str, Any]]:
    return [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in outcome.epochs]


def assert_same(one: loop.Outcome, other: loop.Outcome) -> None:
    assert one.state.keys() == other.state.keys()
    for name, tensor in one.state.items():
        assert torch.equal(tensor, other.state[name]), name
    assert history(one) == history(other)
    assert one.rates == other.rates
    assert one.stopped == other.stopped


@pytest.fixture
def cases(squares: Callable[..., Vectors], blobs: Callable[..., Vectors]) -> dict[str, tuple[Any, ...]]:
    """Name -> build, examples, settings, more of the job."""
    mixed = Training(epochs=5, rate=0.01, stage_decay=1.0, batch_size=7, mixup=0.4, cutmix=0.4, accumulate=2)
    whole = Training(epochs=4, rate=1e-3, stage_decay=0.5, batch_norm="updated", batch_size=7, schedule="cosine")
    early = Training(epochs=20, rate=0.05, batch_size=10, patience=3, label_smoothing=0.0)
    few, many = blobs(30, 40, seed=7), blobs(60, 40, seed=8)
    lots = np.random.default_rng(0).integers(0, 3, 18)
    few.labels[:18] = lots  # so that more than the classes is learned in the end
    held = {"held": squares(9, seed=3)}
    return {
        "head": (
            HeadOnly(6, 3, 0.1),
            blobs(40),
            Training(epochs=5, rate=0.1, batch_size=8),
            {"held": blobs(9, seed=1)},
        ),
        "dropout, batch norm, mixup": (Conv(), squares(18, 16), mixed, {"held": squares(9, 16, seed=3)}),
        "whole": (Whole(described("test_efficientnet"), 3, whole), squares(18), whole, held),
        "early": (HeadOnly(40, 3, 0.05), few, early, {"stop": many}),
    }


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("head", (1,)),
        ("head", (1, 2)),
        ("dropout, batch norm, mixup", (1,)),
        ("dropout, batch norm, mixup", (3, 1)),
        ("whole", (2,)),
        ("early", (1,)),
        ("early", (5,)),
    ],
)
def test_a_broken_off_training_goes_on_as_if_nothing_had_been(
    name: str,
    ends: tuple[int, ...],
    cases: dict[str, tuple[Any, ...]],
    train: Callable[..., loop.Outcome],
    killer: Any,
    stopped: type[Exception],
    tmp_path: Path,
) -> None:
    build, examples, settings, more = cases[name]
    whole = train(build, examples, settings, **more)
    more |= {"checkpoint": tmp_path / "training" / "point", "fingerprint": "this"}
    for epochs in ends:
        with pytest.raises(stopped):
            train(build, examples, settings, killer(epochs), **more)
    torch.manual_seed(12345)  # what was drawn before means nothing
    resumed = train(build, examples, settings, **more)
    assert resumed.resumed
    assert not whole.resumed
    assert_same(whole, resumed)
    done = train(build, examples, settings, **more)  # and what was over is not trained again
    assert_same(whole, done)
    assert done.epochs == resumed.epochs


def test_an_early_stop_is_remembered(cases: dict[str, tuple[Any, ...]], train: Callable[..., loop.Outcome]) -> None:
    """The case above must be one in which it stops, with weights that are not the last."""
    build, examples, settings, more = cases["early"]
    outcome = train(build, examples, settings, **more)
    assert outcome.stopped is not None
    assert 4 < len(outcome.epochs) < 20
    losses = [epoch["stop_loss"] for epoch in outcome.epochs]
    assert min(losses) < losses[-1]


class Interrupt(Silent):
    """Ends a training in its fifth epoch."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, step: str, count: int = 1) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_within_an_epoch_it_goes_on_from_the_epoch_s_beginning(
    cases: dict[str, tuple[Any, ...]], train: Callable[..., loop.Outcome], tmp_path: Path
) -> None:
    build, examples, settings, more = cases["dropout, batch norm, mixup"]
    whole = train(build, examples, settings, **more)
    more |= {"checkpoint": tmp_path / "point", "fingerprint": "this"}
    with pytest.raises(KeyboardInterrupt):
        train(build, examples, settings, Interrupt(8), **more)  # three steps an epoch
    found = checkpoint.read(tmp_path / "point", "this")
    assert found is not None
    assert found.epochs == 2
    assert_same(whole, train(build, examples, settings, **more))


@pytest.mark.parametrize("harm", ["another training", "bits", "cut short", "empty", "text", "no header"])
def test_a_checkpoint_that_cannot_be_gone_on_from_is_ignored(
    harm: str,
    cases: dict[str, tuple[Any, ...]],
    train: Callable[..., loop.Outcome],
    killer: Any,
    stopped: type[Exception],
    tmp_path: Path,
) -> None:
    build, examples, settings, more = cases["head"]
    whole = train(build, examples, settings, **more)
    path = tmp_path / "point"
    more |= {"checkpoint": path, "fingerprint": "another" if harm == "another training" else "this"}
    with pytest.raises(stopped):
        train(build, examples, settings, killer(2), **more)
    data = path.read_bytes()
    if harm == "no header":
        from safetensors.torch import save

        path.write_bytes(save({"model:x": torch.zeros(1)}))
    else:
        path.write_bytes(
            {"bits": b"\xff" * 8 + data[8:], "cut short": data[:-20], "empty": b"", "text": b"{}"}.get(harm, data)
        )
    outcome = train(build, examples, settings, **{**more, "fingerprint": "this"})
    assert not outcome.resumed
    assert_same(whole, outcome)
    found = checkpoint.read(path, "this")  # its place has been taken
    assert found is not None
    assert found.epochs == 5


def test_a_full_disk_does_not_look_like_memory_that_ran_out(
    cases: dict[str, tuple[Any, ...]],
    train: Callable[..., loop.Outcome],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from topwork import storage

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_atomic", full)
    build, examples, settings, more = cases["head"]
    with pytest.raises(OSError, match="No space"):
        train(build, examples, settings, checkpoint=tmp_path / "p", fingerprint="this", **more)


def test_top_goes_on_too(material: Material, killer: Any, stopped: type[Exception], tmp_path: Path) -> None:
    """Through the strategy itself, whose fingerprint must tell trainings apart but not places and times."""
    rows, held = np.arange(24) % 4 > 0, np.arange(24) % 4 == 0

    def go(progress: Any, settings: Training, folder: Path | None) -> Any:
        top = Top(material, settings)
        top.prepare(np.flatnonzero(rows), deadline=math.inf, progress=Silent())
        given = {"checkpoint": folder, "deadline": math.inf, "progress": progress}
        return top.train(np.flatnonzero(rows), np.flatnonzero(held), **given).record

    short = Training(epochs=2, cut="blocks.6", views=2, batch_size=6)
    whole = go(Silent(), short, None)
    with pytest.raises(stopped):
        go(killer(1), short, tmp_path)
    other = go(Silent(), Training(epochs=2, cut="blocks.6", views=2, batch_size=5), tmp_path)
    assert not other["resumed"]
    resumed = go(Silent(), Training(epochs=2, cut="blocks.6", views=2, batch_size=6, budget=7.0), tmp_path)
    assert resumed["resumed"]
    for name, tensor in whole["state"].items():
        assert torch.equal(tensor, resumed["state"][name]), name
    assert [e["loss"] for e in whole["epochs"]] == [e["loss"] for e in resumed["epochs"]]


CHILD = (
    CONV
    + """
import sys
import numpy as np
from pathlib import Path
from safetensors.torch import save_file
from topwork.progress import Silent
from topwork.recipe import Training
from topwork.training import loop
from topwork.training.examples import Vectors

random = np.random.default_rng(0)
pictures = Vectors(random.normal(size=(40, 3, 24, 24)).astype(np.float32), np.arange(40) % 3)
settings = Training(epochs=20, rate=0.01, stage_decay=1.0, batch_size=8, mixup=0.3)
loop.cores = lambda: 1
job = loop.Job(Conv(), pictures, None, None, settings, 0, checkpoint=Path(sys.argv[1]), fingerprint="this")
outcome = loop.run(job, Silent())
weights = {name: tensor.contiguous() for name, tensor in outcome.state.items()}
save_file({**weights, "losses": __import__("torch").tensor([e["loss"] for e in outcome.epochs])}, sys.argv[2])
print("resumed" if outcome.resumed else "new")
"""
)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_loses_an_epoch_at_most(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    def start(folder: str) -> Any:
        place = tmp_path / folder
        arguments = [sys.executable, "-c", CHILD, str(place / "point"), str(tmp_path / f"{folder}.safetensors")]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env={**os.environ})

    assert start("whole").communicate(timeout=120)[0].split()[-1] == "new"
    seen: set[int] = set()
    for _ in range(2):  # killed as soon as it has come further than before
        process = start("killed")
        until = time.time() + 100
        before = len(seen)
        while time.time() < until and process.poll() is None and len(seen) < before + 2:
            found = checkpoint.read(tmp_path / "killed" / "point", "this")
            if found is not None:
                seen.add(found.epochs)
        process.kill()
        process.wait()
        assert len(seen) >= before + 2
    assert start("killed").communicate(timeout=120)[0].split()[-1] == "resumed"
    one, other = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name
    assert len(one["losses"]) == 20

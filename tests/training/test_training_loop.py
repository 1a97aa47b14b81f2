"""The loop: that it learns, that it computes what it says, when it stops, and what it says when it cannot go on."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from topwork.backbones.zoo import described
from topwork.errors import TrainingError
from topwork.progress import Silent
from topwork.recipe import Training
from topwork.training import loop
from topwork.training.common import head_of
from topwork.training.examples import Vectors
from topwork.training.networks import HeadOnly, Whole
from topwork.training.schedule import share


def scores(outcome: loop.Outcome, examples: Vectors) -> np.ndarray:
    weight, bias = head_of(outcome.state)
    return examples.features @ weight + bias


def test_a_head_comes_to_the_optimum(
    blobs: Callable[..., Vectors], filled: Callable[..., Training], train: Callable[..., loop.Outcome]
) -> None:
    """All pictures in one batch, no decay: the loss comes to the convex minimum that L-BFGS finds."""
    points = blobs(60)
    given = filled(epochs=250, batch_size=60, rate=0.05, weight_decay=0.0, label_smoothing=0.1)
    outcome = train(HeadOnly(6, 3, 0.05), points, given)
    x, y = torch.from_numpy(points.features), torch.from_numpy(points.labels)
    linear = nn.Linear(6, 3)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=500, tolerance_change=1e-12)

    def loss() -> Any:
        optimizer.zero_grad()
        value = functional.cross_entropy(linear(x), y, label_smoothing=0.1)
        value.backward()
        return value

    optimizer.step(loss)
    assert outcome.epochs[-1]["loss"] == pytest.approx(loss().item(), abs=1e-4)
    assert outcome.epochs[0]["loss"] == pytest.approx(math.log(3), abs=1e-5)  # a head of zeros
    with torch.no_grad():
        np.testing.assert_array_equal(scores(outcome, points).argmax(axis=1), linear(x).argmax(dim=1).numpy())


def test_one_step_is_adamw_on_the_mean_loss_of_the_batch(
    blobs: Callable[..., Vectors], filled: Callable[..., Training], train: Callable[..., loop.Outcome]
) -> None:
    """Three steps with their rates and the batches' own order, written out again in a few lines."""
    points = blobs(20)
    given = filled(epochs=1, batch_size=8, rate=0.1, weight_decay=0.3, label_smoothing=0.1)
    outcome = train(HeadOnly(6, 3, 0.1), points, given)
    head = nn.Linear(6, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=0.3)
    order = np.random.default_rng(loop._seed(0, 0)).permutation(20)
    losses = []
    for step, rows in enumerate((order[:8], order[8:16], order[16:])):
        optimizer.param_groups[0]["lr"] = 0.1 * share(step, 3, schedule="one-cycle", warmup=0.25)
        optimizer.zero_grad()
        x, y = torch.from_numpy(points.features[rows]), torch.from_numpy(points.labels[rows])
        loss = functional.cross_entropy(head(x), y, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()) * len(rows))
    torch.testing.assert_close(outcome.state["head.weight"], head.weight.detach())
    torch.testing.assert_close(outcome.state["head.bias"], head.bias.detach())
    assert outcome.epochs[0]["loss"] == pytest.approx(sum(losses) / 20, rel=1e-5)


def test_a_whole_network_learns(squares: Callable[..., Vectors], train: Callable[..., loop.Outcome]) -> None:
    given = Training(epochs=6, rate=3e-3, stage_decay=1.0, batch_norm="updated", batch_size=8, label_smoothing=0.0)
    build = Whole(described("test_resnet"), 3, given)
    held = squares(12, seed=1)
    outcome = train(build, squares(24), given, held=held)
    losses = [epoch["loss"] for epoch in outcome.epochs]
    assert losses[-1] < 0.4 * losses[0]
    assert outcome.epochs[-1]["training_accuracy"] > 0.9
    model = build()
    model.load_state_dict(outcome.state)
    model.eval()
    with torch.no_grad():
        found = model(torch.from_numpy(held.features))
    labels = torch.from_numpy(held.labels)
    assert outcome.epochs[-1]["held_loss"] == pytest.approx(float(functional.cross_entropy(found, labels)), rel=1e-4)
    assert outcome.epochs[-1]["accuracy"] == float((found.argmax(dim=1) == labels).float().mean())


class Small:
    """A network with a batch norm and dropout where asked: ``[n, 3, s, s]`` -> ``[n, 4]``."""

    n_classes = 3

    def __init__(self, dropout: float = 0.0, norm: bool = False, rate: float = 1e-2) -> None:
        self.dropout, self.norm, self.rate = dropout, norm, rate

    def __call__(self) -> Any:
        from topwork.training.networks import classifier

        layers = [nn.Conv2d(3, 4, 3), *([nn.BatchNorm2d(4)] if self.norm else []), nn.Tanh(), nn.Dropout(self.dropout)]
        trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        groups = [{"params": list(trunk.parameters()), "lr": self.rate}]
        return classifier(trunk, 4, 3, groups, 0.1)


def gradients(
    examples: Any, given: Training, monkeypatch: pytest.MonkeyPatch, train: Callable[..., loop.Outcome]
) -> list[list[Any]]:
    """What every step of a training hands to the optimizer."""
    found: list[list[Any]] = []
    step = torch.optim.AdamW.step

    def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", recorded)
        train(Small(), examples, given)
    return found


@pytest.mark.parametrize("parts", [2, 3, 8, 50])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    squares: Callable[..., Vectors],
    filled: Callable[..., Training],
    train: Callable[..., loop.Outcome],
    monkeypatch: pytest.MonkeyPatch,
    parts: int,
) -> None:
    """Also the last batch of 4, and where there are more parts than pictures."""
    given = filled(epochs=2, batch_size=7, weight_decay=0.1)
    whole = gradients(squares(18, 8), given, monkeypatch, train)
    split = gradients(
        squares(18, 8), filled(epochs=2, batch_size=7, weight_decay=0.1, accumulate=parts), monkeypatch, train
    )
    assert len(whole) == len(split) == 6
    for one, other in zip(whole, split, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert max(float(g.abs().max()) for g in whole[2]) > 1e-3


def test_early_stopping_gives_the_best_epoch_s_weights(
    blobs: Callable[..., Vectors], filled: Callable[..., Training], train: Callable[..., loop.Outcome]
) -> None:
    """Labels by lot are learned by heart: the pictures set apart notice."""
    random = np.random.default_rng(0)
    points = Vectors(random.normal(size=(30, 40)).astype(np.float32), random.integers(0, 3, 30))
    stop = Vectors(random.normal(size=(60, 40)).astype(np.float32), random.integers(0, 3, 60))
    given = filled(epochs=40, batch_size=10, rate=0.05, patience=3, label_smoothing=0.0)
    build = HeadOnly(40, 3, 0.05)
    outcome = train(build, points, given, stop=stop)
    losses = [epoch["stop_loss"] for epoch in outcome.epochs]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 40
    assert outcome.stopped == f"no progress for 3 epochs; the weights of epoch {best + 1} are used"
    truth = functional.cross_entropy(torch.from_numpy(scores(outcome, stop)), torch.from_numpy(stop.labels))
    assert float(truth) == pytest.approx(losses[best], rel=1e-5)
    assert losses[-1] > losses[best] + 1e-3
    unstopped = train(build, points, filled(epochs=40, batch_size=10, rate=0.05, label_smoothing=0.0), stop=stop)
    assert unstopped.stopped is None
    assert len(unstopped.epochs) == 40
    assert "stop_loss" not in unstopped.epochs[0]


def test_held_out_pictures_decide_nothing(
    blobs: Callable[..., Vectors], filled: Callable[..., Training], train: Callable[..., loop.Outcome]
) -> None:
    given = filled(epochs=3, batch_size=16)
    with_held = train(HeadOnly(6, 3, 0.1), blobs(60), given, held=blobs(30, seed=5))
    without = train(HeadOnly(6, 3, 0.1), blobs(60), given)
    assert torch.equal(with_held.state["head.weight"], without.state["head.weight"])
    assert with_held.epochs[0]["accuracy"] is not None
    assert without.epochs[0]["accuracy"] is None


def test_a_loss_that_is_no_number_is_one_sentence(
    squares: Callable[..., Vectors], train: Callable[..., loop.Outcome], blobs: Callable[..., Vectors]
) -> None:
    given = Training(epochs=8, rate=1e30, stage_decay=1.0, batch_norm="frozen", batch_size=8)
    with pytest.raises(TrainingError, match=r"loss is no longer a number; lower the learning rate \(rate = 1e\+30"):
        train(Whole(described("test_resnet"), 3, given), squares(24), given)
    points = blobs(12)
    points.features[3, 0] = np.inf
    with pytest.raises(TrainingError, match="loss is no longer a number"):
        train(HeadOnly(6, 3, 0.1), points, given)


def test_weights_that_the_last_step_broke_are_not_handed_out(
    squares: Callable[..., Vectors], train: Callable[..., loop.Outcome]
) -> None:
    """One step an epoch: the loss before it is fine, the weights after it are not."""
    given = Training(epochs=1, rate=1e30, head_rate=1e30, stage_decay=1.0, batch_norm="frozen", batch_size=24)
    build = Whole(described("test_resnet"), 3, given)
    with pytest.raises(TrainingError, match="no longer a number"):
        train(build, squares(24), given, held=squares(6, seed=1))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_is_one_sentence(
    blobs: Callable[..., Vectors],
    filled: Callable[..., Training],
    train: Callable[..., loop.Outcome],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(loop._Trainer, "_step", fail)
    with pytest.raises(
        TrainingError, match=r"^memory ran out with 16 pictures a batch in 2 part\(s\); double accumulate"
    ):
        train(HeadOnly(6, 3, 0.1), blobs(60), filled(batch_size=16, accumulate=2))


@pytest.mark.parametrize("text", ["required rank 4 tensor to use channels_last memory format", "illegal memory access"])
def test_not_every_error_that_speaks_of_memory_is_a_lack_of_it(
    blobs: Callable[..., Vectors],
    filled: Callable[..., Training],
    train: Callable[..., loop.Outcome],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(loop._Trainer, "_step", fail)
    with pytest.raises(RuntimeError, match=text) as caught:
        train(HeadOnly(6, 3, 0.1), blobs(60), filled())
    assert not isinstance(caught.value, TrainingError)


def test_other_errors_pass_through(
    filled: Callable[..., Training], train: Callable[..., loop.Outcome], blobs: Callable[..., Vectors]
) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        train(HeadOnly(5, 3, 0.1), blobs(60), filled())
    assert not isinstance(caught.value, TrainingError)


class Late(Silent):
    """Takes a while for each step."""

    def advance(self, step: str, count: int = 1) -> None:
        time.sleep(0.02)


def test_a_deadline_ends_a_training(
    blobs: Callable[..., Vectors], filled: Callable[..., Training], train: Callable[..., loop.Outcome], tmp_path: Any
) -> None:
    given = filled(epochs=500, batch_size=10)
    begun = time.time()
    path = tmp_path / "point"
    outcome = train(HeadOnly(6, 3, 0.1), blobs(60), given, Late(), deadline=begun + 0.7, checkpoint=path)
    assert outcome.out_of_time
    assert time.time() - begun < 1.5
    assert 1 <= len(outcome.epochs) < 10
    assert path.exists()  # of the last epoch that was whole
    again = train(HeadOnly(6, 3, 0.1), blobs(60), given, Late(), deadline=time.time() - 1, checkpoint=path)
    assert again.resumed
    assert [e["loss"] for e in again.epochs] == [e["loss"] for e in outcome.epochs]


def test_progress_counts_the_steps(
    blobs: Callable[..., Vectors], filled: Callable[..., Training], train: Callable[..., loop.Outcome]
) -> None:
    class Counted(Silent):
        def __init__(self) -> None:
            self.total: int | None = 0
            self.done = self.finished = 0
            self.notes: list[str] = []

        def start(self, step: str, total: int | None = None) -> None:
            self.total = total

        def advance(self, step: str, count: int = 1) -> None:
            self.done += count

        def note(self, step: str, text: str) -> None:
            self.notes.append(text)

        def finish(self, step: str) -> None:
            self.finished += 1

    progress = Counted()
    outcome = train(HeadOnly(6, 3, 0.1), blobs(25), filled(epochs=3, batch_size=10), progress)
    assert (progress.total, progress.done, progress.finished) == (9, 9, 1)
    last = outcome.epochs[-1]
    assert progress.notes[-1] == f"epoch 3 of 3: loss {last['loss']:.3f}, accuracy {last['training_accuracy']:.3f}"


def test_a_layer_in_evaluation_does_not_drop_or_normalise_by_batch(squares: Callable[..., Vectors]) -> None:
    """``scores_of`` gives each picture the scores it gets alone, and leaves the model in the mode it was in."""
    torch.manual_seed(0)
    model = Small(dropout=0.5, norm=True)()
    nn.init.normal_(model.head.weight)
    pictures = squares(70, 8)
    model.train()
    together = loop.scores_of(model, pictures, torch.from_numpy)
    assert model.training
    assert model.trunk[1].training
    alone = loop.scores_of(model, Vectors(pictures.features[66:67], pictures.labels[66:67]), torch.from_numpy)
    torch.testing.assert_close(together[66:67], alone)
    assert float(together.std()) > 0.01

"""Several processes compute what one does: gloo on a CPU stands for GPUs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from topwork.backbones.zoo import described
from topwork.errors import TrainingError
from topwork.progress import Silent
from topwork.recipe import Training
from topwork.training import loop
from topwork.training.examples import Vectors
from topwork.training.networks import HeadOnly, Whole

pytestmark = pytest.mark.slow


def run(build: Any, examples: Any, devices: int, **values: Any) -> loop.Outcome:
    held, stop, more = values.pop("held", None), values.pop("stop", None), {}
    if "checkpoint" in values:
        more = {"checkpoint": values.pop("checkpoint"), "fingerprint": "this"}
    settings = Training(**{"epochs": 1, "batch_size": 6, "rate": 1e-3, "devices": devices, **values})
    job = loop.Job(build, examples, held, stop, settings, 0, **more)
    return loop.run(job, Silent())


def assert_close(one: loop.Outcome, other: loop.Outcome, tolerance: float) -> None:
    for name, tensor in one.state.items():
        torch.testing.assert_close(tensor, other.state[name], rtol=tolerance, atol=tolerance, msg=name)
    for a, b in zip(one.epochs, other.epochs, strict=True):
        for key in ("loss", "training_accuracy", "held_loss", "accuracy"):
            assert a[key] == (b[key] if b[key] is None else pytest.approx(b[key], rel=1e-4, abs=1e-5))


def test_two_processes_train_the_same_network(squares: Callable[..., Vectors]) -> None:
    """Batches of 6, the last of 4: SGD-like epochs of a whole network, statistics frozen, in parts and not.

    Adam divides by the size of a gradient, so a rounding error of a gradient near zero can move a weight by a whole
    step; hence a first step only, whose steps are known, is compared tightly by what it measured afterwards.
    """
    settings = Training(rate=1e-3, stage_decay=1.0, batch_norm="frozen")
    build = Whole(described("test_resnet"), 3, settings)
    given: dict[str, Any] = {"epochs": 2, "held": squares(9, seed=3), "stage_decay": 1.0, "batch_norm": "frozen"}
    one = run(build, squares(16), 1, **given)
    for accumulate in (1, 2):
        assert_close(one, run(build, squares(16), 2, accumulate=accumulate, **given), 2e-3)


def test_a_head_is_the_same_to_rounding(blobs: Callable[..., Vectors]) -> None:
    """Sizes of batch that two processes cannot share evenly; early stopping is decided alike by both."""
    given: dict[str, Any] = {"epochs": 6, "batch_size": 7, "rate": 0.1, "patience": 2, "stop": blobs(12, seed=5)}
    one = run(HeadOnly(6, 3, 0.1), blobs(40), 1, held=blobs(9, seed=4), **given)
    two = run(HeadOnly(6, 3, 0.1), blobs(40), 2, held=blobs(9, seed=4), **given)
    assert_close(one, two, 1e-4)
    assert one.stopped == two.stopped


def test_two_processes_go_on_from_a_checkpoint(
    blobs: Callable[..., Vectors], killer: Any, stopped: type[Exception], tmp_path: Any
) -> None:
    """One process wrote it, two go on; the sum of their parts is rounded otherwise."""
    settings = Training(epochs=4, batch_size=10, rate=0.1)
    job = loop.Job(HeadOnly(6, 3, 0.1), blobs(40), None, None, settings, 0, tmp_path / "p", "this")
    with pytest.raises(stopped):
        loop.run(job, killer(2))
    two = run(HeadOnly(6, 3, 0.1), blobs(40), 2, epochs=4, batch_size=10, rate=0.1, checkpoint=tmp_path / "p")
    assert two.resumed
    assert_close(run(HeadOnly(6, 3, 0.1), blobs(40), 1, epochs=4, batch_size=10, rate=0.1), two, 1e-4)


def test_an_error_in_a_process_is_one_sentence(blobs: Callable[..., Vectors]) -> None:
    points = blobs(20)
    points.features[3, 0] = float("inf")
    with pytest.raises(TrainingError, match=r"^the loss is no longer a number; lower the learning rate"):
        run(HeadOnly(6, 3, 0.1), points, 2, batch_size=20)


def test_a_last_batch_of_one_picture_is_nobody_s_end(squares: Callable[..., Vectors]) -> None:
    """13 pictures in batches of 6: the second process has no part of the last one."""
    settings = Training(rate=1e-3, stage_decay=1.0, batch_norm="frozen")
    build = Whole(described("test_resnet"), 3, settings)
    given: dict[str, Any] = {"stage_decay": 1.0, "batch_norm": "frozen"}
    assert_close(run(build, squares(13), 1, **given), run(build, squares(13), 2, **given), 2e-3)

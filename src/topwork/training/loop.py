"""The training loop, on Lightning Fabric: one process or many, CPU or GPU, resumed where it was killed.

Everything random is drawn from the seed, the epoch and the picture, nothing from how often anything was drawn before:
so a resumed run equals an uninterrupted one, and the parts of a batch may be computed in several processes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from topwork import errors
from topwork.backbones.extra import torch_threads
from topwork.errors import TopworkError, TrainingError
from topwork.features.parallel import ordered_map
from topwork.features.session import cores
from topwork.progress import Progress, step
from topwork.recipe import Training
from topwork.training import checkpoint
from topwork.training.augmentation import Mixer
from topwork.training.checkpoint import Checkpoint, Tensors
from topwork.training.examples import Examples
from topwork.training.memory import memory_explained
from topwork.training.schedule import share

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

STEP = "training"
_STATE = "state.safetensors"
_EVALUATED = 64  # pictures at once where no gradient is needed
_SMALL = 5000  # numbers an input has that one thread is enough for: 40 by 40 pixels in colour


@dataclass(frozen=True)
class Job:
    """One training; every part can be sent to another process."""

    build: Callable[[], Any]
    """Makes the ``networks.Classifier`` with the weights to start from."""
    train: Examples
    held: Examples | None
    """Pictures that each epoch is measured on, for the curves; they decide nothing."""
    stop: Examples | None
    """Pictures that decide when to stop, where ``settings.patience`` asks for it."""
    settings: Training
    """With every automatic value filled in."""
    seed: int
    checkpoint: Path | None = None
    fingerprint: str = ""
    """What a checkpoint must be of to go on from it."""
    deadline: float = math.inf
    """When it must be over, as ``time.time()`` gives it."""


@dataclass
class Outcome:
    """What came of it; not frozen, because Fabric refuses to hand on what is."""

    state: Tensors
    """The trained weights and buffers, on the CPU."""
    epochs: list[dict[str, Any]]
    rates: list[tuple[int, float]]
    stopped: str | None
    """Why it ended before its last epoch, or None."""
    out_of_time: bool
    resumed: bool
    device: str

    def with_state(self, state: Tensors) -> "Outcome":
        """The same with other weights."""
        return replace(self, state=state)


def run(job: Job, progress: Progress) -> Outcome:
    """Train; raises TrainingError where the loss is no longer a number or memory runs out."""
    from lightning_fabric import Fabric

    settings = job.settings
    many = settings.devices * settings.nodes > 1
    fabric = Fabric(
        accelerator="auto",
        devices=settings.devices,
        num_nodes=settings.nodes,
        precision=cast(Any, settings.precision),
        strategy="ddp_spawn" if many else "auto",
    )
    if not many:
        fabric.launch()
        return _train(fabric, job, progress)
    from safetensors.torch import load_file
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

    # The weights come back in a file: a queue between processes blocks on so much, and tensors die with their process.
    with TemporaryDirectory() as folder:
        try:
            outcome: Outcome = fabric.launch(cast(Any, partial(_train_apart, job, Path(folder))))
        except ProcessRaisedException as error:
            raise _same_error(str(error).strip().splitlines()[-1]) from error
        except ProcessExitedException as error:
            raise TrainingError(
                f"a process of the training ended unexpectedly ({error}); where memory ran out, ask for fewer --devices"
            ) from error
        return outcome.with_state(load_file(Path(folder) / _STATE))


def _same_error(line: str) -> TopworkError:
    """The error that ended another process, from the last line of its traceback."""
    name, _, message = line.partition(": ")
    kind = getattr(errors, name.removeprefix("topwork.errors."), None) if name.startswith("topwork.errors.") else None
    return kind(message) if kind is not None else TrainingError(f"a process of the training failed: {line}")


def _train_apart(job: Job, folder: Path, fabric: Any) -> Outcome:
    """The same in a process of its own, which shows its own progress; the first one speaks for all."""
    import torch
    from safetensors.torch import save_file

    from topwork.progress import Silent, for_stream

    torch.set_num_threads(max(1, cores() // job.settings.devices))
    outcome = _train(fabric, job, for_stream() if fabric.is_global_zero else Silent())
    if fabric.local_rank == 0:  # each machine reads its own file
        save_file({name: tensor.contiguous() for name, tensor in outcome.state.items()}, folder / _STATE)
    # Ended on purpose: threads of a group that is still open at exit abort the process now and then.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return outcome.with_state({})


def _train(fabric: Any, job: Job, progress: Progress) -> Outcome:
    import torch

    # The caller's random state stays as it is.
    with torch.random.fork_rng(), memory_explained(job.settings), torch_threads(_threads(job)):
        trainer = _Trainer(fabric, job, progress)
        with step(progress, STEP, total=job.settings.epochs * trainer.steps_per_epoch):
            return trainer.run()


def _threads(job: Job) -> int:
    """One where steps are so small that threads wait for each other: two on busy cores took 4 to 25 times as long."""
    import torch

    return 1 if job.train.inputs(np.array([0]), None).size <= _SMALL else torch.get_num_threads()


class _Trainer:
    """The state of one training."""

    def __init__(self, fabric: Any, job: Job, progress: Progress) -> None:
        import torch

        self.fabric, self.job, self.progress, self.settings = fabric, job, progress, job.settings
        n, size = len(job.train.labels), self.settings.batch_size
        self.steps_per_epoch = n // size if n % size == 1 and n > 1 and size > 1 else math.ceil(n / size)
        self.steps = self.settings.epochs * self.steps_per_epoch
        torch.manual_seed(job.seed)  # new weights are the same in every process
        self.model = job.build()
        channels_last = {"memory_format": torch.channels_last}
        self.model.to(**channels_last)
        self.peaks = [group["lr"] for group in self.model.groups]
        optimizer = torch.optim.AdamW(self.model.groups, weight_decay=self.settings.weight_decay)
        self.mixer = Mixer(self.settings.mixup, self.settings.cutmix, self.model.n_classes)
        self.wrapped, self.optimizer = fabric.setup(self.model, optimizer)
        self.epochs: list[dict[str, Any]] = []
        self.rates: list[tuple[int, float]] = []
        self.best: Tensors = {}
        self.stopped: str | None = None
        self.out_of_time = False
        self.resumed = False

    def run(self) -> Outcome:
        """All epochs that are left."""
        first = self._resume()
        for _ in range(first * self.steps_per_epoch):
            self.progress.advance(STEP)
        for epoch in range(first, self.settings.epochs):
            if self.stopped or self.out_of_time:
                break
            self._epoch(epoch)
            self._save(epoch + 1)
        if self.best:
            self.model.load_state_dict(self.best)
            best = int(np.argmin([row["stop_loss"] for row in self.epochs])) + 1
            if self.stopped is None and best < len(self.epochs):
                self.stopped = f"all epochs were run; the weights of epoch {best}, the best one, are used"
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        device = str(self.fabric.device)
        return Outcome(state, self.epochs, self.rates, self.stopped, self.out_of_time, self.resumed, device)

    def _epoch(self, epoch: int) -> None:
        import torch

        begun = time.perf_counter()
        torch.manual_seed(_seed(self.job.seed, epoch))  # for layers that draw, such as dropout
        self.model.train()
        total, right, seen = 0.0, 0, 0
        for number, (inputs, labels, size, counts) in enumerate(self._batches(epoch)):
            self._set_rates(epoch * self.steps_per_epoch + number)
            loss, hits = self._step(inputs, labels, size, counts, _seed(self.job.seed, epoch, number))
            if counts:
                total, right, seen = total + loss, right + hits, seen + len(labels)
            self.progress.advance(STEP)
            if self._overdue():
                self.out_of_time = True
                return
        loss, accuracy = self._means(total, right, seen)
        row = {"epoch": epoch + 1, "loss": loss, "training_accuracy": accuracy}
        row |= self._measured(self.job.held)
        if not math.isfinite(row["held_loss"] or 0.0) or not self._is_finite():
            raise self._diverged()
        row["seconds"] = round(time.perf_counter() - begun, 3)
        self.epochs.append(row)
        self._look_whether_to_stop(epoch)
        self.progress.note(STEP, _words(row, self.settings.epochs))

    def _step(self, inputs: Floats, labels: Ints, size: int, counts: bool, seed: int) -> tuple[float, int]:
        """One step on this process's part of a batch of ``size``; returns the summed loss and the hits."""
        import torch
        from torch.nn import functional

        self.optimizer.zero_grad()
        total, right = 0.0, 0
        parts = np.array_split(np.arange(len(labels)), min(self.settings.accumulate, max(1, len(labels))))
        for i, part in enumerate(parts):
            truth = torch.from_numpy(labels[part]).to(self.fabric.device)
            x, targets = self.mixer(self._tensor(inputs[part]), truth, seed + i)
            with self.fabric.no_backward_sync(self.wrapped, enabled=i + 1 < len(parts)):
                scores = self.wrapped(x)
                losses = functional.cross_entropy(
                    scores, targets, label_smoothing=self.settings.label_smoothing, reduction="sum"
                )
                # Gradients are averaged over processes, so this makes them those of the whole batch's mean loss.
                self.fabric.backward(losses * counts * self.fabric.world_size / size)
            total += float(losses.detach())
            right += int((scores.detach().argmax(dim=1) == truth).sum())
        if not math.isfinite(total):
            raise self._diverged()
        self.optimizer.step()
        return total, right

    def _is_finite(self) -> bool:
        return all(bool(tensor.isfinite().all()) for tensor in self.model.state_dict().values())

    def _diverged(self) -> TrainingError:
        return TrainingError(
            f"the loss is no longer a number; lower the learning rate (rate = {self.settings.rate:g}, head_rate = "
            f"{self.settings.head_rate:g} in [training] of a recipe), or look at the pictures with `topwork audit`"
        )

    def _batches(self, epoch: int) -> Iterator[tuple[Floats, Ints, int, bool]]:
        """This process's part of each batch, the batch's size, and whether the part counts.

        Beside a GPU the next batch is made meanwhile. On a CPU not: its cores are busy, and augmentation would draw
        between the draws of a dropout layer.
        """
        n, rank, world = len(self.job.train.labels), self.fabric.global_rank, self.fabric.world_size
        order = np.random.default_rng(_seed(self.job.seed, epoch)).permutation(n)
        batches = [order[i : i + self.settings.batch_size] for i in range(0, n, self.settings.batch_size)]
        if len(batches) > self.steps_per_epoch:  # a last batch of one picture, of which batch norms cannot learn
            batches[-2:] = [np.concatenate(batches[-2:])]
        # A process for which the last batch has no picture repeats one that counts nothing: all must take every step.
        own = [batch[rank::world] if len(batch) > rank else batch[:1] for batch in batches]
        seed = _seed(self.job.seed, epoch, 1)
        make = partial(self.job.train.inputs, seed=seed)
        made = map(make, own) if self.fabric.device.type == "cpu" else ordered_map(make, own, threads=1)
        for rows, batch, inputs in zip(own, batches, made, strict=True):
            yield inputs, self.job.train.labels[rows], len(batch), len(batch) > rank

    def _set_rates(self, number: int) -> None:
        part = share(number, self.steps, schedule=self.settings.schedule, warmup=self.settings.warmup)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * part
        if number % max(1, self.steps // 200) == 0:
            self.rates.append((number, self.settings.rate * part))

    def _tensor(self, inputs: NDArray[Any]) -> Any:
        import torch

        tensor = torch.from_numpy(inputs)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor.to(self.fabric.device)

    def _measured(self, examples: Examples | None) -> dict[str, Any]:
        """Loss and accuracy without gradients, the same in every process."""
        if examples is None:
            return {"held_loss": None, "accuracy": None}
        found = self.fabric.broadcast(self._losses(examples) if self.fabric.is_global_zero else None)
        return {"held_loss": found[0], "accuracy": found[1]}

    def _losses(self, examples: Examples) -> tuple[float, float]:
        from torch.nn import functional

        scores = scores_of(self.model, examples, self._tensor)
        labels = self._tensor(examples.labels)
        loss = float(functional.cross_entropy(scores, labels))
        return loss, int((scores.argmax(dim=1) == labels).sum()) / len(labels)

    def _look_whether_to_stop(self, epoch: int) -> None:
        if not self.settings.patience or self.job.stop is None:
            return
        row = self.epochs[-1]
        row["stop_loss"] = self._measured(self.job.stop)["held_loss"]
        losses = [each["stop_loss"] for each in self.epochs]
        best = int(np.argmin(losses))
        if best == epoch:
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        if epoch - best >= self.settings.patience:
            self.stopped = f"no progress for {epoch - best} epochs; the weights of epoch {best + 1} are used"

    def _means(self, total: float, right: int, seen: int) -> tuple[float, float]:
        """Mean loss and accuracy over all processes."""
        import torch

        if self.fabric.world_size == 1:
            return total / seen, right / seen
        sums = torch.tensor([total, right, seen], dtype=torch.float64)
        total, hits, count = self.fabric.all_reduce(sums, reduce_op="sum").tolist()
        return total / count, hits / count

    def _overdue(self) -> bool:
        """Whether time is up, as the first process sees it."""
        return (
            bool(self.fabric.broadcast(time.time() > self.job.deadline)) if math.isfinite(self.job.deadline) else False
        )

    def _save(self, epochs: int) -> None:
        if self.job.checkpoint is None or not self.fabric.is_global_zero or self.out_of_time:
            return
        facts = {"epochs": self.epochs, "rates": self.rates, "stopped": self.stopped}
        optimizer = checkpoint.optimizer_tensors(self.optimizer)
        Checkpoint(epochs, self.model.state_dict(), optimizer, facts, self.best).write(
            self.job.checkpoint, self.job.fingerprint
        )

    def _resume(self) -> int:
        """Take up the checkpoint where there is one; returns the epochs that are done."""
        found = checkpoint.read(self.job.checkpoint, self.job.fingerprint) if self.job.checkpoint else None
        if found is None or not checkpoint.fits(found, self.model.state_dict(), self.optimizer):
            return 0
        self.model.load_state_dict(found.model)
        checkpoint.restore_optimizer(self.optimizer, found.optimizer)
        self.epochs, self.stopped = found.facts["epochs"], found.facts["stopped"]
        self.rates = [(int(number), float(rate)) for number, rate in found.facts["rates"]]
        self.best, self.resumed = found.best, True
        return found.epochs


def scores_of(model: Any, examples: Examples, tensor: Callable[[Any], Any]) -> Any:
    """Class scores ``[n, c]`` of all examples as in prediction; the model's mode is the same afterwards."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            rows = np.arange(len(examples.labels))
            parts = [rows[i : i + _EVALUATED] for i in range(0, len(rows), _EVALUATED)]
            return torch.cat([model(tensor(examples.inputs(part, None))).float() for part in parts])
    finally:
        model.train(training)


def filled(settings: Training, **values: Any) -> Training:
    """Settings with automatic values (0 or ``auto``) replaced."""
    return replace(settings, **{k: v for k, v in values.items() if getattr(settings, k) in (0, "auto")})


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)[0] >> 1)


def _words(row: dict[str, Any], epochs: int) -> str:
    accuracy = row["accuracy"] if row["accuracy"] is not None else row["training_accuracy"]
    return f"epoch {row['epoch']} of {epochs}: loss {row['loss']:.3f}, accuracy {accuracy:.3f}"

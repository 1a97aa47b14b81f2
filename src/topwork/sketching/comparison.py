"""Strokes, picture and both, trained alike and measured on the same held-out drawings."""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.backbones.extra import torch_threads
from topwork.errors import ImageError, SourceError, UsageError
from topwork.evaluation.metrics import CONFIDENCE, share_interval
from topwork.evaluation.paired import gain
from topwork.images import Excluded, Sample, holdout
from topwork.images.drawing_set import choose
from topwork.images.parts import read_part
from topwork.images.quickdraw import Drawing
from topwork.images.source import packed_files
from topwork.progress import Progress, Silent, step
from topwork.recipe import Training
from topwork.sketching.copies import copy_groups
from topwork.sketching.examples import Drawings, drawings_of
from topwork.sketching.sequences import TOLERANCE
from topwork.training import loop
from topwork.training.examples import Subset
from topwork.training.extra import require_torch

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Source = str | os.PathLike[str]

EPOCHS = 25
SIZE = 28
HELD = 0.25
"""Share of the drawings that the networks are measured on."""
NAMES = ("picture", "strokes", "both")

_RATE = 5e-3
_SIZES = (8, 256)


@dataclass(frozen=True)
class Material:
    """Labelled drawings as arrays; row i of everything is one drawing."""

    drawings: Drawings
    groups: Ints
    classes: tuple[str, ...]
    excluded: tuple[Excluded, ...]


@dataclass(frozen=True)
class Measured:
    """One network after its training."""

    network: Any
    """The PyTorch module, in evaluation mode."""
    scores: Floats
    """Of the held-out drawings, ``[m, c]``."""
    facts: dict[str, Any]


def compare_strokes(
    source: Source | Iterable[Source],
    *,
    per_class: int = 0,
    size: int = SIZE,
    epochs: int = EPOCHS,
    seed: int = 0,
    output: Source | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a bidirectional GRU on strokes, a small CNN on pictures, and both together; say which is better.

    ``source``: QuickDraw files (.ndjson) or folders of them; ``per_class``: drawings of each class, chosen by ``seed``,
    0 for all; ``size``: side of the pictures in pixels, 8 to 256. A quarter of the drawings is held out, the same for
    all three; copies of a drawing stand on one side. ``output``: a folder for the networks as ONNX.

    Returns ``classes``, ``n_training``, ``n_held``, ``networks`` (by name ``accuracy`` with its interval,
    ``parameters``, ``seconds``, ``curves``), ``gains`` (the differences in pairs, with intervals) and ``best`` (the
    network that is better than each other one beyond doubt, or None). The same on the same CPU for the same seed.

    SourceError where there are not two classes of drawings, UsageError for a wrong option, MissingExtraError without
    PyTorch.

    >>> import json, tempfile
    >>> def zigzag(turns, width):
    ...     return [[list(range(turns)), [width * (place % 2) for place in range(turns)]]]
    >>> def lines(word, turns):
    ...     return "".join(json.dumps({"word": word, "drawing": zigzag(turns, 1 + k / 9)}) + "\\n" for k in range(8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "few.ndjson").write_text(lines("few", 3) + lines("many", 9))
    ...     facts = compare_strokes(folder, epochs=2)
    >>> facts["classes"], facts["n_training"], facts["n_held"], sorted(facts["networks"])
    (['few', 'many'], 12, 4, ['both', 'picture', 'strokes'])
    """
    _check(per_class, size, epochs, seed)
    require_torch()
    if output is not None:
        from topwork.sketching.shipping import check_target

        check_target(Path(output))
    progress = progress or Silent()
    material = read(source, per_class=per_class, size=size, seed=seed, progress=progress)
    held = holdout(material.drawings.labels, material.groups, HELD, seed)
    training, unseen = np.flatnonzero(~held), np.flatnonzero(held)
    settings = Training(epochs=epochs, rate=_RATE, head_rate=_RATE)
    measured = {name: measure(name, material, training, unseen, settings, seed, progress) for name in NAMES}
    facts = {
        "classes": list(material.classes),
        "n_training": len(training),
        "n_held": len(unseen),
        "copies": len(material.groups) - len(np.unique(material.groups)),
        "size": size,
        "epochs": epochs,
        "seed": seed,
        "longest": material.drawings.strokes.shape[1],
        "tolerance": TOLERANCE,
        "networks": {name: found.facts for name, found in measured.items()},
        **verdict({name: found.scores for name, found in measured.items()}, material, unseen),
        "excluded": [vars(item) for item in material.excluded],
        "output": None,
    }
    if output is not None:
        from topwork.sketching.shipping import write

        networks = {name: found.network for name, found in measured.items()}
        facts["output"] = write(Path(output), networks, material.drawings, unseen, facts)
    return facts


def _check(per_class: int, size: int, epochs: int, seed: int) -> None:
    least, most = _SIZES
    for name, value, low, high in (
        ("per_class", per_class, 0, math.inf),
        ("size", size, least, most),
        ("epochs", epochs, 1, math.inf),
        ("seed", seed, 0, math.inf),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            above = "or more" if high == math.inf else f"to {high}"
            raise UsageError(f"{name} must be a whole number, {low} {above}, not {value!r}")


def read(source: Source | Iterable[Source], *, per_class: int, size: int, seed: int, progress: Progress) -> Material:
    """The drawings of all sources; SourceError where they are not of two classes or more."""
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not sources:
        raise UsageError("expected QuickDraw files or folders, but there is none; give at least one")
    files, left_out = packed_files(*(os.fspath(each) for each in sources))
    choice = choose(files, per_class=per_class or None, seed=seed, progress=progress)
    classes = tuple(choice.samples)
    if len(classes) < 2:
        raise SourceError(
            f"expected drawings of at least two classes, but all are of {classes[0]!r}; give files of other words too"
        )
    samples = [sample for name in classes for sample in choice.samples[name]]
    labels = np.repeat(np.arange(len(classes)), [len(choice.samples[name]) for name in classes])
    with step(progress, "drawing"):
        drawings = [_drawing(sample) for sample in samples]
        arrays = drawings_of(drawings, labels, size)
    return Material(arrays, copy_groups(drawings), classes, (*left_out, *choice.excluded))


def _drawing(sample: Sample) -> Drawing:
    try:
        part = read_part(sample.location)
    except ImageError as error:
        raise SourceError(
            f"expected {sample.id} as it was a moment ago, but: {error}; run again when nobody changes the file"
        ) from error
    if not isinstance(part, Drawing):
        raise SourceError(f"expected strokes, but {sample.id} is a bitmap, which has none; give .ndjson files")
    return part


def measure(
    name: str, material: Material, training: Ints, unseen: Ints, settings: Training, seed: int, progress: Progress
) -> Measured:
    """Train the network called ``name`` on the rows ``training`` and measure it on the rows ``unseen``."""
    import torch

    from topwork.sketching.training import Build

    drawings = material.drawings
    held = Subset(drawings, unseen)
    build = Build(name, len(material.classes), drawings.size, settings)
    with torch_threads(1), torch.random.fork_rng():  # the caller's random state stays as it is
        model = build()
        outcome = loop.run(loop.Job(build, Subset(drawings, training), held, None, settings, seed), progress)
        model.load_state_dict(outcome.state)
        model.eval()
        scores = loop.scores_of(model, held, torch.from_numpy).numpy()
    right = scores.argmax(axis=1) == held.labels
    facts = {
        "accuracy": {
            **share_interval(right, material.groups[unseen]).as_dict(),
            "confidence": CONFIDENCE,
            "n": len(right),
            "correct": int(right.sum()),
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(sum(row["seconds"] for row in outcome.epochs), 3),
        "curves": outcome.epochs,
    }
    return Measured(model.network, scores, facts)


def verdict(scores: dict[str, Floats], material: Material, unseen: Ints) -> dict[str, Any]:
    """``gains``: each network over each other one before it, and ``best``; from their scores ``[m, c]``."""
    labels, groups = material.drawings.labels[unseen], material.groups[unseen]
    right = {name: found.argmax(axis=1) == labels for name, found in scores.items()}
    rows = [
        {"network": second, "over": first, **gain(right[second], right[first], groups).as_dict()}
        for first, second in combinations(scores, 2)
    ]
    return {"gains": rows, "best": best_of(rows)}


def best_of(gains: Sequence[dict[str, Any]]) -> str | None:
    """The network that is more often right than each other one, with the whole interval; None where there is none.

    >>> one_pair = {"network": "both", "over": "picture", "value": 0.1, "low": 0.02, "high": 0.18}
    >>> best_of([one_pair]), best_of([{**one_pair, "low": -0.01}])
    ('both', None)
    """
    names = dict.fromkeys(name for row in gains for name in (row["over"], row["network"]))
    return next((name for name in names if all(_beats(name, row) for row in gains)), None)


def _beats(name: str, row: dict[str, Any]) -> bool:
    """Whether a network is better in a pair beyond doubt, or is not in it."""
    if name not in (row["network"], row["over"]):
        return True
    return bool(row["low"] > 0 if name == row["network"] else row["high"] < 0)

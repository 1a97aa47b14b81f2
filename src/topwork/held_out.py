"""A finished model on labelled pictures it never saw."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from topwork import fingerprint
from topwork.errors import ImageError, SourceError
from topwork.evaluation import summary
from topwork.features.parallel import ordered_map
from topwork.images import Excluded, ImageSource, Sample
from topwork.model import Answer, Model, load
from topwork.progress import Progress, Silent, step


def evaluate(model: Model | str | Path, source: Any, *, progress: Progress | None = None) -> dict[str, Any]:
    """Measure a model on a labelled source; returns the JSON of ``topwork evaluate --json`` (docs/json.md).

    Copies of training pictures are named in ``leaked`` and left out. Pictures of classes that the model does not know
    are left out as well; ``novelty.foreign`` says how many of them it noticed.
    """
    begun = time.perf_counter()
    model, progress = model if isinstance(model, Model) else load(model), progress or Silent()
    images = ImageSource.open(source, labelled=True, progress=progress)
    samples = [sample for sample in images.samples if sample.label is not None]
    seen = model.trained_on()
    judged, excluded = _judge(model, samples, progress)
    place = {name: k for k, name in enumerate(model.labels)}
    own = [row for row in judged if row.sample.label in place]
    foreign = [row for row in judged if row.sample.label not in place]
    if not own:
        raise SourceError(
            f"expected pictures of the model's classes ({_listed(model.labels)}), found none in {source}; "
            "name the class folders as in training"
        )
    facts = summary.held_out_facts(
        np.stack([row.answer.probabilities for row in own]).astype(np.float64),
        np.array([place[str(row.sample.label)] for row in own], np.int64),
        _groups(own),
        model.labels,
        [row.sample.id for row in own],
        novelty=np.array([row.answer.novelty or 0.0 for row in own], np.float32),
        threshold=model.threshold,
        leaked=np.array([row.content in seen for row in own]),
        method="held-out pictures",
    )
    reasons = [Excluded(row.sample.id, f"{row.sample.label!r} is not a class of the model") for row in foreign]
    facts["novelty"]["foreign"] = {
        "n": len(foreign),
        "noticed": None
        if model.threshold is None
        else sum(model.is_known(row.answer.novelty) is False for row in foreign),
    }
    return {
        "model": model.name,
        "source": images.root,
        **facts,
        "excluded": [vars(item) for item in [*excluded, *reasons, *images.excluded]],
        "seconds": {"total": round(time.perf_counter() - begun, 4)},
    }


@dataclass(frozen=True)
class _Judged:
    sample: Sample
    content: str
    answer: Answer


def _judge(model: Model, samples: list[Sample], progress: Progress) -> tuple[list[_Judged], list[Excluded]]:
    judged, excluded = [], []

    def one(sample: Sample) -> _Judged | ImageError:
        try:
            data = sample.read()
            return _Judged(sample, fingerprint.of_bytes(data), model.answer(model.pixels(data)))
        except ImageError as error:
            return error

    with step(progress, "reading pictures", total=len(samples)):
        for sample, row in zip(samples, ordered_map(one, samples), strict=True):
            progress.advance("reading pictures")
            if isinstance(row, ImageError):
                excluded.append(Excluded(sample.id, str(row)))
            else:
                judged.append(row)
    return judged, excluded


def _groups(rows: list[_Judged]) -> Any:
    """Copies of one file, and pictures with the same ``group``, stand or fall together."""
    keys = [row.sample.group or row.content for row in rows]
    return np.unique(keys, return_inverse=True)[1]


def _listed(names: list[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")

"""A finished model on labelled pictures it never saw."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint, packing, report, storage
from topwork.backbones.graph import feature_graph
from topwork.backbones.zoo import backbone
from topwork.errors import ImageError, SourceError
from topwork.evaluation import summary
from topwork.evaluation.duplicates import DuplicateKeys, merged_groups, seen_before
from topwork.evaluation.promise import compared
from topwork.features.parallel import ordered_map
from topwork.features.session import open_session
from topwork.images import Excluded, ImageSource, Picture, Sample, decode
from topwork.images.measuring import grey_copy, perceptual_hash
from topwork.images.names import plain
from topwork.images.sample import unread
from topwork.images.sniff import shown
from topwork.model import Answer, Model, load
from topwork.progress import Progress, Silent, step
from topwork.recipe import DEFAULT_BACKBONE


def evaluate(
    model: Model | str | Path, source: Any, *, page: str | Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure a model on a labelled source; returns the JSON of ``topwork evaluate --json`` (docs/json.md).

    Near-duplicates of training pictures are named in ``leaked`` and left out, by the rule that ``fit`` keeps its own
    test pictures apart; only identical files where the model does not keep what that needs (``leak_rule``). Pictures
    of classes that the model does not know are left out as well; ``novelty.foreign`` says how many it noticed.
    ``page``: a file for the same as an HTML page, with pictures.
    """
    begun = time.perf_counter()
    if page is not None:
        storage.check_file(Path(page))
    model, progress = model if isinstance(model, Model) else load(model), progress or Silent()
    images = ImageSource.open(source, labelled=True, progress=progress)
    for note in images.notes:
        progress.say(note)
    samples = [sample for sample in images.samples if sample.label is not None]
    judged, excluded = _judge(model, samples, progress)
    # Sources give names in one form (`topwork.images.names`); a model may be older than that rule.
    exact = {name: k for k, name in enumerate(model.labels)}
    place = {plain(name): k for name, k in exact.items()} | exact
    own = [row for row in judged if row.sample.label in place]
    foreign = [row for row in judged if row.sample.label not in place]
    if not own:
        raise SourceError(_nothing_to_measure(model, images, foreign, excluded))
    groups, leaked = _seen_before(model, own)
    facts = summary.held_out_facts(
        np.stack([row.answer.probabilities for row in own]).astype(np.float64),
        np.array([place[str(row.sample.label)] for row in own], np.int64),
        groups,
        model.labels,
        [row.sample.id for row in own],
        novelty=np.array([row.answer.novelty or 0.0 for row in own], np.float32),
        threshold=model.threshold,
        leaked=leaked,
        method="held-out pictures",
    )
    reasons = [Excluded(row.sample.id, f"{row.sample.label!r} is not a class of the model") for row in foreign]
    facts["novelty"]["foreign"] = {
        "n": len(foreign),
        "noticed": None
        if model.threshold is None
        else sum(model.is_known(row.answer.novelty) is False for row in foreign),
    }
    facts["leak_rule"] = "near-duplicates" if model.duplicate_keys() else "identical files"
    facts = {
        "model": model.name,
        "source": images.root,
        **facts,
        "promise": _promise(model, facts),
        "excluded": [vars(item) for item in [*excluded, *reasons, *images.excluded]],
    }
    if page is not None:
        _write_page(Path(page), model, facts, [row.sample for row in own], progress)
    return {**facts, "seconds": {"total": round(time.perf_counter() - begun, 4)}}


def _write_page(path: Path, model: Model, facts: dict[str, Any], samples: list[Sample], progress: Progress) -> None:
    claims = report.evaluation_pictures(facts)
    wanted = [sample for sample in samples if sample.id in claims]
    pictures = packing.thumbnails(model, wanted, claims, progress)
    storage.write_file(path, report.render_evaluation(facts, pictures=pictures).encode())


def _nothing_to_measure(model: Model, images: ImageSource, foreign: list["_Judged"], excluded: list[Excluded]) -> str:
    where = shown(images.root) or "the list"
    if not foreign:
        return f"expected pictures that can be read in {where}, but {unread(excluded)}; replace them"
    found = _listed(sorted({str(row.sample.label) for row in foreign}))
    return (
        f"expected pictures of the model's classes ({_listed(model.labels)}), found only others ({found}) in {where}; "
        "name the class folders as in training"
    )


def _promise(model: Model, facts: dict[str, Any]) -> dict[str, Any] | None:
    """What the fit had measured, and why it was something else; None where the model does not say."""
    promise = compared(model.manifest.get("metrics") or {}, facts)
    return None if promise is None else promise.as_dict()


_Key = tuple[int, NDArray[np.float16]]  # perceptual hash, features of the default backbone


@dataclass(frozen=True)
class _Judged:
    sample: Sample
    content: str
    answer: Answer
    key: _Key | None
    """What near-duplicates are told by; None where the model keeps nothing to compare it with."""


def _judge(model: Model, samples: list[Sample], progress: Progress) -> tuple[list[_Judged], list[Excluded]]:
    judged, excluded = [], []
    key_of = _key_of(model)

    def one(sample: Sample) -> _Judged | ImageError:
        try:
            data = sample.read()
            picture = decode(data, model.decoding)
        except ImageError as error:
            return error
        answer = model.answer(picture.pixels)
        return _Judged(sample, fingerprint.of_bytes(data), answer, key_of(picture, answer) if key_of else None)

    with step(progress, "reading pictures", total=len(samples)):
        for sample, row in zip(samples, ordered_map(one, samples), strict=True):
            progress.advance("reading pictures")
            if isinstance(row, ImageError):
                excluded.append(Excluded(sample.id, str(row)))
            else:
                judged.append(row)
    return judged, excluded


def _key_of(model: Model) -> Callable[[Picture, Answer], _Key] | None:
    """What a picture's near-duplicates are told by; None where the model keeps nothing to compare it with."""
    if not model.duplicate_keys():
        return None
    features = _features_of_default_backbone(model)

    def key(picture: Picture, answer: Answer) -> _Key:
        told_by = features(picture.pixels) if features else answer.features
        return perceptual_hash(grey_copy(picture.image)), told_by.astype(np.float16)

    return key


def _features_of_default_backbone(model: Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]] | None:
    """Pixels ``[h, w, 3]`` -> features ``[d]`` that near-duplicates are told by; None if the model's own will do."""
    made_with = model.backbone
    if made_with is not None and (made_with.name, made_with.trained, model.geometry) == (
        DEFAULT_BACKBONE,
        False,
        "crop",
    ):
        return None
    session = open_session(feature_graph(backbone(DEFAULT_BACKBONE), "crop").path)
    return lambda pixels: np.asarray(session.run(["features"], {"image": pixels[None]})[0][0])


def _seen_before(model: Model, rows: list[_Judged]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Groups ``[n]`` of pictures that stand or fall together, and which of them ``[n]`` the model has trained on.

    Together stand copies of one file, pictures with the same ``group``, and near-duplicates.
    """
    seen = model.trained_on()
    keys = [row.sample.group or row.content for row in rows]
    groups = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    leaked = np.array([row.content in seen for row in rows])
    told_by = [row.key for row in rows if row.key is not None]
    if (trained := model.duplicate_keys()) and told_by:
        hashes = np.array([phash for phash, _ in told_by], np.uint64)
        near, again = seen_before(DuplicateKeys(np.stack([features for _, features in told_by]), hashes), trained)
        groups, leaked = merged_groups(groups, near), leaked | again
    return groups, np.isin(groups, groups[leaked])


def _listed(names: list[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")

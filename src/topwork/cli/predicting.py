"""``topwork predict`` and ``topwork evaluate``."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

import typer

from topwork.cli import filmed
from topwork.cli.fit_output import print_per_class
from topwork.cli.fitting import Source, seconds
from topwork.cli.maps import MapFolder
from topwork.cli.output import Json, balanced, cut, percent, print_json, print_lines, print_table, spread
from topwork.cli.sources import AllowRemote, given
from topwork.errors import ImageError, MissingExtraError, SourceError, UsageError

if TYPE_CHECKING:
    from topwork.images import ImageSource, Sample
    from topwork.model import Model, Prediction

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or imagenet:BACKBONE.")]


def predict(
    model: ModelPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, videos, folders, lists or URLs.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to list for each picture.")] = 5,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write there where in each picture its class is seen.")
    ] = None,
    every: Annotated[str, typer.Option(metavar="TIME", help="Videos: a frame every so often.")] = "0.5s",
    smooth: Annotated[
        str, typer.Option(metavar="TIME", help="Videos: average answers over so long; 0 turns it off.")
    ] = "1s",
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Videos: also write a row a frame.")
    ] = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Say what is on each picture, and along each video.

    Label, probability, and whether it is known: like the training pictures.

    A picture that cannot be read is listed with the reason; the exit code is 1 when none could be read.
    """
    from topwork.model import load
    from topwork.progress import for_stream, step

    folder = None if explain is None else MapFolder(explain)
    opened, interval, window = load(model), seconds(every), seconds(smooth)
    found = once(
        entry for argument in images for entry in entries_of(argument, whole_videos=True, allow_remote=allow_remote)
    )
    videos = [entry for entry in found if _is_video(entry)]
    _check_videos(videos, folder, table, images)
    if len(videos) == len(found):
        filmed.require_ffmpeg()  # its absence is an error, not a row, where there is nothing else
    samples = [entry for entry in found if not isinstance(entry, Fault) and not _is_video(entry)]
    rows: list[dict[str, Any]] = []
    progress = for_stream()
    with step(progress, "predicting", total=len(samples)):
        predictions = opened.predict_each(samples, top=top, heatmap=folder is not None)
        for entry in found:
            if isinstance(entry, Fault):
                rows.append(entry.row() | ({} if folder is None else {"files": []}))
                continue
            if _is_video(entry):
                film, why = filmed.rows_of(opened, entry, every=interval, smooth=window, top=top, progress=progress)
                rows += [*film, *([Fault(entry.id, why).row()] if why else [])]
                continue
            prediction = next(predictions)
            files = {} if folder is None else {"files": _write_map(folder, opened, entry, prediction)}
            rows.append(prediction.as_dict() | files)
            progress.advance("predicting")
    if table is not None:
        filmed.write_csv(table, [row for row in rows if "video" in row])
    _show(rows, found, json=json)


def _is_video(entry: "Sample | Fault") -> "TypeGuard[Sample]":
    from topwork.images.storage import file_name
    from topwork.images.video import is_video

    return not isinstance(entry, Fault) and is_video(file_name(entry.location))


def _check_videos(
    videos: "Sequence[Sample | Fault]", folder: MapFolder | None, table: Path | None, given: Sequence[str]
) -> None:
    """Raise before the work where an option does not fit what was given."""
    if videos and folder is not None:
        raise UsageError("--explain is for pictures; make pictures of the videos with `topwork frames` first")
    if table is not None and not videos:
        raise UsageError("--csv is for videos, but none was given; --json has the answers for pictures")
    if table is not None:
        filmed.check_csv(table, given)


def _write_map(folder: MapFolder, model: "Model", sample: "Sample", prediction: "Prediction") -> list[str]:
    """Overlay and values of a prediction's class activation map; nothing of a picture that could not be read."""
    from topwork.explanation import of_prediction

    if prediction.error:
        return []
    try:
        return folder.write(of_prediction(model, sample, prediction))
    except ImageError:  # it is gone since it was predicted
        return []


@dataclass(frozen=True)
class Fault:
    """What cannot be predicted; ``cause``: the error if the argument itself could not be opened."""

    path: str
    reason: str
    cause: Exception | None = None

    def row(self) -> dict[str, Any]:
        """Its row of the JSON."""
        empty: dict[str, Any] = {"label": None, "probability": None, "known": None, "novelty": None, "top": []}
        return {"path": self.path, **empty, "error": self.reason}


def entries_of(argument: str, *, whole_videos: bool = False, allow_remote: bool = False) -> "Iterator[Sample | Fault]":
    """The pictures that an argument stands for, and what should have been one, under the paths that are shown.

    Of a video some frames, or with ``whole_videos`` itself.
    """
    from topwork.images import ImageSource
    from topwork.images.frames import FOR_SOURCES
    from topwork.progress import for_stream

    frames = None if whole_videos else FOR_SOURCES
    try:
        source = ImageSource.open(
            argument, labelled=False, frames=frames, progress=for_stream(), allow_remote=allow_remote
        )
    except (SourceError, MissingExtraError) as error:
        missing = "://" not in argument and not os.path.exists(os.path.expanduser(argument))
        yield Fault(argument, "file not found" if missing else str(error), error)
        return
    for sample in source.samples:
        yield replace(sample, id=argument if sample.location == source.root else _path(argument, source, sample.id))
    for item in source.excluded:
        if item.is_fault:
            yield Fault(_path(argument, source, item.path), item.reason)


def _path(argument: str, source: "ImageSource", inside: str) -> str:
    """The argument as it was typed joined with the path in it; in a manifest the path as it is written there."""
    from topwork.images.storage import is_url, join_url

    if source.kind == "manifest":
        return inside
    name = posixpath.basename(source.root.replace(os.sep, "/"))
    if inside.startswith((f"{name}:", f"{name}@")):  # one of the many pictures in the file that was given
        return argument + inside.removeprefix(name)
    return join_url(argument, inside) if is_url(argument) else posixpath.join(argument.replace(os.sep, "/"), inside)


def once(entries: "Iterable[Sample | Fault]") -> "list[Sample | Fault]":
    """Each picture and each fault once, where it came first."""
    found: dict[tuple[bool, str], Sample | Fault] = {}
    for entry in entries:
        key = (True, entry.path) if isinstance(entry, Fault) else (False, entry.location)
        found.setdefault(key, entry)
    return list(found.values())


def _show(rows: list[dict[str, Any]], found: "Sequence[Sample | Fault]", *, json: bool) -> None:
    """Print the rows; SourceError where none has an answer."""
    nothing = all(row["error"] for row in rows)
    only = found[0] if len(found) == 1 else None
    cause = only.cause if isinstance(only, Fault) else None
    if json:
        print_json(rows)
    elif not cause:
        _print_all(rows)
    if cause:  # the one argument that there is could not be opened: no list, its error says it all
        raise cause
    if nothing:
        raise SourceError("none of the pictures could be read; the list above says why")


def _print_all(rows: list[dict[str, Any]]) -> None:
    """The pictures and what could not be read, then video by video."""
    films: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "video" in row:
            films.setdefault(row["video"], []).append(row)
    others = [row for row in rows if "video" not in row]
    if others:
        _print_predictions(others)
    for place, film in enumerate(films.values()):
        print_lines([""] if others or place else [])
        filmed.print_timeline(film)


def _print_predictions(rows: list[dict[str, Any]]) -> None:
    files = [path for row in rows for path in row.get("files", []) if path.endswith(".png")]
    if len(rows) == 1 and not rows[0]["error"]:
        row = rows[0]
        print_lines([row["path"] + _known(row)])
        print_table(("class", "probability"), [(t["label"], percent(t["probability"])) for t in row["top"]], right=(1,))
        print_lines(["", *files] if files else [])
        return
    table = [
        (row["path"], row["error"] or row["label"], percent(row["probability"]), "" if row["error"] else _word(row))
        for row in rows
    ]
    print_table(("picture", "label", "probability", "known"), table, right=(2,))
    shown, rest = cut(files, 5)
    print_lines(["", *shown, *([rest] if rest else [])] if files else [])


def _word(row: dict[str, Any]) -> str:
    return {True: "yes", False: "NO", None: "-"}[row["known"]]


def _known(row: dict[str, Any]) -> str:
    if row["known"] is False:
        return ": NOT like the training pictures; take the label with caution"
    return ""


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder.")],
    source: Source,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Measure a model on labelled pictures it never saw."""
    from topwork.held_out import evaluate as run_evaluate
    from topwork.progress import for_stream

    facts = run_evaluate(model, given(source, allow_remote), progress=for_stream())
    if json:
        print_json(facts)
    else:
        _print_evaluation(facts)


def _print_evaluation(facts: dict[str, Any]) -> None:
    accuracy, novelty = facts["accuracy"], facts["novelty"]
    leaked, near = len(facts["leaked"]), facts["leak_rule"] == "near-duplicates"
    if not accuracy["n"]:
        known = "were trained on, or are near-duplicates of such" if near else "were trained on"
        print_lines([f"All {leaked} pictures {known}: nothing was measured; give it pictures it never saw."])
        return
    print_lines(
        [
            f"Accuracy on {accuracy['n']} held-out pictures: {spread(accuracy)}",
            balanced(facts),
            "",
        ]
    )
    print_per_class(facts)
    calibration = facts["calibration"]
    lines = [""]
    if calibration:
        lines.append(f"Calibration error {percent(calibration['ece'])}; {percent(novelty['coverage'])} count as known.")
    if leaked:
        which = "near-duplicates of training pictures" if near else "files that were trained on"
        lines.append(f"{leaked} are {which} and left out; with them it would be {percent(accuracy['naive'])}.")
    if not near:
        lines.append("The model keeps nothing to tell near-duplicates by: only identical files were looked for.")
    if novelty["foreign"]["n"]:
        noticed, n = novelty["foreign"]["noticed"], novelty["foreign"]["n"]
        lines.append(f"Of {n} pictures of other classes {noticed} were noticed as not known.")
    shown, rest = cut(facts["mistakes"], 10)
    lines += [
        f"wrong: {row['path']} is {row['label']}, predicted {row['predicted']} ({percent(row['probability'])})"
        for row in shown
    ]
    lines += [rest] if rest else []
    lines += [f"left out: {row['path']} ({row['reason']})" for row in facts["excluded"][:5]]
    print_lines(lines)

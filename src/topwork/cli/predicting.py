"""``topwork predict``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeGuard

import typer

from topwork.cli import filmed
from topwork.cli.answers import check_table, writing
from topwork.cli.entries import Fault, entries_of, once
from topwork.cli.fitting import seconds
from topwork.cli.maps import MapFolder
from topwork.cli.output import Json, print_json
from topwork.cli.sources import AllowRemote, MaxPixels, model_for
from topwork.cli.tally import Tally
from topwork.errors import ImageError, SourceError, UsageError

if TYPE_CHECKING:
    from topwork.images import Sample
    from topwork.model import Model, Prediction
    from topwork.progress import Progress

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or imagenet:BACKBONE.")]


def predict(
    model: ModelPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, videos, folders, lists or URLs.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to list for each picture.")] = 5,
    explain: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write there where in each picture its class is seen.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Videos: a frame every so often; else every 0.5s.")
    ] = None,
    smooth: Annotated[
        str | None, typer.Option(metavar="TIME", help="Videos: average answers over so long, else 1s; 0 turns it off.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write all answers there: .csv, .jsonl or .parquet."),
    ] = None,
    max_pixels: MaxPixels = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Say what is on each picture, and along each video.

    Label, probability, and whether it is known: like the training pictures.

    A picture that cannot be read is listed with the reason; the exit code is 1 when none could be read.
    """
    from topwork.progress import for_stream, step

    folder = None if explain is None else MapFolder(explain)
    if output is not None:
        check_table(output, images)
    interval, window = seconds(every or "0.5s"), seconds(smooth or "1s")
    opened = model_for(model, max_pixels)
    found = once(
        entry for argument in images for entry in entries_of(argument, whole_videos=True, allow_remote=allow_remote)
    )
    videos = [entry for entry in found if _is_video(entry)]
    _check_videos(videos, folder, {"--every": every is not None, "--smooth": smooth is not None})
    if len(videos) == len(found):
        filmed.require_ffmpeg()  # its absence is an error, not a row, where there is nothing else
    _check_single(found, json=json and output is None)
    if folder is not None:
        folder.protect(entry.location for entry in found if not isinstance(entry, Fault))
    progress = for_stream()
    films = partial(filmed.rows_of, opened, every=interval, smooth=window, top=top, progress=progress)
    tally, rows = Tally.of_terminal(rows=output is None and not json), []
    with (
        step(progress, "predicting", total=len(found) - len(videos)),
        writing(output, top=min(top, len(opened.labels)), videos=bool(videos)) as table,
    ):
        for row in _answers(opened, found, folder, top, films, progress):
            tally.add(row)
            if table is not None:
                table.add(row)
            elif json:
                rows.append(row)
        if tally.nothing and output is not None:
            first = tally.unseen[0]["error"]
            raise SourceError(f"none of the pictures could be read, so {output} was not written; the first: {first}")
    if json:
        print_json(rows if output is None else {"output": str(output), **tally.as_dict()})
    else:
        tally.show(output)
    if tally.nothing:
        raise SourceError("none of the pictures could be read; the list above says why")


def _check_single(found: "Sequence[Sample | Fault]", *, json: bool) -> None:
    """Raise what is wrong with the one argument that there is, if it could not be opened: it says more than a row."""
    if len(found) == 1 and isinstance(fault := found[0], Fault) and fault.cause:
        if json:
            print_json([fault.row()])
        raise fault.cause


def _answers(
    model: "Model",
    found: "Sequence[Sample | Fault]",
    folder: MapFolder | None,
    top: int,
    films: "Callable[[Sample], Iterator[dict[str, Any]]]",
    progress: "Progress",
) -> Iterator[dict[str, Any]]:
    """A row for each picture, moment of a video, and fault, in the order of the call."""
    samples = (entry for entry in found if not isinstance(entry, Fault) and not _is_video(entry))
    predictions = model.predict_each(samples, top=top, heatmap=folder is not None)
    for entry in found:
        if isinstance(entry, Fault):
            yield entry.row() | ({} if folder is None else {"files": []})
        elif _is_video(entry):
            yield from films(entry)
            continue
        else:
            prediction = next(predictions)
            files = {} if folder is None else {"files": _write_map(folder, model, entry, prediction)}
            yield prediction.as_dict() | files
        progress.advance("predicting")


def _is_video(entry: "Sample | Fault") -> "TypeGuard[Sample]":
    from topwork.images.storage import file_name
    from topwork.images.video import is_video

    return not isinstance(entry, Fault) and is_video(file_name(entry.location))


def _check_videos(videos: "Sequence[Sample | Fault]", folder: MapFolder | None, given: Mapping[str, bool]) -> None:
    """UsageError before the work where an option does not fit what was given."""
    if videos and folder is not None:
        raise UsageError("--explain is for pictures; make pictures of the videos with `topwork frames` first")
    for name, is_given in given.items():
        if is_given and not videos:
            raise UsageError(f"{name} is for videos, but none was given; leave it out")


def _write_map(folder: MapFolder, model: "Model", sample: "Sample", prediction: "Prediction") -> list[str]:
    """Overlay and values of a prediction's class activation map; nothing of a picture that could not be read."""
    from topwork.explanation import of_prediction

    if prediction.error:
        return []
    try:
        return folder.write(of_prediction(model, sample, prediction))
    except ImageError:  # it is gone since it was predicted
        return []

"""``topwork explain``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.entries import Fault, entries_of, once
from topwork.cli.maps import ON_SHEET, MapFolder, write_file
from topwork.cli.output import Json, counted, cut, percent, print_json, print_lines, print_table
from topwork.cli.predicting import ModelPath
from topwork.cli.sources import AllowRemote, MaxPixels, given, model_for
from topwork.cli.summarizing import show_summary
from topwork.errors import ModelError, SourceError, UsageError

if TYPE_CHECKING:
    from topwork.explanation import Explanation, Question
    from topwork.explanation.nearest import TrainingPictures
    from topwork.images import ImageSource, Sample
    from topwork.model import Model

NEIGHBOURS = 3
"""Nearest training pictures of a class that a contrast shows by itself."""


def explain(
    model: ModelPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, folders, lists or URLs.")],
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="cam, grad-cam, occlusion ...: see docs/explain.md.")
    ] = "cam",
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The class to explain; else the best one.")
    ] = None,
    contrast: Annotated[bool, typer.Option("--contrast", help="Why rather than the best other class.")] = False,
    against: Annotated[str | None, typer.Option(metavar="CLASS", help="Why rather than this class.")] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=0, max=9, help="Nearest training pictures of each class; 3 in a contrast.")
    ] = None,
    photos: Annotated[
        str | None, typer.Option(metavar="PHOTOS", help="What the model was fitted on, to show them.")
    ] = None,
    layer: Annotated[str | None, typer.Option(metavar="STAGE", help="Feature map to explain; else the last.")] = None,
    channel: Annotated[
        int | None, typer.Option(min=0, help="Explain a channel of the layer, not a class; with deconvnet, say.")
    ] = None,
    neuron: Annotated[
        str | None, typer.Option(metavar="C,Y,X", help="Explain a channel at a place in its map.")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Measure what decides in all: object, border, background, one place.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write overlays, raw values and a sheet there.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page to look at.")] = None,
    faithfulness: Annotated[bool, typer.Option(help="Measure how far each map can be believed.")] = True,
    max_pixels: MaxPixels = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Show which parts of a picture speak for its class.

    With -o an overlay (.png) and the raw values (.npz) of each picture, and a sheet of all.

    Each map is tested: does the probability fall where it says, and does the map depend on the weights at all?
    """
    from topwork.explanation import Question
    from topwork.visualization.files import Outputs

    folder = None if output is None else MapFolder(output)
    Outputs(page=html).check(needed=False)
    question = Question(target, against, contrast, *_channel(channel, neuron))
    if summary:
        if question != Question() or neighbours is not None or photos or layer or not faithfulness:
            raise UsageError(
                "expected --summary with --method, -o, --html and --json only, because it is about all pictures and "
                "classes; leave out the others, or --summary"
            )
        show_summary(model_for(model, max_pixels), images, method, folder, html, allow_remote=allow_remote, json=json)
        return
    opened = model_for(model, max_pixels)
    question.check(opened.labels, neighbours or 0)
    contrasts = contrast or against is not None
    count = neighbours if neighbours is not None else NEIGHBOURS if contrasts else 0
    if photos is not None and not count:
        raise UsageError("--photos is for showing the nearest training pictures; add --neighbours N or --contrast")
    training_photos = None if photos is None else given(photos, allow_remote)
    training, note = _training(opened, training_photos, count, required=neighbours is not None or photos is not None)
    found = once(entry for argument in images for entry in entries_of(argument, allow_remote=allow_remote))
    if folder is not None:
        folder.protect(entry.location for entry in found if not isinstance(entry, Fault))
    rows, kept = _explained(opened, found, question, method, layer, faithfulness, training, count, folder)
    sheet = folder.write_sheet(kept) if folder is not None and kept else None
    page = _write_page(html, model, kept) if html is not None and kept else None
    _show(rows, sheet, page, note, json=json)


def _channel(channel: int | None, neuron: str | None) -> tuple[int | None, tuple[int, int] | None]:
    """The channel, and its place, of either option."""
    from topwork.cli.seeing import neuron_of

    if channel is not None and neuron is not None:
        raise UsageError("expected --channel or --neuron, not both; --neuron C,Y,X names the channel too")
    return (channel, None) if neuron is None else neuron_of(neuron)


def _training(
    model: "Model", photos: "str | ImageSource | None", count: int, *, required: bool
) -> "tuple[TrainingPictures | None, str | None]":
    """The model's training pictures, or why there are none where they were not asked for in so many words."""
    from topwork.explanation.nearest import TrainingPictures

    if not count:
        return None, None
    try:
        return TrainingPictures(model, photos), None
    except (UsageError, ModelError) as error:
        if required:
            raise
        return None, f"Nearest training pictures are left out: {error}"


def _explained(
    model: "Model",
    found: "list[Sample | Fault]",
    question: "Question",
    method: str,
    layer: str | None,
    faithfulness: bool,
    training: "TrainingPictures | None",
    count: int,
    folder: MapFolder | None,
) -> "tuple[list[dict[str, Any]], list[Explanation]]":
    """A row for each picture, and the explanations that go on a sheet."""
    from topwork.explanation import explain_each
    from topwork.progress import for_stream, step

    samples = [entry for entry in found if not isinstance(entry, Fault)]
    if len(found) == 1 and isinstance(found[0], Fault) and found[0].cause:
        raise found[0].cause
    rows: list[dict[str, Any]] = []
    kept: list[Explanation] = []
    progress = for_stream()
    with step(progress, "explaining", total=len(samples)):
        explanations = explain_each(model, samples, question, method, layer, faithfulness, training, count)
        for entry in found:
            if isinstance(entry, Fault):
                rows.append(_fault_row(entry, method, question.target))
                continue
            explanation = next(explanations)
            files = folder.write(explanation) if folder is not None and not explanation.error else []
            rows.append({**explanation.as_dict(), "files": files})
            if not explanation.error and len(kept) < ON_SHEET:
                kept.append(explanation)
            progress.advance("explaining")
    return rows, kept


def _fault_row(fault: Fault, method: str, target: str | None) -> dict[str, Any]:
    empty = dict.fromkeys(("label", "target", "against", "probability", "score", "method", "layer", "error"))
    known = {"target": target, "method": method, "error": fault.reason}
    return {"path": fault.path, **empty, **known, "faithfulness": None, "neighbours": [], "files": []}


def _write_page(path: Path, model: str, explanations: "list[Explanation]") -> str:
    from topwork.explanation.page import explanation_page

    return write_file(path, explanation_page(model, explanations).encode())


def _show(rows: list[dict[str, Any]], sheet: str | None, page: str | None, note: str | None, *, json: bool) -> None:
    """Print the rows; SourceError where none has an answer."""
    if json:
        print_json(rows)
    else:
        _print_table(rows)
        print_lines([note] if note else [])
        files = [path for row in rows for path in row["files"] if path.endswith(".png")]
        more = [f"... {len(files) - 5} more"] if len(files) > 5 else []
        pages = [f"Sheet: {sheet}"] * (sheet is not None) + [f"Page: {page}"] * (page is not None)
        print_lines(["", *files[:5], *more, *pages] if files or pages else [])
    if all(row["error"] for row in rows):
        raise SourceError("none of the pictures could be explained; the list above says why")


def _print_table(rows: list[dict[str, Any]]) -> None:
    done = [row for row in rows if not row["error"]]
    if done:
        print_lines([f"{done[0]['method']}, layer {done[0]['layer']}", ""])
    columns = {"picture": [row["path"] for row in rows], "predicted": [row["error"] or row["label"] for row in rows]}
    if any(row["target"] != row["label"] for row in done):
        columns["explained"] = [row["target"] or "-" for row in rows]
    if any(row["against"] for row in done):
        columns["rather than"] = [row["against"] or "-" for row in rows]
    if any(row["probability"] is not None for row in done):
        columns["prob."] = [percent(row["probability"]) for row in rows]
    else:
        columns["activation"] = ["-" if row["score"] is None else f"{row['score']:.2f}" for row in rows]
    if any(row["faithfulness"] for row in rows):
        measured = [row["faithfulness"] for row in rows]
        for name in ("deletion", "insertion"):
            columns[name] = [f"{facts[name]:.2f}" if facts else "-" for facts in measured]
        columns["trust"] = [("yes" if facts["trusted"] else "NO") if facts else "-" for facts in measured]
    numbers = ("prob.", "activation", "deletion", "insertion")
    right = [place for place, name in enumerate(columns) if name in numbers]
    print_table(list(columns), list(zip(*columns.values(), strict=True)), right=right)
    reasons = Counter(row["faithfulness"]["reason"] for row in done if row["faithfulness"])
    print_lines(_reason(reason, count) for reason, count in reasons.items() if reason)
    if any(row["neighbours"] for row in done):
        shown, rest = cut(done, 5)
        print_lines(["", "Nearest training pictures, with the cosine of the angle between features:"])
        print_lines(line for row in shown for line in _neighbours(row))
        print_lines([rest] if rest else [])


def _neighbours(row: dict[str, Any]) -> list[str]:
    """The picture, and its neighbours below it.

    >>> _neighbours({"path": "a.jpg", "neighbours": [{"path": "1.jpg", "label": "bee", "similarity": 0.8125}]})
    ['a.jpg', '  bee 0.81 1.jpg']
    """
    return [row["path"], *(f"  {each['label']} {each['similarity']:.2f} {each['path']}" for each in row["neighbours"])]


def _reason(reason: str, count: int) -> str:
    """Why maps are not to be relied on.

    >>> _reason("does not depend on the weights", 1)
    'Do not rely on 1 map (trust: NO): it does not depend on the weights'
    >>> _reason("is no better than its own reverse", 2)
    'Do not rely on 2 maps (trust: NO): each is no better than its own reverse'
    """
    return f"Do not rely on {counted(count, 'map', 'maps')} (trust: NO): {'it' if count == 1 else 'each'} {reason}"

"""``topwork explain``."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.output import Json, counted, percent, print_json, print_lines, print_table
from topwork.cli.predicting import Fault, ModelPath, entries_of, once
from topwork.errors import SourceError, TopworkError

if TYPE_CHECKING:
    from topwork.explanation import Explanation

_ON_SHEET = 40
"""Most pictures on the sheet."""


def explain(
    model: ModelPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, folders, lists or URLs.")],
    method: Annotated[
        str, typer.Option(metavar="METHOD", help="cam, grad-cam, occlusion ...: see docs/explain.md.")
    ] = "cam",
    target: Annotated[
        str | None, typer.Option(metavar="CLASS", help="The class to explain; else the best one.")
    ] = None,
    layer: Annotated[str | None, typer.Option(metavar="STAGE", help="Feature map to explain; else the last.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write overlays, raw values and a sheet there.")
    ] = None,
    faithfulness: Annotated[bool, typer.Option(help="Measure how far each map can be believed.")] = True,
    json: Json = False,
) -> None:
    """Show which parts of a picture speak for its class.

    With -o an overlay (.png) and the raw values (.npz) of each picture, and a sheet of all.

    Each map is tested: does the probability fall where it says, and does the map depend on the weights at all?
    """
    from topwork import storage
    from topwork.explanation import explain_each
    from topwork.progress import for_stream, step

    if output is not None:
        storage.check_writable(output)
    found = once(entry for argument in images for entry in entries_of(argument))
    samples = [entry for entry in found if not isinstance(entry, Fault)]
    if len(found) == 1 and isinstance(found[0], Fault) and found[0].cause:
        raise found[0].cause
    rows: list[dict[str, Any]] = []
    kept: list[Explanation] = []
    progress = for_stream()
    with step(progress, "explaining", total=len(samples)):
        explanations = explain_each(
            model, samples, method=method, target=target, layer=layer, faithfulness=faithfulness
        )
        for entry in found:
            if isinstance(entry, Fault):
                rows.append(_fault_row(entry, method, target))
                continue
            explanation = next(explanations)
            files = _write(output, explanation, rows) if output is not None and not explanation.error else []
            rows.append({**explanation.as_dict(), "files": files})
            if files and len(kept) < _ON_SHEET:
                kept.append(explanation)
            progress.advance("explaining")
    sheet = _write_sheet(output, kept) if output is not None and kept else None
    _show(rows, sheet, json=json)


def _fault_row(fault: Fault, method: str, target: str | None) -> dict[str, Any]:
    empty = {"label": None, "target": target, "probability": None, "method": method, "layer": None}
    return {"path": fault.path, **empty, "error": fault.reason, "faithfulness": None, "files": []}


def _write(folder: Path, explanation: "Explanation", earlier: list[dict[str, Any]]) -> list[str]:
    """Write overlay and values of one picture; returns the paths."""
    from topwork.explanation import drawing

    taken = {path for row in earlier for path in row["files"]}
    stem = explanation.path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0][:80].replace(":", "-") or "picture"
    name, number = f"{stem}.{explanation.method}", 1
    while str(folder / f"{name}.png") in taken:
        number += 1
        name = f"{stem}-{number}.{explanation.method}"
    contents = {".png": drawing.png(drawing.captioned(explanation)), ".npz": drawing.npz(explanation)}
    return [_write_file(folder / (name + ending), content) for ending, content in contents.items()]


def _write_sheet(folder: Path, explanations: "list[Explanation]") -> str:
    from topwork.explanation import drawing

    return _write_file(folder / "sheet.png", drawing.png(drawing.sheet(explanations)))


def _write_file(path: Path, content: bytes) -> str:
    from topwork import storage

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_atomic(path, content)
    except OSError as error:
        raise TopworkError(f"cannot write {path}: {storage.reason(error)}; choose another place with -o") from error
    return str(path)


def _show(rows: list[dict[str, Any]], sheet: str | None, *, json: bool) -> None:
    """Print the rows; SourceError where none has an answer."""
    if json:
        print_json(rows)
    else:
        _print_table(rows)
        files = [path for row in rows for path in row["files"] if path.endswith(".png")]
        if files:
            print_lines(
                ["", *files[:5], *([f"... {len(files) - 5} more"] if len(files) > 5 else []), f"Sheet: {sheet}"]
            )
    if all(row["error"] for row in rows):
        raise SourceError("none of the pictures could be read; the list above says why")


def _print_table(rows: list[dict[str, Any]]) -> None:
    done = [row for row in rows if not row["error"]]
    if done:
        print_lines([f"{done[0]['method']}, layer {done[0]['layer']}", ""])
    columns = {"picture": [row["path"] for row in rows], "predicted": [row["error"] or row["label"] for row in rows]}
    if any(row["target"] != row["label"] for row in done):
        columns["explained"] = [row["target"] or "-" for row in rows]
    columns["prob."] = [percent(row["probability"]) for row in rows]
    if any(row["faithfulness"] for row in rows):
        measured = [row["faithfulness"] for row in rows]
        for name in ("deletion", "insertion"):
            columns[name] = [f"{facts[name]:.2f}" if facts else "-" for facts in measured]
        columns["trust"] = [("yes" if facts["trusted"] else "NO") if facts else "-" for facts in measured]
    right = [place for place, name in enumerate(columns) if name in ("prob.", "deletion", "insertion")]
    print_table(list(columns), list(zip(*columns.values(), strict=True)), right=right)
    reasons = Counter(row["faithfulness"]["reason"] for row in done if row["faithfulness"])
    print_lines(_reason(reason, count) for reason, count in reasons.items() if reason)


def _reason(reason: str, count: int) -> str:
    """Why maps are not to be trusted.

    >>> _reason("does not depend on the weights", 1)
    'NO: 1 map does not depend on the weights'
    >>> _reason("is no better than its own reverse", 2)
    'NO: 2 maps, each is no better than its own reverse'
    """
    return f"NO: {counted(count, 'map', 'maps, each')} {reason}"

"""``topwork drawings``."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.maps import write_file
from topwork.cli.output import Json, counted, cut, print_json, print_lines, print_table
from topwork.errors import TopworkError, UsageError

if TYPE_CHECKING:
    from PIL import Image


def drawings(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="QuickDraw files (.ndjson, .npy), idx files, or folders.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
    classes: Annotated[int | None, typer.Option(min=1, help="How many classes, chosen by the seed; else all.")] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="How many drawings of each class, chosen by the seed; else all.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels.")] = 128,
    stroke_width: Annotated[float, typer.Option(help="Width of a line in pixels; bitmaps keep theirs.")] = 3.0,
    colour: Annotated[
        bool, typer.Option("--colour", help="A colour for each stroke: red the first, violet the last.")
    ] = False,
    inverted: Annotated[bool, typer.Option("--inverted", help="White on black.")] = False,
    seed: Annotated[int, typer.Option(help="Decides what is chosen.")] = 0,
    recognized_only: Annotated[
        bool, typer.Option("--recognized-only", help="Only drawings that the game recognised.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also write a contact sheet, a row a class.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a data set of PNG files, a folder a class, from QuickDraw drawings."""
    from topwork.images import drawing_set
    from topwork.images.contact_sheet import contact_sheet
    from topwork.images.source import packed_files
    from topwork.progress import for_stream

    style = drawing_set.Style(size, stroke_width, colour, inverted)
    drawing_set.check_target(output)
    if sheet is not None:
        _check_sheet(sheet, output)
    progress = for_stream()
    files, left_out = packed_files(*sources)
    choice = drawing_set.choose(
        files, classes=classes, per_class=per_class, seed=seed, recognized_only=recognized_only, progress=progress
    )
    firsts = drawing_set.write(output, choice, style, progress=progress)
    if sheet is not None:
        _write_sheet(sheet, contact_sheet(firsts))
    counts = {label: len(samples) for label, samples in choice.samples.items()}
    facts: dict[str, Any] = {
        "output": str(output),
        "sheet": None if sheet is None else str(sheet),
        "classes": counts,
        "images": sum(counts.values()),
        "excluded": [vars(item) for item in [*left_out, *choice.excluded]],
    }
    if json:
        print_json(facts)
    else:
        _print(facts)


def _check_sheet(path: Path, output: Path) -> None:
    """Raise before the work where the sheet could not be written."""
    from topwork import storage

    if path.suffix.lower() != ".png":
        raise UsageError(f"expected the sheet's name to end in .png, not {path}; choose another name with --sheet")
    if path.is_dir() or path.resolve().is_relative_to(output.resolve()):
        raise TopworkError(
            f"expected a file for the sheet outside of {output}, which is replaced as a whole, not {path}; choose "
            "another with --sheet"
        )
    storage.check_writable(path)


def _write_sheet(path: Path, sheet: "Image.Image") -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    write_file(path, buffer.getvalue())


def _print(facts: dict[str, Any]) -> None:
    print_lines([f"{counted(facts['images'], 'drawing', 'drawings')} in {facts['output']}", ""])
    print_table(("class", "drawings"), [(label, f"{n:,}") for label, n in facts["classes"].items()], right=(1,))
    shown, rest = cut(facts["excluded"], 10)
    lines = [f"left out: {row['path']} ({row['reason']})" for row in shown]
    print_lines([*([""] if lines else []), *lines, *([rest] if rest else [])])
    if facts["sheet"]:
        print_lines(["", f"Sheet: {facts['sheet']}"])

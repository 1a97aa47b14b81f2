"""``topwork explain --summary``."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from topwork.cli.maps import MapFolder, write_file
from topwork.cli.output import cut, print_json, print_lines, print_table
from topwork.cli.sources import given

if TYPE_CHECKING:
    from PIL import Image

    from topwork.explanation.summary import Summary
    from topwork.model import Model


def show_summary(
    model: "Model",
    images: list[str],
    method: str,
    folder: MapFolder | None,
    html: Path | None,
    *,
    allow_remote: bool,
    json: bool,
) -> None:
    """Measure what decides in a set of pictures, write what is to be written, print the result."""
    from topwork.explanation.summary import summarize
    from topwork.explanation.summary_drawing import tiles
    from topwork.progress import for_stream

    source = images if len(images) > 1 else given(images[0], allow_remote)
    found = summarize(model, source, method=method, progress=for_stream())
    pictures = tiles(found) if folder is not None else []
    files = [] if folder is None else _write(found, pictures, folder)
    if html is not None:
        files.append(_write_page(found, html))
    if json:
        print_json({**found.as_dict(), "files": files})
    else:
        _print(found, files)


def _write(summary: "Summary", pictures: "list[Image.Image]", folder: MapFolder) -> list[str]:
    import numpy as np

    from topwork.explanation import drawing
    from topwork.explanation.summary_drawing import arrays

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays(summary))
    sheet = drawing.png(drawing.in_rows(pictures, columns=4))
    return folder.write_as({"summary.png": sheet, "summary.npz": buffer.getvalue()})


def _write_page(summary: "Summary", path: Path) -> str:
    from topwork.explanation.page import summary_page

    return write_file(path, summary_page(summary).encode())


def _print(summary: "Summary", files: list[str]) -> None:
    print_lines([_basis(summary), ""])
    from topwork.explanation.summary_drawing import percent

    shares = {"border": summary.border, "background": summary.background, "one place": summary.place}
    parts = {
        "border": "the outer half of the picture",
        "background": "what is not the object",
        "one place": f"{_place(summary)}, a sixteenth",
    }
    rows = [
        (name, parts[name], f"{round(100 * each.value)} %", f"{round(100 * each.low)} to {round(100 * each.high)} %")
        for name, each in shares.items()
        if each is not None
    ]
    print_table(["what decides", "", "share", "interval"], rows, right=[2, 3])
    print_lines([""])
    classes, rest = cut(list(summary.classes.items()), 12)
    several = any(view.border is not None for view in summary.classes.values())
    columns = ["predicted class", "pictures", *(["border", "background"] if several else [])]
    rows_of = [(label, str(view.n), percent(view.border), percent(view.background)) for label, view in classes]
    print_table(columns, [row[: len(columns)] for row in rows_of], right=[1, 2, 3])
    print_lines([*([rest] if rest else []), "", *_verdict(summary)])
    shown, more = cut([each for each in summary.excluded if each.is_fault], 5)
    print_lines([*(f"left out: {each.path} ({each.reason})" for each in shown), *([more] if more else [])])
    print_lines(["", *files] if files else [])


def _basis(summary: "Summary") -> str:
    known = f", {summary.n_trained_on} of which it was trained on" if summary.n_trained_on else ""
    return f"{summary.n_images} pictures{known}; parts of them were exchanged between classes"


def _verdict(summary: "Summary") -> list[str]:
    if summary.warnings:
        return [f"WARNING: {sentence}" for sentence in summary.warnings]
    return ["Neither border, nor background, nor a single place decides by itself."]


def _place(summary: "Summary") -> str:
    from topwork.explanation.summary import place_name

    return place_name(summary.at)

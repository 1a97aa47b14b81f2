"""``topwork map``."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.indexing import IndexPath
from topwork.cli.output import Json, counted, print_json, print_lines
from topwork.cli.sources import AllowRemote, given
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.retrieval import Index
    from topwork.retrieval.table import Row


def map_(
    index: IndexPath,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The page to write, an .html.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Colour by the labels of this list, such as next.csv.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of a larger index as many pictures at random.")] = 10_000,
    perplexity: Annotated[float, typer.Option(help="About how many neighbours a picture is placed by.")] = 30.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same map.")] = 0,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Draw the pictures of an index as a map: what looks alike lies together.

    One file, to zoom and search in, that works offline: principal components, then t-SNE.
    """
    from topwork.cli.maps import write_file
    from topwork.progress import for_stream
    from topwork.retrieval import Index
    from topwork.retrieval.labelling.choosing import labels_of
    from topwork.retrieval.projection import project
    from topwork.visualization.files import Outputs

    Outputs(page=output).check(needed=False)
    if output is None and not json:
        raise UsageError("expected a page to write, but none is named; give -o map.html, or --json for coordinates")
    if allow_remote and labels is None:
        raise UsageError("expected --allow-remote with --labels, whose list it is about; leave it out")
    begun, progress = time.perf_counter(), for_stream()
    with Index.open(index) as opened:
        rows = _rows(opened, limit, seed)
        known = [row.label for row in rows] if labels is None else labels_of(opened, rows, given(labels, allow_remote))
        vectors = opened.vectors([row.id for row in rows]) if rows else opened.features([])
        places = project(vectors, perplexity=perplexity, seed=seed, progress=progress)
        if output is not None:
            write_file(output, _page(opened, rows, known, places).encode())
        facts: dict[str, Any] = {
            "page": None if output is None else str(output),
            "pictures": len(opened),
            "points": [
                {"path": opened.place(row), "label": label, "x": round(float(x), 5), "y": round(float(y), 5)}
                for row, label, (x, y) in zip(rows, known, places, strict=True)
            ],
            "seconds": round(time.perf_counter() - begun, 4),
        }
    if json:
        print_json(facts)
        return
    shown, labelled = len(rows), sum(1 for label in known if label)
    more = f" of {facts['pictures']:,}, at random" if shown < facts["pictures"] else ""
    print_lines([f"{counted(shown, 'picture', 'pictures')}{more}, {labelled:,} with a label", "", f"Map: {output}"])


def _rows(index: "Index", limit: int, seed: int) -> "list[Row]":
    import numpy as np

    rows = index.rows()
    if len(rows) <= limit:
        return rows
    return [rows[i] for i in np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))]


def _page(index: "Index", rows: "Sequence[Row]", labels: Sequence[str | None], places: Any) -> str:
    from topwork.retrieval.map_page import Spot, render_map

    spots = [
        Spot(float(x), float(y), row.path, label, _link(index, row))
        for row, label, (x, y) in zip(rows, labels, places, strict=True)
    ]
    shown = counted(len(rows), "picture", "pictures")
    subtitle = [shown if len(rows) == len(index) else f"{shown} of {len(index):,}, at random"]
    return render_map(index.path.name, spots, lambda number: index.thumbnail(rows[number].id), subtitle=subtitle)


def _link(index: "Index", row: "Row") -> str:
    """To the file; "" where the index names one that it may not."""
    from topwork.images.storage import is_url

    place = index.place(row)
    return "" if is_url(place) or index.why_not(row) else Path(os.path.abspath(place)).as_uri()

"""``topwork search`` and ``topwork duplicates``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.indexing import IndexPath, Photos
from topwork.cli.output import Json, counted, cut, print_json, print_lines, print_table
from topwork.cli.sources import AllowRemote
from topwork.errors import ImageError, TopworkError, UsageError

if TYPE_CHECKING:
    from topwork.images import Sample
    from topwork.report import Chapter, Figure
    from topwork.retrieval import Hit, Index
    from topwork.retrieval.copies import Copies
    from topwork.retrieval.table import Row

SIDE = 240  # pixels of a picture on a page or a sheet
COLUMNS = 5


def search(
    index: IndexPath,
    queries: Annotated[
        list[str] | None, typer.Argument(metavar="PICTURE", help="What to look for; several: their mean.")
    ] = None,
    count: Annotated[int, typer.Option("-k", "--count", min=1, help="How many pictures to find.")] = 10,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only these, such as \"label = 'classic' AND width > 500\".")
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option("--not", metavar="PICTURE", help="Stay away from this picture.")
    ] = None,
    crop: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="The part of the query that counts, in pixels.")
    ] = None,
    of_class: Annotated[
        str | None,
        typer.Option("--class", metavar="MODEL:CLASS", help="Look for what a model folder learned as CLASS."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every picture, also in a large index.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a contact sheet, a .png.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page to look at.")] = None,
    store: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the vectors are, if not in INDEX: qdrant://…")
    ] = None,
    photos: Photos = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Find the pictures of an index that look like PICTURE, the most alike first.

    A picture that is in the index does not find itself. Columns for --where: path, label, split, "group", size (bytes),
    time, width, height, format, sharpness, brightness, content.
    """
    from topwork.retrieval import Index
    from topwork.retrieval.queries import split_class

    _check_files(output, html)
    if bool(queries) == bool(of_class):
        raise UsageError("expected pictures to look for, or --class MODEL:CLASS, and not both; give one of them")
    with Index.open(index, store=store, photos=photos or (), allow_remote=allow_remote) as opened:
        if of_class:
            if unlike or crop or exact:
                raise UsageError("expected --class alone, but --not, --crop or --exact is there too; leave it out")
            hits = opened.search_class(*split_class(of_class), count, where)
        else:
            hits = opened.search(queries or [], count, where, unlike=unlike, crop=_box(crop), exact=exact)
        title = f"Pictures of {of_class}" if of_class else _title(queries or [])
        alone = len(opened) > 0
        files = _write_hits(opened, title, queries or [], unlike or [], hits, output, html)
        files += _said_small(opened, [hit.row for hit in hits]) if files else []
    if json:
        print_json([hit.as_dict() for hit in hits])
        return
    if not hits:
        print_lines([_why_nothing(where, alone)])
        return
    head, shown = _common([hit.path for hit in hits])
    print_lines(head)
    rows = [(f"{hit.score:.3f}", path, hit.label or "-") for hit, path in zip(hits, shown, strict=True)]
    print_table(("score", "picture", "label"), rows, right=(0,))
    print_lines(["", *files] if files else [])


def _why_nothing(where: str | None, alone: bool) -> str:
    if where:
        return f"Nothing was found where {where}."
    return f"Nothing was found: {'there is no other picture in the index' if alone else 'the index is empty'}."


def _box(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"expected a crop as four whole numbers x,y,w,h in pixels, not {text!r}") from None
    return left, top, width, height


def _common(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """A line that names the folder that all paths share, and the paths in it: long ones do not fit a table."""
    local = [path for path in paths if os.path.isabs(path)]
    if not paths or len(local) < len(paths):
        return [], list(paths)
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [f"in {folder}", ""], [os.path.relpath(path, folder) for path in paths]


def _title(queries: Sequence[str]) -> str:
    """What the page is about, in words.

    >>> _title(["photos/a.jpg"]), _title(["a.jpg", "b.jpg"])
    ('Pictures like a.jpg', 'Pictures like these 2')
    """
    return f"Pictures like {_name(queries[0]) if len(queries) == 1 else f'these {len(queries)}'}"


def _check_files(output: Path | None, html: Path | None) -> None:
    from topwork.visualization.files import Outputs

    Outputs(output, html).check(needed=False)


def _write_hits(
    index: "Index",
    title: str,
    queries: Sequence[str],
    unlike: Sequence[str],
    hits: "Sequence[Hit]",
    output: Path | None,
    html: Path | None,
) -> list[str]:
    """The sheet and the page of a search; returns a line for each."""
    if output is None and html is None:
        return []
    from topwork.images import Sample
    from topwork.report import Chapter

    groups = (("Looked for", queries), ("Not like", unlike))
    chapters = [
        Chapter(name, [_figure(Sample(path, os.path.abspath(path)), "", _name(path)) for path in paths])
        for name, paths in groups
        if paths
    ]
    head, paths = _common([hit.path for hit in hits])
    found = [
        _figure(index.sample(hit.row), _caption(hit), path, index.thumbnail(hit.row.id))
        for hit, path in zip(hits, paths, strict=True)
    ]
    return _write("topwork search", title, [*chapters, Chapter("Found", found, "".join(head))], output, html)


def _name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _caption(hit: "Hit") -> str:
    return f"{hit.score:.3f} {hit.label or ''}".strip()


def _figure(sample: "Sample", caption: str, path: str, instead: bytes | None = None) -> "Figure":
    """A picture for sheet and page with its file's name; its thumbnail ``instead`` where it cannot be read any more."""
    from topwork.features.thumbnails import opened
    from topwork.images import DecodePolicy, decode
    from topwork.images.storage import is_url
    from topwork.report import Figure, Thumb

    link = "" if is_url(sample.location) else Path(os.path.abspath(sample.location)).as_uri()
    try:
        thumb = Thumb.of(decode(sample.read(), DecodePolicy(shrink_to=SIDE)).pixels, size=SIDE)
        # Fewer pixels on the page than in the file: sharp on dense screens, and four fit beside each other.
        return Figure(thumb.picture, caption, thumb.width * 2 // 3, thumb.height * 2 // 3, link, path)
    except ImageError:
        if instead is None:
            raise
        return Figure(instead, caption, *opened(instead).size, name=path)


def _write(kind: str, title: str, chapters: "Sequence[Chapter]", output: Path | None, html: Path | None) -> list[str]:
    from topwork.cli.maps import write_file
    from topwork.report import render_gallery
    from topwork.visualization.sheet import Section, Tile, png, sheet

    lines = []
    if output is not None:
        sections = [
            Section(
                chapter.title,
                [Tile(_pixels(each), f"{each.caption} {each.name}".strip()) for each in _figures(chapter)],
                COLUMNS,
            )
            for chapter in chapters
            if chapter.figures
        ]
        lines.append(f"Sheet: {write_file(output, png(sheet(sections, side=SIDE * 3 // 4)))}" if sections else "")
    if html is not None:
        lines.append(f"Page: {write_file(html, render_gallery(kind, title, chapters).encode())}")
    return [line for line in lines if line]


def _figures(chapter: "Chapter") -> "list[Figure]":
    from topwork.report import Figure

    return [each for each in chapter.figures if isinstance(each, Figure)]


def _pixels(figure: "Figure") -> Any:
    from io import BytesIO

    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(BytesIO(figure.picture), formats=("JPEG", "PNG")).convert("RGB"))


def duplicates(
    index: IndexPath,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the groups as a list, a .csv.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Only files with the same bytes.")] = False,
    move: Annotated[Path | None, typer.Option(metavar="DIR", help="Move all but the best of each group there.")] = None,
    undo: Annotated[Path | None, typer.Option(metavar="DIR", help="Move back what --move moved to DIR.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page to look at.")] = None,
    photos: Photos = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Find pictures that are there more than once: the same, resized, compressed again, cropped, mirrored.

    The best of each group comes first: most pixels, then sharpest. Nothing is changed without --move, and nothing is
    ever deleted.
    """
    from topwork import storage
    from topwork.progress import for_stream
    from topwork.retrieval import Index
    from topwork.retrieval.moving import move_copies
    from topwork.retrieval.moving import undo as move_back

    if undo is not None:
        if move or output or html or exact or allow_remote:
            raise UsageError("expected --undo alone, or with --photos, but another option is there too; leave it out")
        _print_moved(move_back(undo, _named_roots(index, photos)).as_dict(), f"back from {undo}", index, json=json)
        return
    _check_files(None, html)
    if output is not None:
        if output.suffix.lower() != ".csv":
            raise UsageError(f"expected a name that ends in .csv, not {output}; choose another name")
        storage.check_writable(output)
    with Index.open(index, photos=photos or (), allow_remote=allow_remote) as opened:
        groups = opened.duplicates(exact=exact, progress=for_stream())
        facts: dict[str, Any] = {"pictures": len(opened), "groups": [group.as_dict() for group in groups]}
        lines = [] if output is None else [f"List: {_write_list(output, groups)}"]
        if html is not None:
            lines += _write("topwork duplicates", f"Copies in {index.name}", _chapters(opened, groups), None, html)
            lines += _said_small(opened, [row for group in groups for row in group.rows])
        moved = None if move is None else move_copies(groups, move, opened.roots).as_dict()
    if json:
        print_json(facts | ({} if moved is None else moved))
        return
    _print_groups(groups, facts["pictures"])
    print_lines(["", *lines] if lines else [])
    if moved is not None:
        print_lines([""])
        _print_moved(moved, f"to {move}", index, json=False)
    elif groups:
        print_lines(["", "Nothing was changed. To move the others:", f"  topwork duplicates {index} --move DIR"])


def _said_small(index: "Index", rows: "Sequence[Row]") -> list[str]:
    """That pictures are shown as the index keeps them, where their files may not be read."""
    reasons = [reason for row in rows if (reason := index.why_not(row)) is not None]
    if not reasons:
        return []
    return [f"{len(reasons):,} of {len(rows):,} are shown as small as the index keeps them: {reasons[0]}."]


def _named_roots(index: Path, photos: Sequence[str] | None) -> list[str]:
    """Where copies may be moved back to: the sources of an index that was made here, and what the user names."""
    from topwork.retrieval import Index

    try:
        with Index.open(index) as opened:
            return [*opened.own_roots, *(photos or ())]
    except TopworkError:  # it may be gone by now
        return list(photos or ())


def _megabytes(size: int) -> str:
    """How many bytes, to read.

    >>> _megabytes(38_000), _megabytes(1_240_000)
    ('38 kB', '1.2 MB')
    """
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _print_groups(groups: "Sequence[Copies]", pictures: int) -> None:
    others = sum(len(group.rows) - 1 for group in groups)
    size = sum(row.size or 0 for group in groups for row in group.rows[1:])
    found = f"{counted(len(groups), 'group', 'groups')} of copies among {pictures:,} pictures"
    print_lines(
        [
            f"{found}; {counted(others, 'picture', 'pictures')} ({_megabytes(size)}) could go"
            if groups
            else f"No {found[2:]}"
        ]
    )
    shown, rest = cut(groups, 15)
    head, paths = _common([path for group in shown for path in group.paths])
    facts = [row for group in shown for row in _rows_of(group)]
    if facts:
        print_lines(["", *head])
        rows = [(word, path, *more) for path, (word, *more) in zip(paths, facts, strict=True)]
        print_table(("copies", "picture", "pixels", "kB"), rows, right=(2, 3))
    print_lines([rest] if rest else [])


def _rows_of(group: "Copies") -> list[tuple[str, str, str]]:
    """A word, pixels and size of each picture."""
    words = [f"{group.kind}, best", *["" for _ in group.rows[1:]]]
    if len(group.labels) > 1:
        words[1] = f"{len(group.labels)} labels!"
    return [
        (word, f"{row.width}x{row.height}", "-" if row.size is None else f"{row.size / 1e3:,.0f}")
        for word, row in zip(words, group.rows, strict=True)
    ]


def _chapters(index: "Index", groups: "Sequence[Copies]") -> "list[Chapter]":
    from topwork.report import Chapter

    def caption(row: "Row", best: bool) -> str:
        return f"{'best: ' if best else ''}{row.width}x{row.height} pixels"

    kinds = {"exact": "Files with the same bytes", "near": "Nearly the same pictures"}
    found: list[Chapter] = []
    # Groups of one kind in a row, so that they stand under one heading.
    for number, group in enumerate(sorted(groups, key=lambda group: group.kind), start=1):
        figures = [
            _figure(index.sample(row), caption(row, row is group.rows[0]), row.path, index.thumbnail(row.id))
            for row in group.rows
        ]
        labels = f"Different labels: {', '.join(group.labels)}" if len(group.labels) > 1 else ""
        found.append(Chapter(f"Group {number}", figures, labels, part=kinds.get(group.kind, group.kind)))
    return found


def _write_list(path: Path, groups: "Sequence[Copies]") -> str:
    """A row a picture: group, kind, whether it is the best of its group, path, label, pixels, bytes."""
    from topwork.cli.maps import write_file
    from topwork.tables import csv_text

    rows = (
        (number, group.kind, "yes" if row is group.rows[0] else "no", place, row.label, row.width, row.height, row.size)
        for number, group in enumerate(groups, start=1)
        for row, place in zip(group.rows, group.paths, strict=True)
    )
    header = ("group", "kind", "best", "path", "label", "width", "height", "size")
    return write_file(path, csv_text(header, rows).encode())


def _print_moved(facts: dict[str, Any], where: str, index: Path, *, json: bool) -> None:
    if json:
        print_json(facts)
        return
    print_lines([f"{counted(len(facts['moved']), 'picture', 'pictures')} moved {where}"])
    if facts["left"]:
        shown, rest = cut([(row["path"], row["reason"]) for row in facts["left"]], 10)
        print_table(("stayed", "reason"), shown)
        print_lines([rest] if rest else [])
    if not facts["moved"]:
        return
    back = ["To undo it:", f"  topwork duplicates {index} --undo {where.removeprefix('to ')}"]
    print_lines([*(back if where.startswith("to ") else []), "The index does not know yet: run `topwork index` again."])

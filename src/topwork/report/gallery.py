"""A page of pictures with captions, in chapters: what `topwork see`, `explain` and `search` show, as HTML."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from topwork.report.common import View
from topwork.report.html import render

_SAFE = ("file:", "http:", "https:")  # an address of another kind could run something
NARROW, BROAD = 84, 480  # pixels: no column is narrower than the first, none asks for more than the second
_SHAPES = (0.75, 4 / 3)  # width / height of a chapter's places, where its pictures are of several shapes
MOST_CONTENTS = 14  # a longer list of contents helps nobody


@dataclass(frozen=True)
class Figure:
    """A picture as the bytes of a PNG or JPEG file, ``width`` by ``height`` pixels, and the words below it.

    ``link``: a ``file:``, ``http:`` or ``https:`` address that a click opens; "" for none. ``name``: that of its file,
    below the caption, broken at separators only.
    """

    picture: bytes
    caption: str
    width: int
    height: int
    link: str = ""
    name: str = ""


@dataclass(frozen=True)
class Card:
    """Figures that belong together, side by side in a frame: a picture and its map, before and after.

    ``note`` stands below the title; ``mark`` is a warning in a few words, ``reasons`` why, on demand; ``rows`` are more
    figures below, each row with its title.
    """

    figures: Sequence[Figure]
    title: str = ""
    name: str = ""
    mark: str = ""
    reasons: Sequence[str] = ()
    rows: Sequence[tuple[str, Sequence[Figure]]] = ()
    note: str = ""


@dataclass(frozen=True)
class Chapter:
    """Figures and cards under one title, in their order, ``text`` above them.

    Chapters in a row with the same ``part`` stand under that heading, and only it is in the contents. ``legend``:
    what orange and blue speak for, where there are maps; "" for no legend.
    """

    title: str
    figures: Sequence[Figure | Card]
    text: str = ""
    part: str = ""
    legend: str = ""


def render_gallery(kind: str, title: str, chapters: Sequence[Chapter], *, subtitle: Sequence[str] = ()) -> str:
    """The chapters below each other as one HTML page, self-contained and without script.

    ``kind`` says what the page is and stands above the title; ``subtitle`` are short remarks below it. A caption is
    its picture's alternative text as well. Columns are as wide as a chapter's widest figure asks for, within bounds.

    >>> page = render_gallery("topwork see", "LeNet-5", [Chapter("Kernels", [Figure(b"", "kernel 0", 5, 5)])])
    >>> page.count("<img "), 'alt="kernel 0"' in page
    (1, True)
    """
    grouped = [list(members) for _, members in groupby(enumerate(chapters), lambda pair: pair[1].part or pair[0])]
    parts = [(members[0][1], [_chapter(chapter) for _, chapter in members]) for members in grouped]
    contents = [(f"chapter-{n}", first.part or first.title) for n, (first, _) in enumerate(parts, start=1)]
    view = {
        "kind": kind,
        "title": title,
        "subtitle": subtitle,
        "contents": contents if len(contents) <= MOST_CONTENTS else [],
        "parts": [{"title": first.part, "chapters": members} for first, members in parts],
    }
    return render("gallery.html.j2", view)


def _chapter(chapter: Chapter) -> View:
    cards = [entry for entry in chapter.figures if isinstance(entry, Card)]
    single = [entry for entry in chapter.figures if isinstance(entry, Figure)]
    every = [*single, *(figure for card in cards for figure in card.figures)]
    across = max((len(card.figures) for card in cards), default=1)
    widest = max((figure.width for figure in every), default=NARROW)
    return {
        "title": chapter.title,
        "text": chapter.text,
        "legend": chapter.legend,
        "column": min(max(widest, NARROW), BROAD) * across,
        "shape": f"{_shape(every):.4g}",
        "framed": bool(cards),
        "cards": [_card(entry, chapter.title) for entry in chapter.figures],
    }


def _shape(figures: Sequence[Figure]) -> float:
    """Width / height of the places of all: their own where they have one shape, else one between."""
    shapes = [figure.width / max(1, figure.height) for figure in figures] or [1.0]
    if max(shapes) < 1.05 * min(shapes):
        return shapes[0]
    return min(max(median(shapes), _SHAPES[0]), _SHAPES[1])


def _card(entry: Figure | Card, title: str) -> View:
    card = entry if isinstance(entry, Card) else Card([entry])
    return {
        "figures": [_figure(figure, card.title or title) for figure in card.figures],
        "title": card.title,
        "name": card.name,
        "note": card.note,
        "mark": card.mark,
        "reasons": card.reasons,
        "rows": [(name, [_figure(figure, name) for figure in figures]) for name, figures in card.rows],
    }


def _figure(figure: Figure, instead: str) -> View:
    return {
        "source": f"data:image/{_kind(figure.picture)};base64,{b64encode(figure.picture).decode()}",
        "caption": figure.caption,
        "name": figure.name,
        "alternative": " ".join(filter(None, (figure.caption, figure.name))) or instead,
        "link": figure.link if figure.link.startswith(_SAFE) else "",
        "width": figure.width,
        "height": figure.height,
        # Enlarged, so that its pixels are to be seen as squares: a kernel, a late feature map.
        "enlarged": figure.width < NARROW,
    }


def _kind(picture: bytes) -> str:
    return "jpeg" if picture.startswith(b"\xff\xd8") else "png"

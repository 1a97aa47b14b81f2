"""A page of pictures with captions, in chapters: what `topwork see` and `topwork explain` show, as HTML."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from topwork.report.common import View
from topwork.report.html import render

_SAFE = ("file:", "http:", "https:")  # an address of another kind could run something
NARROW, BROAD = 84, 480  # pixels: no column is narrower than the first, none asks for more than the second


@dataclass(frozen=True)
class Figure:
    """A picture as the bytes of a PNG or JPEG file, ``width`` by ``height`` pixels, and the words below it.

    ``link``: a ``file:``, ``http:`` or ``https:`` address that a click opens; "" for none.
    """

    picture: bytes
    caption: str
    width: int
    height: int
    link: str = ""


@dataclass(frozen=True)
class Chapter:
    """Figures under one title, in their order, ``text`` above them."""

    title: str
    figures: Sequence[Figure]
    text: str = ""


def render_gallery(kind: str, title: str, chapters: Sequence[Chapter], *, subtitle: Sequence[str] = ()) -> str:
    """The chapters below each other as one HTML page, self-contained and without script.

    ``kind`` says what the page is and stands above the title; ``subtitle`` are short remarks below it. A caption is
    its picture's alternative text as well. Columns are as wide as a chapter's widest figure asks for, within bounds.

    >>> page = render_gallery("topwork see", "LeNet-5", [Chapter("Kernels", [Figure(b"", "kernel 0", 5, 5)])])
    >>> page.count("<img "), 'alt="kernel 0"' in page
    (1, True)
    """
    view = {
        "kind": kind,
        "title": title,
        "subtitle": subtitle,
        "contents": [(f"chapter-{n}", chapter.title) for n, chapter in enumerate(chapters, start=1)],
        "chapters": [_chapter(chapter) for chapter in chapters],
    }
    return render("gallery.html.j2", view)


def _chapter(chapter: Chapter) -> View:
    widest = max((figure.width for figure in chapter.figures), default=NARROW)
    return {
        "title": chapter.title,
        "text": chapter.text,
        "column": min(max(widest, NARROW), BROAD),
        "figures": [
            {
                "source": f"data:image/{_kind(figure.picture)};base64,{b64encode(figure.picture).decode()}",
                "caption": figure.caption,
                "alternative": figure.caption or chapter.title,
                "link": figure.link if figure.link.startswith(_SAFE) else "",
                "width": figure.width,
                "height": figure.height,
                # Enlarged, so that its pixels are to be seen as squares: a kernel, a late feature map.
                "enlarged": figure.width < NARROW,
            }
            for figure in chapter.figures
        ],
    }


def _kind(picture: bytes) -> str:
    return "jpeg" if picture.startswith(b"\xff\xd8") else "png"

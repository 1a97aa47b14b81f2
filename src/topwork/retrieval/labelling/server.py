"""The local page to label with: one person, this computer, no trace elsewhere (`report.local_server`).

Each label is in the list before the answer goes out.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from topwork.errors import ImageError, TopworkError
from topwork.extra import package
from topwork.images import DecodePolicy, decode
from topwork.report.local_server import LocalServer, body, guard
from topwork.report.page import render_page, script_hash
from topwork.retrieval.labelling.choosing import absolute
from topwork.retrieval.labelling.worklist import Item, Worklist

if TYPE_CHECKING:
    from topwork.retrieval.index import Index

SIDE = 1200  # pixels of the longer side of a picture on the page
LONGEST = 100  # characters of a label
_LARGEST = 10_000  # bytes of what the page sends
_EXPECTED = f"expected the number of a picture and a label of up to {LONGEST} printable characters; load the page again"
_POLICY = "img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; script-src '{script}'"


@dataclass
class Session:
    """What is labelled on the page: the pictures of a list that had no label when it was opened."""

    index: "Index"
    worklist: Worklist
    again: Callable[[], Any]
    """Chooses what to label next and writes it to the list."""
    next_command: str
    """What to run in the end."""
    classes: list[str] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = {absolute(self.index.place(row)): row for row in self.index.rows()}
        self.open()

    def open(self) -> None:
        """Take what has no label yet, and the classes that occur."""
        items = self.worklist.items
        self.locations = [item.location for item in items if not item.label and item.location in self._numbers]
        self.classes += sorted({item.label for item in items if item.label} - set(self.classes))

    def state(self) -> dict[str, Any]:
        """What the page shows."""
        items = {item.location: item for item in self.worklist.items}
        # One for each location, or numbers and pictures would drift apart when a row leaves the list.
        shown = [items.get(location, Item(location)) for location in self.locations]
        labelled = sum(1 for item in items.values() if item.label)
        return {
            "items": [
                {
                    "path": item.location,
                    "label": item.label,
                    "suggested": item.suggested,
                    "confidence": item.confidence,
                    "stands_for": item.stands_for,
                }
                for item in shown
            ],
            "classes": self.classes,
            "labelled": labelled,
            "next": self.next_command,
        }

    def label(self, item: int, label: str) -> None:
        """Write a label, or take it away with ""; ValueError where it is none."""
        label = label.strip()
        if not 0 <= item < len(self.locations) or len(label) > LONGEST or not label.isprintable():
            raise ValueError(_EXPECTED)
        self.worklist.set_label(self.locations[item], label)
        if label and label not in self.classes:
            self.classes.append(label)

    def more(self) -> None:
        """Choose again, with what was labelled."""
        self.again()
        self.open()

    def picture(self, number: int) -> bytes:
        """A picture as JPEG; where it cannot be read any more, its thumbnail."""
        row = self._numbers[self.locations[number]]
        try:
            from PIL import Image

            image = Image.fromarray(decode(self.index.sample(row).read(), DecodePolicy(shrink_to=SIDE)).pixels)
            image.thumbnail((SIDE, SIDE))
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=88)
            return buffer.getvalue()
        except ImageError:
            return self.index.thumbnail(row.id)


class LabelServer(LocalServer):
    """Serves one session; ``url`` has the secret. MissingExtraError without FastAPI and Uvicorn."""

    def __init__(self, session: Session) -> None:
        super().__init__(lambda host, token: application(session, host, token))


def application(session: Session, host: str, token: str) -> Any:
    """The FastAPI application that answers for ``host``, as ``127.0.0.1:PORT``, below ``/token/``."""
    fastapi = package("fastapi", "the page", "serve")
    from fastapi import Request, Response
    from fastapi.responses import HTMLResponse, JSONResponse

    page = render_page("label", {"title": session.worklist.path.name})

    def changed(change: Callable[[], None]) -> Any:
        try:
            change()
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 400)
        except TopworkError as error:
            return JSONResponse({"error": str(error)}, 500)
        return JSONResponse(session.state())

    def picture(number: int) -> Any:
        if not 0 <= number < len(session.locations):
            return Response("no such picture", 404)
        return Response(session.picture(number), media_type="image/jpeg")

    async def label(request: Request) -> Any:
        sent = await body(request, _LARGEST)
        if sent is None:
            return JSONResponse({"error": _EXPECTED}, 400)
        return changed(lambda: session.label(*_sent(sent)))

    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.middleware("http")(guard(host, token, _POLICY.format(script=script_hash("label"))))
    for path, answer, method in (
        ("", lambda: HTMLResponse(page), "GET"),
        ("state", lambda: JSONResponse(session.state()), "GET"),
        ("picture/{number}", picture, "GET"),
        ("label", label, "POST"),
        ("more", lambda: changed(session.more), "POST"),
    ):
        app.add_api_route(f"/{token}/{path}", answer, methods=[method], response_model=None)
    return app


def _sent(data: bytes) -> tuple[int, str]:
    """The number of a picture and a label; ValueError where it is anything else."""
    try:
        found = json.loads(data)
        item, label = found["item"], found["label"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(_EXPECTED) from None
    if type(item) is not int or not isinstance(label, str):  # True is no number here
        raise ValueError(_EXPECTED)
    return item, label

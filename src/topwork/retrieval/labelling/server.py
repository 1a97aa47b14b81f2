"""The local page to label with: one person, this computer, no trace elsewhere.

It listens on 127.0.0.1 only, at a port that is free, below a secret path. A page of somebody else in the same browser
can neither guess the path nor call it under another name (the host is compared, against DNS rebinding) nor from another
origin. Each label is in the list before the answer goes out.
"""

import json
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from topwork.errors import ImageError, TopworkError
from topwork.images import DecodePolicy, decode
from topwork.retrieval.extra import package
from topwork.retrieval.labelling.choosing import absolute
from topwork.retrieval.labelling.page import render_page, script_hash
from topwork.retrieval.labelling.worklist import Item, Worklist

if TYPE_CHECKING:
    from topwork.retrieval.index import Index

SIDE = 1200  # pixels of the longer side of a picture on the page
LONGEST = 100  # characters of a label
_EXPECTED = f"expected the number of a picture and a label of up to {LONGEST} printable characters; load the page again"
_POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'unsafe-inline'; script-src '{script}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


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


class LabelServer:
    """Serves one session; ``url`` has the secret. MissingExtraError without FastAPI and Uvicorn."""

    def __init__(self, session: Session) -> None:
        uvicorn = package("uvicorn", "the page", "serve")
        self.socket = socket.create_server(("127.0.0.1", 0))
        host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.token = secrets.token_urlsafe(18)
        self.url = f"http://{host}/{self.token}/"
        app = application(session, host, self.token)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", server_header=False))

    def run(self) -> None:
        """Serve until Ctrl-C, or until `stop` is called in another thread."""
        with self.socket, suppress(KeyboardInterrupt):
            self._server.run(sockets=[self.socket])

    def stop(self) -> None:
        """End `run` after what is being answered."""
        self._server.should_exit = True


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
        sent = await request.body()
        return changed(lambda: session.label(*_sent(sent)))

    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.middleware("http")(_guard(host, token, _POLICY.format(script=script_hash("label"))))
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


def _guard(host: str, token: str, policy: str) -> Any:
    """Lets only requests of the page itself through, and says what a browser may do with the answers."""
    from fastapi import Request, Response

    hosts = (host, host.replace("127.0.0.1", "localhost"))
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    def refused(request: Request) -> str:
        sent, path = request.headers.get("host", ""), request.scope["path"].split("/")
        is_ours = request.headers.get("origin", f"http://{sent}") == f"http://{sent}"
        is_json = request.headers.get("content-type", "") == "application/json"  # no form of another page sends that
        if sent not in hosts or not (request.method == "GET" or (is_ours and is_json)):
            return "expected a request of the page that topwork serves"
        if len(path) < 3 or not secrets.compare_digest(path[1].encode(), token.encode()):
            return "expected the whole address that topwork printed"
        return ""

    async def guard(request: Request, call_next: Any) -> Any:
        why = refused(request)
        response = Response(why, 403) if why else await call_next(request)
        response.headers.update(headers)
        return response

    return guard

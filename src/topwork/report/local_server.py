"""A server for one person on this computer: a page that needs more than a file.

It listens on 127.0.0.1 only, at a port that is free, below a secret path. A page of somebody else in the same browser
can neither guess the path nor call it under another name (the host is compared, against DNS rebinding) nor from another
origin. What a request may send is bounded, and so is how long it may take to send it (`connections`).
"""

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from topwork.errors import TopworkError
from topwork.extra import package

_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "


class LocalServer:
    """Serves what ``application`` makes of its host, as ``127.0.0.1:PORT``, and its secret.

    ``url``: with the secret; ``port``: 0 for one that is free. MissingExtraError without FastAPI and Uvicorn,
    TopworkError where the port is taken.
    """

    def __init__(self, application: Callable[[str, str], Any], *, port: int = 0) -> None:
        uvicorn = package("uvicorn", "the page", "serve")
        try:
            self.socket = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise TopworkError(f"cannot listen at port {port} ({error.strerror}); choose another --port") from error
        host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.token = secrets.token_urlsafe(18)
        self.url = f"http://{host}/{self.token}/"
        from topwork.report.connections import LONGEST_HEADER, Connection

        config = uvicorn.Config(
            application(host, self.token),
            http=Connection,
            ws="none",
            log_level="error",
            lifespan="off",
            server_header=False,
            h11_max_incomplete_event_size=LONGEST_HEADER,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until Ctrl-C, or until `stop` is called in another thread."""
        with self.socket, suppress(KeyboardInterrupt):
            self._server.run(sockets=[self.socket])

    def stop(self) -> None:
        """End `run` after what is being answered."""
        self._server.should_exit = True


async def body(request: Any, limit: int) -> bytes | None:
    """What a request sends, None where that is more than ``limit`` bytes.

    It is read to its end all the same, without being kept: a browser that still sends may not see the answer.
    """
    data, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            data += chunk
    return bytes(data) if size <= limit else None


def guard(host: str, token: str, policy: str, *, kind: str = "application/json") -> Any:
    """A middleware that lets only requests of the page itself through, and says what a browser may do with answers.

    ``policy``: what the page may load, as a Content-Security-Policy; ``kind``: the media type of what it sends, one
    that no form of another page can have.
    """
    from fastapi import Request, Response

    hosts = (host, host.replace("127.0.0.1", "localhost"))
    headers = {
        "Content-Security-Policy": _NOTHING_ELSE + policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    def refused(request: Request) -> str:
        sent, path = request.headers.get("host", ""), request.scope["path"].split("/")
        is_ours = request.headers.get("origin", f"http://{sent}") == f"http://{sent}"
        is_of_kind = request.headers.get("content-type", "") == kind
        if sent not in hosts or not (request.method == "GET" or (is_ours and is_of_kind)):
            return "expected a request of the page that topwork serves"
        if len(path) < 3 or not secrets.compare_digest(path[1].encode(), token.encode()):
            return "expected the whole address that topwork printed"
        return ""

    async def answer(request: Request, call_next: Any) -> Any:
        why = refused(request)
        response = Response(why, 403) if why else await call_next(request)
        response.headers.update(headers)
        return response

    return answer

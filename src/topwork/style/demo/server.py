"""The local page that paints a picture dropped there, or what the camera sees (`report.local_server`)."""

import threading
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from topwork.errors import ImageError, TopworkError, UsageError
from topwork.extra import package
from topwork.images import DecodePolicy
from topwork.images.guarded import decode_guarded
from topwork.report.local_server import LocalServer, body, guard
from topwork.report.page import render_page, script_hash
from topwork.style.fast_style import FastStyle

LARGEST = 20 * 2**20  # bytes of a picture that is sent
_JPEG = b"\xff\xd8"
_PIXELS, _PIXELS_SHRUNK = 25_000_000, 50_000_000
"""Decoded of a picture that is sent, at most; a JPEG is shrunk while it is loaded."""
SIDES = (128, 1024)  # pixels of the longer side of a result, at least and at most
_POLICY = "img-src 'self' blob: data:; media-src blob: mediastream:; connect-src 'self'; style-src 'unsafe-inline'; "


class DemoServer(LocalServer):
    """Shows some fast styles; ``url`` has the secret, ``port`` 0 takes one that is free.

    MissingExtraError without FastAPI and Uvicorn; UsageError without a style.
    """

    def __init__(self, styles: Sequence[FastStyle], *, port: int = 0) -> None:
        if not styles:
            raise UsageError("expected a fast style to show, but got none; `topwork style train` makes one")
        super().__init__(lambda host, token: application(styles, host, token), port=port)


def application(styles: Sequence[FastStyle], host: str, token: str) -> Any:
    """The FastAPI application that answers for ``host``, as ``127.0.0.1:PORT``, below ``/token/``."""
    fastapi = package("fastapi", "the page", "serve")
    from fastapi import Request, Response
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import HTMLResponse, JSONResponse

    names = [style.name.removesuffix(".style") for style in styles]
    page = render_page("style", {"title": ", ".join(names), "styles": names})
    one_at_a_time = threading.Lock()  # more would only be slower

    def painted(data: bytes, style: int, side: int) -> bytes:
        with one_at_a_time:
            return paint(styles[style], data, side)

    async def answer(request: Request, style: int = 0, side: int = 384) -> Any:
        if not 0 <= style < len(styles) or not SIDES[0] <= side <= SIDES[1]:
            return JSONResponse({"error": "expected another style or size; load the page again"}, 400)
        data = await body(request, LARGEST)
        if data is None:
            return JSONResponse({"error": f"expected a file of up to {LARGEST >> 20} MB; choose another one"}, 400)
        try:
            return Response(await run_in_threadpool(painted, data, style, side), media_type="image/jpeg")
        except ImageError as error:
            return JSONResponse({"error": f"this picture cannot be read: {error}; choose another one"}, 400)
        except TopworkError as error:
            return JSONResponse({"error": str(error)}, 400)

    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    policy = _POLICY + f"script-src '{script_hash('style')}'"
    app.middleware("http")(guard(host, token, policy, kind="application/octet-stream"))
    app.add_api_route(f"/{token}/", lambda: HTMLResponse(page), methods=["GET"], response_model=None)
    app.add_api_route(f"/{token}/paint", answer, methods=["POST"], response_model=None)
    return app


def paint(style: FastStyle, data: bytes, side: int) -> bytes:
    """A picture file in a style, as JPEG of at most ``side`` pixels; raises as `decode_guarded`, `apply`."""
    policy = DecodePolicy(_PIXELS_SHRUNK if data.startswith(_JPEG) else _PIXELS, side)
    image = decode_guarded(data, policy).image
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    buffer = BytesIO()
    Image.fromarray(style.apply(np.asarray(image))).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()

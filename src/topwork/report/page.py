"""A page with a script as one text: the only script that a browser may run on it is the one that is in it."""

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from topwork.report.html import render, template_text


def render_page(name: str, view: Mapping[str, Any], data: Any = None) -> str:
    """The template ``name`` with its style and script, and ``data`` as JSON that the script reads.

    >>> page = render_page("label", {"title": "</title><img onerror=x>"})
    >>> "<img onerror" in page, "&lt;img onerror" in page
    (False, True)
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # In JSON "<" stands only within strings: written so, no name can end the block or begin a comment.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    parts = {
        "script": template_text(f"{name}.js"),
        "script_hash": script_hash(name),
        "own_style": template_text(f"{name}.css"),
    }
    return render(f"{name}.html.j2", {**view, **parts, "data": text})


def script_hash(name: str) -> str:
    """The script of a page as a Content-Security-Policy names it."""
    digest = sha256(template_text(f"{name}.js").encode()).digest()
    return f"sha256-{b64encode(digest).decode()}"

"""Whether a page is one that topwork could have written: nothing in it runs, and a browser that shows it asks nobody.

A model from a stranger brings its own report.html. A browser keeps a page to the Content-Security-Policy that stands
before anything else in it: no script, nothing fetched, no form. What no policy forbids is looked for beside it: pages
that lead elsewhere by themselves, connections made beforehand, links that leave the page.
"""

import re
from functools import cache

from topwork.report.html import template_text

_MORE = re.compile(
    rb"<\s*(?:link|base|script|iframe|frame|object|embed|form|applet|portal)\b|href\s*=(?!\"#)", re.IGNORECASE
)


def is_own_page(page: bytes) -> bool:
    """Whether ``page`` begins with the policy of topwork's reports, and holds nothing that gets around it.

    >>> from topwork.report import render_fit
    >>> page = render_fit({}).encode()
    >>> is_own_page(page), is_own_page(page.replace(b"</body>", b'<link rel="preconnect" href="//example.org"></body>'))
    (True, False)
    """
    if not page.startswith(_beginning()):
        return False
    return page.lower().count(b"http-equiv") == 1 and _MORE.search(page) is None


@cache
def _beginning() -> bytes:
    """Up to the policy and with it, as every page has it."""
    lines = template_text("base.html.j2").splitlines(keepends=True)
    last = next(place for place, line in enumerate(lines) if "Content-Security-Policy" in line)
    return "".join(lines[: last + 1]).encode()

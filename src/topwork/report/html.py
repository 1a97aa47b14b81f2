"""Facts in, one HTML page out: self-contained, offline, without script."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from topwork.report import words
from topwork.report.names import breakable
from topwork.report.pictures import Thumb

if TYPE_CHECKING:
    from jinja2 import Environment

NO_PICTURES: Mapping[str, Thumb] = MappingProxyType({})


def render_fit(facts: Mapping[str, Any], *, pictures: Mapping[str, Thumb] = NO_PICTURES) -> str:
    """The report of a fit as one HTML page.

    ``facts`` is what ``report.json`` holds (plain JSON values); a block that is missing or null is left out
    of the page. ``pictures`` maps the paths that occur in the facts to their thumbnails; a path without one
    is shown by its name.

    >>> page = render_fit({"accuracy": {"value": 0.95, "low": 0.76, "high": 0.99, "n": 20}})
    >>> page.startswith("<!doctype html>"), "About 95 of 100 new pictures like these will be right." in page
    (True, True)
    """
    from topwork.report.sections import fit_view

    return render("fit.html.j2", fit_view(facts, pictures))


def render_audit(facts: Mapping[str, Any], *, pictures: Mapping[str, Thumb] = NO_PICTURES) -> str:
    """The findings of an audit as one HTML page, what to do first.

    ``facts`` and ``pictures`` as in ``render_fit``, with the facts of an audit.

    >>> "Remove 3 copies." in render_audit({"source": "PHOTOS", "advice": ["Remove 3 copies."]})
    True
    """
    from topwork.report.findings import audit_view

    return render("audit.html.j2", audit_view(facts, pictures))


def render_evaluation(facts: Mapping[str, Any], *, pictures: Mapping[str, Thumb] = NO_PICTURES) -> str:
    """An evaluation as one HTML page; ``facts`` and ``pictures`` as in ``render_fit``, with the facts of an evaluation.

    >>> page = render_evaluation({"accuracy": {"value": 0.95, "low": 0.76, "high": 0.99, "n": 20}, "mistakes": []})
    >>> "Not one picture was named wrongly." in page
    True
    """
    from topwork.report.evaluation import evaluation_view

    return render("evaluation.html.j2", evaluation_view(facts, pictures))


def render(template: str, view: Mapping[str, Any]) -> str:
    """A template of this package filled with what ``view`` holds, with the style of all pages."""
    return _environment().get_template(template).render(view, style=template_text("report.css")) + "\n"


def template_text(name: str) -> str:
    """The text of a file beside the templates: a style, a script."""
    return files("topwork.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # StrictUndefined: a template that asks for what the view does not give is our mistake, never a blank.
    environment = Environment(
        loader=PackageLoader("topwork.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=words.percent, count=words.count, more=words.more, breakable=breakable)
    return environment

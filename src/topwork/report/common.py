"""What the views of a fit and of an audit share: cut lists, pictures as data URIs, bars."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from topwork.report import charts
from topwork.report.words import count, plain

if TYPE_CHECKING:
    from markupsafe import Markup

    from topwork.report.pictures import Thumb

T = TypeVar("T")
View = dict[str, Any]
Facts = Mapping[str, Any]

SHOWN = 12  # items of a list that stand on the page at once
FOLDED = 48  # items more that can be unfolded; the rest is in the JSON


def block(facts: Facts, name: str) -> Facts:
    """The mapping called ``name``, empty when it is missing or null.

    >>> block({"test": None}, "test")
    {}
    """
    return facts.get(name) or {}


def rows(facts: Facts, name: str) -> Sequence[Any]:
    """The list called ``name``, empty when it is missing or null.

    >>> rows({"mistakes": [1]}, "mistakes"), rows({}, "mistakes")
    ([1], [])
    """
    return facts.get(name) or []


def cut(items: Sequence[T], shown: int = SHOWN, folded: int = FOLDED) -> View:
    """A list in three parts: on the page, unfolded on demand, and only counted.

    >>> view = cut(range(100), shown=2, folded=3)
    >>> list(view["shown"]), list(view["folded"]), view["rest"], view["total"]
    ([0, 1], [2, 3, 4], 95, 100)
    """
    kept, tail = items[:shown], items[shown : shown + folded]
    return {"shown": kept, "folded": tail, "rest": len(items) - len(kept) - len(tail), "total": len(items)}


def map_cut(view: View, function: Any) -> View:
    """The same cut with ``function`` applied to what is shown: the rest is never prepared."""
    return {
        **view,
        "shown": [function(i) for i in view["shown"]],
        "folded": [function(i) for i in view["folded"]],
    }


def base_name(path: str) -> str:
    """The last part of a path or URL: a page that is handed on need not tell where it was made.

    >>> base_name("/home/me/cars.topwork/"), base_name("cars")
    ('cars.topwork', 'cars')
    """
    parts = path.replace("\\", "/").rstrip("/").rsplit("/", 1)
    return parts[-1] or path


def safe(svg: str) -> "Markup":
    """Markup made by ``charts``, which escapes every text it is given."""
    from markupsafe import Markup

    return Markup(svg)


def picture(path: str, pictures: Mapping[str, "Thumb"]) -> View | None:
    """A thumbnail (and its heat map) as data URIs, None where there is none for ``path``."""
    thumb = pictures.get(path) if path else None
    if thumb is None:
        return None
    return {
        "source": _uri(thumb.picture),
        "heatmap": _uri(thumb.heatmap) if thumb.heatmap else None,
        "width": thumb.width,
        "height": thumb.height,
    }


def album(paths: Sequence[str], pictures: Mapping[str, "Thumb"], total: int) -> View:
    """A group of ``total`` pictures, of which ``paths`` are shown with their thumbnails."""
    shown = [{"path": path, "picture": picture(path, pictures)} for path in paths]
    return {"items": shown, "rest": total - len(shown), "total": total}


def class_bars(classes: Mapping[str, int]) -> list[View]:
    """A row a class, the largest first: label, count and a bar."""
    most = max(classes.values(), default=0)
    ordered = sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    return [{"label": k, "n": n, "bar": safe(charts.bar(n, most, f"{k}: {count(n, 'picture')}"))} for k, n in ordered]


def contents(view: Mapping[str, Any], titles: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The sections that are there, as ``(name, title)``."""
    return [(name, title) for name, title in titles if view[name]]


def flat(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as rows of text.

    >>> flat({"group_duplicates": True, "rate": 2e-05, "rate_factors": [0.5, 1]})
    [('group duplicates', 'yes'), ('rate', '0.00002'), ('rate factors', '0.5, 1')]
    """
    return [(name.replace("_", " "), _setting(value)) for name, value in values.items()]


def _setting(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(map(_setting, value)) or "none"
    text = str(value)
    return plain(value) if isinstance(value, float) and "e" in text else text


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + b64encode(jpeg).decode()

"""Which items of the long lists of a fit stand on its page, and so which pictures it needs.

The page and ``fit_pictures`` both ask ``picture_lists``, so that neither draws what the other does not show.
"""

from collections.abc import Iterator
from typing import Any

from topwork.report.common import Facts, View, block, cut, map_cut, rows

MISTAKES = (12, 24)  # on the page at once, and folded; of training and of test pictures each
GROUPS = (6, 10)  # groups of near-duplicates
MEMBERS = 4  # pictures shown of one group


def picture_lists(facts: Facts) -> dict[str, View | None]:
    """The lists with pictures, cut to what the page shows; None where there is none.

    ``mistakes`` and ``test_mistakes`` (empty when nothing went wrong) hold rows of the facts, ``duplicates`` the
    ``paths`` to show of each group, the largest first, and its ``total``.

    >>> lists = picture_lists({"groups": {"duplicates": [["a", "b"], ["c", "d", "e", "f", "g"]]}})
    >>> lists["duplicates"]["shown"]
    [{'paths': ['c', 'd', 'e', 'f'], 'total': 5}, {'paths': ['a', 'b'], 'total': 2}]
    >>> lists["mistakes"] is None
    True
    """
    test, groups = block(facts, "test"), rows(block(facts, "groups"), "duplicates")
    return {
        "mistakes": _cut(marked_mistakes(facts), MISTAKES),
        "test_mistakes": _cut(test.get("mistakes"), MISTAKES),
        "duplicates": map_cut(cut(sorted(groups, key=len, reverse=True), *GROUPS), _members) if groups else None,
    }


def marked_mistakes(facts: Facts) -> list[Facts] | None:
    """The mistakes as one list: those whose label looks wrong first, marked ``doubtful``; None where there is none.

    >>> facts = {"mistakes": [{"path": "a"}, {"path": "b"}], "label_suspects": [{"path": "b", "suggested": "bee"}]}
    >>> [(row["path"], row["doubtful"]) for row in marked_mistakes(facts)]
    [('b', True), ('a', False)]
    """
    mistakes, suspects = facts.get("mistakes"), rows(facts, "label_suspects")
    if mistakes is None and not suspects:
        return None
    known, doubted = {row.get("path") for row in mistakes or []}, {row.get("path") for row in suspects}
    alone = [{"predicted": row.get("suggested"), **row} for row in suspects if row.get("path") not in known]
    marked = [{**row, "doubtful": row.get("path") in doubted} for row in [*alone, *(mistakes or [])]]
    return sorted(marked, key=lambda row: not row["doubtful"])


def fit_pictures(facts: Facts) -> dict[str, str | None]:
    """The pictures that the page of a fit shows: path -> the class whose heat map is wanted, or None.

    >>> fit_pictures({"mistakes": [{"path": "a.jpg", "label": "ant", "predicted": "bee"}]})
    {'a.jpg': 'bee'}
    """
    lists = picture_lists(facts)
    wanted: dict[str, str | None] = {}
    for group in _items(lists["duplicates"]):
        wanted.update(dict.fromkeys(group["paths"]))
    for name in ("mistakes", "test_mistakes"):
        wanted.update((str(row["path"]), row.get("predicted")) for row in _items(lists[name]) if row.get("path"))
    return wanted


def _cut(items: Any, sizes: tuple[int, int]) -> View | None:
    return None if items is None else cut(items, *sizes)


def _members(paths: list[str]) -> View:
    return {"paths": paths[:MEMBERS], "total": len(paths)}


def _items(view: View | None) -> Iterator[Any]:
    if view is not None:
        yield from view["shown"]
        yield from view["folded"]

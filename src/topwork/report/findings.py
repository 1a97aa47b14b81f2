"""The facts of an audit as its template wants them: what to do first, then the findings with pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from topwork.report import words
from topwork.report.common import (
    Facts,
    View,
    album,
    base_name,
    block,
    class_bars,
    contents,
    cut,
    map_cut,
    picture,
    rows,
)
from topwork.report.pictures import Thumb
from topwork.report.words import number

GROUP = 8  # pictures shown of one group of duplicates
TITLES = (
    ("conflicts", "The same picture under different labels"),
    ("unreadable", "Pictures that cannot be read"),
    ("exact", "Exact copies"),
    ("near", "Near-duplicates"),
    ("quality", "Pictures to look at"),
    ("classes", "Classes"),
    ("make_up", "Sizes and formats"),
    ("skipped", "Files passed over"),
)


def audit_view(facts: Facts, pictures: Mapping[str, Thumb]) -> View:
    """Everything ``audit.html.j2`` shows."""
    view = {
        "title": _title(facts),
        "subtitle": _subtitle(facts),
        "advice": [str(sentence) for sentence in rows(facts, "advice")],
        "tiles": _tiles(facts),
        "conflicts": _conflicts(facts, pictures),
        "unreadable": _listed(facts, "unreadable"),
        "exact": _groups(facts, "exact_duplicates", pictures),
        "near": _groups(facts, "near_duplicates", pictures),
        "quality": _quality(facts, pictures),
        "classes": _classes(facts),
        "make_up": _make_up(facts),
        "skipped": _listed(facts, "skipped"),
    }
    return {**view, "contents": contents(view, TITLES), "titles": dict(TITLES)}


def _title(facts: Facts) -> str:
    """What is there, in words: a folder's name is no title."""
    n, classes = number(facts.get("n_images")), block(facts, "classes")
    if n is None:
        return "Pictures before a fit"
    found = words.count(int(n), "picture")
    return f"{found} in {words.count(len(classes), 'class', 'classes')}" if classes else found


def _subtitle(facts: Facts) -> list[str]:
    parts = [base_name(str(facts["source"]))] if facts.get("source") else []
    if unlabelled := number(facts.get("n_unlabelled")):
        parts.append(f"{words.count(int(unlabelled), 'picture')} without a label")
    if (seconds := number(facts.get("seconds"))) is not None:
        parts.append(f"looked through in {words.duration(seconds)}")
    return parts


def _tiles(facts: Facts) -> list[View]:
    """The findings at a glance; a kind that was not looked for (no such block) has no tile."""
    kinds = (
        ("label_conflicts", "conflicts", "label conflict", "label conflicts"),
        ("unreadable", "unreadable", "unreadable", "unreadable"),
        ("exact_duplicates", "exact", "group of copies", "groups of copies"),
        ("near_duplicates", "near", "group of near-duplicates", "groups of near-duplicates"),
        ("quality", "quality", "to look at", "to look at"),
    )
    found = [(len(facts[key]), to, one, many) for key, to, one, many in kinds if facts.get(key) is not None]
    return [{"n": f"{n:,}", "some": n > 0, "target": to, "name": one if n == 1 else many} for n, to, one, many in found]


def _listed(facts: Facts, name: str) -> View | None:
    return cut(rows(facts, name)) if rows(facts, name) else None


def _groups(facts: Facts, name: str, pictures: Mapping[str, Thumb]) -> View | None:
    found = sorted(rows(facts, name), key=len, reverse=True)
    if not found:
        return None
    view = map_cut(cut(found, shown=6, folded=24), lambda paths: _album(paths, pictures))
    return {**view, "images": sum(map(len, found))}


def _album(paths: Sequence[str], pictures: Mapping[str, Thumb]) -> View:
    return album(paths[:GROUP], pictures, len(paths))


def _conflicts(facts: Facts, pictures: Mapping[str, Thumb]) -> View | None:
    if not rows(facts, "label_conflicts"):
        return None

    def conflict(row: Facts) -> View:
        kind = {"exact": "identical pictures", "near": "nearly the same picture"}.get(str(row.get("kind")), "")
        return {**_album(rows(row, "paths"), pictures), "labels": rows(row, "labels"), "kind": kind}

    return map_cut(cut(rows(facts, "label_conflicts"), shown=6, folded=24), conflict)


def _quality(facts: Facts, pictures: Mapping[str, Thumb]) -> View | None:
    found = sorted(rows(facts, "quality"), key=lambda row: -len(rows(row, "findings")))
    if not found:
        return None

    def card(row: Facts) -> View:
        path = str(row.get("path", ""))
        return {"path": path, "picture": picture(path, pictures), "findings": rows(row, "findings")}

    # "tiny (20×20)" and "tiny (18×30)" are one kind of finding
    kinds = Counter(str(name).split(" (")[0] for row in found for name in rows(row, "findings"))
    return {**map_cut(cut(found), card), "kinds": kinds.most_common()}


def _classes(facts: Facts) -> View | None:
    classes = block(facts, "classes")
    if not classes:
        return None
    return {**cut(class_bars(classes), shown=16, folded=1000), "note": _imbalance(block(facts, "imbalance"))}


def _imbalance(imbalance: Facts) -> str:
    ratio = number(imbalance.get("ratio"))
    text = ""
    if ratio is not None and ratio >= 1.5:
        largest, smallest = imbalance.get("largest"), imbalance.get("smallest")
        text = f"“{largest}” has {ratio:.3g} times as many pictures as “{smallest}”."
    return " ".join(part for part in (text, imbalance.get("note")) if part)


def _make_up(facts: Facts) -> View | None:
    sizes = [(side, block(block(facts, "sizes"), side)) for side in ("width", "height")]
    view: dict[str, Any] = {
        "sizes": [(side, [_pixels(row.get(k)) for k in ("min", "median", "max")]) for side, row in sizes if row],
        "counts": [
            (title, class_bars(block(facts, key)))
            for key, title in (("formats", "File formats"), ("modes", "Colour modes"))
            if block(facts, key)
        ],
    }
    return view if view["sizes"] or view["counts"] else None


def _pixels(value: Any) -> str:
    size = number(value)
    return words.MISSING if size is None else f"{size:,.0f}"

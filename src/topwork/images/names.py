"""Names as people read them: the same letters may be stored in two ways, and blanks at the ends are not seen.

A Mac writes "ä" in the name of a file as "a" and a mark (NFD), most other programs as one letter (NFC).
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from topwork.images.sniff import shown


def plain(name: str) -> str:
    """``name`` in the form in which classes are compared: composed letters (NFC), no blanks at the ends.

    >>> plain("Ka\\u0308tzchen ") == "K\\u00e4tzchen"
    True
    """
    return unicodedata.normalize("NFC", name).strip()


def spellings(path: str) -> list[str]:
    """The ways in which a path may be stored, as it is written first.

    >>> [len(each) for each in spellings("K\\u00e4se.jpg")]
    [8, 9]
    """
    forms = (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return list(dict.fromkeys(forms))


def unified(names: Iterable[str]) -> list[str]:
    """A sentence for each class of which the name was changed, or under which several names count.

    >>> unified(["cat ", "cat", "dog"])
    ["the names 'cat' and 'cat ' count as one class, cat"]
    """
    by_class: dict[str, set[str]] = defaultdict(set)
    for name in names:
        by_class[plain(name)].add(name)
    return [_sentence(clean, sorted(found)) for clean, found in sorted(by_class.items()) if found != {clean}]


def _sentence(clean: str, found: list[str]) -> str:
    words = " and ".join(map(_seen, found))
    if not clean:
        return f"the name {words} is blank: what is in it has no label"
    if len(found) > 1:
        return f"the names {words} count as one class, {shown(clean)}"
    return f"the name {words} counts as the class {shown(clean)}"


def _seen(name: str) -> str:
    """A name so that blanks are seen; letters that are not composed are said."""
    how = "" if unicodedata.is_normalized("NFC", name) else " (accents stored apart)"
    return f"{name!r}{how}"

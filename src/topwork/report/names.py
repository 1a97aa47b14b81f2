"""Names of classes and files where there is little room: shortened so that they stay apart, broken where one may."""

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

ELLIPSIS = "…"
_TAIL = (
    10,
    16,
)  # characters at the end of a file name that stay on one line; more up to a separator, at most the second
_RUN = 14  # characters without a separator after which a long name may be broken


def short_names(names: Sequence[str], letters: int) -> list[str]:
    """The names in at most ``letters`` >= 4 characters, the middle left out; different names stay different.

    >>> short_names(["ant", "defect_left_side_minor", "defect_left_side_major"], 14)
    ['ant', 'defect…e_minor', 'defect…e_major']
    >>> short_names(["a long name 1 of them", "a long name 2 of them"], 8)
    ['…1 of t…', '…2 of t…']
    """
    long = [name for name in dict.fromkeys(names) if len(name) > letters]
    taken = {name for name in names if len(name) <= letters}
    short: dict[str, str] = {}
    for name in long:
        others = [other for other in long if other != name]
        short[name] = next(
            (
                cut
                for cut, rest in ((_cut(name, *way), {_cut(other, *way) for other in others}) for way in _ways(letters))
                if cut not in rest and cut not in taken
            ),
            "",
        )
        if not short[name]:
            short[name] = _around_difference(name, others, letters)
        if short[name] in taken:  # two names that nothing so short tells apart
            number = str(long.index(name) + 1)
            short[name] = f"{name[: letters - len(number) - 1]}{ELLIPSIS}{number}"
        taken.add(short[name])
    return [short.get(name, name) for name in names]


def _ways(letters: int) -> list[tuple[int, int]]:
    """How many characters of the beginning and of the end are kept: first about as many of each."""
    kept = letters - 1
    ways = [(head, kept - head) for head in range(1, kept)]
    return sorted(ways, key=lambda way: abs(way[0] - way[1]))


def _cut(name: str, head: int, tail: int) -> str:
    return f"{name[:head]}{ELLIPSIS}{name[-tail:]}"


def _around_difference(name: str, others: Sequence[str], letters: int) -> str:
    """A piece from where the name begins to differ from the one that is most like it."""

    def common(other: str) -> int:
        return next(
            (i for i, (a, b) in enumerate(zip(name, other, strict=False)) if a != b), min(len(name), len(other))
        )

    start = max(map(common, others), default=0)
    kept = letters - 2
    start = max(0, min(start, len(name) - kept - 1))
    return f"{ELLIPSIS}{name[start : start + kept]}{ELLIPSIS}"


def breakable(name: str) -> "Markup":
    """A file name or path as HTML that a browser breaks at separators, and never shortly before its ending.

    >>> str(breakable("roses/a_b.jpg"))
    'roses/<wbr><span class="whole">a_b.jpg</span>'
    """
    from markupsafe import Markup

    folder, slash, file = name.rpartition("/")
    least, most = _TAIL
    separated = re.search(rf"(?<=[_\-. ])[^/]{{{least},{most}}}$", file)
    at = separated.start() if separated else 0 if len(file) <= most else len(file) - least
    start = f"{folder}{slash}{file[:at]}"
    pieces = re.findall(rf"[^/_\-. ]{{1,{_RUN}}}|[/_\-. ]", start)
    text = "".join(escape(piece) + ("<wbr>" if piece in "/_-" or len(piece) == _RUN else "") for piece in pieces)
    return Markup(f'{text}<span class="whole">{escape(file[at:])}</span>')

"""What to do about the findings: sentences, the most important first.

What makes a fit impossible or wrong comes before what makes its measurement too kind, that before what costs some
pictures, and that before what is worth a look.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topwork.auditing.composition import IMBALANCED

_FEW = 10  # pictures of a class; with fewer its accuracy is known to no better than about ± 30 %
_NAMED = 3


@dataclass(frozen=True)
class Background:
    """What the advice needs to know and the facts do not hold."""

    splits: Sequence[Sequence[str]] = ()
    """Paths of each group of copies or near-duplicates that more than one split has."""
    widespread: Sequence[str] = ()
    """Faults that most pictures have."""
    not_compared: int = 0
    """Pictures that were not looked at for near-duplicates."""
    training: Mapping[str, int] | None = None
    """Pictures of each class that a fit would learn from; None: all of them."""


def advise(facts: Mapping[str, Any], background: Background = Background()) -> list[str]:
    """The sentences for these facts of an audit; none where nothing is wrong.

    >>> advise({"n_images": 0, "unreadable": [{"path": "a.jpg", "reason": "empty file"}]})
    ['Replace the pictures: none can be read (1 tried, such as a.jpg: empty file).']
    """
    if not facts["n_images"]:
        return [_nothing_readable(facts["unreadable"])]
    sentences = [
        _classes(facts["classes"], background.training or facts["classes"]),
        *_spellings(facts["classes"]),
        _conflicts(facts),
        *(f"Check that this is meant: {note}." for note in facts.get("notes", ())),
        _splits(background.splits),
        *(step(facts) for step in _USEFUL),
        _widespread(background.widespread),
        _not_compared(background.not_compared),
        _skipped(facts["skipped"]),
    ]
    return [sentence for sentence in sentences if sentence]


def _nothing_readable(unreadable: Sequence[Mapping[str, str]]) -> str:
    return f"Replace the pictures: none can be read ({len(unreadable)} tried, such as {_example(unreadable[0])})."


def _classes(classes: Mapping[str, int], training: Mapping[str, int]) -> str:
    if not classes:
        return "Put the pictures of each class into a folder of its own before a fit: none has a label."
    if len(classes) < 2:
        return f"Add a second class: there is only {_quoted(list(classes))}, and a fit needs something to tell apart."
    short = [name for name in classes if training[name] < 2]
    if short:
        return (
            f"Add pictures to {_quoted(short)}: a fit needs at least 2 readable ones in every class to learn from, "
            f"{'they have' if len(short) > 1 else 'it has'} {_numbers([training[name] for name in short])}."
        )
    return ""


def _spellings(names: Iterable[str]) -> list[str]:
    """A sentence for each set of classes that differ in capitals only, or in how their accents are stored."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_nfc(_nfc(name).casefold())].append(name)
    return [
        f"{_quoted(group)} differ only in {_difference(group)}: make them one class."
        for group in alike.values()
        if len(group) > 1
    ]


def _difference(group: Sequence[str]) -> str:
    same_stored = len({name.casefold() for name in group}) == 1
    same_capitals = len({_nfc(name) for name in group}) == 1
    kinds = ["" if same_capitals else "case", "" if same_stored else "how their letters are stored"]
    return " and ".join(filter(None, kinds))


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _conflicts(facts: Mapping[str, Any]) -> str:
    conflicts = facts["label_conflicts"]
    if not conflicts:
        return ""
    exact = sum(conflict["kind"] == "exact" for conflict in conflicts)
    first = conflicts[0]
    kinds = [_some(exact, "picture") + " copied to" if exact else ""]
    if near := len(conflicts) - exact:
        kinds.append(_some(near, "group") + " of near-duplicates under")
    return (
        f"Decide on one label for {' and '.join(filter(None, kinds))} several classes, such as "
        f"{', '.join(first['paths'][:2])} ({' or '.join(first['labels'])}): a model cannot learn a contradiction."
    )


def _unreadable(facts: Mapping[str, Any]) -> str:
    bad = facts["unreadable"]
    if not bad:
        return ""
    return (
        f"Replace or delete {len(bad)} of {_some(facts['n_images'] + len(bad), 'file')} that cannot be read, such as "
        f"{_example(bad[0])}; a fit leaves {'it' if len(bad) == 1 else 'them'} out."
    )


def _exact(facts: Mapping[str, Any]) -> str:
    groups = facts["exact_duplicates"]
    if not groups:
        return ""
    surplus = sum(map(len, groups)) - len(groups)
    copies = "exact copy" if surplus == 1 else "exact copies"
    return (
        f"Delete {surplus} {copies} ({_some(len(groups), 'picture')} more than once, such as {groups[0][0]}): "
        "they add nothing."
    )


def _near(facts: Mapping[str, Any]) -> str:
    groups = facts["near_duplicates"]
    if not groups:
        return ""
    return (
        f"Look at {_some(len(groups), 'group')} of near-duplicates ({sum(map(len, groups)):,} pictures, such as "
        f"{' and '.join(groups[0][:2])}): each teaches little more than one picture; "
        "a fit keeps a group in one fold, so that it cannot flatter the accuracy."
    )


def _quality(facts: Mapping[str, Any]) -> str:
    rows = facts["quality"]
    if not rows:
        return ""
    kinds = Counter(finding.split(" (")[0] for row in rows for finding in row["findings"])
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0])))
    return (
        f"Look at {_some(len(rows), 'picture')} out of the ordinary ({listed}), such as {rows[0]['path']}; "
        "keep those whose subject a person would recognise."
    )


def _unseen(facts: Mapping[str, Any]) -> str:
    return str((facts.get("cut_away") or {}).get("text") or "")


def _few(facts: Mapping[str, Any]) -> str:
    classes = facts["classes"]
    few = {name: count for name, count in classes.items() if 2 <= count < _FEW}
    if not few or len(classes) < 2:
        return ""
    return (
        f"Collect more of {_quoted(list(few))} ({_numbers(list(few.values()))}): "
        f"with fewer than {_FEW} pictures of a class its accuracy stays a guess."
    )


def _imbalance(facts: Mapping[str, Any]) -> str:
    found = facts["imbalance"]
    if not found or found["ratio"] < IMBALANCED:
        return ""
    large, small = found["largest"], found["smallest"]
    return (
        f"Collect more of “{small}”: {_some(facts['classes'][small], 'picture')} against "
        f"{facts['classes'][large]:,} of “{large}”."
    )


def _unlabelled(facts: Mapping[str, Any]) -> str:
    if not facts["n_unlabelled"] or not facts["classes"]:
        return ""
    one = facts["n_unlabelled"] == 1
    return f"Label {_some(facts['n_unlabelled'], 'picture')} that {'has' if one else 'have'} none; a fit ignores them."


_Step = Callable[[Mapping[str, Any]], str]
_USEFUL: tuple[_Step, ...] = (_unreadable, _exact, _near, _unseen, _few, _imbalance, _quality, _unlabelled)


def _splits(groups: Sequence[Sequence[str]]) -> str:
    if not groups:
        return ""
    return (
        f"Keep copies in one split: {_some(len(groups), 'group')} of copies or near-duplicates "
        f"{'is' if len(groups) == 1 else 'are'} in several, such as {' and '.join(groups[0][:2])}, "
        "which makes a test too easy."
    )


_REMEDIES = {
    "blurred": "check the focus",
    "dark": "check the exposure, or the scaling of 16-bit files",
    "bright": "check the exposure",
    "flat": "check the exposure, or the scaling of 16-bit files",
    "tiny": "use the originals if there are larger ones",
    "odd shape": "cut them to what matters",
}


def _widespread(faults: Sequence[str]) -> str:
    if not faults:
        return ""
    what = " and ".join("of an odd shape" if fault == "odd shape" else fault for fault in faults)
    remedies = "; ".join(dict.fromkeys(_REMEDIES[fault] for fault in faults))
    return f"Most pictures are {what}: if they should not be, {remedies}."


def _not_compared(count: int) -> str:
    if not count:
        return ""
    return (
        f"Raise head_limit in a recipe to look for near-duplicates everywhere: {_some(count, 'picture')} beyond it "
        f"{'was' if count == 1 else 'were'} not compared."
    )


_EXPECTED = ("not a picture", "hidden")


def _skipped(skipped: Sequence[Mapping[str, str]]) -> str:
    """Readme files and the like lie in most folders; what else is passed over may be missed."""
    missed = [row for row in skipped if not row["reason"].startswith(_EXPECTED)]
    if not missed:
        return ""
    entries = "entry was" if len(missed) == 1 else "entries were"
    return f"Check that nothing is missed: {len(missed):,} {entries} passed over, such as {_example(missed[0])}."


def _example(row: Mapping[str, str]) -> str:
    return f"{row['path']}: {row['reason']}"


def _some(count: int, one: str) -> str:
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def _quoted(names: Sequence[str]) -> str:
    return _cut([f"“{name}”" for name in names])


def _numbers(counts: Sequence[int]) -> str:
    return _cut([str(count) for count in counts])


def _cut(words: Sequence[str]) -> str:
    if len(words) > _NAMED:
        return f"{', '.join(words[:_NAMED])} and {len(words) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))

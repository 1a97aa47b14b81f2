"""Pictures that stand out: blurred, dark, bright, flat, tiny, of an odd shape, in another colour mode than the rest.

Every fault has an absolute limit *and* a limit relative to the set's median; a picture must be below both. What is soft
among photographs is ordinary among solar cells, so a set that is dark or soft as a whole has no picture flagged; it is
said once, by `widespread`.

Measured on holiday and product photographs (cars 27, flowers 200, cutlery 40, clothing 1,472 pictures), blood
smears (364) and electroluminescence pictures of solar cells (2,624), as they are and with one fault made on purpose.
Ten of these 4,727 originals are flagged: dark solar cells of which next to nothing can be seen.

========  ==============================  ===========  ==========================  ===========================
fault     measure                         limit        originals                   made on purpose, found
========  ==============================  ===========  ==========================  ===========================
blurred   ``Facts.sharpness``             0.1          photographs ≥ 0.11, median  Gaussian blur of 1 % of the
                                                       0.35 to 0.96; smears ≥      shorter side: photographs
                                                       0.20; cells 0.04 to 0.96,   80 to 100 %; of 2 %: 95 to
                                                       median 0.17                 100 %, smears 70 %, cells
                                                                                   few: they are soft anyway
dark      brightness + 2 contrast         64           ≥ 75; ten cells 24 to 63    × 0.25: 70 to 100 %,
          (little is lighter than this)                                            × 0.15: all
bright    255 - brightness + 2 contrast   63           ≥ 75                        × 3: smears, cutlery, cells 80
          (little is darker than 192)                                              to 100 %; others 10 to 20 %:
                                                                                   they keep some shadow
flat      contrast                        5            ≥ 11; cells from 4.7        one colour: all
tiny      root of width × height, pixels  64           ≥ 195                       20 × 20
odd       shorter / longer side           1 / 3        ≥ 1 / 2.2                   20,000 × 20
========  ==============================  ===========  ==========================  ===========================
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.features.facts import Facts

FLAT = 5.0
"""Contrast (standard deviation of the grey values, 0..127.5) below which a picture shows nothing."""

_FEW = 5  # pictures; fewer are no yardstick, so only half of the absolute limit counts
_ALONE = 0.5
_ENOUGH = 10  # pictures; from here on their spread is known well enough to be used
_SPREAD = 3.5  # robust standard deviations below the median that are out of the ordinary
_RARE, _USUAL = 0.05, 0.8  # shares of a kind of colour mode

_MODE_KINDS = {"L": "grey", "LA": "grey", "La": "grey"} | dict.fromkeys(("RGB", "RGBA", "RGBa", "P", "PA"), "colour")


@dataclass(frozen=True)
class _Fault:
    """Something a picture has when ``measure`` is low: below ``limit``, and below ``share`` of the set's median."""

    name: str
    measure: Callable[[Facts], float]
    """NaN: this picture cannot have this fault."""
    limit: float
    share: float
    tight: bool = False
    """In a set whose pictures differ little, less below the median than ``share`` is out of the ordinary already."""


_FAULTS = (
    # a picture of one colour has no edges either; it is called flat only
    _Fault("blurred", lambda f: f.sharpness if f.contrast >= FLAT else np.nan, 0.1, 0.25, tight=True),
    _Fault("dark", lambda f: f.brightness + 2 * f.contrast, 64, 0.5),
    _Fault("bright", lambda f: 255 - f.brightness + 2 * f.contrast, 63, 0.5),
    _Fault("flat", lambda f: f.contrast, FLAT, 0.25),
    _Fault("tiny", lambda f: (f.width * f.height) ** 0.5, 64, 0.5),
    _Fault("odd shape", lambda f: min(f.width, f.height) / max(f.width, f.height), 1 / 3, 1 / 1.5),
)


def findings(facts: Sequence[Facts]) -> list[list[str]]:
    """What is out of the ordinary about each picture, in a few words each; an empty list for most.

    >>> photo = Facts(640, 480, "RGB", "JPEG", 0, sharpness=0.8, brightness=120, contrast=50)
    >>> from dataclasses import replace
    >>> findings([photo] * 9 + [replace(photo, sharpness=0.05, width=20, height=20)])[-1]
    ['blurred', 'tiny (20×20)']
    """
    found: list[list[str]] = [[] for _ in facts]
    for fault in _FAULTS:
        values = _measured(fault, facts)
        for i in np.flatnonzero(values < _threshold(fault, values)).tolist():
            found[i].append(_in_words(fault, facts[i]))
    for i, words in _odd_modes([f.mode for f in facts]).items():
        found[i].append(words)
    return [[*words, *f.notes] for words, f in zip(found, facts, strict=True)]


def widespread(facts: Sequence[Facts]) -> list[str]:
    """The faults that most pictures of the set have, so that none stands out.

    >>> night = Facts(640, 480, "RGB", "JPEG", 0, sharpness=0.8, brightness=8, contrast=6)
    >>> widespread([night] * 20), findings([night] * 20)[0]
    (['dark'], [])
    """
    if len(facts) < _FEW:
        return []
    return [fault.name for fault in _FAULTS if _median(_measured(fault, facts)) < fault.limit]


def _measured(fault: _Fault, facts: Sequence[Facts]) -> NDArray[np.float64]:
    return np.array([fault.measure(f) for f in facts], np.float64)


def _median(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.inf


def _threshold(fault: _Fault, values: NDArray[np.float64]) -> float:
    """Pictures below this have the fault."""
    values = values[np.isfinite(values)]
    if len(values) < _FEW:
        return fault.limit * _ALONE
    share = fault.share
    if fault.tight and len(values) >= _ENOUGH:
        share = max(share, float(np.exp(-_SPREAD * _log_spread(values))))
    return min(fault.limit, share * _median(values))


def _log_spread(values: NDArray[np.float64]) -> float:
    """Standard deviation of the logarithms, from their median absolute deviation, so that outliers do not count."""
    logs = np.log(np.maximum(values, 1e-3))
    return 1.4826 * float(np.median(np.abs(logs - np.median(logs))))


def _in_words(fault: _Fault, facts: Facts) -> str:
    if fault.name in ("tiny", "odd shape"):
        return f"{fault.name} ({facts.width}×{facts.height})"  # noqa: RUF001 - as sizes are written
    return fault.name


def _odd_modes(modes: Sequence[str]) -> dict[int, str]:
    """Pictures of a kind of colour mode that is rare where another one is usual: words by row."""
    kinds = [_MODE_KINDS.get(mode, mode) for mode in modes]
    counts = Counter(kinds)
    if len(modes) < _FEW or len(counts) < 2:
        return {}
    usual, most = counts.most_common(1)[0]
    if most < _USUAL * len(modes):
        return {}
    rare = {kind for kind, count in counts.items() if count <= max(1, _RARE * len(modes))}
    return {i: _mode_in_words(kind, usual, modes[i]) for i, kind in enumerate(kinds) if kind in rare}


def _mode_in_words(kind: str, usual: str, mode: str) -> str:
    return f"{kind} among {usual}" if {kind, usual} == {"grey", "colour"} else f"unusual mode ({mode})"

"""What fine-tuning may bring after a fit on the frozen network, and what it would cost."""

import time
from typing import Any

from topwork.facts import Made
from topwork.features.session import cores, open_session
from topwork.golden import patterns
from topwork.tuning.automatic import duration

_RUNS = 14.0
"""What ``top`` takes for each picture, in runs of the frozen network on one core: 12.5 and 15 on two sets."""
_WORTH = 300
"""Pictures from which on something was gained where it was tried; below, the noise is larger."""


def fine_tuning_hint(made: Made) -> dict[str, Any] | None:
    """``hint`` of the JSON; None where nothing is to be gained, or the set is too small to show it."""
    accuracy, n = made.facts["accuracy"]["value"], made.facts["n_images"] + made.facts["n_val"]
    if n < _WORTH or accuracy is None or accuracy == 1:
        return None
    seconds = _RUNS * n * _run_seconds(made.graph) / cores()
    return {
        "seconds": seconds,
        "text": f"Fine-tuning may remove some of the mistakes, about {duration(seconds)}: --strategy top",
    }


def _run_seconds(graph: bytes) -> float:
    """Seconds of one run of the model, the faster of two, for the first one warms up."""
    session, pixels = open_session(graph), patterns()[0]
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        session.run(["probabilities"], {"image": pixels[None]})
        seconds.append(time.perf_counter() - begun)
    return min(seconds)

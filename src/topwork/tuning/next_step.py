"""What fine-tuning may bring after a fit on the frozen network, and what it would cost."""

import time

import numpy as np

from topwork.auditing.next_steps import NextStep
from topwork.facts import Made
from topwork.features.session import cores, open_session
from topwork.geometry import SHAPED
from topwork.golden import patterns
from topwork.tuning.automatic import duration

_RUNS = 14.0
"""What ``top`` takes for each picture, in runs of the frozen network on one core: 12.5 and 15 on two sets."""
REMOVED = ((200, 0.18), (600, 0.4))
"""Share of the mistakes that ``top`` removed on sets of so many pictures, linear in the logarithm between them.

Measured (docs/fine-tuning.md): five flowers (200) 5 % in five folds and 31 % in three splits; digits (600) 55 %;
clothing (1,100) 59, 40 and 40 % on a held-out quarter, 26 % on its test split; solar cells (2,223) 45 %.
"""
LEAST, WEAK = 50, 0.9
"""With fewer pictures than it was measured on, but so many, it is named without a gain where accuracy is below."""


def fine_tuning_step(made: Made) -> NextStep | None:
    """The step to fine-tune; None where no mistake is left, or the set is too small."""
    accuracy, n = made.facts["accuracy"]["value"], made.facts["n_images"] + made.facts["n_val"]
    sizes, shares = zip(*REMOVED, strict=True)
    measured = n >= sizes[0]
    if n < LEAST or accuracy is None or accuracy == 1 or (not measured and accuracy >= WEAK):
        return None
    share = float(np.interp(np.log(n), np.log(sizes), shares)) if measured else None
    gain = "What that brings was measured on larger sets only."
    if share is not None:
        gain = f"On sets of this size that removed about {100 * share:.0f} % of the mistakes."
    # Training takes squares: where those are worse, only a comparison tells whether it is worth it.
    strategy = "auto" if made.facts["geometry"] == SHAPED else "top"
    seconds = _RUNS * n * _run_seconds(made.graph) / cores()
    return NextStep(
        "fine-tuning",
        f"Train the last stages of the network too (fine-tuning). {gain} "
        f"It needs PyTorch and about {duration(seconds)}.",
        gain=None if share is None else share * (1 - accuracy),
        basis=None if share is None else "estimated",
        command=f"topwork fit PHOTOS --strategy {strategy} -o tuned.topwork",
    )


def _run_seconds(graph: bytes) -> float:
    """Seconds of one run of the model, the faster of two, for the first one warms up."""
    session, pixels = open_session(graph), patterns()[0]
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        session.run(["probabilities"], {"image": pixels[None]})
        seconds.append(time.perf_counter() - begun)
    return min(seconds)

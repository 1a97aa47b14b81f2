"""The picture that excites a channel, a neuron or a class most; see ``ascent``. Imports torch."""

from collections.abc import Sequence

import torch

from topwork.backbones.extra import torch_threads
from topwork.errors import UsageError
from topwork.progress import Progress, Silent, step
from topwork.visualization.ascent import (
    ASCENT,
    Maximized,
    Settings,
    activations_of,
    ascend,
    check_settings,
    run_layer,
)
from topwork.visualization.gradients import layer_function
from topwork.visualization.opened import Opened
from topwork.visualization.parameterization import noise_pictures
from topwork.visualization.targets import Target

_TOGETHER = 4
"""Pictures in one batch."""


def maximize(
    opened: Opened,
    targets: Sequence[Target],
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
) -> list[Maximized]:
    """A picture for each target, all of one layer; each is the one its target would get alone.

    The objective is the activation before an activation function, where the layer ends in one, else it could be flat;
    for a class it is the logit. UsageError for targets, sizes and steps that cannot be.

    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> (found,) = maximize(opened, [Target("blocks.0", 3)], Settings(steps=4, size=32))
    >>> found.pixels.shape, len(found.trace)
    ((32, 32, 3), 4)
    """
    settings, progress = settings or Settings(), progress or Silent()
    check_settings(settings)
    if not targets or len({target.layer for target in targets}) != 1:
        raise UsageError(f"expected targets of one layer, not {len(targets)} of several; maximize each layer by itself")
    layer = layer_function(opened, targets[0].layer, before_activation=True)
    found: list[Maximized] = []
    groups = [targets[first : first + _TOGETHER] for first in range(0, len(targets), _TOGETHER)]
    # A second thread waits for the first longer than it helps: 30 times slower where a core was busy.
    with torch_threads(1), step(progress, ASCENT, len(groups) * settings.steps):
        for group in groups:

            def objective(seen: torch.Tensor, group: Sequence[Target] = group) -> tuple[torch.Tensor, float]:
                return activations_of(group, run_layer(layer, seen)), 0.0

            pictures = noise_pictures(len(group), settings.size, settings.seed, decay=settings.decay)
            found += ascend(objective, group, pictures, settings, progress)
    return found

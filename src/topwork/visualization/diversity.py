"""Several different pictures that all excite one target. Imports torch.

Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007, section "Diversity": of the
feature maps F ``[c, h w]`` of each picture the Gram matrix G = F F^T says which channels answer together, wherever
they do. Taken off the activations is the mean cosine of the Gram matrices of each two pictures.
"""

import torch
from torch.nn import functional

from topwork.backbones.extra import torch_threads
from topwork.backbones.spec import LOGITS
from topwork.backbones.torch_graph import graph_module
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

WEIGHT = 1.0
"""Of the likeness, in units of the activation that is reached."""
MOST = 16
"""Pictures at once: they are in memory together."""


def diverse(
    opened: Opened,
    target: Target,
    count: int,
    settings: Settings | None = None,
    *,
    weight: float = WEIGHT,
    progress: Progress | None = None,
) -> list[Maximized]:
    """``count`` pictures that excite the target, as unlike each other as ``weight`` makes them.

    Each starts from noise of its own. They are compared at the target's layer; for a class, at the last feature map.
    UsageError for counts and settings that cannot be.

    >>> from topwork.visualization.opened import open_network
    >>> opened = open_network("tf_efficientnet_lite0")
    >>> found = diverse(opened, Target("blocks.1", 3), 2, Settings(steps=4, size=32))
    >>> [len(each.trace) for each in found], bool((found[0].pixels == found[1].pixels).all())
    ([4, 4], False)
    """
    settings, progress = settings or Settings(), progress or Silent()
    check_settings(settings)
    if not 2 <= count <= MOST:
        raise UsageError(f"expected 2 to {MOST} different pictures, not {count}; choose such a number")
    stage = opened.spec.stages[-1].name if target.layer == LOGITS else target.layer
    layer = layer_function(opened, stage, before_activation=target.layer != LOGITS)
    above = _above(opened, stage, target)
    targets = [target] * count

    def objective(seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = run_layer(layer, seen)
        reached = activations_of(targets, above(maps))
        # In units of what is reached, so that one weight suits logits and the channels of every stage.
        return reached, weight * reached.detach().abs().sum() * likeness(maps)

    pictures = noise_pictures(count, settings.size, settings.seed, decay=settings.decay, alike=False)
    with torch_threads(1), step(progress, ASCENT, settings.steps):
        return ascend(objective, targets, pictures, settings, progress)


def likeness(maps: torch.Tensor) -> torch.Tensor:
    """The mean cosine of the Gram matrices of each two of the feature maps ``[n, c, h, w]``.

    >>> maps = torch.zeros(2, 2, 1, 1)
    >>> maps[0, 0], maps[1, 1] = 1.0, 1.0  # no channel answers in both
    >>> likeness(maps).item(), likeness(maps[:1].expand(3, -1, -1, -1)).item()
    (0.0, 1.0)
    """
    rows = maps.flatten(2)  # [n, c, h w]
    grams = functional.normalize((rows @ rows.transpose(1, 2)).flatten(1), eps=1e-12)  # [n, c c]
    cosines = grams @ grams.T
    count = len(maps)
    return (cosines.sum() - cosines.diagonal().sum()) / (count * (count - 1))


def _above(opened: Opened, stage: str, target: Target) -> torch.nn.Module:
    """From the stage to the target's layer."""
    if target.layer == stage:
        return torch.nn.Identity()
    module: torch.nn.Module = graph_module(opened.network.model, stage, target.layer)
    return module.requires_grad_(False).eval()

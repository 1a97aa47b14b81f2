"""A network of drawings in the trainer."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from topwork.recipe import Training
from topwork.sketching.examples import parts
from topwork.sketching.networks import NETWORKS


class FromRows(nn.Module):
    """One of `NETWORKS` that takes its inputs out of the rows of `Drawings.inputs`.

    >>> import torch
    >>> FromRows("picture", 2, 4, 1e-3)(torch.zeros(3, 1 + 6 + 16)).shape
    torch.Size([3, 2])
    """

    def __init__(self, name: str, classes: int, size: int, rate: float) -> None:
        super().__init__()
        self.network = NETWORKS[name](classes, size)
        self.n_classes, self.size, self.rate = classes, size, rate

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer."""
        return [{"params": list(self.network.parameters()), "lr": self.rate}]

    def forward(self, rows: Tensor) -> Tensor:
        """Scores ``[n, classes]``."""
        found = parts(rows, self.size)
        scores: Tensor = self.network(*(found[name] for name in self.network.inputs))
        return scores


@dataclass(frozen=True)
class Build:
    """Makes one of `NETWORKS` with new weights.

    >>> Build("strokes", 10, 28, Training(head_rate=0.003))().groups[0]["lr"]
    0.003
    """

    name: str
    classes: int
    size: int
    settings: Training

    def __call__(self) -> FromRows:
        """The network, made anew; its weights are drawn from torch's random state."""
        return FromRows(self.name, self.classes, self.size, self.settings.head_rate)

"""Random views of a picture while it is optimised. Imports torch.

What excites a network from one exact place only is no pattern, but noise.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Views:
    """How far a view may be from the picture itself.

    Most are close to it: seen from further away, many small things would excite a class more than a large one does.

    ``jitter``: share of the side, in every direction; ``scale``: the least and the largest; ``turn``: degrees to
    either side.
    """

    jitter: float = 0.1
    scale: tuple[float, float] = (0.9, 1.6)
    turn: float = 15.0

    def draw(self, random: torch.Generator) -> torch.Tensor:
        """``[1, 2, 3]``: where the points of one view lie in the picture, in units of half its side.

        >>> Views(jitter=0, scale=(2, 2), turn=0).draw(torch.Generator()).abs().tolist()
        [[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]]
        """
        right, down, zoom, turn = torch.rand(4, generator=random).tolist()
        low, high = (math.log(bound) for bound in self.scale)
        smaller = 1 / math.exp(low + (high - low) * zoom)
        angle = math.radians(self.turn) * (2 * turn - 1)
        x, y = (2 * self.jitter * (2 * move - 1) for move in (right, down))
        cos, sin = smaller * math.cos(angle), smaller * math.sin(angle)
        return torch.tensor([[[cos, sin, x], [-sin, cos, y]]])


def view(pictures: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """The same view of all pictures ``[n, c, h, w]``; ``place`` as ``Views.draw`` gives it; beyond the border mirrored.

    >>> picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> same = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> torch.allclose(view(picture, same), picture, atol=1e-5)
    True
    """
    places = place.expand(len(pictures), 2, 3)
    grid = functional.affine_grid(places, list(pictures.shape), align_corners=False)
    seen: torch.Tensor = functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return seen

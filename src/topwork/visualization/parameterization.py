"""A picture to be optimised, described by its frequencies and by colours that do not vary together. Imports torch.

Gradient ascent on pixels gives noise. On Fourier coefficients scaled as those of photographs are, in the principal
colours of photographs, the same ascent gives shapes: Olah, Mordvintsev & Schubert 2017, "Feature Visualization",
doi:10.23915/distill.00007, and their library lucid, from which the numbers are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from topwork.errors import UsageError

COLOURS: NDArray[np.float64] = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
"""``[3, 3]``: a square root of the covariance of RGB values in ImageNet's photographs.

A column a principal axis, the longest first: brightness, then red against blue, then green against both.
"""
COLOURS.setflags(write=False)

_NOISE = 0.01  # standard deviation of the first coefficients
_CONTRAST = 4.0  # by which lucid divides pictures before their colours are mixed
SMALLEST, LARGEST = 16, 1024
"""Sides of a picture, in pixels."""


def colour_matrix() -> NDArray[np.float32]:
    """``[3, 3]``: from values along the principal colours to RGB; the longest column has length 1.

    >>> colour_matrix().astype(float).round(2).tolist()
    [[0.56, 0.19, 0.04], [0.58, 0.0, -0.11], [0.58, -0.19, 0.06]]
    """
    matrix: NDArray[np.float32] = (COLOURS / np.linalg.norm(COLOURS, axis=0).max()).astype(np.float32)
    return matrix


def frequency_scale(size: int, decay: float = 1.0) -> NDArray[np.float32]:
    """``[size, size // 2 + 1]``: how large a Fourier coefficient of a picture of ``size`` by ``size`` pixels may be.

    ``size ** (2 - decay) / f ** decay`` for ``f`` cycles a pixel: ``size ** 2`` for one cycle a picture, whatever the
    decay. The mean (f = 0) counts as one cycle a picture. Photographs fall off with about ``decay`` 1.

    >>> (frequency_scale(4) / 16).astype(float).round(2).tolist()
    [[1.0, 1.0, 0.5], [1.0, 0.71, 0.45], [0.5, 0.45, 0.35], [1.0, 0.71, 0.45]]
    """
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    frequency = np.sqrt(down**2 + across**2)
    scale: NDArray[np.float32] = (size ** (2 - decay) / np.maximum(frequency, 1 / size) ** decay).astype(np.float32)
    return scale


@dataclass(frozen=True, eq=False)
class FourierPictures:
    """Pictures as the parameters they are optimised by; see ``noise_pictures``.

    ``coefficients``: ``[n, 3, size, size // 2 + 1, 2]``, real and imaginary parts before they are scaled.
    """

    size: int
    coefficients: torch.Tensor
    scale: torch.Tensor
    colours: torch.Tensor

    def pixels(self) -> torch.Tensor:
        """``[n, 3, size, size]`` in 0..1, differentiable."""
        spectrum = torch.view_as_complex(self.coefficients) * self.scale  # [n, 3, size, size // 2 + 1]
        planes = torch.fft.irfft2(spectrum, s=(self.size, self.size)) / _CONTRAST
        return torch.sigmoid(torch.einsum("rc,nchw->nrhw", self.colours, planes))


def noise_pictures(count: int, size: int, seed: int, *, decay: float = 1.0, alike: bool = True) -> FourierPictures:
    """``count`` pictures of faint noise to start from, the same for all where they are ``alike``; ``seed`` decides it.

    UsageError for a size that is not from 16 to 1,024 pixels.

    >>> pictures = noise_pictures(2, 32, seed=0)
    >>> pictures.pixels().shape
    torch.Size([2, 3, 32, 32])
    """
    if not SMALLEST <= size <= LARGEST:
        raise UsageError(
            f"expected a picture of {SMALLEST} to {LARGEST:,} pixels a side, not {size}; choose such a size"
        )
    random = torch.Generator().manual_seed(seed)
    noise = _NOISE * torch.randn((1 if alike else count, 3, size, size // 2 + 1, 2), generator=random)
    coefficients = noise.expand(count, -1, -1, -1, -1).clone().requires_grad_()
    scale = torch.from_numpy(frequency_scale(size, decay))
    return FourierPictures(size, coefficients, scale, torch.from_numpy(colour_matrix()))


def total_variation(pictures: torch.Tensor) -> torch.Tensor:
    """``[n]``: the mean squared difference of neighbouring pixels of ``[n, c, h, w]``, down and across together.

    >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
    tensor([1.])
    """
    down, across = pictures[:, :, 1:] - pictures[:, :, :-1], pictures[:, :, :, 1:] - pictures[:, :, :, :-1]
    return down.square().mean(dim=(1, 2, 3)) + across.square().mean(dim=(1, 2, 3))

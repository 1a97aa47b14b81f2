"""Pictures by their frequencies and principal colours, against NumPy's own Fourier transform and known covariances."""

import numpy as np
import pytest
import torch

from topwork.errors import UsageError
from topwork.visualization.parameterization import (
    COLOURS,
    colour_matrix,
    frequency_scale,
    noise_pictures,
    total_variation,
)


def test_white_noise_becomes_colours_with_the_covariance_of_photographs() -> None:
    noise = np.random.default_rng(0).normal(size=(200_000, 3))
    covariance = np.cov((noise @ COLOURS.T).T)
    expected = np.array([[0.0761, 0.0692, 0.0627], [0.0692, 0.0754, 0.0714], [0.0627, 0.0714, 0.0819]])
    assert np.abs(covariance - expected).max() < 1e-3  # rows: COLOURS @ COLOURS.T by hand


def test_principal_colours_are_brightness_red_blue_and_green() -> None:
    matrix = colour_matrix()
    lengths = np.linalg.norm(matrix, axis=0)
    assert lengths[0] == pytest.approx(1)
    assert lengths[0] > lengths[1] > lengths[2]
    cosines = (matrix / lengths).T @ (matrix / lengths)
    assert np.abs(cosines - np.eye(3)).max() < 0.2  # principal axes are orthogonal; published with two digits
    assert matrix[:, 0].min() > 0
    assert matrix[0, 1] == pytest.approx(-matrix[2, 1])


@pytest.mark.parametrize(("size", "decay"), [(32, 1.0), (33, 1.5)])
def test_scale_falls_with_the_frequency(size: int, decay: float) -> None:
    scale = frequency_scale(size, decay)
    assert scale.shape == (size, size // 2 + 1)
    assert scale[0, 1] == pytest.approx(size**2, rel=1e-5)
    assert scale[0, 0] == scale[0, 1]
    assert scale[0, 8] == pytest.approx(scale[0, 1] / 8**decay, rel=1e-5)
    assert scale[3, 4] == pytest.approx(scale[0, 5], rel=1e-5)  # 3, 4, 5: the same distance from 0
    assert scale[-2, 0] == pytest.approx(scale[2, 0], rel=1e-5)


@pytest.mark.parametrize("size", [32, 33])
def test_pixels_are_the_inverse_transform_of_scaled_coefficients(size: int) -> None:
    pictures = noise_pictures(2, size, seed=3)
    parts = pictures.coefficients.detach().numpy()
    spectrum = (parts[..., 0] + 1j * parts[..., 1]) * frequency_scale(size)
    planes = np.fft.irfft2(spectrum, s=(size, size)) / 4
    expected = 1 / (1 + np.exp(-np.einsum("rc,nchw->nrhw", colour_matrix(), planes)))
    pixels = pictures.pixels().detach().numpy()
    assert pixels.shape == (2, 3, size, size)
    assert np.abs(pixels - expected).max() < 1e-5


def test_noise_has_the_spectrum_it_was_scaled_to() -> None:
    scale = frequency_scale(64)
    planes = [noise_pictures(1, 64, seed=seed) for seed in range(30)]
    values = np.stack([(each.coefficients.detach().numpy() ** 2).sum(-1) * scale**2 for each in planes])
    power = values.mean(axis=(0, 1, 2))  # [64, 33]
    assert power[0, 4] / power[0, 16] == pytest.approx(16, rel=0.8)  # (16 / 4) squared
    assert np.corrcoef(np.log(power[0, 1:32]), np.log(scale[0, 1:32]))[0, 1] > 0.97


def test_a_seed_decides_the_noise() -> None:
    first, again, other = (noise_pictures(1, 16, seed=seed).pixels().detach() for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_total_variation_of_a_ramp_and_of_one_colour() -> None:
    ramp = torch.arange(5.0).expand(2, 3, 4, 5)
    assert total_variation(ramp).tolist() == [1.0, 1.0]
    assert total_variation(torch.full((1, 3, 4, 4), 0.3)).item() == 0


@pytest.mark.parametrize("size", [0, 15, 1025])
def test_sizes_that_cannot_be_are_refused(size: int) -> None:
    with pytest.raises(UsageError, match=f"expected a picture of 16 to 1,024 pixels a side, not {size}; choose"):
        noise_pictures(1, size, seed=0)

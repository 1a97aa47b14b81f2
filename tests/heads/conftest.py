from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def clouds() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Gaussian clouds: inputs [n, d] with axes of very different variance, labels [n]."""

    def make(
        counts: tuple[int, ...] = (30, 30, 30), d: int = 12, apart: float = 1.0, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        labels = np.repeat(np.arange(len(counts)), counts)
        centres = random.normal(0, apart, (len(counts), d))
        scales = np.geomspace(2, 0.1, d)
        inputs = (centres[labels] + random.normal(0, 1, (len(labels), d))) * scales + 3
        order = random.permutation(len(labels))
        return inputs[order].astype(np.float32), labels[order]

    return make

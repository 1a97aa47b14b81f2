from collections.abc import Callable

import numpy as np
import pytest

from topwork.backbones.graph import Graph, feature_graph
from topwork.backbones.preprocessing import GEOMETRIES
from topwork.backbones.spec import BackboneSpec
from topwork.backbones.zoo import backbone


@pytest.fixture(scope="session")
def lite0() -> BackboneSpec:
    return backbone("tf_efficientnet_lite0")


@pytest.fixture(scope="session")
def graphs(cache_folder: None, lite0: BackboneSpec) -> dict[str, Graph]:
    return {geometry: feature_graph(lite0, geometry) for geometry in GEOMETRIES}


@pytest.fixture(scope="session")
def photo() -> Callable[[int, int], np.ndarray]:
    """[h, w, 3]: smooth colours, edges and noise; a different one for each size."""

    def make(height: int, width: int) -> np.ndarray:
        random = np.random.default_rng(height * 31 + width)
        y, x = np.mgrid[:height, :width]
        waves = [
            np.sin(x * random.uniform(0.01, 0.2) + y * random.uniform(0.01, 0.2) + random.uniform(0, 6))
            for _ in range(3)
        ]
        picture = 128 + 80 * np.stack(waves, axis=2)
        for _ in range(6):
            top, left = random.integers(0, height), random.integers(0, width)
            picture[top : top + height // 3, left : left + width // 4] = random.integers(0, 256, 3)
        return np.clip(picture + random.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)

    return make

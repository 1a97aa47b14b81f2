import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.backbones.graph import Graph, feature_graph
from topwork.backbones.zoo import backbone
from topwork.images import Sample


@pytest.fixture(scope="session")
def graphs(cache_folder: Path) -> dict[str, Graph]:
    return {geometry: feature_graph(backbone("tf_efficientnet_lite0"), geometry) for geometry in ("crop", "pad")}


def drawn(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """[h, w, 3]: a few coloured blocks and waves."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = np.sin(x * random.uniform(0.02, 0.3) + y * random.uniform(0.02, 0.3))[:, :, None]
    picture = 128 + 60 * wave * random.uniform(-1, 1, 3)
    for _ in range(5):
        top, left = random.integers(0, height - 20), random.integers(0, width - 20)
        picture[top : top + 30, left : left + 40] = random.integers(0, 256, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    return drawn


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., list[Sample]]:
    """Make PNG files in a new folder, one for each seed; a negative seed makes a file that is no picture."""

    def make(*seeds: int) -> list[Sample]:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        samples = []
        for place, seed in enumerate(seeds):
            path = folder / f"{place:03}_{seed}.png"
            buffer = io.BytesIO()
            Image.fromarray(drawn(abs(seed))).save(buffer, "PNG")
            data = buffer.getvalue()
            path.write_bytes(data if seed >= 0 else data[: len(data) // 2])
            samples.append(Sample(path.name, str(path), label="a"))
        return samples

    return make

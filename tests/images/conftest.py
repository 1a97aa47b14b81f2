import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def blocks() -> np.ndarray:
    """[60, 80, 3]: blocks of 20 pixels in different colours; every rotation and mirror image differs."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return np.repeat(np.repeat(colours, 20, axis=0), 20, axis=1)


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Make files (with a few bytes each) below a new folder."""

    def make(*paths: str) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(path.encode())
        return root

    return make

"""Indexes of generated pictures, in each of the two stores."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from topwork.retrieval import Index, build_index, qdrant

QDRANT = "qdrant://localhost:6333/photos"


@pytest.fixture
def local_qdrant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for a server gets the client's local mode, one for the whole test."""
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    at = staticmethod(lambda address: qdrant.QdrantStore(client, address.rsplit("/", 1)[-1]))
    monkeypatch.setattr(qdrant.QdrantStore, "at", at)


@pytest.fixture(params=["embedded", QDRANT])
def store_name(request: pytest.FixtureRequest, local_qdrant: None) -> str:
    """The name of a store, as --store takes it."""
    return str(request.param)


@pytest.fixture(scope="session")
def indexed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """The 24 pictures of ``photos`` in an index that no test changes."""
    with build_index(photos, tmp_path_factory.mktemp("indexes") / "photos.index") as index:
        yield index


@pytest.fixture(scope="session")
def scene(as_file: Callable[..., bytes]) -> Callable[[int], np.ndarray]:
    """Pictures [240, 320, 3] that look unlike each other: soft coloured blobs, as photographs have them."""

    def make(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:240, :320]
        picture = np.full((240, 320, 3), random.uniform(30, 220, 3))
        for _ in range(14):
            cy, cx, radius = random.uniform(0, 240), random.uniform(0, 320), random.uniform(15, 70)
            blob = ((y - cy) ** 2 + ((x - cx) * random.uniform(0.5, 1.5)) ** 2) < radius**2
            picture[blob] = random.uniform(0, 255, 3)
        return np.clip(picture + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)

    return make

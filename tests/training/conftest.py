"""Pictures, materials and jobs that the tests of training share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.backbones.graph import feature_graph
from topwork.backbones.spec import BackboneSpec
from topwork.backbones.zoo import backbone
from topwork.fingerprint import of_bytes
from topwork.images import DecodePolicy, Sample
from topwork.progress import Silent
from topwork.recipe import Training
from topwork.training import loop
from topwork.training.common import Material
from topwork.training.examples import Vectors


class StopError(Exception):
    """Raised by Killer."""


class Killer(Silent):
    """Ends a training after ``epochs`` of it, at the first sign of the next one."""

    def __init__(self, epochs: int) -> None:
        self.left, self.noted = epochs, 0

    def note(self, step: str, text: str) -> None:
        self.noted += 1

    def advance(self, step: str, count: int = 1) -> None:
        if self.noted >= self.left:
            raise StopError


@pytest.fixture
def killer() -> type[Killer]:
    return Killer


@pytest.fixture
def stopped() -> type[StopError]:
    """What a Killer raises."""
    return StopError


@pytest.fixture(scope="session")
def lite0() -> BackboneSpec:
    return backbone("tf_efficientnet_lite0")


@pytest.fixture(scope="session")
def make_material(lite0: BackboneSpec, cache_folder: Path) -> Callable[..., Material]:
    """The pictures of a folder with a subfolder per class as a material for strategies."""

    def make(root: Path, *, geometry: str = "crop", seed: int = 0) -> Material:
        import onnxruntime

        from topwork.images import decode

        paths = sorted(root.rglob("*.png"))
        names = sorted({path.parent.name for path in paths})
        policy = DecodePolicy(shrink_to=lite0.preprocess.needed_side)
        session = onnxruntime.InferenceSession(feature_graph(lite0, geometry).path)
        pixels = [decode(path.read_bytes(), policy).pixels for path in paths]
        return Material(
            spec=lite0,
            geometry=geometry,
            policy=policy,
            samples=[Sample(path.name, str(path), path.parent.name) for path in paths],
            contents=[of_bytes(path.read_bytes()) for path in paths],
            labels=np.array([names.index(path.parent.name) for path in paths]),
            groups=np.arange(len(paths)),
            n_classes=len(names),
            features=np.concatenate([session.run(["features"], {"image": p[None]})[0] for p in pixels]),
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def material(make_material: Callable[..., Material], photos: Path) -> Material:
    """24 pictures in three classes."""
    return make_material(photos)


def _filled(**values: Any) -> Training:
    return Training(**{"epochs": 3, "rate": 1e-3, "stage_decay": 1.0, "batch_norm": "updated", **values})


@pytest.fixture(scope="session")
def filled() -> Callable[..., Training]:
    """Settings without automatic values."""
    return _filled


@pytest.fixture(scope="session")
def blobs() -> Callable[..., Vectors]:
    """Clouds of points, one a class, that a line can part; other seeds give other points of the same clouds."""

    def make(n: int = 60, d: int = 6, n_classes: int = 3, seed: int = 0) -> Vectors:
        labels = np.arange(n) % n_classes
        centres = 2 * np.random.default_rng(99).normal(size=(n_classes, d))
        points = centres[labels] + np.random.default_rng(seed).normal(size=(n, d))
        return Vectors(points.astype(np.float32), labels)

    return make


@pytest.fixture(scope="session")
def squares() -> Callable[..., Vectors]:
    """Small pictures ``[n, 3, size, size]`` in three classes: by the channel that is bright."""

    def make(n: int = 18, size: int = 32, seed: int = 0) -> Vectors:
        labels = np.arange(n) % 3
        random = np.random.default_rng(seed)
        pictures = random.normal(0, 0.7, (n, 3, size, size))
        pictures[np.arange(n), labels] += 1.5
        return Vectors(pictures.astype(np.float32), labels)

    return make


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[..., loop.Outcome]:
    """Run a job; small ones are faster in one thread."""
    monkeypatch.setattr(loop, "cores", lambda: 1)

    def run(build: Any, examples: Any, settings: Training, progress: Any = None, **more: Any) -> loop.Outcome:
        job = loop.Job(build, examples, more.pop("held", None), more.pop("stop", None), settings, 0, **more)
        return loop.run(job, progress or Silent())

    return run

"""What a network is trained on: decided by seed and picture alone, and in prediction what the deployed graph makes."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from topwork.backbones.graph import square_graph
from topwork.backbones.spec import BackboneSpec
from topwork.errors import SourceError
from topwork.images import DecodePolicy, Sample, decode
from topwork.training.activations import ActivationStore
from topwork.training.augmentation import Augmenter
from topwork.training.common import Material
from topwork.training.examples import CachedViews, Pictures, Subset, normalised


@pytest.fixture(scope="module")
def pictures(material: Material) -> Pictures:
    numbers = np.array([int(content[:12], 16) for content in material.contents])
    augmenter = Augmenter("strong", 224, seed=0)
    given = (material.samples, material.labels, material.spec, "crop", material.policy, augmenter, numbers)
    return Pictures(*given)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> CachedViews:
    """View v of picture i holds ``10 i + v``."""
    with ActivationStore("cut", folder=tmp_path_factory.mktemp("store")) as store:
        for i in range(12):
            for v in range(4):
                store.add(f"{i}:{v}", np.full((2, 1, 1), 10 * i + v, np.float32))
    rows = store.rows([f"{i}:{v}" for i in range(12) for v in range(4)])
    return CachedViews(rows, np.arange(12) % 3, 4)


@pytest.fixture(params=["pictures", "views"])
def examples(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_neither_batch_nor_order_decides_what_a_picture_looks_like(examples: Any) -> None:
    rows = np.array([5, 0, 11, 7, 2])
    together = examples.inputs(rows, 3)
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(examples.inputs(np.array([row]), 3)[0], together[place])
    np.testing.assert_array_equal(examples.inputs(rows[::-1], 3), together[::-1])
    assert any(not np.array_equal(examples.inputs(rows, seed), together) for seed in (4, 5, 6))


def test_a_subset_shows_its_pictures_as_the_whole_does(examples: Any) -> None:
    kept = np.array([9, 4, 1])
    subset = Subset(examples, kept)
    np.testing.assert_array_equal(subset.labels, examples.labels[kept])
    for seed in (None, 3):
        np.testing.assert_array_equal(subset.inputs(np.array([2, 0]), seed), examples.inputs(np.array([1, 9]), seed))


def test_examples_can_be_sent_to_another_process(examples: Any) -> None:
    rows = np.array([3, 1])
    sent = pickle.loads(pickle.dumps(Subset(examples, np.arange(6))))  # noqa: S301 - our own
    np.testing.assert_array_equal(sent.inputs(rows, 7), examples.inputs(rows, 7))


def test_no_seed_gives_the_plain_view_and_seeds_give_all_of_them(views: CachedViews) -> None:
    rows = np.array([3, 11, 0])
    np.testing.assert_array_equal(views.inputs(rows, None)[:, 0, 0, 0], 10 * rows)
    drawn = np.array([views.inputs(rows, seed)[:, 0, 0, 0] - 10 * rows for seed in range(60)])
    assert {tuple(np.unique(column)) for column in drawn.T} == {(0.0, 1.0, 2.0, 3.0)}
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.4  # each picture draws its own


@pytest.mark.parametrize("geometry", ["crop", "pad", "stretch"])
def test_no_seed_gives_the_pixels_of_the_deployed_graph(material: Material, geometry: str) -> None:
    """Against the graph's own arithmetic on pixels decoded here; with and without an augmenter."""
    session = onnxruntime.InferenceSession(square_graph(material.spec, geometry))
    rows = np.array([7, 2])
    pixels = [decode(Path(material.samples[row].location).read_bytes(), material.policy).pixels for row in rows]
    expected = np.concatenate([session.run(["x"], {"image": each[None]})[0] for each in pixels])
    numbers = np.arange(len(material.labels))
    for augmenter, seed in ((Augmenter("light", 224, seed=0), None), (None, None), (None, 5)):
        given = (material.samples, material.labels, material.spec, geometry, material.policy, augmenter, numbers)
        np.testing.assert_array_equal(Pictures(*given).inputs(rows, seed), expected)
    assert expected.shape == (2, 3, 224, 224)


def test_augmented_pixels_are_scaled_as_the_graph_scales_them(material: Material, lite0: BackboneSpec) -> None:
    """A square of the network's own size is only scaled, by both."""
    square = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    graph = onnxruntime.InferenceSession(square_graph(lite0, "stretch")).run(["x"], {"image": square[None]})[0]
    np.testing.assert_allclose(normalised(square, lite0.preprocess), graph, atol=1e-6)
    assert graph.min() < -0.9
    assert graph.max() > 0.9


def test_copies_of_a_picture_are_varied_alike_and_others_not(
    photos: Path, material: Material, pattern: Callable[..., np.ndarray]
) -> None:
    """What a picture is varied by is its content, not its place."""
    numbers = np.array([8, 3, 8])
    same = [material.samples[0]] * 3
    augmenter = Augmenter("light", 64, seed=0)
    given = (same, np.zeros(3, np.int64), material.spec, "crop", material.policy, augmenter, numbers)
    found = Pictures(*given).inputs(np.arange(3), 1)
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_a_picture_that_vanished_is_named(material: Material, tmp_path: Path) -> None:
    gone = Sample("stripes/gone.png", str(tmp_path / "gone.png"), "stripes")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n then nothing")
    for sample in (gone, Sample("stripes/broken.png", str(broken), "stripes")):
        given = ([sample], np.zeros(1, np.int64), material.spec, "crop", DecodePolicy(), None, np.zeros(1, np.int64))
        with pytest.raises(SourceError, match=rf"{sample.id} was readable at first and no longer is .*; run again"):
            Pictures(*given).inputs(np.array([0]), None)

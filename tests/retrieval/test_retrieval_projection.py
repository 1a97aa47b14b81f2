"""Places on a map."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from topwork.errors import MissingExtraError, UsageError
from topwork.retrieval.projection import principal_components, project


def blobs(n: int, groups: int = 4, d: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of length 1 around some centres, and the number of each one's centre."""
    random = np.random.default_rng(seed)
    of = np.arange(n) % groups
    vectors = random.normal(size=(groups, d))[of] + random.normal(size=(n, d)) * 0.3
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), of


@pytest.mark.parametrize("n", [30, 120])  # fewer and more pictures than the vectors are long
def test_principal_components_are_those_of_scikit_learn(n: int) -> None:
    vectors, _ = blobs(n)
    ours, theirs = principal_components(vectors, 10), PCA(10, svd_solver="full").fit_transform(vectors)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    assert (ours[np.abs(ours).argmax(axis=0), np.arange(10)] > 0).all()


def test_pictures_of_a_group_lie_together_and_a_seed_gives_the_same_map() -> None:
    vectors, of = blobs(120)
    places = project(vectors, seed=3)
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (of[distances.argmin(axis=1)] == of).mean() > 0.98
    np.testing.assert_array_equal(places, project(vectors, seed=3))
    assert (places != project(vectors, seed=4)).any()
    assert places.min() == pytest.approx(0, abs=1e-6)
    assert places.max() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("n", range(8))
def test_few_pictures_have_places_too(n: int) -> None:
    places = project(blobs(n)[0] if n else np.zeros((0, 0), np.float32))
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert ((places >= 0) & (places <= 1)).all()
    assert len(np.unique(places, axis=0)) == n
    if n == 1:
        assert places.tolist() == [[0.5, 0.5]]


def test_copies_do_not_lie_on_one_point() -> None:
    places = project(np.ones((12, 8), np.float32))
    assert np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) == 12


def test_a_perplexity_below_one_is_refused_and_scikit_learn_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="perplexity must be at least 1, not 0"):
        project(blobs(9)[0], perplexity=0)
    monkeypatch.setitem(__import__("sys").modules, "sklearn.manifold", None)
    with pytest.raises(MissingExtraError, match=r"topwork\[search\]"):
        project(blobs(9)[0])

"""Where pictures lie on a map: vectors in two dimensions, so that like ones are neighbours.

Principal components (at most 50), then t-SNE (van der Maaten and Hinton 2008; Barnes-Hut 2014). On such a map only
neighbourhood says something: not how far groups lie from each other, nor how large they are.
"""

import numpy as np
from numpy.typing import NDArray

from topwork.errors import UsageError
from topwork.extra import package
from topwork.progress import Progress, Silent, step

Floats = NDArray[np.float32]

COMPONENTS = 50
PERPLEXITY = 30.0
"""About how many neighbours a picture is placed by."""
FEWEST = 5
"""Below as many pictures there are no neighbourhoods: their principal components are the map."""
_SPREAD, _JITTER = 1e-4, 1e-6  # of the start; copies of one picture would stay on one point without the second


def project(
    vectors: Floats, *, perplexity: float = PERPLEXITY, seed: int = 0, progress: Progress | None = None
) -> Floats:
    """Places ``[n, 2]``, 0..1 on the longer side, of vectors ``[n, d]``; the same again with the same ``seed``.

    ``perplexity`` is bounded by (n - 1) / 3. MissingExtraError without scikit-learn.

    >>> groups = np.repeat(np.eye(2, 8, dtype=np.float32), 10, axis=0)
    >>> places = project(groups + np.random.default_rng(0).normal(0, 0.01, groups.shape).astype(np.float32))
    >>> inside = np.linalg.norm(places[:10] - places[:10].mean(axis=0), axis=1).max()
    >>> bool(inside < np.linalg.norm(places[:10].mean(axis=0) - places[10:].mean(axis=0)))
    True
    """
    if not perplexity >= 1:
        raise UsageError(f"the perplexity must be at least 1, not {perplexity:g}; 5 to 50 are usual")
    n = len(vectors)
    if n < FEWEST:
        return _within_one(principal_components(vectors, 2))
    # Before the limits below: they reach only what is loaded.
    manifold = package("sklearn.manifold", "a map")
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(seed)
    components = principal_components(vectors, COMPONENTS)
    start = components[:, :2] / max(float(components[:, 0].std()), 1e-12) * _SPREAD
    start = start + random.normal(0, _JITTER, (n, 2))
    # One thread: two took 65 s instead of 14 s for 2,000 pictures while something else ran, since they wait spinning;
    # and sums of several threads come out otherwise with another number of cores.
    with step(progress or Silent(), "placing pictures"), threadpool_limits(limits=1):
        found = manifold.TSNE(
            init=start.astype(np.float32),
            perplexity=min(perplexity, (n - 1) / 3),
            random_state=int(random.integers(2**31)),
            n_jobs=1,
        ).fit_transform(components)
    return _within_one(principal_components(found, 2))  # any way round is right: the longest side lies across


def principal_components(vectors: Floats, most: int) -> Floats:
    """The first ``most`` principal components ``[n, most]`` of vectors ``[n, d]``; zeros where there are fewer.

    >>> principal_components(np.array([[0, 0], [0, 0], [3, 4]], np.float32), 1).round().tolist()
    [[-2.0], [-2.0], [3.0]]
    """
    n = len(vectors)
    result = np.zeros((n, most), np.float32)
    if n < 2:
        return result
    from scipy.linalg import eigh
    from threadpoolctl import threadpool_limits

    centred = vectors.astype(np.float32) - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    with threadpool_limits(limits=1, user_api="blas"):
        if n < centred.shape[1]:  # the smaller of the two matrices with the same eigenvalues
            variances, axes = eigh((centred @ centred.T).astype(np.float64))
            components = axes * np.sqrt(np.maximum(variances, 0))
        else:
            _, axes = eigh((centred.T @ centred).astype(np.float64))
            components = centred @ axes
    kept = components[:, ::-1][:, :most]
    # An axis may point either way: the largest value of each is positive.
    largest = kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])]
    result[:, : kept.shape[1]] = kept * np.where(largest < 0, -1, 1)
    return result


def _within_one(places: Floats) -> Floats:
    """Moved and scaled alike on both sides, the shorter one in the middle; a single place is the middle."""
    if not len(places):
        return np.zeros((0, 2), np.float32)
    low, high = places.min(axis=0), places.max(axis=0)
    longest = float((high - low).max())
    if longest <= 0:
        return np.full(places.shape, 0.5, np.float32)
    return np.asarray(np.clip((places - (low + high) / 2) / longest + 0.5, 0, 1), np.float32)

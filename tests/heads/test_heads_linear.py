"""Every head against a reference implementation of the same objective."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize as scipy_minimize

from topwork.errors import UsageError
from topwork.evaluation.vectors import normalized
from topwork.heads.basis import principal_axes
from topwork.heads.candidates import HEADS, Candidate, candidates
from topwork.heads.linear import balanced, fit_lda, fit_logistic, fit_ridge, fit_svm
from topwork.heads.prototypes import fit_nearest_mean
from topwork.heads.solver import Loss, SoftmaxLoss, SquaredHingeLoss, minimize

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
FITS = {"svm": fit_svm, "logistic": fit_logistic, "lda": fit_lda, "ridge": fit_ridge, "nearest-mean": fit_nearest_mean}
STRENGTHS = {"svm": 3.0, "logistic": 20.0, "lda": 0.3, "ridge": 3.0, "nearest-mean": 1.0}
every_head = pytest.mark.parametrize("head", FITS)


def one_hot(labels: np.ndarray, c: int | None = None) -> np.ndarray:
    return np.eye(c or labels.max() + 1, dtype=np.float32)[labels]


def everything(n: int) -> np.ndarray:
    return np.ones((n, 1), np.float32)


def fit(head: str, inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return FITS[head](inputs.copy(), targets.copy(), mask.copy(), STRENGTHS[head])


def objective(
    loss: Loss, inputs: np.ndarray, labels: np.ndarray, shares: np.ndarray, penalty: float
) -> Callable[[np.ndarray, np.ndarray], float]:
    """``sum s_i loss(z_i W + b, y_i) + penalty / 2 |W|^2`` in float64, written out."""
    z, rows, c = inputs.astype(np.float64), np.arange(len(labels)), labels.max() + 1

    def value(weight: np.ndarray, bias: np.ndarray) -> float:
        scores = z @ weight + bias
        if isinstance(loss, SoftmaxLoss):
            top = scores.max(axis=1)
            each = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[rows, labels]
        else:
            signs = np.where(labels[:, None] == np.arange(c), 1, -1)
            each = 0.5 * np.square(np.maximum(0, 1 - signs * scores)).sum(axis=1)
        return float(shares @ each + penalty / 2 * np.square(weight).sum())

    return value


def lbfgs(
    loss: Loss, inputs: np.ndarray, labels: np.ndarray, shares: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """The optimum by scipy's L-BFGS in float64."""
    z, c = inputs.astype(np.float64), labels.max() + 1
    truth = np.eye(c)[labels]
    value = objective(loss, inputs, labels, shares, penalty)

    def both(x: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = x[:-c].reshape(-1, c), x[-c:]
        scores = z @ weight + bias
        if isinstance(loss, SoftmaxLoss):
            shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
            slopes = shifted / shifted.sum(axis=1, keepdims=True) - truth
        else:
            signs = 2 * truth - 1
            slopes = -signs * np.maximum(0, 1 - signs * scores)
        slopes *= shares[:, None]
        return value(weight, bias), np.concatenate([(z.T @ slopes + penalty * weight).ravel(), slopes.sum(axis=0)])

    found = scipy_minimize(
        both,
        np.zeros((z.shape[1] + 1) * c),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9},
    )
    return found.x[:-c].reshape(-1, c), found.x[-c:]


@pytest.mark.parametrize("loss", [SoftmaxLoss(), SquaredHingeLoss()], ids=["logistic", "svm"])
@pytest.mark.parametrize("strength", [0.5, 5.0, 50.0])
@pytest.mark.parametrize(("counts", "d"), [((30, 30, 30), 12), ((60, 15), 5), ((8, 8, 8, 8, 8), 120)])
def test_solver_reaches_the_optimum(
    clouds: Clouds, loss: Loss, strength: float, counts: tuple[int, ...], d: int
) -> None:
    inputs, labels = clouds(counts, d)
    z = principal_axes(inputs).coordinates
    targets = one_hot(labels)
    shares = balanced(targets, everything(len(z)))
    penalty = np.square(z).sum(axis=1).mean() / (strength * len(z))
    weight, bias = minimize(loss, z, targets, shares, np.array([penalty], np.float32))
    best_weight, best_bias = lbfgs(loss, z, labels, shares[:, 0], penalty)
    value = objective(loss, z, labels, shares[:, 0], penalty)
    best, found = value(best_weight, best_bias), value(weight[0].astype(float), bias[0].astype(float))
    start = value(np.zeros_like(best_weight), np.zeros_like(best_bias))
    assert start > 1.05 * best
    assert best - 1e-6 <= found <= best + max(0.01 * best, 0.0005 * start)
    ours, reference = z @ weight[0] + bias[0], z @ best_weight + best_bias
    assert (ours.argmax(axis=1) == reference.argmax(axis=1)).mean() >= 0.97


def test_logistic_equals_scikit_learn(clouds: Clouds) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    inputs, labels = clouds((40, 20, 30), 8, apart=0.6)
    z = principal_axes(inputs).coordinates
    weight, bias = fit_logistic(z, one_hot(labels), everything(len(z)), 10.0)
    penalty = np.square(z).sum(axis=1).mean() / (10.0 * len(z))
    shares = balanced(one_hot(labels), everything(len(z)))[:, 0]
    model = linear_model.LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=5000).fit(z, labels, sample_weight=shares)
    scores, expected = z @ weight[0] + bias[0], z @ model.coef_.T + model.intercept_
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.98
    centred = [s - s.mean(axis=1, keepdims=True) for s in (scores, expected)]
    assert np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1] > 0.999
    value = objective(SoftmaxLoss(), z, labels, shares, penalty)
    assert value(weight[0].astype(float), bias[0].astype(float)) <= 1.01 * value(model.coef_.T, model.intercept_)


def test_svm_equals_scikit_learn(clouds: Clouds) -> None:
    svm = pytest.importorskip("sklearn.svm")
    inputs, labels = clouds((40, 20, 30), 8, apart=0.6)
    z = principal_axes(inputs).coordinates
    weight, bias = fit_svm(z, one_hot(labels), everything(len(z)), 3.0)
    penalty = np.square(z).sum(axis=1).mean() / (3.0 * len(z))
    shares = balanced(one_hot(labels), everything(len(z)))[:, 0]
    # scikit-learn's loss has no factor 1/2, and its bias is penalised unless it is scaled up.
    model = svm.LinearSVC(C=0.5 / penalty, intercept_scaling=1000.0, tol=1e-8, max_iter=200_000)
    model.fit(z, labels, sample_weight=shares)
    scores, expected = z @ weight[0] + bias[0], z @ model.coef_.T + model.intercept_
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.98
    assert np.corrcoef(scores.ravel(), expected.ravel())[0, 1] > 0.999
    value = objective(SquaredHingeLoss(), z, labels, shares, penalty)
    assert value(weight[0].astype(float), bias[0].astype(float)) <= 1.01 * value(model.coef_.T, model.intercept_)


@pytest.mark.parametrize("counts", [(30, 30, 30), (60, 20, 10)])
@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 1.0])
def test_lda_equals_scikit_learn(clouds: Clouds, shrinkage: float, counts: tuple[int, ...]) -> None:
    """Equal priors, as many axes as inputs: then the shrinkage means the same, trace / d included."""
    discriminant_analysis = pytest.importorskip("sklearn.discriminant_analysis")
    inputs, labels = clouds(counts, 12, apart=0.5)
    basis = principal_axes(inputs)
    assert basis.axes.shape == (12, 12)
    weight, bias = fit_lda(basis.coordinates, one_hot(labels), everything(90), shrinkage)
    model = discriminant_analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / 3] * 3)
    model.fit(inputs, labels)
    scores, expected = basis.coordinates @ weight[0] + bias[0], model.decision_function(inputs.astype(float))
    scores, expected = (s - s.mean(axis=1, keepdims=True) for s in (scores, expected))
    np.testing.assert_allclose(scores, expected, atol=2e-3 * np.abs(expected).max())


def test_lda_has_equal_priors(clouds: Clouds) -> None:
    inputs, labels = clouds((80, 10), 4, apart=0.8)
    z = principal_axes(inputs).coordinates
    weight, bias = fit_lda(z, one_hot(labels), everything(90), 0.2)
    middle = (z[labels == 0].mean(axis=0) + z[labels == 1].mean(axis=0)) / 2
    scores = middle @ weight[0] + bias[0]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_ridge_in_closed_form(clouds: Clouds) -> None:
    inputs, labels = clouds((25, 50, 10), 6)
    z = principal_axes(inputs).coordinates.astype(np.float64)
    weight, bias = fit_ridge(z.astype(np.float32), one_hot(labels), everything(85), 2.0)
    shares = (1 / np.bincount(labels))[labels] / 3
    signs = 2 * np.eye(3)[labels] - 1
    penalty = np.square(z).sum(axis=1).mean() / (2.0 * 85)
    design = np.column_stack([z, np.ones(85)])
    ridge = np.diag([penalty] * 6 + [0.0])
    expected = np.linalg.solve(design.T @ (shares[:, None] * design) + ridge, design.T @ (shares[:, None] * signs))
    np.testing.assert_allclose(weight[0], expected[:-1], atol=1e-4)
    np.testing.assert_allclose(bias[0], expected[-1], atol=1e-4)


def test_nearest_mean_is_the_nearest_centroid(clouds: Clouds) -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    inputs, labels = clouds((40, 20, 30), 8, apart=0.4)
    basis = principal_axes(inputs)
    weight, bias = fit_nearest_mean(basis.coordinates, one_hot(labels), everything(90), 1.0)
    restored, shift = basis.restore(weight[0], bias[0])
    new = clouds((50, 50, 50), 8, apart=0.4, seed=0)[0]
    expected = neighbors.NearestCentroid().fit(inputs, labels).predict(new)
    assert ((new @ restored + shift).argmax(axis=1) == expected).mean() > 0.99
    means = np.stack([basis.coordinates[labels == k].mean(axis=0) for k in range(3)])
    z = basis.coordinates
    distances = -0.5 * np.square(z[:, None] - means).sum(axis=2) + 0.5 * np.square(z).sum(axis=1)[:, None]
    np.testing.assert_allclose(z @ weight[0] + bias[0], distances, atol=1e-3)


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (30, 30)])
def test_principal_axes_keep_everything_and_restore(clouds: Clouds, shape: tuple[int, int]) -> None:
    n, d = shape
    inputs, labels = clouds((n // 2, n // 2), d)
    basis = principal_axes(inputs)
    np.testing.assert_allclose(basis.coordinates @ basis.axes.T + basis.mean, inputs, atol=1e-3)
    np.testing.assert_allclose(basis.axes.T @ basis.axes, np.eye(basis.axes.shape[1]), atol=1e-3)
    variances = np.square(basis.coordinates).mean(axis=0)
    assert (np.diff(variances) <= 1e-4 * variances[0]).all()
    expected = np.linalg.svd((inputs - inputs.mean(axis=0)).astype(float), compute_uv=False) ** 2 / n
    np.testing.assert_allclose(variances, expected[: len(variances)], rtol=1e-2)
    for head in FITS:
        weight, bias = fit(head, basis.coordinates, one_hot(labels), everything(n))
        restored, shift = basis.restore(weight[0], bias[0])
        scores = basis.coordinates @ weight[0] + bias[0]
        np.testing.assert_allclose(inputs @ restored + shift, scores, atol=2e-3 * np.abs(scores).max())


def test_principal_axes_of_identical_inputs() -> None:
    basis = principal_axes(np.ones((5, 3), np.float32))
    assert basis.coordinates.tolist() == [[0.0]] * 5
    for head in FITS:
        weight, bias = fit(head, basis.coordinates, one_hot(np.array([0, 0, 1, 1, 1])), everything(5))
        assert np.isfinite(weight).all()
        assert np.isfinite(bias).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_normalized(seed: int, scale: float) -> None:
    inputs = np.random.default_rng(seed).normal(0, scale, (5, 7)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(normalized(inputs), axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(normalized(inputs), normalized(7 * inputs), atol=1e-5)


def scores_of(head: str, inputs: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[k, n, c], every picture's scores in each fit."""
    weight, bias = fit(head, inputs, targets, mask)
    return np.asarray(inputs @ weight + bias[:, None])


@every_head
def test_many_fits_at_once_equal_fits_one_by_one(clouds: Clouds, head: str) -> None:
    inputs, labels = clouds((30, 25, 20), 10, apart=0.6)
    z, targets = principal_axes(inputs).coordinates, one_hot(labels)
    random = np.random.default_rng(0)
    # Subsets of very different sizes: the strength is relative to the size of each.
    mask = np.stack([random.random(75) < share for share in (1.0, 0.9, 0.6, 0.3)], axis=1).astype(np.float32)
    together = scores_of(head, z, targets, mask)
    for k in range(mask.shape[1]):
        alone = scores_of(head, z, targets, mask[:, [k]])[0]
        assert np.abs(together[k] - alone).max() < 0.03 * np.abs(alone).max(), k
        assert (together[k].argmax(axis=1) == alone.argmax(axis=1)).mean() >= 0.97


@every_head
def test_a_mask_is_the_same_as_leaving_out(clouds: Clouds, head: str) -> None:
    inputs, labels = clouds((30, 25, 20), 10, apart=0.6)
    z, targets = principal_axes(inputs).coordinates, one_hot(labels)
    kept = np.random.default_rng(0).random(75) < 0.6
    weight, bias = fit(head, z, targets, kept[:, None].astype(np.float32))
    small_weight, small_bias = fit(head, z[kept], targets[kept], everything(int(kept.sum())))
    masked, small = z @ weight[0] + bias[0], z @ small_weight[0] + small_bias[0]
    assert np.abs(masked - small).max() < 0.03 * np.abs(small).max()


@every_head
def test_a_left_out_picture_has_no_influence(clouds: Clouds, head: str) -> None:
    inputs, labels = clouds((30, 25, 20), 10, apart=0.6)
    z, targets = principal_axes(inputs).coordinates, one_hot(labels)
    kept = np.random.default_rng(1).random(75) < 0.7
    mask = kept[:, None].astype(np.float32)
    before = fit(head, z, targets, mask)
    changed, relabelled = z.copy(), targets.copy()
    changed[~kept] = 4 * z[~kept][::-1] + 1
    relabelled[~kept] = targets[~kept][:, ::-1]
    after = fit(head, changed, relabelled, mask)
    scores, expected = z @ after[0][0] + after[1][0], z @ before[0][0] + before[1][0]
    assert np.abs(scores - expected).max() < 0.03 * np.abs(expected).max()


@every_head
def test_shifting_and_rotating_the_inputs_changes_nothing(clouds: Clouds, head: str) -> None:
    inputs, labels = clouds((20, 20, 20), 8)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0].astype(np.float32)
    scores = []
    for variant in (inputs, inputs @ turn + 5):
        z = principal_axes(variant).coordinates
        weight, bias = fit(head, z, one_hot(labels), everything(60))
        scores.append(z @ weight[0] + bias[0])
    np.testing.assert_allclose(scores[0], scores[1], atol=0.02 * np.abs(scores[0]).max())


@every_head
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_an_absent_class_is_never_predicted(clouds: Clouds, head: str, scale: float) -> None:
    inputs, labels = clouds((20, 20, 20), 8)
    z = scale * principal_axes(inputs).coordinates
    mask = np.stack([labels != 1, labels != 2, labels >= 0], axis=1).astype(np.float32)
    weight, bias = fit(head, z, one_hot(labels, 4), mask)
    far = np.concatenate([z, 30 * z, -30 * z])
    predicted = (far @ weight + bias[:, None]).argmax(axis=2)
    assert set(np.unique(predicted[0])) <= {0, 2}
    assert set(np.unique(predicted[1])) <= {0, 1}
    assert set(np.unique(predicted[2])) <= {0, 1, 2}
    assert len(np.unique(predicted[0])) == 2


@every_head
def test_an_absent_class_is_never_predicted_even_among_copies(head: str) -> None:
    """Classes of identical pictures leave no variance, so that scores grow without bound."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(3, 6))
    labels = np.repeat([0, 1, 2], 5)
    inputs = (centres[labels] + 1e-4 * random.normal(size=(15, 6))).astype(np.float32)
    z = principal_axes(inputs).coordinates
    weight, bias = fit(head, z, one_hot(labels), (labels != 2)[:, None].astype(np.float32))
    scores = z @ weight[0] + bias[0]
    assert (scores[labels != 2].argmax(axis=1) == labels[labels != 2]).all()
    assert (scores.argmax(axis=1) != 2).all()


@pytest.mark.parametrize("loss", [SoftmaxLoss(), SquaredHingeLoss()], ids=["logistic", "svm"])
def test_more_copies_of_a_class_do_not_move_the_solution(clouds: Clouds, loss: Loss) -> None:
    inputs, labels = clouds((30, 30), 6, apart=0.5)
    z = principal_axes(inputs).coordinates
    more, more_labels = np.concatenate([z, *[z[labels == 0]] * 3]), np.concatenate([labels, np.zeros(90, int)])
    penalty = np.array([0.05], np.float32)
    scores = []
    for rows, own in ((z, labels), (more, more_labels)):
        targets = one_hot(own)
        weight, bias = minimize(loss, rows, targets, balanced(targets, everything(len(rows))), penalty)
        scores.append(z @ weight[0] + bias[0])
    np.testing.assert_allclose(scores[0], scores[1], atol=0.02 * np.abs(scores[0]).max())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=30), st.integers(0, 99))
def test_balanced_weights(labels: list[int], seed: int) -> None:
    targets = one_hot(np.array(labels), 4)
    mask = (np.random.default_rng(seed).random((len(labels), 3)) < 0.7).astype(np.float32)
    weights = balanced(targets, mask)
    assert (weights[mask == 0] == 0).all()
    totals = targets.T @ weights
    present = (targets.T @ mask) > 0
    expected = np.where(present, 1 / np.maximum(present.sum(axis=0), 1), 0)
    np.testing.assert_allclose(totals, expected, atol=1e-5)


@every_head
def test_one_picture_a_class_can_be_fitted(head: str) -> None:
    inputs = np.eye(3, 5, dtype=np.float32)
    z = principal_axes(inputs).coordinates
    weight, bias = fit(head, z, one_hot(np.arange(3)), everything(3))
    assert ((z @ weight[0] + bias[0]).argmax(axis=1) == np.arange(3)).all()


def test_candidates_are_what_the_recipe_leaves_open() -> None:
    everything_open = candidates("auto", "auto", [(g, v) for g in ("crop", "pad") for v in ("pooled", "logits")])
    assert len(set(everything_open)) == len(everything_open)
    expected = sum(len(HEADS.get(n).sees) * len(HEADS.get(n).strengths) for n in HEADS.names()) * 2
    assert len(everything_open) == expected
    padded, cropped = [("pad", "pooled"), ("pad", "logits")], [("crop", "pooled")]
    assert {c.view for c in candidates("ridge", "logits", padded)} == {("pad", "logits")}
    assert candidates("nearest-mean", "pooled", cropped) == [Candidate("nearest-mean", "pooled", "crop", 1.0)]
    with pytest.raises(UsageError, match="gives no logits: it came without a classifier"):
        candidates("svm", "logits", cropped)
    with pytest.raises(UsageError, match="there is no head 'svn': did you mean svm"):
        candidates("svn", "auto", [("crop", "pooled")])

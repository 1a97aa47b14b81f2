"""Every method against its formula on networks of one layer, and against Captum on networks of two."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from topwork.errors import UsageError
from topwork.explanation.methods import METHODS, aim_at, layer_of, occluded

CELLS = 64
IDENTITY = np.eye(3).reshape(3, 3, 1, 1)
WEIGHT = np.array([[2.0, -1.0], [-3.0, 0.5], [0.75, 1.5]])  # [d, c]
BOUNDS = {"Relu": np.inf, "Relu6": 6.0}


def run(network: Any, method: str, x: np.ndarray, target: int, layer: str | None = None) -> np.ndarray:
    chosen = METHODS.get(method)
    return chosen.prepare(network, layer_of(method, chosen, network, layer))(x, aim_at(2, target))


def weighted(weights: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Sum over channels: [d] and [d, h, w] -> [h, w]."""
    return np.tensordot(weights, maps, 1)


@pytest.fixture(params=BOUNDS)
def rectifier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("target", [0, 1])
def test_maps_of_one_layer_are_their_formulas(
    toy: Callable[..., Any], x: np.ndarray, rectifier: str, target: int
) -> None:
    network, bound, w = toy([IDENTITY], WEIGHT, rectifier=rectifier), BOUNDS[rectifier], WEIGHT[:, target]
    a = x.clip(0, bound)
    g = w / CELLS
    alpha = 1 / (2 + a.sum((1, 2)) * g)
    passed = (x > 0) & (x < bound)
    expected = {
        "cam": weighted(w, a),
        "grad-cam": weighted(g, a),
        "hirescam": weighted(g, a),
        "layercam": weighted(g.clip(0), a),
        "grad-cam++": weighted(CELLS * alpha * g.clip(0), a),
        "gradient": weighted(g, passed),
        "guided-backprop": weighted(g.clip(0), passed),
        "deconvnet": np.full((8, 8), g.clip(0).sum()),
    }
    for method, values in expected.items():
        found = run(network, method, x, target)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5, err_msg=method)


def test_the_mean_of_cam_is_the_score(toy: Callable[..., Any], x: np.ndarray) -> None:
    network = toy([IDENTITY], WEIGHT, normalize=True)
    for target, bias in enumerate((0.5, -0.25)):
        score = network.scores(x[None])[0, target]
        assert run(network, "cam", x, target).mean() + bias == pytest.approx(float(score), abs=1e-5)


def test_grad_cam_knows_the_unit_length_of_the_head(toy: Callable[..., Any], x: np.ndarray) -> None:
    """With u = f / |f|, the gradient of w u for f is (w - (w u) u) / |f|: the second part cam does not have."""
    network = toy([IDENTITY], WEIGHT, normalize=True)
    a = x.clip(0)
    f = a.mean((1, 2))
    u = f / np.linalg.norm(f)
    w = WEIGHT[:, 0]
    expected = weighted((w - (w @ u) * u) / np.linalg.norm(f) / CELLS, a)
    np.testing.assert_allclose(run(network, "grad-cam", x, 0), expected, rtol=1e-4, atol=1e-5)


def test_integrated_gradients_are_complete(toy: Callable[..., Any], x: np.ndarray, rectifier: str) -> None:
    random = np.random.default_rng(0)
    kernels = [random.normal(0, 0.4, shape) for shape in ((5, 3, 3, 3), (4, 5, 3, 3))]
    network = toy(kernels, random.normal(0, 1, (4, 2)), rectifier=rectifier)
    black = np.zeros_like(x)
    for target in (0, 1):
        found = run(network, "integrated-gradients", x, target)
        scores = network.scores(np.stack([x, black]))[:, target]
        assert float(found.sum()) == pytest.approx(float(scores[0] - scores[1]), abs=0.01 * float(np.abs(found).sum()))


def test_integrated_gradients_of_one_layer(toy: Callable[..., Any], x: np.ndarray) -> None:
    expected = weighted(WEIGHT[:, 0] / CELLS, x.clip(0))
    np.testing.assert_allclose(
        run(toy([IDENTITY], WEIGHT), "integrated-gradients", x, 0), expected, rtol=1e-4, atol=1e-5
    )


@pytest.fixture
def twins(toy: Callable[..., Any]) -> tuple[Any, Any]:
    """A network of two layers in the shipped format, and the same as plain modules."""
    import torch
    from torch import nn

    random = np.random.default_rng(1)
    kernels = [random.normal(0, 0.4, shape).astype(np.float32) for shape in ((5, 3, 3, 3), (4, 5, 3, 3))]
    weight = random.normal(0, 1, (4, 2)).astype(np.float32)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )
    with torch.no_grad():
        for place, kernel in zip((0, 2), kernels, strict=True):
            module[place].weight.copy_(torch.from_numpy(kernel))
        module[6].weight.copy_(torch.from_numpy(weight.T.copy()))
        module[6].bias.copy_(torch.tensor([0.5, -0.25]))
    return toy(kernels, weight), module


def test_maps_equal_captums_on_relu(twins: tuple[Any, Any], x: np.ndarray) -> None:
    import captum.attr
    import torch

    network, module = twins
    given = torch.from_numpy(x)[None].requires_grad_(True)
    at_input = {
        "gradient": captum.attr.Saliency(module).attribute(given, target=1, abs=False),
        "guided-backprop": captum.attr.GuidedBackprop(module).attribute(given, target=1),
        "deconvnet": captum.attr.Deconvolution(module).attribute(given, target=1),
    }
    for method, expected in at_input.items():
        found = run(network, method, x, 1)
        np.testing.assert_allclose(found, expected[0].sum(0).detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=method)
    for layer, place in (("s0", 1), ("last_map", 3)):
        expected = captum.attr.LayerGradCam(module, module[place]).attribute(given, target=1, relu_attributions=False)
        found = run(network, "grad-cam", x, 1, layer)
        np.testing.assert_allclose(found, expected[0, 0].detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=layer)


@pytest.mark.parametrize(("side", "step"), [(3, 2), (2, 2), (4, 3)])
def test_occlusion_equals_captums(twins: tuple[Any, Any], x: np.ndarray, side: int, step: int) -> None:
    import captum.attr
    import torch

    network, module = twins
    expected = captum.attr.Occlusion(module).attribute(
        torch.from_numpy(x)[None], target=0, sliding_window_shapes=(3, side, side), strides=(3, step, step)
    )
    found = occluded(lambda squares: network.scores(squares)[:, 0], x, side=side, step=step)
    np.testing.assert_allclose(found, expected[0, 0].detach().numpy(), rtol=1e-4, atol=1e-4)


def test_rules_without_a_rectifier_are_refused(toy: Callable[..., Any], x: np.ndarray) -> None:
    network = toy([IDENTITY], WEIGHT, rectifier="Sigmoid")
    for method in ("guided-backprop", "deconvnet"):
        with pytest.raises(UsageError, match="expected a network with ReLU or ReLU6"):
            run(network, method, x, 0)


def test_a_model_without_closed_form_is_sent_to_grad_cam(toy: Callable[..., Any], x: np.ndarray) -> None:
    network = toy([IDENTITY], WEIGHT, pool=False)
    with pytest.raises(UsageError, match="--method grad-cam"):
        run(network, "cam", x, 0)
    # score = mean of w a^2, so the gradient at a is 2 w a / n and its mean over cells 2 w mean(a) / n
    a = x.clip(0)
    expected = weighted(2 * WEIGHT[:, 0] * a.mean((1, 2)) / CELLS, a)
    np.testing.assert_allclose(run(network, "grad-cam", x, 0), expected, rtol=1e-4, atol=1e-5)


def test_layers_are_checked(toy: Callable[..., Any]) -> None:
    network = toy([IDENTITY, IDENTITY], WEIGHT)
    assert network.stages == ("s0", "last_map")
    assert layer_of("grad-cam", METHODS.get("grad-cam"), network, None) == "last_map"
    assert layer_of("grad-cam", METHODS.get("grad-cam"), network, "s0") == "s0"
    with pytest.raises(UsageError, match="no stage 's1': choose one of s0, last_map"):
        layer_of("grad-cam", METHODS.get("grad-cam"), network, "s1")
    with pytest.raises(UsageError, match="last_map, only"):
        layer_of("cam", METHODS.get("cam"), network, "s0")
    with pytest.raises(UsageError, match="explains the input"):
        layer_of("occlusion", METHODS.get("occlusion"), network, "s0")

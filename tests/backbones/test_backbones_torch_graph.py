"""The shipped graph with gradients: the same numbers as ONNX Runtime, from every cut, and gradients that are right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from topwork.backbones.graph import feature_graph, network_graph, stage_graph
from topwork.backbones.network import FEATURES, INPUT, LAST_MAP, Network, pretrained_network
from topwork.backbones.nodes import Nodes, float_output
from topwork.backbones.spec import BackboneSpec
from topwork.backbones.torch_graph import graph_module
from topwork.errors import BackboneError, UsageError

STAGES = ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6", "last_map")


@pytest.fixture(scope="module")
def network(lite0: BackboneSpec) -> Network:
    return pretrained_network(lite0)


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    """[2, 3, 224, 224]: noise on smooth waves, of the size of real inputs."""
    random = np.random.default_rng(0)
    wave = np.sin(np.linspace(0, 9, 224))[:, None] * np.cos(np.linspace(0, 5, 224))[None]
    return (0.6 * wave + 0.3 * random.normal(size=(2, 3, 224, 224))).astype(np.float32)


def answers(model: onnx.ModelProto | bytes, feed: dict[str, np.ndarray], *names: str) -> list[np.ndarray]:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    found: list[np.ndarray] = onnxruntime.InferenceSession(data).run(list(names), feed)
    return found


@pytest.fixture(scope="module")
def by_stage(network: Network, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """What ONNX Runtime finds at every stage and at the end."""
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in (*STAGES, FEATURES))
    names = (*STAGES, FEATURES)
    return dict(zip(names, answers(model, {INPUT: inputs}, *names), strict=True))


@pytest.mark.parametrize("cut", [INPUT, *STAGES])
def test_the_module_answers_as_onnx_runtime_from_every_cut(
    network: Network, inputs: np.ndarray, by_stage: dict[str, np.ndarray], cut: str
) -> None:
    module = graph_module(network.model, cut, FEATURES)
    given = inputs if cut == INPUT else by_stage[cut]
    with torch.no_grad():
        found = module(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, by_stage[FEATURES], atol=3e-5)
    assert np.abs(found).max() > 0.5


def test_the_parts_on_both_sides_of_a_cut_are_the_whole(network: Network, inputs: np.ndarray) -> None:
    whole = graph_module(network.model, INPUT, FEATURES)
    below, above = graph_module(network.model, INPUT, "blocks.4"), graph_module(network.model, "blocks.4", FEATURES)
    with torch.no_grad():
        x = torch.from_numpy(inputs)
        torch.testing.assert_close(above(below(x)), whole(x))
    names = [set(part.weights_by_name()) for part in (below, above, whole)]
    assert names[0] | names[1] == names[2]
    assert not names[0] & names[1]


def toy(
    *, strides: int = 1, pads: tuple[int, ...] = (0, 0, 0, 0), group: int = 1
) -> tuple[onnx.ModelProto, np.ndarray]:
    """x [n, 2, 5, 5] -> a convolution, ReLU6, a residual, the mean; and the convolution's weight."""
    random = np.random.default_rng(1)
    weight = random.normal(size=(2, 2 // group, 3, 3)).astype(np.float32)
    nodes = Nodes()
    x = nodes.add("Conv", [INPUT, nodes.constant(weight, name="kernel"), nodes.constant(np.float32([0.1, -0.2]))],
                  kernel_shape=[3, 3], strides=[strides] * 2, pads=list(pads), group=group)  # fmt: skip
    inner = nodes.rename(nodes.relu6(x), "inner")
    point = nodes.constant(random.normal(size=(2, 2, 1, 1)).astype(np.float32), name="point")
    projected = nodes.rename(nodes.add("Conv", [inner, point], kernel_shape=[1, 1]), "projected")
    last = nodes.rename(nodes.add("Add", [projected, inner]), LAST_MAP)
    nodes.add("ReduceMean", [last, nodes.constant(np.array([2, 3]))], keepdims=0, output=FEATURES)
    given = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 2, 5, 5])
    return nodes.model([given], [float_output(FEATURES, ["n", 2])]), weight


@pytest.mark.parametrize(
    "options",
    [{}, {"strides": 2, "pads": (0, 0, 1, 1)}, {"pads": (1, 2, 1, 2)}, {"pads": (1, 1, 1, 1), "group": 2}],
    ids=["plain", "uneven pads", "wide pads", "depthwise"],
)
def test_every_kind_of_convolution(options: dict[str, Any]) -> None:
    model, _ = toy(**options)
    x = np.random.default_rng(2).normal(size=(3, 2, 5, 5)).astype(np.float32)
    with torch.no_grad():
        found = graph_module(model, INPUT, FEATURES)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, answers(model, {INPUT: x}, FEATURES)[0], atol=1e-6)


def test_gradients_agree_with_finite_differences_of_onnx_runtime() -> None:
    model, weight = toy(strides=2, pads=(0, 0, 1, 1))
    x = np.random.default_rng(83).normal(size=(2, 2, 5, 5)).astype(np.float32)
    module = graph_module(model, INPUT, FEATURES)
    with torch.no_grad():
        before = graph_module(model, INPUT, "conv_0")(torch.from_numpy(x))
    assert float(before.abs().min()) > 0.1  # no value comes near a kink of ReLU6
    assert 0.2 < float((before > 0).float().mean()) < 0.8
    (module(torch.from_numpy(x)) * torch.tensor([1.0, -2.0])).sum().backward()
    gradient = module.weights_by_name()["kernel"].grad.numpy()

    def value(changed: np.ndarray) -> float:
        network = Network(model).with_weights({"kernel": changed})
        features = answers(network.model, {INPUT: x}, FEATURES)[0].astype(np.float64)
        return float((features * [1.0, -2.0]).sum())

    for place in [(0, 0, 0, 0), (0, 1, 1, 2), (1, 0, 2, 1), (1, 1, 2, 2)]:
        step = np.zeros_like(weight)
        step[place] = 1e-2
        difference = (value(weight + step) - value(weight - step)) / 2e-2
        assert gradient[place] == pytest.approx(difference, abs=2e-3)
    assert np.abs(gradient).min() > 1e-3  # else the comparison above would say nothing


def test_trained_weights_go_back_where_they_came_from(network: Network, inputs: np.ndarray) -> None:
    """Change every weight after a cut: the network with them answers as the module, and nothing else was touched."""
    module = graph_module(network.model, INPUT, FEATURES)
    changed = set(graph_module(network.model, "blocks.5", FEATURES).weights_by_name())
    with torch.no_grad():
        for name, weight in module.weights_by_name().items():
            if name in changed:
                weight.mul_(1.1).add_(0.01)
        expected = module(torch.from_numpy(inputs)).numpy()
    new = network.with_weights({n: w.detach().numpy() for n, w in module.weights_by_name().items()})
    np.testing.assert_allclose(answers(new.model, {INPUT: inputs}, FEATURES)[0], expected, rtol=1e-4, atol=1e-4)
    before, after = network.weights(), new.weights()
    assert {name for name in before if not np.array_equal(before[name], after[name])} == changed
    assert new.fingerprint != network.fingerprint
    again = new.with_weights({name: before[name] for name in changed})
    assert again.fingerprint == network.fingerprint


def test_a_weight_of_another_shape_is_refused() -> None:
    network = Network(toy()[0])
    with pytest.raises(BackboneError, match=r"expected kernel of shape \[2, 2, 3, 3\], got \[2, 3, 3\]"):
        network.with_weights({"kernel": np.zeros((2, 3, 3), np.float32)})


def test_what_does_not_exist_is_named() -> None:
    model, _ = toy()
    for source, target in (("nothing", FEATURES), (INPUT, "nothing"), (FEATURES, INPUT), (FEATURES, FEATURES)):
        with pytest.raises(BackboneError, match=f"no way from '{source}' to '{target}'"):
            graph_module(model, source, target)


def test_a_cut_beside_a_residual_is_refused(network: Network) -> None:
    model, _ = toy()
    with pytest.raises(BackboneError, match="cannot be cut at 'projected': 'x' goes around it"):
        graph_module(model, "projected", FEATURES)
    assert len(graph_module(model, "inner", FEATURES).weights_by_name()) == 1
    add = next(node for node in network.model.graph.node if node.op_type == "Add")
    with pytest.raises(BackboneError, match="cut it at the end of a stage"):
        graph_module(network.model, add.input[0], FEATURES)


def test_an_unknown_operator_is_named() -> None:
    nodes = Nodes()
    nodes.add("Acos", [INPUT], output=FEATURES)
    given = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 2])
    with pytest.raises(BackboneError, match="operator Acos cannot be trained yet; use --strategy full"):
        graph_module(nodes.model([given], [float_output(FEATURES, ["n", 2])]), INPUT, FEATURES)


@pytest.mark.parametrize("stage", ["blocks.2", "blocks.4", "last_map"])
def test_a_stage_graph_holds_what_comes_before_the_stage_and_nothing_else(
    lite0: BackboneSpec, network: Network, photo: Callable[[int, int], np.ndarray], stage: str
) -> None:
    """Frozen part and trained part, one after the other, are the feature graph; no weight is in both."""
    picture = photo(150, 200)[None]
    graph = stage_graph(lite0, "crop", stage)
    activation = answers(graph, {"image": picture}, stage)[0]
    channels, side = next((s.channels, 224 // s.stride) for s in lite0.stages if s.name == stage)
    assert activation.shape == (1, channels, side, side)
    top = graph_module(network.model, stage, FEATURES)
    with torch.no_grad():
        found = top(torch.from_numpy(activation)).numpy()
    whole = feature_graph(lite0, "crop").path.read_bytes()
    np.testing.assert_allclose(found, answers(whole, {"image": picture}, "features")[0], atol=3e-5)
    below = sum(np.prod(t.dims, dtype=int) for t in onnx.load_from_string(graph).graph.initializer)
    above = sum(w.numel() for w in top.weights_by_name().values())
    every = sum(w.numel() for w in graph_module(network.model, INPUT, FEATURES).weights_by_name().values())
    assert 0 <= below + above - every < 200  # the rest are bounds, axes and the numbers of preprocessing


def test_an_unknown_stage_gets_the_closest_name(lite0: BackboneSpec) -> None:
    with pytest.raises(UsageError, match=r"no stage 'blocks.44': did you mean blocks.4"):
        stage_graph(lite0, "crop", "blocks.44")


def test_an_included_network_answers_as_alone_twice_in_one_graph(
    lite0: BackboneSpec, network: Network, photo: Callable[[int, int], np.ndarray]
) -> None:
    """Two networks with the same names inside in one graph, among nodes with names that they also use."""
    model, weight = toy()
    other = Network(model).with_weights({"kernel": -weight})
    nodes = Nodes()
    x = nodes.add("Mul", [INPUT, nodes.constant(2.0)])
    nodes.include(model.graph, {INPUT: x}, keep=(FEATURES,))
    y = nodes.add("Mul", [INPUT, nodes.constant(3.0)])
    nodes.include(other.model.graph, {INPUT: y})
    last = nodes._nodes[-1].output[0]
    nodes.add("Sub", [FEATURES, last], output="difference")
    given = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n", 2, 5, 5])
    both = nodes.model([given], [float_output("difference", ["n", 2])])
    x_value = np.random.default_rng(4).normal(size=(2, 2, 5, 5)).astype(np.float32)
    alone = [
        answers(m, {INPUT: k * x_value}, FEATURES)[0] for k, m in ((np.float32(2), model), (np.float32(3), other.model))
    ]
    np.testing.assert_allclose(answers(both, {INPUT: x_value}, "difference")[0], alone[0] - alone[1], atol=1e-6)

    picture = photo(90, 120)[None]
    graph = network_graph(lite0, "pad", network)
    whole = feature_graph(lite0, "pad").path.read_bytes()
    pair = [answers(each, {"image": picture}, "features")[0] for each in (graph, whole)]
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-6)


def test_what_no_output_needs_is_left_out() -> None:
    nodes = Nodes()
    used = nodes.add("Mul", [INPUT, nodes.constant(2.0, name="two")])
    nodes.add("Mul", [used, nodes.constant(5.0, name="five")], output="unused")
    nodes.add("Add", [used, used], output="out")
    given = onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["n"])
    model = nodes.model([given], [float_output("out", ["n"])])
    assert [node.op_type for node in model.graph.node] == ["Mul", "Add"]
    assert [tensor.name for tensor in model.graph.initializer] == ["two"]
    found = answers(model, {INPUT: np.float32([1, -3])}, "out")[0]
    np.testing.assert_array_equal(found, np.float32([4, -12]))

"""Gradient ascent: on the default backbone the objective rises everywhere; on a toy network its answer is known."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from topwork.backbones.network import Network
from topwork.backbones.spec import BackboneSpec, Preprocess
from topwork.backbones.zoo import backbone
from topwork.errors import BackboneError, UsageError
from topwork.visualization.ascent import Maximized, Settings
from topwork.visualization.diversity import diverse, likeness
from topwork.visualization.gradients import layer_function
from topwork.visualization.maximize import maximize
from topwork.visualization.opened import Opened, open_network
from topwork.visualization.targets import Target, channel_target, class_target
from topwork.visualization.views import Views, view

STAGES = [stage.name for stage in backbone("tf_efficientnet_lite0").stages]
STILL = Views(jitter=0, scale=(1, 1), turn=0)


@pytest.fixture(scope="module")
def lite0() -> Opened:
    return open_network("tf_efficientnet_lite0")


@pytest.fixture
def toy(opened_toy: Callable[..., Opened]) -> Opened:
    """Two channels behind a ReLU: red minus 3, and green minus blue."""
    weight = np.array([[1.0, 0, 0], [0, 1, -1]]).reshape(2, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["sum"]), helper.make_node("Relu", ["sum"], ["only"])]
    return opened_toy(nodes, {"w": weight, "b": np.array([-3.0, 0])}, {"only": 2})


@pytest.mark.parametrize("layer", [*STAGES, "logits"])
def test_the_objective_rises_at_every_stage(layer: str, lite0: Opened) -> None:
    (found,) = maximize(lite0, [Target(layer, 5)], Settings(steps=16, size=64))
    assert np.mean(found.trace[-4:]) > np.mean(found.trace[:2]) + 0.1
    function = layer_function(lite0, layer, before_activation=True)
    picture = torch.from_numpy(found.picture).permute(2, 0, 1)[None]
    grey = torch.full_like(picture, 0.5)
    reached, before = (Target(layer, 5).of(function(each)[0]).item() for each in (picture, grey))
    assert reached > before + 0.1


def test_toy_pictures_take_the_colours_that_the_channels_want(toy: Opened) -> None:
    settings = Settings(steps=200, size=16, smoothness=0, views=STILL)
    red, green = maximize(toy, [Target("only", 0), Target("only", 1)], settings)
    assert red.picture[..., 0].mean() > 0.7  # although the channel is silent behind its ReLU all the way
    assert (green.picture[..., 1] - green.picture[..., 2]).mean() > 0.3
    assert red.trace[-1] == pytest.approx(red.picture[..., 0].mean() - 3, abs=0.05)


def test_a_neuron_changes_its_own_surroundings(toy: Opened) -> None:
    (found,) = maximize(toy, [Target("only", 0, (3, 12))], Settings(steps=40, size=16, smoothness=0, views=STILL))
    red = found.picture[..., 0]
    assert np.unravel_index(red.argmax(), red.shape) == (3, 12)


def test_smoothness_lowers_the_variation(lite0: Opened) -> None:
    target = [Target("blocks.1", 4)]
    rough, smooth = (
        maximize(lite0, target, Settings(steps=20, size=32, smoothness=weight))[0].picture for weight in (0.0, 1e4)
    )
    assert np.square(np.diff(smooth, axis=0)).mean() < 0.5 * np.square(np.diff(rough, axis=0)).mean()


def test_a_seed_decides_the_picture_whatever_random_numbers_were_drawn(lite0: Opened) -> None:
    def picture(seed: int) -> np.ndarray:
        torch.rand(7)
        return maximize(lite0, [Target("blocks.1", 4)], Settings(steps=3, size=32, seed=seed))[0].pixels

    state = torch.get_rng_state()
    first = picture(1)
    torch.set_rng_state(state)
    torch.rand(7)
    drawn = torch.get_rng_state()
    assert np.array_equal(first, picture(1))
    assert not np.array_equal(first, picture(2))
    torch.set_rng_state(state)
    maximize(lite0, [Target("blocks.1", 4)], Settings(steps=1, size=32))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drawn, state)


def test_a_channel_has_the_same_picture_in_a_grid_and_alone(lite0: Opened) -> None:
    targets, settings = [Target("blocks.2", channel) for channel in range(6)], Settings(steps=4, size=32)
    grid = maximize(lite0, targets, settings)
    (alone,) = maximize(lite0, targets[5:], settings)
    assert np.abs(grid[5].picture - alone.picture).max() < 0.02
    assert grid[5].trace == pytest.approx(alone.trace, rel=0.02)
    assert np.abs(grid[4].picture - alone.picture).max() > 0.1


def test_threads_are_what_they_were_after_success_and_error(lite0: Opened) -> None:
    before = torch.get_num_threads()
    maximize(lite0, [Target("blocks.0", 1)], Settings(steps=1, size=32))
    assert torch.get_num_threads() == before
    with pytest.raises(UsageError, match=r"expected a neuron in the 16 x 16 map of blocks.0, not row 16, column 0; "):
        maximize(lite0, [Target("blocks.0", 1, (16, 0))], Settings(steps=1, size=32))
    assert torch.get_num_threads() == before


def test_layer_function_is_the_network_with_its_preprocessing(lite0: Opened) -> None:
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    from topwork.backbones.torch_graph import graph_module

    module = graph_module(lite0.network.model, "x", "last_map")
    expected = module((255 * pixels - 127) / 128)
    got = layer_function(lite0, "last_map")(pixels)
    assert torch.allclose(got, expected, atol=1e-4)
    before = layer_function(lite0, "last_map", before_activation=True)(pixels)
    assert torch.allclose(before.clamp(0, 6), expected, atol=1e-4)
    assert before.min() < 0


def test_views_move_turn_and_scale_a_picture() -> None:
    picture = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    turned = view(picture, torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]]))
    assert torch.allclose(turned[0, 0], torch.rot90(picture[0, 0], -1), atol=1e-5)
    moved = view(picture, torch.tensor([[[1.0, 0.0, 2 * 3 / 12], [0.0, 1.0, 0.0]]]))
    assert torch.allclose(moved[..., :9], picture[..., 3:], atol=1e-5)
    random = torch.Generator().manual_seed(0)
    drawn = torch.stack([Views(jitter=0.25, scale=(0.5, 2), turn=0).draw(random)[0] for _ in range(500)])
    assert drawn[:, 0, 0].min() >= 0.5
    assert drawn[:, 0, 0].max() <= 2
    assert drawn[:, :, 2].abs().max() <= 0.5
    assert drawn[:, :, 2].abs().max() > 0.45


def test_wrong_targets_are_refused_in_a_sentence(lite0: Opened) -> None:
    with pytest.raises(UsageError, match=r"no layer 'blocks.9': did you mean"):
        channel_target(lite0, "blocks.9", 0)
    with pytest.raises(
        UsageError, match=r"expected a class from 0 to 999 or its name, not 'goldfsh': did you mean goldfi"
    ):
        class_target(lite0, "goldfsh")
    with pytest.raises(UsageError, match="expected a class from 0 to 999"):
        class_target(lite0, "1000")
    with pytest.raises(UsageError, match="expected at least 1 step, not 0"):
        maximize(lite0, [Target("blocks.0", 0)], Settings(steps=0))
    with pytest.raises(UsageError, match="expected targets of one layer"):
        maximize(lite0, [Target("blocks.0", 0), Target("logits", 0)])
    assert class_target(lite0, "1") == class_target(lite0, "goldfish")


def test_a_network_without_a_classifier_has_no_classes(toy: Opened) -> None:
    with pytest.raises(UsageError, match="toy has no classifier; choose a channel"):
        class_target(toy, "1")


def test_a_size_that_the_network_cannot_take_is_an_error_in_a_sentence() -> None:
    weight = numpy_helper.from_array(np.zeros((3 * 32 * 32, 4), np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "logits")]
    network = Network(helper.make_model(helper.make_graph(nodes, "flat", ports[:1], ports[1:], initializer=[weight])))
    spec = BackboneSpec(
        "flat", "toy", Preprocess(32, 1.0, (0.0,) * 3, (255.0,) * 3), 2, 4, 8, (), None, False, False, "", ""
    )
    with pytest.raises(
        BackboneError, match=r"cannot take pictures of 16 pixels a side .*; choose the size it was made"
    ):
        maximize(Opened(spec, network), [Target("logits", 0)], Settings(steps=1, size=16))


@pytest.fixture(scope="module")
def several(lite0: Opened) -> dict[float, list[Maximized]]:
    """Four pictures of one channel, with and without the term for diversity."""
    settings = Settings(steps=24, size=64, views=STILL)
    return {weight: diverse(lite0, Target("blocks.3", 5), 4, settings, weight=weight) for weight in (0.0, 4.0)}


def test_diverse_pictures_are_less_alike_and_all_excite_the_target(
    several: dict[float, list[Maximized]], lite0: Opened
) -> None:
    layer = layer_function(lite0, "blocks.3", before_activation=True)

    def cosines(found: list[Maximized]) -> float:
        """As ``likeness``, written out with NumPy."""
        maps = layer(torch.from_numpy(np.stack([each.picture for each in found])).permute(0, 3, 1, 2)).numpy()
        grams = [(rows @ rows.T).ravel() for rows in maps.reshape(len(maps), maps.shape[1], -1)]
        units = [gram / np.linalg.norm(gram) for gram in grams]
        found_cosines = [units[i] @ units[j] for i in range(len(units)) for j in range(i)]
        maps = torch.from_numpy(maps)
        assert likeness(maps).item() == pytest.approx(np.mean(found_cosines), abs=1e-4)
        return float(np.mean(found_cosines))

    assert cosines(several[4.0]) < cosines(several[0.0]) - 0.05
    for each in several[4.0]:
        assert each.trace[-1] > each.trace[0] + 0.1
    assert len({each.pixels.tobytes() for each in several[4.0]}) == 4


def test_diverse_pictures_of_a_class_are_decided_by_the_seed(lite0: Opened) -> None:
    first, again, other = (
        diverse(lite0, Target("logits", 1), 2, Settings(steps=3, size=32, seed=seed)) for seed in (1, 1, 2)
    )
    assert [each.trace for each in first] == [each.trace for each in again]
    assert np.array_equal(first[1].pixels, again[1].pixels)
    assert not np.array_equal(first[0].pixels, other[0].pixels)
    with pytest.raises(UsageError, match="expected 2 to 16 different pictures, not 1"):
        diverse(lite0, Target("logits", 1), 1)
    with pytest.raises(UsageError, match="expected a smoothness of at least 0, not -1"):
        diverse(lite0, Target("logits", 1), 2, Settings(smoothness=-1))

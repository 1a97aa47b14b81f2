"""The losses against numbers made by hand and torch's own products; gradients; tiles."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from topwork.backbones.torch_graph import graph_module
from topwork.style.losses import ContentLoss, StyleLoss, gram
from topwork.style.network import LossNetwork
from topwork.style.objective import ContentTerm, Objective, StyleTerm, content_maps, grams
from topwork.style.tiles import MARGIN, tiles_of


class Toy(LossNetwork):
    """Two convolutions with a pool between them, for whatever takes a `LossNetwork`."""

    def __init__(self, seed: int = 0, channels: int = 4) -> None:
        random = np.random.default_rng(seed)
        weights = {"w1": random.normal(0, 0.4, (channels, 3, 3, 3)), "w2": random.normal(0, 0.3, (6, channels, 3, 3))}
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["one"]),
            helper.make_node("AveragePool", ["one"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Conv", ["p", "w2"], ["b"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["b"], ["two"]),
        ]
        tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
        value = helper.make_tensor_value_info
        image = value("x", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])
        outputs = [value(name, onnx.TensorProto.FLOAT, None) for name in ("one", "two")]
        model = helper.make_model(helper.make_graph(nodes, "toy", [image], outputs, tensors))
        self.name, self.layers = "toy", ["one", "two"]
        self._module = graph_module(model, "x", "one", "two").requires_grad_(False)
        self._mean, self._std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)


def objective(network: LossNetwork, content: torch.Tensor, style: torch.Tensor, **options: object) -> Objective:
    with torch.no_grad():
        wanted, styled = network(content), network(style)
    weights = options.pop("weights", {})
    return Objective(
        network,
        [ContentTerm("two", ContentLoss(wanted["two"]))],
        [StyleTerm(layer, StyleLoss(gram(styled[layer]), weights.get(layer)), 0.5) for layer in ("one", "two")],
        **options,  # type: ignore[arg-type]
    )


def picture(seed: int, height: int = 24, width: int = 20) -> torch.Tensor:
    return torch.rand((1, 3, height, width), generator=torch.Generator().manual_seed(seed))


def test_a_gram_matrix_by_hand() -> None:
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 1.0]]])
    assert gram(maps).tolist() == [[30 / 4, 6 / 4], [6 / 4, 2 / 4]]
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert gram(maps, weights).tolist() == [[17 / 2, 4 / 2], [4 / 2, 1 / 2]]


def test_an_input_of_4_by_4_with_depth_8_has_an_8_by_8_gram_matrix() -> None:
    maps = torch.randn(8, 4, 4)
    assert gram(maps).shape == (8, 8)
    expected = torch.einsum("ahw,bhw->ab", maps, maps) / 16
    torch.testing.assert_close(gram(maps), expected)
    torch.testing.assert_close(gram(maps, torch.ones(4, 4)), expected)


def test_losses_by_hand() -> None:
    target = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert ContentLoss(target)(torch.zeros(1, 2, 2)).item() == 15.0  # (1 + 4 + 9 + 16) / 2
    assert ContentLoss(target)(target).item() == 0
    style = StyleLoss(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert style(torch.ones(2, 3, 3)).item() == 0 + 1 + 1 + 1
    assert style.scale() == 5


def test_the_gradient_is_that_of_the_losses() -> None:
    network = Toy().to(torch.float64)
    content, style, start = (picture(seed, 8, 8).double() for seed in range(3))
    loss = objective(network, content, style, smoothness=0.3)
    _, gradient = loss(start)
    step = 1e-5
    for place in ((0, 0, 0, 0), (0, 1, 3, 4), (0, 2, 7, 7)):
        moved = torch.zeros_like(start)
        moved[place] = step
        slope = (loss(start + moved)[0].total - loss(start - moved)[0].total) / (2 * step)
        assert float(gradient[place]) == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_the_content_picture_has_no_content_loss_and_the_style_picture_no_style_loss() -> None:
    content, style = picture(0), picture(1)
    loss = objective(Toy(), content, style)
    assert loss(content)[0].content == 0
    assert loss(style)[0].style == pytest.approx(0, abs=1e-10)
    assert loss(torch.zeros_like(content))[0].content <= 1.0  # about as far as no picture


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("height", "width"), [(420, 371), (300, 640), (512, 512), (451, 289)])
def test_tiles_give_the_losses_and_the_gradient_of_the_whole(height: int, width: int, masked: bool) -> None:
    network = Toy()
    content, style, start = picture(0, height, width), picture(1, 100, 90), picture(2, height, width)
    weights = {}
    if masked:
        random = torch.Generator().manual_seed(5)
        weights = {"one": torch.rand(height, width, generator=random)}
        weights["two"] = torch.rand(height // 2, width // 2, generator=random)
    whole, gradient = objective(network, content, style, smoothness=0.5, weights=weights)(start)
    parts, in_tiles = objective(network, content, style, smoothness=0.5, weights=weights, tile=288)(start)
    assert parts.total == pytest.approx(whole.total, rel=1e-3)
    assert parts.content == pytest.approx(whole.content, rel=1e-3)
    assert parts.style == pytest.approx(whole.style, rel=1e-3)
    assert float((gradient - in_tiles).abs().max()) < 1e-3 * float(gradient.abs().max())


@pytest.mark.parametrize(("length", "side"), [(2000, 512), (300, 256), (513, 512), (1024, 1024), (31, 300)])
def test_cores_of_tiles_cover_a_picture_once(length: int, side: int) -> None:
    seen = np.zeros((length, length), int)
    for tile in tiles_of(length, length, side):
        seen[tile.down.start : tile.down.end, tile.across.start : tile.across.end] += 1
        part = tile.take(torch.zeros(1, 1, length, length))
        assert max(part.shape[2:]) < side + 32
    assert (seen == 1).all()


def test_tiles_smaller_than_their_margins_are_refused() -> None:
    with pytest.raises(Exception, match=f"at least {2 * MARGIN + 32} pixels"):
        tiles_of(1000, 1000, 200)


@pytest.mark.parametrize(("height", "width"), [(420, 371), (512, 640)])
def test_in_parts_a_picture_has_the_same_maps_and_gram_matrices(height: int, width: int) -> None:
    network, pixels = Toy(), picture(0, height, width)
    with torch.no_grad():
        maps = network(pixels)
    kept, sizes = content_maps(network, pixels, ["two"], 288)
    torch.testing.assert_close(kept["two"], maps["two"])
    assert sizes == {layer: tuple(each.shape[1:]) for layer, each in maps.items()}
    found = grams(network, pixels, ["one", "two"], 288)
    for layer, each in maps.items():
        torch.testing.assert_close(found[layer], gram(each))

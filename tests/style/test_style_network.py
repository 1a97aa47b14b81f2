"""The network that tells style: its layers by the papers' names, its pooling, and what stands in for VGG."""

from pathlib import Path
from typing import Any

import pytest
import torch

from topwork.errors import MissingExtraError, UsageError
from topwork.style import network
from topwork.style.network import LossNetwork, chosen_layers, default_layers, layer_names, open_loss_network
from topwork.visualization.opened import open_network


def test_layers_have_the_names_of_the_papers(tiny_vgg: Any) -> None:
    names = layer_names(tiny_vgg)
    assert list(names) == [
        f"conv{block}_{number}" for block, count in enumerate((2, 2, 4, 4, 4), 1) for number in range(1, count + 1)
    ]
    assert names["conv1_1"] == "b1c1r"
    assert names["conv5_4"] == "b5c4r"


def test_a_feature_map_is_that_of_the_layers_before_it(tiny_vgg: Any) -> None:
    pixels = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    maps = LossNetwork(tiny_vgg, ["conv1_1", "conv5_4"]).to(torch.float32)(pixels)
    assert maps["conv1_1"].shape == (6, 64, 48)
    assert maps["conv5_4"].shape == (8, 4, 3)
    weights = {tensor.name: torch.tensor(_array(tensor)) for tensor in tiny_vgg.network.model.graph.initializer}
    mean, std = (torch.tensor(values).reshape(3, 1, 1) / 255 for values in ((124.0, 117, 104), (58.0, 57, 57)))
    expected = torch.nn.functional.conv2d((pixels - mean) / std, weights["b1c1w"], weights["b1c1b"], padding=1).relu()
    torch.testing.assert_close(maps["conv1_1"], expected[0], atol=0.05, rtol=0.02)  # bfloat16 where it is fast


def _array(tensor: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor).copy()


def test_average_pooling_takes_the_mean(tiny_vgg: Any) -> None:
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = {pooling: LossNetwork(tiny_vgg, ["conv2_1"], pooling=pooling)(pixels) for pooling in ("max", "average")}
    assert float((maps["max"]["conv2_1"] - maps["average"]["conv2_1"]).abs().mean()) > 0.01
    assert any(node.op_type == "MaxPool" for node in tiny_vgg.network.model.graph.node)  # the network itself stays


def test_layers_that_are_asked_for(tiny_vgg: Any) -> None:
    assert default_layers(tiny_vgg) == (
        {"conv1_1": 1.0, "conv2_1": 0.8, "conv3_1": 0.6, "conv4_1": 0.4, "conv5_1": 0.3},
        ["conv4_2"],
    )
    assert chosen_layers(tiny_vgg, {"conv2_2": 1.0}, ["conv5_4"]) == ({"conv2_2": 1.0}, ["conv5_4"])
    with pytest.raises(UsageError, match="has no layer 'conv6_1': did you mean conv5_1"):
        LossNetwork(tiny_vgg, ["conv6_1"])
    with pytest.raises(UsageError, match="no pooling 'mean'"):
        LossNetwork(tiny_vgg, ["conv1_1"], pooling="mean")


def test_any_backbone_has_default_layers() -> None:
    opened = open_network("tf_efficientnet_lite0")
    style, content = default_layers(opened)
    assert list(style) == list(dict.fromkeys(style))
    assert len(style) == 5
    assert set(content) <= set(layer_names(opened))
    assert list(style.values()) == [1.0, 0.8, 0.6, 0.4, 0.3]
    maps = LossNetwork(opened, [*style, *content])(torch.rand(1, 3, 64, 64))
    assert [each.shape[-1] for each in maps.values()] == [32, 16, 8, 4, 2]


def test_without_vgg_the_default_backbone_takes_its_place_and_says_so(empty_cache: Path) -> None:
    opened, warning = open_loss_network(None)
    assert opened.spec.name == "tf_efficientnet_lite0"
    for word in ("topwork weights pull vgg19", "vgg16-hed", "topwork weights add", "coarser"):
        assert word in warning
    with pytest.raises(MissingExtraError, match="topwork weights pull vgg19"):
        open_loss_network("vgg19")


def test_the_best_vgg_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(name: str) -> str:
        if name == "vgg19":
            raise MissingExtraError("no weights")
        return name

    monkeypatch.setattr(network, "open_network", opened)
    assert open_loss_network(None) == ("vgg16", "")

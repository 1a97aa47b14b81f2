"""Summaries: the published tables, rows that add up, modules that stay as they were, and what the command prints."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from topwork.backbones.architectures import architecture
from topwork.backbones.receptive import ReceptiveField
from topwork.backbones.summary import Layer, Summary, summarize, summary
from topwork.errors import UsageError

Command = Callable[..., tuple[int, str, str]]


def row(found: Summary, name: str) -> Layer:
    return next(layer for layer in found.layers if layer.name == name)


# ---- published tables


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("simple_cnn", 421_642, 4_241_152),
        ("lenet5", 61_706, 416_520),
        ("vgg16", 138_357_544, 15_470_264_320),
        ("vgg19", 143_667_240, 19_632_062_464),
        ("torchvision:vgg19", 143_667_240, 19_632_062_464),
        ("alexnet", 61_100_840, 714_188_480),
        ("resnet50", 25_557_032, 4_089_184_256),
        ("timm:inception_v3", 23_834_568, 5_713_216_096),
        ("mobilenetv2_100", 3_504_872, 300_774_272),
        ("nasnetalarge", 88_753_150, None),
        ("inception_module", 163_696, None),
    ],
)
def test_published_totals(name: str, parameters: int, multiply_adds: int | None) -> None:
    """Parameters as in the papers and tables; the multiply-adds are, rounded, the published ones."""
    found = summary(name)
    assert found.parameters == found.trainable == parameters
    assert multiply_adds is None or found.multiply_adds == multiply_adds
    assert found.blocks[-1].name == ""
    assert found.blocks[-1].parameters == parameters
    assert found.blocks[-1].multiply_adds == found.multiply_adds


@pytest.mark.parametrize(
    "name",
    ["alexnet", "squeezenet1_0", "resnet152", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5", "swin_t",
     "regnet_y_400mf", "efficientnet_b0", "mnasnet0_5", "convnext_tiny"],
)  # fmt: skip
def test_totals_that_come_with_torchvisions_weights(name: str) -> None:
    from torchvision.models import get_model_weights

    known = get_model_weights(name)["IMAGENET1K_V1"].meta
    found = summary(f"torchvision:{name}", (3, 224, 224))
    assert found.parameters == known["num_params"]
    assert round(found.multiply_adds / 1e9, 3) == known["_ops"]


def test_the_table_of_simple_cnn() -> None:
    found = summary("simple_cnn")
    table = [(x.type, x.output, x.parameters, x.receptive_field and x.receptive_field.size) for x in found.layers]
    assert table == [
        ("Conv2d", (32, 28, 28), 320, (3, 3)),
        ("ReLU", (32, 28, 28), 0, (3, 3)),
        ("MaxPool2d", (32, 14, 14), 0, (4, 4)),
        ("Conv2d", (64, 14, 14), 18_496, (8, 8)),
        ("ReLU", (64, 14, 14), 0, (8, 8)),
        ("MaxPool2d", (64, 7, 7), 0, (10, 10)),
        ("Linear", (128,), 401_536, (28, 28)),
        ("ReLU", (128,), 0, (28, 28)),
        ("Linear", (10,), 1_290, (28, 28)),
    ]
    assert [x.multiply_adds for x in found.layers if x.parameters] == [225_792, 3_612_672, 401_408, 1_280]
    assert found.megabytes == pytest.approx(4 * 421_642 / 1e6)


@pytest.mark.parametrize(("name", "layer"), [("vgg19", "pre_logits.fc1"), ("torchvision:vgg19", "classifier.0")])
def test_the_first_dense_layer_of_vgg19_has_most_of_its_parameters(name: str, layer: str) -> None:
    found = summary(name)
    assert row(found, layer).parameters == 102_764_544
    assert row(found, layer).multiply_adds == 25_088 * 4_096
    assert row(found, layer).receptive_field.whole_image


def test_a_network_by_hand() -> None:
    """Groups, dilation and an uneven kernel; each count from its formula."""
    module = nn.Sequential(
        nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), groups=2), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3, dilation=2)
    )
    found = summarize(module, (4, 21, 31))
    convolved, norm, dilated = found.layers
    assert (convolved.output, convolved.parameters, convolved.multiply_adds) == ((8, 11, 16), 8 * 30 + 8, 8 * 30 * 176)
    assert (norm.output, norm.parameters, norm.multiply_adds) == ((8, 11, 16), 16, 0)
    assert (dilated.output, dilated.parameters, dilated.multiply_adds) == ((2, 7, 12), 2 * 72 + 2, 2 * 72 * 84)
    assert dilated.receptive_field == ReceptiveField((11, 13), (2, 2), False)
    assert found.megabytes == (4 * (248 + 16 + 146 + 16) + 8) / 1e6  # with the statistics, and a count of batches


# ---- rows


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224", "mobilenetv4_conv_small", "googlenet"])
def test_parameters_outside_of_layers_have_a_row(name: str) -> None:
    """Layer scales of ConvNeXt, tokens and positions of a transformer; products of attention count too."""
    found = summary(name)
    assert found.parameters == sum(p.numel() for p in architecture(name).parameters())
    assert len({layer.name for layer in found.layers}) == len(found.layers)
    if name.startswith("convnext"):
        assert row(found, "stages.0.blocks.0").parameters == 40
    if name.startswith("vit"):
        assert row(found, "").parameters == 192 * (197 + 1)
        assert row(found, "blocks.0.attn").multiply_adds == 2 * 197 * 197 * 192


class Odd(nn.Module):
    """A layer used twice, one that never runs, a weight of two layers, a frozen one, products of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 3, padding=1)
        self.tied = nn.Conv2d(3, 3, 3, padding=1)
        self.tied.weight = self.twice.weight
        self.frozen = nn.Conv2d(3, 2, 1, bias=False).requires_grad_(False)
        self.never = nn.Linear(7, 3)
        self.nothing = nn.Identity()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.nothing(self.frozen(self.tied(self.twice(self.twice(x)))))
        flat = x.flatten(2)
        return (flat @ flat.transpose(1, 2)) * self.scale


def test_every_parameter_counts_once_and_every_run_counts() -> None:
    found = summarize(Odd(), (3, 5, 4))
    rows = {layer.name: (layer.parameters, layer.trainable, layer.multiply_adds) for layer in found.layers}
    assert rows == {
        "twice": (84, 84, 2 * 81 * 20),
        "tied": (3, 3, 81 * 20),
        "frozen": (6, 0, 6 * 20),
        "": (2, 2, 2 * 2 * 20),
        "never": (24, 24, 0),
    }
    assert list(rows)[-1] == "never"
    assert row(found, "never").output is None
    assert row(found, "twice").receptive_field.size == (3, 3)  # of the first time
    assert row(found, "tied").receptive_field.size == (7, 7)
    assert (found.parameters, found.trainable) == (119, 113)


def test_blocks_that_only_hold_layers_end_with_their_last_one() -> None:
    """The branches of HRNet are held in lists that never run themselves."""
    found = summary("hrnet_w18_small")
    assert found.blocks[-1].name == ""
    names = [block.name for block in found.blocks]
    assert names.index("stage2.0.branches") < names.index("stage2") < names.index("stage3.0.branches")
    assert all(layer.receptive_field for layer in found.layers)
    branches = next(block for block in found.blocks if block.name == "stage2.0.branches")
    assert branches.parameters == sum(p.numel() for p in architecture(found.name).stage2[0].branches.parameters())


def test_tokens_without_gradients_count_too() -> None:
    """Class tokens that are put before a batch while nothing takes gradients."""
    assert summary("cait_s24_224").parameters == 46_916_200


def test_rows_at_a_depth_add_up_too() -> None:
    found = summary("resnet50")
    for depth in range(1, 6):
        rows = found.at_depth(depth)
        assert sum(each.parameters for each in rows) == found.parameters
        assert sum(each.multiply_adds for each in rows) == found.multiply_adds
    blocks = {each.name: each for each in found.at_depth(2)}
    assert blocks["layer4.2"].receptive_field.size == (427, 427)
    assert blocks["layer4.2"].output == (2048, 7, 7)
    assert blocks["layer1.0"].parameters == 75_008
    assert found.at_depth(99) == found.layers


def test_the_module_is_left_as_it_was() -> None:
    module = architecture("resnet18").train()
    module.layer1.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    threads = torch.get_num_threads()
    with pytest.raises(UsageError, match="cannot take pictures of 7x64x64"):
        summarize(module, (7, 64, 64), name="resnet18")
    summarize(module, (3, 64, 64))
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    module(torch.zeros(2, 3, 64, 64)).sum().backward()


def test_modules_with_values_and_in_other_formats() -> None:
    assert summarize(nn.Linear(4, 2).double(), (3, 4, 4)).megabytes == 80 / 1e6
    half = summarize(nn.Conv2d(3, 4, 3).half(), (3, 8, 8))
    assert half.megabytes == 2 * 112 / 1e6
    assert half.layers[0].receptive_field.size == (3, 3)


def test_unknown_names_and_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean vgg19"):
        summary("vgg19x")
    with pytest.raises(UsageError, match=r"vgg19 cannot take pictures of 3x20x20 .*; choose another input"):
        summary("vgg19", (3, 20, 20))
    with pytest.raises(UsageError, match="at least 4 by 4 pixels"):
        summary("simple_cnn", (1, 3, 3))


# ---- the command


def test_the_table_for_people(topwork_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = topwork_command("summary", "vgg19")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "sees", "stride", "MACs"]
    assert ["features.0", "Conv2d", "64x224x224", "1,792", "3", "1", "86.7", "M"] in [line.split() for line in lines]
    assert ["pre_logits.fc1", "Conv2d", "4096x1x1", "102,764,544", "all", "32", "103", "M"] in [
        x.split() for x in lines
    ]
    assert "  143,667,240 parameters, all trainable, 574.7 MB" in lines
    assert "  19,632,062,464 multiply-adds (MACs) a picture" in lines


@pytest.mark.parametrize("name", ["densenet121", "inception_resnet_v2", "convnext_atto"])
def test_no_line_is_wider_than_80_columns(name: str, topwork_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = topwork_command("summary", name)
    assert max(map(len, out.splitlines())) <= 80
    monkeypatch.setenv("COLUMNS", "200")
    _, wide, _ = topwork_command("summary", name)
    assert ".." in out.split("multiply-adds")[0]
    assert all(layer.name in wide for layer in summary(name).layers)


def test_a_long_network_offers_its_blocks(topwork_command: Command) -> None:
    _, out, _ = topwork_command("summary", "resnet50")
    assert out.splitlines()[-1] == "159 layers; `--depth 2` shows 23 blocks."
    _, out, _ = topwork_command("summary", "resnet50", "--depth", 2)
    table = [line.split() for line in out.splitlines()]
    assert ["layer4.2", "Bottleneck", "2048x7x7", "4,462,592", "427", "32", "218", "M"] in table
    assert out.index("layer4.2") < out.index("25,557,032 parameters")


def test_json(topwork_command: Command) -> None:
    code, out, err = topwork_command("summary", "simple_cnn", "--input", "3x32x32", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts == summary("simple_cnn", (3, 32, 32)).to_dict()
    assert facts["input"] == [3, 32, 32]
    assert facts["parameters"] == facts["trainable"] == sum(each["parameters"] for each in facts["layers"]) == 545_098
    assert facts["layers"][3] == {
        "name": "features.3",
        "type": "Conv2d",
        "output": [64, 16, 16],
        "parameters": 18_496,
        "trainable": 18_496,
        "receptive_field": [8, 8],
        "whole_image": False,
        "stride": [2.0, 2.0],
        "multiply_adds": 18_432 * 256,
    }
    assert facts["layers"][-1]["whole_image"] is True
    assert facts["layers"][-1]["stride"] is None


@pytest.mark.parametrize(
    "text", ["28", "1x28", "1x28x28x2", "1xax28", "0x28x28", "-1x28x28", "", "1x28x1000000", "1x28x٣"]
)
def test_a_wrong_input_is_a_sentence(text: str, topwork_command: Command) -> None:
    code, out, err = topwork_command("summary", "simple_cnn", f"--input={text}")
    assert (code, out) == (2, "")
    assert err.startswith("topwork: expected channels, height and width such as 3x224x224, not ")
    assert err.count("\n") == 1


def test_an_input_that_does_not_fit_is_a_sentence(topwork_command: Command) -> None:
    code, _, err = topwork_command("summary", "simple_cnn", "--input", "1x28x40")
    assert code == 2
    assert "simple_cnn cannot take pictures of 1x28x40" in err
    assert err.endswith("choose another input\n")

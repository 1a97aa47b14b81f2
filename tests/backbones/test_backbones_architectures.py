"""Names of networks, and what is known of them without their weights."""

import pytest
import timm
import torch
import torchvision

from topwork.backbones.architectures import (
    LIBRARIES,
    architecture,
    default_input,
    expected_shapes,
    names,
    published,
    resolve,
)
from topwork.errors import UsageError

ASKED_FOR = (
    *(
        "alexnet",
        "vgg16",
        "vgg19",
        "googlenet",
        "inception_v3",
        "inception_resnet_v2",
        "resnet50",
        "resnet152",
        "xception",
    ),
    *("mobilenetv1_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "densenet121"),
    *("nasnetalarge", "squeezenet1_0", "efficientnet_b0", "tf_efficientnet_lite0", "convnext_tiny", "lenet5"),
)


@pytest.mark.parametrize("name", ASKED_FOR)
def test_famous_networks_are_there_by_name(name: str) -> None:
    found = resolve(name)
    assert found.name == found.bare == {"xception": "legacy_xception"}.get(name, name)  # timm's name of today
    assert found.library in LIBRARIES
    with torch.device("meta"):
        module = found.module()
    assert expected_shapes(name) == {key: tuple(t.shape) for key, t in module.state_dict().items()}


def test_a_bare_name_is_timm_s_before_torchvision_s_and_a_library_can_be_forced() -> None:
    assert resolve("resnet50").library == "timm"
    assert resolve("timm:resnet50") == resolve("resnet50")
    assert resolve("torchvision:resnet50").name == "torchvision:resnet50"
    assert resolve("torchvision:alexnet") == resolve("alexnet")
    assert list(expected_shapes("torchvision:vgg11")) == list(torchvision.models.vgg11().state_dict())
    assert list(expected_shapes("vgg11")) == list(timm.create_model("vgg11").state_dict())


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("VGG-19", "did you mean vgg19 or"),
        ("ResNet_50", "did you mean resnet50 or"),
        ("resnt50", "did you mean resnet50 or"),
        ("lenet", "did you mean .*lenet5"),
        ("torchvision:vgg20", "did you mean vgg"),
        ("timm:alexnet", "no network 'timm:alexnet'"),
        ("zzzzzzzzzzzz", "topwork backbones --find TEXT"),
        ("keras:vgg19", "come from topwork, timm, torchvision, not from 'keras'"),
        ("", "--find TEXT"),
    ],
)
def test_a_wrong_name_gets_the_closest_ones(wrong: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        resolve(wrong)


def test_names_are_found_by_a_part_of_them_however_it_is_written() -> None:
    assert "mobilenetv3_large_100" in names("MobileNet-V3")
    assert names("simple") == ["simple_cnn", "simple_cnn_tanh"]
    every = names()
    assert len(every) == len(set(every)) > 1000
    assert set(torchvision.models.list_models(module=torchvision.models)) <= set(every)


@pytest.mark.parametrize(
    ("name", "size"), [("vgg11", 64), ("torchvision:resnet18", 64), ("squeezenet1_1", 64), ("lenet5", 28)]
)
def test_without_a_classifier_a_network_gives_its_features(name: str, size: int) -> None:
    with torch.no_grad():
        whole, trunk = architecture(name, size=size).eval(), architecture(name, classes=0, size=size).eval()
        three = architecture(name, classes=3, size=size).eval()
        x = torch.zeros(2, 3, size, size)
        assert whole(x).shape[1] in (1000, 10)
        assert trunk(x).ndim == 2
        assert three(x).shape == (2, 3)
    assert set(trunk.state_dict()) < set(whole.state_dict())


def test_torchvision_s_networks_say_that_they_take_colours_only() -> None:
    with pytest.raises(UsageError, match="takes pictures with 3 channels, not 1"):
        architecture("alexnet", channels=1)
    assert architecture("resnet18", channels=1).conv1.in_channels == 1


def test_the_input_is_that_of_the_library() -> None:
    assert default_input("nasnetalarge") == (3, 331, 331)
    mobile = resolve("mobilenet_v2").input()
    assert (mobile.size, mobile.crop_fraction, mobile.interpolation) == (224, 0.875, "bilinear")
    # Its weights were trained elsewhere; torchvision's module changes its input when it loads them.
    assert resolve("googlenet").input().mean == (0.5, 0.5, 0.5)
    weights = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1
    x = torch.rand(1, 3, 8, 8)
    usual = weights.transforms(crop_size=8, resize_size=8)(x)
    module = torchvision.models.googlenet(weights=None, transform_input=True, init_weights=False)
    torch.testing.assert_close(module._transform_input(usual), (x - 0.5) / 0.5)


def test_it_is_known_where_weights_are_published() -> None:
    hub = published("vgg16")
    assert hub is not None
    assert (hub.hub, hub.licence) == ("timm/vgg16.tv_in1k", "bsd-3-clause")
    by_hand = published("squeezenet1_0")
    assert by_hand is not None
    assert by_hand.hub is None
    assert by_hand.url is not None
    assert by_hand.url.startswith("https://download.pytorch.org/models/squeezenet1_0")
    assert published("lenet5") is None

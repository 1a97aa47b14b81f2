"""Networks of timm and torchvision as backbones, with the weights that are here, from name to answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

import topwork
from topwork.backbones.zoo import backbone, described
from topwork.cli.app import run
from topwork.errors import MissingExtraError, UsageError
from topwork.recipe import Recipe, Training
from topwork.weights import store

RESNET = "test_resnet"  # 470 thousand parameters, 160 pixels


@pytest.fixture
def weights_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Saves a state dict of new weights and adds it, in a cache folder of its own."""
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path / "cache"))

    def make(module: Any, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in module.state_dict().values():
                if tensor.is_floating_point():
                    tensor.add_(0.1 * torch.rand_like(tensor))
        path = tmp_path / f"weights-{seed}.pth"
        torch.save(module.state_dict(), path)
        return path

    return make


def test_weights_from_a_file_answer_as_in_torch(weights_of: Callable[..., Path], tmp_path: Path) -> None:
    """From the file over storing, exporting and preprocessing to the answer: against timm's own transform."""
    module = timm.create_model(RESNET).eval()
    assert run(["weights", "add", str(weights_of(module)), RESNET, "--licence", "MIT"]) == 0
    spec = backbone(RESNET)
    assert spec.weights is not None
    assert spec.weights.licence == "MIT"
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)).resize((400, 320))
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=module), is_training=False)
    with torch.no_grad():
        expected = module(transform(picture)[None]).softmax(1)[0]
    found = topwork.load(f"imagenet:{RESNET}").predict(picture)[0]
    assert found.probability == pytest.approx(float(expected.max()), rel=0.02)


def test_a_network_without_weights_says_how_to_get_them(weights_of: Callable[..., Path], photos: Path) -> None:
    with pytest.raises(
        MissingExtraError, match=r"weights of resnet18 are not on .*run `topwork weights pull resnet18`"
    ):
        topwork.fit(photos, Recipe(backbone="resnet18"))
    with pytest.raises(MissingExtraError, match="topwork weights add FILE lenet5"):
        topwork.fit(photos, Recipe(backbone="lenet5"))


@pytest.mark.slow
def test_every_strategy_takes_such_a_network(weights_of: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    run(["weights", "add", str(weights_of(timm.create_model(RESNET))), RESNET])
    once = {"epochs": 1, "augment": "none"}
    for strategy, settings in {"features": {}, "top": once, "full": {**once, "head_epochs": 1}}.items():
        fit = topwork.fit(photos, Recipe(backbone=RESNET, strategy=strategy, training=Training(**settings)))
        assert fit.facts["backbone"] == RESNET
        fit.save(tmp_path / strategy)
        manifest = topwork.load(tmp_path / strategy).manifest
        kept = store.stored(RESNET)
        assert kept is not None
        assert manifest["backbone"]["sha256"] == kept.sha256
        assert manifest["backbone"]["published_sha256"] == kept.source_sha256


@pytest.mark.slow
def test_a_training_that_was_killed_does_not_go_on_with_other_weights(
    weights_of: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(backbone=RESNET, strategy="top", training=Training(epochs=2, views=1, augment="none"))
    run(["weights", "add", str(weights_of(timm.create_model(RESNET))), RESNET])
    with monkeypatch.context() as patch:
        patch.setattr("topwork.tuning.fitting._made", None)  # stops after the training, before its folder is removed
        with pytest.raises(TypeError):
            topwork.fit(photos, recipe)
    assert topwork.fit(photos, recipe).facts["training"]["resumed"]
    with monkeypatch.context() as patch:
        patch.setattr("topwork.tuning.fitting._made", None)
        with pytest.raises(TypeError):
            topwork.fit(photos, recipe)
    run(["weights", "add", str(weights_of(timm.create_model(RESNET), seed=1)), RESNET])
    assert not topwork.fit(photos, recipe).facts["training"]["resumed"]


def test_names_that_are_no_backbone_are_refused() -> None:
    with pytest.raises(UsageError, match="inception_module is a building block, not a network"):
        described("inception_module")
    with pytest.raises(UsageError, match=r"no network 'resnet50.nope': did you mean resnet50"):
        backbone("resnet50.nope")
    assert described("xception").name == "legacy_xception"  # timm's earlier name


def test_own_networks_take_the_weights_of_their_training(weights_of: Callable[..., Path]) -> None:
    from topwork.backbones.architectures import architecture

    path = weights_of(architecture("lenet5"))
    assert run(["weights", "add", str(path), "lenet5"]) == 0
    assert topwork.load("imagenet:tf_efficientnet_lite0")  # others stay as they are
    from topwork.backbones.network import pretrained_network

    assert "logits" in [output.name for output in pretrained_network(backbone("lenet5")).model.graph.output]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("googlenet", lambda: torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)),
        ("inception_v3", lambda: timm.create_model("inception_v3", aux_logits=True)),
    ],
)
def test_classifiers_on_the_way_are_left_out(
    weights_of: Callable[..., Path], name: str, module: Callable[[], Any]
) -> None:
    assert run(["weights", "add", str(weights_of(module())), name]) == 0
    kept = store.stored(name)
    assert kept is not None
    assert not [key for key in store.load(kept) if key.lower().startswith("aux")]


def test_weights_for_another_library_get_a_hint(
    weights_of: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = weights_of(torchvision.models.densenet121(weights=None))
    run(["weights", "add", str(path), "tf_efficientnet_lite0"])
    assert "takes its weights from its package only" in capsys.readouterr().err
    vgg = weights_of(torchvision.models.vgg11(weights=None), seed=2)
    assert run(["weights", "add", str(vgg), "vgg11"]) == 1
    assert "they are those of torchvision:vgg11: run `topwork weights add" in capsys.readouterr().err

"""VGG's layers have the names of the papers wherever a layer is named."""

import numpy as np
import pytest

from topwork.errors import UsageError
from topwork.features.session import open_session
from topwork.visualization.activations import stages_graph
from topwork.visualization.opened import Opened, open_network
from topwork.visualization.targets import channel_target

pytest.importorskip("timm")


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """With new random weights: VGG11 has 8 convolutions in 5 blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPWORK_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return open_network("vgg11", random_weights=True)


def test_every_convolution_has_its_name(vgg: Opened) -> None:
    counts = {block: sum(name.startswith(f"conv{block}_") for name in vgg.paper) for block in range(1, 6)}
    assert counts == {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
    channels = [vgg.layer(f"conv{block}_1").channels for block in range(1, 6)]
    assert channels == [64, 128, 256, 512, 512]
    assert [vgg.layer(f"conv{block}_1").stride for block in range(1, 6)] == [1, 2, 4, 8, 16]


def test_such_a_layer_is_looked_into_like_a_stage(vgg: Opened) -> None:
    for name in ("conv1_1", "conv3_1", "conv5_2"):
        stage = vgg.layer(name)
        graph = stages_graph(vgg, [stage.name])
        (maps,) = open_session(graph).run([stage.name], {"image": np.zeros((1, 40, 50, 3), np.uint8)})
        assert maps.shape == (1, stage.channels, *[224 // stage.stride] * 2)
        assert maps.min() >= 0  # behind its rectifier
        assert channel_target(vgg, name, 2).layer == stage.name


def test_stages_keep_their_names_and_typing_errors_are_helped(vgg: Opened) -> None:
    for stage in vgg.spec.stages:
        assert vgg.layer(stage.name) is stage
    with pytest.raises(UsageError, match="vgg11 has no layer 'conv3_7': did you mean conv3_"):
        vgg.layer("conv3_7")
    with pytest.raises(UsageError, match="has no layer 'conv1_1'"):
        open_network("tf_efficientnet_lite0").layer("conv1_1")

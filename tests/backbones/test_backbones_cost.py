"""What a graph takes, known beforehand: the shapes are those that ONNX Runtime gives, for every size of picture."""

import numpy as np
import pytest

from topwork import assembly
from topwork.backbones import cost
from topwork.backbones.allowed import CLASSIFIER, STYLE, Rules, checked
from topwork.backbones.cost import Costs
from topwork.backbones.preprocessing import GEOMETRIES
from topwork.backbones.zoo import backbone
from topwork.features.session import open_session
from topwork.style import feedforward

SIZES = [(224, 224), (40, 300), (300, 40), (1, 1), (16, 1000), (97, 163)]


def compare(graph: bytes, rules: Rules, sizes: list[tuple[int, int]]) -> None:
    session, costs = open_session(graph, rules=None), Costs(checked(graph, rules), rules)
    names = [output.name for output in session.get_outputs()]
    for height, width in [*sizes, *sizes]:  # the second time from memory
        given = session.run(names, {"image": np.zeros((1, height, width, 3), np.uint8)})
        found = costs.of(height, width)
        assert {name: shape for name, (_, shape) in found.outputs.items()} == {
            name: values.shape for name, values in zip(names, given, strict=True)
        }
        assert found.memory >= 3 * height * width


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_shapes_of_a_classifier(geometry: str) -> None:
    compare(assembly.pretrained(backbone("tf_efficientnet_lite0"), geometry), CLASSIFIER, SIZES)


def test_shapes_of_a_style() -> None:
    compare(feedforward.network(4, 1).SerializeToString(), STYLE, [size for size in SIZES if min(size) >= 16])


def test_multiplications_of_a_known_network() -> None:
    """EfficientNet-Lite0 has 407 million multiplications (Tan & Le's figures), preprocessing and heads come on top."""
    graph = assembly.pretrained(backbone("tf_efficientnet_lite0"), "crop")
    found = Costs(checked(graph), CLASSIFIER).of(300, 400)
    assert 407e6 < found.work < 500e6
    largest = 1_204_224 * 4  # [1, 96, 112, 112] of float32, the largest map
    assert largest < found.memory < 3 * largest


def test_pictures_of_any_size_share_what_follows_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each new size would be followed through the whole network."""
    costs = Costs(checked(assembly.pretrained(backbone("tf_efficientnet_lite0"), "crop")), CLASSIFIER)
    first = costs.of(100, 100)
    followed, original = [], cost._outputs
    monkeypatch.setattr(cost, "_outputs", lambda node, *more: followed.append(node.operator) or original(node, *more))
    second = costs.of(120, 90)
    assert first.outputs == second.outputs
    assert 0 < len(followed) < 40
    assert "Conv" not in followed
    costs.of(120, 90)
    assert len(followed) < 40

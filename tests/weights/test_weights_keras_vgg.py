"""A VGG from Keras' files answers as it did in Keras."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.errors import BackboneError
from topwork.weights import adding, formats, keras_vgg
from topwork.weights.matching import fit

h5py = pytest.importorskip("h5py")
Tensors = dict[str, np.ndarray]

BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (2, 3, 3, 4, 4)
HIDDEN, CLASSES = 6, 5
Layer = tuple[str, np.ndarray, np.ndarray]


def layers(network: str, *, dense: bool = True) -> list[Layer]:
    """Name, kernel and bias of each layer as Keras has them; as deep as the real network, but narrow."""
    random = np.random.default_rng(1)
    found, inputs = [], 3
    for block, (repeats, outputs) in enumerate(zip(BLOCKS[network], CHANNELS, strict=True), 1):
        for i in range(repeats):
            kernel = random.normal(0, (2 / 9 / inputs) ** 0.5, (3, 3, inputs, outputs))
            found.append((f"block{block}_conv{i + 1}", kernel, random.normal(size=outputs)))
            inputs = outputs
    sizes = (49 * inputs, HIDDEN, HIDDEN, CLASSES)
    for name, before, after in zip(("fc1", "fc2", "predictions"), sizes, sizes[1:], strict=False):
        found.append((name, random.normal(0, before**-0.5, (before, after)), random.normal(size=after)))
    kept = found if dense else found[:-3]
    return [(name, kernel.astype(np.float32), bias.astype(np.float32)) for name, kernel, bias in kept]


def keras_answer(network: list[Layer], rgb: np.ndarray) -> np.ndarray:
    """The logits [c] of a picture [224, 224, 3] in 0..255 as Keras computes them: channels last, BGR minus its mean."""
    x = rgb[:, :, ::-1].astype(np.float64) - [103.939, 116.779, 123.68]
    block = "block1"
    for name, kernel, bias in network:
        if name.partition("_")[0] != block:
            block = name.partition("_")[0]
            if x.ndim == 3 and (block.startswith("block") or block == "fc1"):
                x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
        if kernel.ndim == 4:
            padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
            height, width = x.shape[:2]
            x = sum(padded[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)) + bias
        else:
            x = x.reshape(-1) @ kernel + bias
        x = x if name == "predictions" else np.maximum(x, 0)
    return x


def old_names(network: list[Layer]) -> Iterator[tuple[str, np.ndarray]]:
    for name, kernel, bias in network:
        yield f"{name}/{name}_W_1:0", kernel
        yield f"{name}/{name}_b_1:0", bias


def whole_model_names(network: list[Layer]) -> Iterator[tuple[str, np.ndarray]]:
    yield "optimizer_weights/momentum:0", np.zeros((3, 3, 3, 2), np.float32)
    yield "optimizer_weights/momentum_1:0", np.zeros(2, np.float32)
    for name, kernel, bias in network:
        yield f"model_weights/{name}/{name}/kernel:0", kernel
        yield f"model_weights/{name}/{name}/bias:0", bias


def keras_3_names(network: list[Layer]) -> Iterator[tuple[str, np.ndarray]]:
    """conv2d, conv2d_1, … conv2d_10, … which are not in the order of the alphabet."""
    for kind, chosen in (("conv2d", network[:-3]), ("dense", network[-3:])):
        for i, (_, kernel, bias) in enumerate(chosen):
            place = f"layers/{kind}{f'_{i}' if i else ''}/vars"
            yield f"{place}/0", kernel
            yield f"{place}/1", bias


def nested_names(network: list[Layer]) -> Iterator[tuple[str, np.ndarray]]:
    """Sequential blocks with side outputs, as a Holistically-Nested Edge Detection network has them."""
    for name, kernel, bias in network:
        block, _, number = name.partition("_conv")
        place = f"{block}/layers/conv2d{f'_{int(number) - 1}' if number != '1' else ''}/vars"
        yield f"{place}/0", kernel
        yield f"{place}/1", bias
    for i, channels in enumerate(CHANNELS, 1):
        yield f"dsn{i}/vars/0", np.ones((1, 1, channels, 1), np.float32)
        yield f"dsn{i}/vars/1", np.ones(1, np.float32)


def write(path: Path, tensors: Iterator[tuple[str, np.ndarray]]) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in tensors:
            file[name] = array
    return path


def timm_network(network: str) -> Any:
    """timm's own module with the same few channels."""
    torch = pytest.importorskip("torch")
    vgg = pytest.importorskip("timm.models.vgg")
    cfg = [step for n, c in zip(BLOCKS[network], CHANNELS, strict=True) for step in (*[c] * n, "M")]
    with torch.device("meta"):  # its 4096 hidden values cannot be chosen
        module = vgg.VGG(cfg, num_classes=CLASSES)
    module.features = vgg.VGG(cfg, num_classes=0).features
    module.pre_logits = vgg.ConvMlp(CHANNELS[-1], HIDDEN, 7, mlp_ratio=1.0)
    module.head.fc = torch.nn.Linear(HIDDEN, CLASSES)
    return module.eval()


@pytest.mark.parametrize("network", ["vgg16", "vgg19"])
@pytest.mark.parametrize("names", [old_names, whole_model_names, keras_3_names], ids=lambda n: n.__name__)
def test_the_network_answers_as_in_keras(
    network: str, names: Callable[..., Iterator[tuple[str, np.ndarray]]], tmp_path: Path
) -> None:
    module = timm_network(network)
    import torch

    prepared = adding.prepare(write(tmp_path / "vgg.h5", names(layers(network))))
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tensors = fit(prepared.tensors, shapes)
    module.load_state_dict({k: torch.from_numpy(v) for k, v in tensors.items()}, strict=True)
    rgb = np.random.default_rng(2).integers(0, 256, (224, 224, 3))
    assert prepared.mean is not None
    assert prepared.std is not None
    x = torch.from_numpy((rgb - prepared.mean) / prepared.std).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        answer = module(x)[0].numpy()
    expected = keras_answer(layers(network), rgb)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_convolutions_without_classifier_keep_their_names_and_values(tmp_path: Path) -> None:
    network = layers("vgg16", dense=False)
    found = keras_vgg.convert(formats.read(write(tmp_path / "hed.weights.h5", nested_names(network))))
    expected = keras_vgg.convert(dict(old_names(network)))
    assert list(found) == list(expected)
    assert all(name.startswith("features.") for name in found)
    assert len(found) == 26
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    np.testing.assert_array_equal(found["features.0.weight"][1, 0], network[0][1][:, :, 2, 1])  # red is Keras' third
    np.testing.assert_array_equal(found["features.2.weight"][1, 0], network[1][1][:, :, 0, 1])


@pytest.mark.parametrize("spoil", ["a layer less", "a dense layer less", "another network"])
def test_other_networks_are_refused(spoil: str) -> None:
    network = layers("vgg16")
    spoilt = {"a layer less": network[1:], "a dense layer less": network[:-1], "another network": network[-3:]}[spoil]
    with pytest.raises(BackboneError, match="expected the 13 or 16 convolutions of a Keras VGG"):
        keras_vgg.convert(dict(old_names(spoilt)))


def test_another_input_size_is_refused() -> None:
    network = layers("vgg16")
    network[-3] = ("fc1", np.zeros((50, HIDDEN), np.float32), np.zeros(HIDDEN, np.float32))
    with pytest.raises(BackboneError, match=r"7 by 7 cells, got 50 inputs"):
        keras_vgg.convert(dict(old_names(network)))

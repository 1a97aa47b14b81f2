"""Receptive fields against what really changes: gradients, and NaN that spreads from rows and columns."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from topwork.backbones.architectures import architecture
from topwork.backbones.blocks import inception_module, residual_block
from topwork.backbones.following import ReceptiveFields
from topwork.backbones.receptive import ReceptiveField
from topwork.backbones.summary import receptive_field, summarize, summary


class Function(nn.Module):
    """A function as a module, with layers that it may use."""

    def __init__(self, function: Callable[..., torch.Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x, *self.layers)


class Until(nn.Module):
    """A network up to the output of one of its parts."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = network
        children = [child for child, _ in network.named_children()]
        for later in children[children.index(name.split(".")[0]) + 1 :]:
            setattr(network, later, nn.Identity())
        network.get_submodule(name).register_forward_hook(self.stop)

    def stop(self, module: nn.Module, given: object, out: torch.Tensor) -> None:
        self.out = out
        raise StopIteration

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with suppress(StopIteration):
            self.network(x)
        return self.out


def seen_by_nan(module: nn.Module, shape: tuple[int, int, int], axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the last row (axis 0) or column (axis 1) that each value depends on, of the shape of the output.

    NaN goes through every sum, product, maximum and activation: each row in turn is made NaN.
    """
    count = shape[1 + axis]
    pictures = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    for place in range(count):
        pictures[place].select(1 + axis, place).fill_(torch.nan)
    with torch.no_grad():
        touched = module.eval()(pictures).isnan()
    first = touched.int().argmax(0)
    last = count - 1 - touched.flip(0).int().argmax(0)
    return first, last


def check_every_value(module: nn.Module, shape: tuple[int, int, int]) -> int:
    """Compare the windows of all values that see no padding; returns how many these are."""
    image = torch.empty(1, *shape, device="meta")
    fields = ReceptiveFields(image)
    with torch.no_grad(), fields:
        out = module.eval()(image)
    windows = fields.windows(out)
    assert windows is not None
    inside = torch.ones(out.shape[1:], dtype=torch.bool)
    for bound, n in zip(windows.bounds, shape[1:], strict=True):
        first, last = bound[0].expand(out.shape)[0], -bound[1].expand(out.shape)[0]
        everything = first.isneginf() & last.isposinf()
        inside &= everything | ((first >= 0) & (last < n))
    for axis, n in enumerate(shape[1:]):
        found_first, found_last = seen_by_nan(module, shape, axis)
        first, last = windows.bounds[axis][0].expand(out.shape)[0], -windows.bounds[axis][1].expand(out.shape)[0]
        torch.testing.assert_close(first.clamp(min=0)[inside], found_first.float()[inside])
        torch.testing.assert_close(last.clamp(max=n - 1)[inside], found_last.float()[inside])
    return int(inside.sum())


def seen_by_gradient(module: nn.Module, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of the region with a gradient from the values in the middle of the map."""
    noise = torch.rand(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    picture = (1e-4 * noise).requires_grad_()  # small, so that no ReLU6 is at its upper end
    out = module.double().eval()(picture)
    out[0, :, out.shape[2] // 2, out.shape[3] // 2].sum().backward()
    assert picture.grad is not None
    touched = picture.grad[0].abs().sum(0) > 0
    rows, columns = touched.any(1).nonzero(), touched.any(0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def positive(module: nn.Module) -> nn.Module:
    """Positive weights, so that nothing cancels; means for maxima, whose gradient reaches one value only."""
    torch.manual_seed(0)
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            nn.init.uniform_(layer.weight, 0.5 / fan_in, 1.5 / fan_in)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)  # timm starts the last one of a block with 0
        elif isinstance(layer, nn.MaxPool2d):
            parent, _, last = name.rpartition(".")
            mean = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
            setattr(module.get_submodule(parent), last, mean)
    return module


# ---- published sizes


@pytest.mark.parametrize(
    ("name", "block", "size", "stride"),
    [
        ("torchvision:alexnet", "features.10", 163, 16),
        ("torchvision:alexnet", "features", 195, 32),
        ("vgg16", "features", 212, 32),
        ("vgg19", "features", 268, 32),
        ("resnet18", "layer4", 435, 32),
        ("resnet50", "layer4", 427, 32),
    ],
)
def test_published_sizes(name: str, block: str, size: int, stride: int) -> None:
    """Araujo et al. 2019, table 1, and the papers; ResNet-50 with the stride in its 3x3 convolutions (else 483)."""
    found = summary(name)
    rows = {row.name: row for row in (*found.layers, *found.blocks)}
    assert rows[block].receptive_field == ReceptiveField((size, size), (stride, stride), False)


def test_resnet_50_with_the_stride_in_its_first_convolutions() -> None:
    """483 as in the paper's own network: 1x1 convolutions with stride 2 see further with what follows."""
    module = architecture("torchvision:resnet50")
    for stage in (module.layer2, module.layer3, module.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    rows = {row.name: row for row in summarize(module, (3, 320, 320)).blocks}
    assert rows["layer4"].receptive_field == ReceptiveField((483, 483), (32, 32), False)


# ---- every value, against NaN


def slices(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, 1::2]], 1)


def gate(x: torch.Tensor, first: nn.Module, squeeze: nn.Module) -> torch.Tensor:
    x = first(x)
    return x * squeeze(x.mean((2, 3), keepdim=True)).sigmoid()


def channels_last(x: torch.Tensor, first: nn.Module, norm: nn.Module, dense: nn.Module) -> torch.Tensor:
    return dense(norm(first(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def window_attention(x: torch.Tensor, first: nn.Module) -> torch.Tensor:
    """Attention inside windows of 3 by 3 values, shifted by one."""
    x = first(x).roll((-1, -1), (2, 3))
    n, c, h, w = x.shape
    tokens = x.reshape(n, c, h // 3, 3, w // 3, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 9, c)
    tokens = functional.scaled_dot_product_attention(tokens, tokens, tokens)
    return tokens.reshape(n, h // 3, w // 3, 3, 3, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


def shuffled(x: torch.Tensor, first: nn.Module, second: nn.Module) -> torch.Tensor:
    """Half of the channels go on, then the two halves are mixed like cards, then grouped."""
    left, right = first(x).chunk(2, 1)
    mixed = torch.cat([left, second(right)], 1)
    n, c, h, w = mixed.shape
    return mixed.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


TOYS: dict[str, tuple[nn.Module, int]] = {
    "stride and dilation": (nn.Sequential(nn.Conv2d(2, 3, 3, 2), nn.Conv2d(3, 2, 3, dilation=3)), 30),
    "uneven kernel": (nn.Conv2d(2, 2, (1, 7), stride=(1, 2), padding=(0, 3)), 20),
    "same padding of an even kernel": (nn.Conv2d(2, 2, 4, padding="same"), 12),
    "max pooling, ceil mode": (nn.Sequential(nn.Conv2d(2, 2, 3), nn.MaxPool2d(3, 2, ceil_mode=True)), 17),
    "average pooling": (nn.AvgPool2d(3, 2, padding=1), 15),
    "adaptive pooling, uneven": (nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(5)), 15),
    "adaptive maximum": (nn.AdaptiveMaxPool2d(4), 10),
    "padding of three kinds": (
        nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.ReflectionPad2d(2), nn.ReplicationPad2d(1), nn.Conv2d(2, 2, 5)),
        14,
    ),
    "cropping": (nn.Sequential(nn.Conv2d(2, 2, 3), nn.ZeroPad2d(-2)), 14),
    "branches": (inception_module(2, 1, 2, 2, 1, 2, 1), 9),
    "residual sum": (residual_block(2, 4, stride=2), 21),
    "residual concatenation": (residual_block(2, 3, stride=2, join="concatenate"), 21),
    "depthwise after branches": (
        nn.Sequential(
            inception_module(2, 1, 2, 2, 1, 2, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1, groups=2)
        ),
        13,
    ),
    "gate": (Function(gate, nn.Conv2d(2, 2, 3, 2), nn.Conv2d(2, 2, 1)), 13),
    "channels last": (Function(channels_last, nn.Conv2d(2, 4, 3), nn.LayerNorm(4), nn.Linear(4, 3)), 9),
    "group norm": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)), 9),
    "instance norm": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4)), 9),
    "slices to channels": (Function(lambda x, c: c(slices(x)), nn.Conv2d(8, 3, 3)), 14),
    "pixel unshuffle and shuffle": (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(8, 4, 3), nn.PixelShuffle(2)), 14),
    "nearest neighbour": (
        nn.Sequential(nn.Conv2d(2, 2, 3, 2), nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(2, 2, 3)),
        15,
    ),
    "mean over channels": (Function(lambda x, c: c(x).mean(1, keepdim=True), nn.Conv2d(2, 4, 3)), 9),
    "variance over rows": (Function(lambda x, c: c(x).var(2, keepdim=True), nn.Conv2d(2, 4, 3)), 9),
    "maximum of two": (
        Function(lambda x, a, b: torch.maximum(a(x), b(x)), nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()),
        9,
    ),
    "softmax over columns": (Function(lambda x, c: c(x).softmax(3), nn.Conv2d(2, 2, 3)), 9),
    "attention in shifted windows": (Function(window_attention, nn.Conv2d(2, 4, 3, padding=1)), 9),
    "channel shuffle": (Function(shuffled, nn.Conv2d(2, 4, 3), nn.Conv2d(2, 2, 3, padding=1, groups=2)), 9),
    "flatten and dense": (nn.Sequential(nn.Conv2d(2, 2, 3, 3), nn.Flatten(), nn.Linear(18, 4)), 10),
}


@pytest.mark.parametrize("toy", TOYS)
def test_every_value_of_a_toy_sees_what_nan_says(toy: str) -> None:
    module, side = TOYS[toy]
    assert check_every_value(module, (2, side, side)) > 0


@st.composite
def chains(draw: st.DrawFn) -> nn.Module:
    """Up to three layers or blocks of 4 channels."""
    size = st.integers(1, 4)

    def layer() -> nn.Module:
        kind = draw(st.sampled_from(["convolution", "maximum", "mean", "branches", "sum", "concatenation", "padding"]))
        k, s, d = draw(size), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        p = draw(st.integers(0, k // 2))
        if kind == "convolution":
            return nn.Conv2d(4, 4, k, s, p, d, groups=draw(st.sampled_from([1, 2, 4])))
        if kind == "maximum":
            return nn.MaxPool2d(k, s, p, ceil_mode=draw(st.booleans()))
        if kind == "mean":
            return nn.AvgPool2d(k, s, p, ceil_mode=draw(st.booleans()))
        if kind == "branches":
            return inception_module(4, 1, 2, 1, 2, 1, 1)
        if kind == "padding":
            return nn.ZeroPad2d((p, k, d, s))
        joined = "sum" if kind == "sum" else "concatenate"
        block = residual_block(4, 4, s, join=joined)
        return (
            block if kind == "sum" else nn.Sequential(block, nn.Conv2d(8, 4, 1, groups=draw(st.sampled_from([1, 4]))))
        )

    return nn.Sequential(*(layer() for _ in range(draw(st.integers(1, 3)))))


@given(chains())
@settings(max_examples=20, deadline=None)
def test_random_chains_see_what_nan_says(chain: nn.Module) -> None:
    assume(check_every_value(chain, (4, 48, 45)) > 0)


def test_bilinear_interpolation_sees_what_gradients_say() -> None:
    """NaN would also go through weights of 0."""
    for align in (True, False):
        up = nn.Upsample(size=(21, 19), mode="bilinear", align_corners=align)
        module = positive(nn.Sequential(nn.Conv2d(2, 2, 3, stride=2, padding=1), up, nn.Conv2d(2, 2, 3, padding=1)))
        sizes = []
        picture = torch.rand(1, 2, 24, 24, dtype=torch.float64, requires_grad=True)
        out = module.double()(picture)
        for row in range(7, 13):
            for column in range(7, 12):
                (gradient,) = torch.autograd.grad(out[0, 0, row, column], picture, retain_graph=True)
                touched = gradient[0, 0] != 0
                sizes.append((int(touched.any(1).sum()), int(touched.any(0).sum())))
        found = receptive_field(module, (2, 24, 24))
        assert found is not None
        assert found.size == (max(h for h, _ in sizes), max(w for _, w in sizes))
        assert found.stride == pytest.approx((24 / 21, 24 / 19))


# ---- real networks, against gradients


@pytest.mark.parametrize(
    ("name", "until", "side", "size"),
    [
        ("vgg11", "features", 160, 150),
        ("resnet18", "layer4", 448, 435),
        ("mobilenetv2_100", "blocks", 512, 491),
        ("torchvision:googlenet", "inception5b", 448, 379),
        ("densenet121", "features.denseblock2", 320, None),
        ("convnext_atto", "stages.1", 224, None),
    ],
)
def test_networks_see_what_gradients_say(name: str, until: str, side: int, size: int | None) -> None:
    module = positive(Until(architecture(name), until)).eval()
    found = receptive_field(module, (3, side, side))
    assert found is not None
    assert seen_by_gradient(module, (3, side, side)) == found.size
    assert not found.whole_image
    assert max(found.size) < side
    assert size is None or found.size == (size, size)


# ---- the whole picture, and what is not known


def test_a_gate_lets_every_value_see_the_whole_picture_and_keeps_the_stride() -> None:
    module = Function(gate, nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 1))
    assert receptive_field(module, (3, 64, 48)) == ReceptiveField((64, 48), (2, 2), True)


def test_pixels_that_a_stride_leaves_out_are_not_the_whole_picture() -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 3, 2), nn.AdaptiveAvgPool2d(1))
    assert receptive_field(module, (1, 32, 33)) == ReceptiveField((31, 33), None, False)
    assert receptive_field(module, (1, 33, 33)) == ReceptiveField((33, 33), None, True)


def test_on_a_small_picture_the_size_is_still_that_of_the_network() -> None:
    rows = {row.name: row for row in summary("resnet18", (3, 32, 32)).blocks}
    assert rows["layer4"].receptive_field == ReceptiveField((435, 435), (32, 32), True)


def test_what_is_not_known_is_said() -> None:
    assert receptive_field(nn.ConvTranspose2d(3, 3, 3), (3, 9, 9)) is None
    assert receptive_field(nn.Sequential(nn.Unfold(3), nn.ReLU()), (3, 9, 9)) is None
    dynamic = Function(lambda x: functional.conv2d(x, x.mean((2, 3)).reshape(1, 3, 1, 1)))
    assert receptive_field(dynamic, (3, 9, 9)) is None


def test_a_tensor_that_is_written_to_in_part_is_not_known_any_more() -> None:
    def overwritten(x: torch.Tensor) -> torch.Tensor:
        x = x * 1
        x[:, :, :2] = 0
        x[:, :, 3:] += x.mean()
        return x

    def in_place(x: torch.Tensor) -> torch.Tensor:
        x = x * 1
        x[:, :1].relu_()
        return x

    assert receptive_field(Function(overwritten), (3, 9, 9)) is None
    assert receptive_field(Function(in_place), (3, 9, 9)) == ReceptiveField((1, 1), (1, 1), False)


def test_what_does_not_depend_on_the_picture_has_none() -> None:
    image = torch.empty(1, 3, 9, 9, device="meta")
    with torch.no_grad(), ReceptiveFields(image) as fields:
        constant = torch.ones(1, 3, 9, 9) * 2
        zeros = image.new_zeros(3)
        both = image + zeros[:, None, None]
    assert fields.of(constant) is None
    assert fields.of(zeros) is None
    assert fields.of(both) == ReceptiveField((1, 1), (1, 1), False)

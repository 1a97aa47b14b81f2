"""The networks: held to PyTorch's own bidirectional GRU, blind to padding, of the stated size."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from topwork.recipe import Training
from topwork.sketching.examples import Drawings, parts
from topwork.sketching.networks import HIDDEN, NETWORKS, StrokeTrunk, picture_cnn, stroke_gru
from topwork.sketching.training import Build


def batch(lengths, t):
    generator = torch.Generator().manual_seed(0)
    strokes = torch.randn(len(lengths), t, 3, generator=generator)
    return strokes, torch.tensor(lengths)


def reference(trunk, strokes, lengths):
    """The same weights in torch's GRU on packed sequences."""
    gru = nn.GRU(3, HIDDEN, 2, batch_first=True, bidirectional=True)
    state = {}
    for layer, (ahead, behind) in enumerate(zip(trunk.forwards, trunk.backwards, strict=True)):
        state |= {name.replace("l0", f"l{layer}"): tensor for name, tensor in ahead.state_dict().items()}
        state |= {name.replace("l0", f"l{layer}_reverse"): tensor for name, tensor in behind.state_dict().items()}
    gru.load_state_dict(state)
    scaled = strokes * torch.tensor([10.0, 10.0, 1.0])
    packed, _ = gru(pack_padded_sequence(scaled, lengths, batch_first=True, enforce_sorted=False))
    outputs, _ = pad_packed_sequence(packed, batch_first=True)
    return torch.stack([row[:n].amax(dim=0) for row, n in zip(outputs, lengths.tolist(), strict=True)])


def test_as_a_packed_bidirectional_gru():
    torch.manual_seed(0)
    trunk = StrokeTrunk()
    strokes, lengths = batch([7, 1, 12, 3], 12)
    with torch.no_grad():
        torch.testing.assert_close(trunk(strokes, lengths), reference(trunk, strokes, lengths), atol=1e-6, rtol=0)


@pytest.mark.parametrize("filler", [0.0, 5.0, -1e3])
def test_padding_changes_nothing(filler):
    torch.manual_seed(0)
    network = stroke_gru(4).eval()
    strokes, lengths = batch([6, 2, 4], 6)
    more = torch.full((3, 9, 3), filler)
    beyond = torch.cat([strokes, more], dim=1)
    beyond[torch.arange(15)[None] >= lengths[:, None]] = filler
    with torch.no_grad():
        expected = torch.cat([network(strokes[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate([6, 2, 4])])
        torch.testing.assert_close(network(beyond, lengths), expected, atol=1e-6, rtol=0)


def test_every_step_counts():
    torch.manual_seed(0)
    strokes, lengths = batch([8], 8)
    strokes.requires_grad_()
    trunk = StrokeTrunk()
    trunk(strokes, lengths).sum().backward()
    assert (strokes.grad.abs().amax(dim=2) > 0).all()


def test_the_sizes():
    sizes = {name: sum(p.numel() for p in make(10, 28).parameters()) for name, make in NETWORKS.items()}
    features = 2 * HIDDEN
    layers = sum(2 * 3 * HIDDEN * (inputs + HIDDEN + 2) for inputs in (3, features))
    assert sizes["strokes"] == layers + (features + 1) * 10
    assert sizes["strokes"] <= 150_000
    assert sizes["picture"] == 421_642
    assert sizes["both"] == sizes["strokes"] + sizes["picture"] - 10  # one bias less


def test_white_paper_is_zero_and_channels_are_averaged():
    torch.manual_seed(0)
    network = picture_cnn(3, 8).eval()
    grey = torch.randint(0, 256, (2, 8, 8, 1), dtype=torch.uint8)
    colours = torch.cat([grey // 2, grey, grey - grey // 2 + grey // 2], dim=3)
    mean = colours.float().mean(dim=3, keepdim=True).expand(-1, -1, -1, 3)
    seen = []
    network.trunk.cnn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        torch.testing.assert_close(network(colours), network(mean))
        network(torch.full((1, 8, 8, 3), 255, dtype=torch.uint8))
    assert (seen[-1] == 0).all()
    assert seen[0].shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_hold_all_inputs(name):
    random = np.random.default_rng(0)
    lengths = np.array([3, 6, 1, 4])
    strokes = random.normal(size=(4, 6, 3)).astype(np.float32)
    strokes[np.arange(6)[None] >= lengths[:, None]] = 0
    drawings = Drawings(strokes, lengths, random.integers(0, 256, (4, 8, 8), dtype=np.uint8), np.arange(4))
    chosen = np.array([3, 0])
    found = parts(torch.from_numpy(drawings.inputs(chosen, None)), drawings.size)
    named = drawings.named(chosen)
    assert found["strokes"].shape == (2, 4, 3)
    np.testing.assert_array_equal(found["strokes"], named["strokes"][:, :4])
    np.testing.assert_array_equal(found["lengths"], named["lengths"])
    np.testing.assert_array_equal(found["picture"], named["picture"])
    torch.manual_seed(0)
    model = Build(name, 4, 8, Training(head_rate=0.1))().eval()
    with torch.no_grad():
        direct = model.network(*(torch.from_numpy(named[each]) for each in model.network.inputs))
        rows = model(torch.from_numpy(drawings.inputs(chosen, 5)))
    torch.testing.assert_close(rows, direct, atol=1e-5, rtol=0)
    assert sum(p.numel() for group in model.groups for p in group["params"]) == sum(
        p.numel() for p in model.parameters()
    )

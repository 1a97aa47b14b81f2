"""Learning rates: their course over the steps, and which weights get which."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from topwork.backbones.network import pretrained_network
from topwork.backbones.spec import BackboneSpec
from topwork.backbones.zoo import described
from topwork.recipe import Training
from topwork.training.common import Material
from topwork.training.networks import HeadOnly, TopOf, Whole, stages_of
from topwork.training.schedule import share, stage_factors
from topwork.training.whole import Scratch


def test_one_cycle_is_two_half_cosines() -> None:
    """101 steps, a quarter of them rising: 1/25 at the start, 1 at the top, 1/10000 at the end, cosines between."""
    course = [share(i, 101, schedule="one-cycle", warmup=0.25) for i in range(101)]
    rising = [0.04 + 0.96 * (1 - math.cos(math.pi * i / 25)) / 2 for i in range(25)]
    falling = [1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * i / 75)) / 2 for i in range(76)]
    np.testing.assert_allclose(course, rising + falling, rtol=1e-12)


def test_one_cycle_is_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=81, pct_start=(0.3 * 80 + 1) / 81, div_factor=25, final_div_factor=400
    )
    for step in range(81):
        assert share(step, 81, schedule="one-cycle", warmup=0.3) == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        if step < 80:
            reference.step()


def test_cosine_rises_straight_and_falls_as_the_other() -> None:
    course = [share(i, 101, schedule="cosine", warmup=0.2) for i in range(101)]
    assert np.diff(course[:21]) == pytest.approx(np.full(20, (1 - 1 / 101) / 20))
    assert course[0] == pytest.approx(1 / 101)
    assert course[20:] == [share(i, 101, schedule="one-cycle", warmup=0.2) for i in range(20, 101)]


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.99])
def test_few_steps_never_leave_the_range(schedule: str, steps: int, warmup: float) -> None:
    course = [share(i, steps, schedule=schedule, warmup=warmup) for i in range(steps)]
    assert all(1e-4 - 1e-12 <= each <= 1 for each in course)
    if steps == 1 or warmup == 0:
        assert course[0] == 1


def test_stages_decay_downwards_or_follow_the_given_shares() -> None:
    assert stage_factors(4, decay=0.7) == pytest.approx([0.343, 0.49, 0.7, 1.0])
    thirds = (1 / 6, 1 / 3, 1.0)
    assert stage_factors(3, decay=0.5, factors=thirds) == list(thirds)
    assert stage_factors(9, decay=0.5, factors=thirds) == [thirds[i // 3] for i in range(9)]
    assert stage_factors(5, decay=1.0, factors=(0.0, 1.0)) == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert stage_factors(1, decay=0.3) == [1.0]


def rates_by_name(model: Any) -> dict[str, float]:
    """Highest learning rate of every trained parameter; no parameter may be in two groups."""
    by_id = {}
    for group in model.groups:
        for parameter in group["params"]:
            assert id(parameter) not in by_id
            by_id[id(parameter)] = group["lr"]
    return {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}


def settings(**values: Any) -> Training:
    return Training(rate=6e-3, head_rate=0.5, stage_decay=0.5, batch_norm="frozen", **{"epochs": 1, **values})


def test_each_stage_of_a_whole_network_has_its_rate() -> None:
    model = Whole(described("test_resnet"), 3, settings())()
    rates = rates_by_name(model)
    stages = [name for name, _ in stages_of(model.trunk)]
    assert stages == ["conv1", "layer1", "layer2", "layer3", "layer4"]
    expected = {f"trunk.{name}": 6e-3 * 0.5 ** (4 - i) for i, name in enumerate(stages)}
    expected |= {"trunk.bn1": expected["trunk.conv1"], "head": 0.5}
    assert set(rates) == {name for name, _ in model.named_parameters()}
    for name, rate in rates.items():
        assert rate == pytest.approx(next(r for stage, r in expected.items() if name.startswith(stage + ".")))


def test_thirds_of_the_stages_at_a_sixth_a_third_and_all_of_the_rate() -> None:
    given = settings(rate_factors=(1 / 6, 1 / 3, 1.0))
    rates = rates_by_name(Whole(described("tf_efficientnet_lite0"), 3, given)())
    found = {name.removeprefix("trunk."): rate for name, rate in rates.items()}
    assert found["conv_stem.weight"] == found["blocks.1.0.conv_pw.weight"] == pytest.approx(1e-3)
    assert found["blocks.2.0.conv_pw.weight"] == found["blocks.4.2.bn3.bias"] == pytest.approx(2e-3)
    assert found["blocks.5.0.conv_pw.weight"] == found["conv_head.weight"] == found["bn2.bias"] == pytest.approx(6e-3)
    assert found["head.weight"] == 0.5


def test_the_top_has_one_rate_and_the_head_its_own(lite0: BackboneSpec) -> None:
    network = pretrained_network(lite0).model.SerializeToString()
    model = TopOf(network, "blocks.5", 1280, 3, settings())()
    rates = rates_by_name(model)
    assert {rate for name, rate in rates.items() if name.startswith("trunk.")} == {6e-3}
    assert len(rates) == 2 * 4 + 2  # three convolutions of blocks.6, one of the last map, the head
    assert rates["head.weight"] == rates["head.bias"] == 0.5


def test_the_rates_of_a_run_follow_the_schedule(
    blobs: Callable[..., Any], filled: Callable[..., Training], train: Callable[..., Any]
) -> None:
    outcome = train(HeadOnly(6, 3, 0.01), blobs(60), filled(epochs=4, batch_size=20, rate=0.25, warmup=0.5))
    expected = [(i, 0.25 * share(i, 12, schedule="one-cycle", warmup=0.5)) for i in range(12)]
    assert outcome.rates == expected


def bits(tensor: Any) -> bytes:
    return bytes(tensor.detach().contiguous().numpy().tobytes())


def trained(build: Any, examples: Any, given: Training, train: Callable[..., Any]) -> tuple[set[str], set[str]]:
    """Names of the values of the trunk that a training changed, and of those that are as before, to the bit."""
    torch.manual_seed(0)  # as the loop does before it builds
    before = build().state_dict()
    after = train(build, examples, given).state
    changed = {name for name in before if bits(before[name]) != bits(after[name])}
    return {n for n in changed if n.startswith("trunk.")}, {n for n in before if n not in changed}


NORMS = ("running_mean", "running_var", "num_batches_tracked")


def test_frozen_stages_stay_to_the_bit(squares: Callable[..., Any], train: Callable[..., Any]) -> None:
    given = settings(unfreeze="layer3", batch_size=6, epochs=3)
    build = Whole(described("test_resnet"), 3, given)
    changed, same = trained(build, squares(12), given, train)
    assert all(name.startswith(("trunk.layer3", "trunk.layer4")) for name in changed)
    weights = {f"trunk.{n}" for n, _ in build().trunk.named_parameters() if n.startswith(("layer3", "layer4"))}
    assert changed == weights
    assert {"trunk.conv1.0.weight", "trunk.layer2.0.conv1.weight", "trunk.bn1.weight"} <= same
    assert not any(p.requires_grad for n, p in build().trunk.named_parameters() if f"trunk.{n}" in same)


def test_updated_statistics_are_those_of_trained_stages_only(
    squares: Callable[..., Any], train: Callable[..., Any]
) -> None:
    given = Training(rate=1e-3, stage_decay=1.0, batch_norm="updated", unfreeze="layer3", epochs=1, batch_size=6)
    build = Whole(described("test_resnet"), 3, given)
    changed, same = trained(build, squares(12), given, train)
    assert all(name.startswith(("trunk.layer3", "trunk.layer4")) for name in changed)
    for norm in NORMS:
        assert f"trunk.layer4.0.bn1.{norm}" in changed
        assert f"trunk.layer2.0.bn1.{norm}" in same
        assert f"trunk.bn1.{norm}" in same


def test_frozen_statistics_stay_while_the_weights_beside_them_learn(
    squares: Callable[..., Any], train: Callable[..., Any]
) -> None:
    given = settings(batch_size=6, epochs=3)
    build = Whole(described("test_resnet"), 3, given)
    changed, same = trained(build, squares(12), given, train)
    assert {"trunk.conv1.0.weight", "trunk.layer1.0.bn1.weight", "trunk.layer4.0.bn1.bias"} <= changed
    statistics = {name for name in changed | same if name.endswith(NORMS)}
    assert len(statistics) > 20
    assert statistics <= same


def test_new_weights_are_all_trained(material: Material, lite0: BackboneSpec) -> None:
    """``unfreeze`` means nothing to ``scratch``: SETTINGS does not list it."""
    model = Scratch(material, lite0, Training(unfreeze="blocks.5"))._build()
    assert all(p.requires_grad for p in model.trunk.parameters())

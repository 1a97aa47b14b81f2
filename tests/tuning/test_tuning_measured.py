"""A fine-tuned fit: its numbers are those of the model it ships, and nothing held out was trained on."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import topwork
from topwork import Recipe
from topwork.backbones.network import pretrained_network
from topwork.backbones.zoo import backbone
from topwork.recipe import Training
from topwork.training.augmentation import Augmenter
from topwork.training.examples import CachedViews, Pictures

QUICK: dict[str, dict[str, Any]] = {
    "top": {"epochs": 2, "views": 3, "cut": "blocks.5", "batch_size": 6},
    "full": {"epochs": 1, "head_epochs": 3, "batch_size": 6},
}


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned model, and what was spied on while it was made."""

    folder: Path
    photos: Path
    facts: dict[str, Any]
    trained_on: set[int]
    """Rows of the pool whose variants were used."""
    augmented: set[str]
    """First 12 digits of the contents that were given to the augmenter."""
    shown: list[dict[str, Any]]
    """Rows of samples.jsonl."""


def fit(name: str, photos: Path, folder: Path, **settings: Any) -> Tuned:
    used: set[int] = set()
    augmented: set[str] = set()
    augment, cached, pictures = Augmenter.__call__, CachedViews.inputs, Pictures.inputs
    place = {"top": 0, "full": 1}[name]

    def spy_augment(self: Augmenter, pixels: np.ndarray, *key: int) -> np.ndarray:
        augmented.add(f"{key[place]:012x}")
        return augment(self, pixels, *key)

    def spied(real: Any) -> Any:
        def inputs(self: Any, rows: np.ndarray, seed: int | None) -> Any:
            if seed is not None:
                used.update(rows.tolist())
            return real(self, rows, seed)

        return inputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Augmenter, "__call__", spy_augment)
        patch.setattr(CachedViews, "inputs", spied(cached))
        patch.setattr(Pictures, "inputs", spied(pictures))
        recipe = Recipe(strategy=name, training=Training(**QUICK[name] | settings))
        found = topwork.fit(photos, recipe, output=folder)
    shown = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return Tuned(folder, photos, found.facts, used, augmented, shown)


@pytest.fixture(scope="module", params=["top", pytest.param("full", marks=pytest.mark.slow)])
def tuned(
    request: pytest.FixtureRequest, cache_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Tuned:
    return fit(request.param, photos, tmp_path_factory.mktemp("tuned") / f"{request.param}.topwork")


def held(tuned: Tuned) -> list[dict[str, Any]]:
    return [row for row in tuned.shown if row["fold"] is not None]


def test_no_held_out_picture_was_varied_or_trained_on(tuned: Tuned) -> None:
    out = {i for i, row in enumerate(tuned.shown) if row["fold"] is not None}
    assert len(out) == 6
    assert tuned.trained_on == set(range(24)) - out
    assert {tuned.shown[i]["content"][:12] for i in tuned.trained_on} == tuned.augmented


def test_the_numbers_are_those_of_the_shipped_model(tuned: Tuned) -> None:
    model, rows = topwork.load(tuned.folder), held(tuned)
    names = sorted({row["label"] for row in tuned.shown})
    answers = model.predict([tuned.photos / row["id"] for row in rows])
    predicted = [names[int(np.argmax(row["probabilities"]))] for row in rows]
    assert [answer.label for answer in answers] == predicted
    right = [answer.label == row["label"] for answer, row in zip(answers, rows, strict=True)]
    assert tuned.facts["accuracy"]["value"] == pytest.approx(np.mean(right))
    assert tuned.facts["accuracy"]["n"] == len(rows) == tuned.facts["comparison"]["n"]
    assert tuned.facts["accuracy"]["method"].startswith("one hold-out of 6 pictures")
    assert tuned.facts["training"]["n_training"] == 18
    assert tuned.facts["training"]["refit"] is False
    chosen = next(row for row in tuned.facts["comparison"]["candidates"] if row["chosen"])
    assert chosen["accuracy"]["value"] == tuned.facts["accuracy"]["value"]


def test_the_graph_answers_as_the_module_that_was_trained(tuned: Tuned) -> None:
    assert 0 < tuned.facts["training"]["export_difference"] < 1e-3
    losses = [epoch["loss"] for epoch in tuned.facts["training"]["epochs"]]
    assert losses[-1] <= losses[0]


def test_training_pictures_are_leaked_ones(tuned: Tuned, tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    found = topwork.evaluate(tuned.folder, tuned.photos)
    assert len(found["leaked"]) == 24
    assert topwork.evaluate(tuned.folder, photo_set(tmp_path / "new", 2, first=50))["leaked"] == []


def test_the_saved_weights_are_those_that_changed(tuned: Tuned) -> None:
    """Head and changed weights on the pretrained network are the model: the scores behind its probabilities."""
    import onnxruntime

    from topwork.backbones.graph import network_graph
    from topwork.images import DecodePolicy, decode

    spec = backbone("tf_efficientnet_lite0")
    before, saved = pretrained_network(spec), load_file(tuned.folder / "backbone.safetensors")
    assert saved.keys() <= before.weights().keys()
    assert all(not np.array_equal(array, before.weights()[name]) for name, array in saved.items())
    head = load_file(tuned.folder / "head.safetensors")
    session = onnxruntime.InferenceSession(network_graph(spec, "crop", before.with_weights(saved)))
    model = topwork.load(tuned.folder)
    scale = json.loads((tuned.folder / "model.json").read_text())["calibration"]["scale"]
    policy = DecodePolicy(shrink_to=spec.preprocess.needed_side)
    for row in held(tuned):
        path = tuned.photos / row["id"]
        features = session.run(["features"], {"image": decode(path.read_bytes(), policy).pixels[None]})[0]
        scores = scale * (features @ head["weight"] + head["bias"])[0].astype(np.float64)
        expected = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        answer = model.answer(decode(path.read_bytes(), policy).pixels)
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-4)
    if tuned.facts["strategy"] == "top":
        assert len(saved) == 2 * 4  # what comes after blocks.5


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "lightning_fabric"):
    sys.modules[name] = None
import topwork
print(topwork.load(sys.argv[1]).predict(sys.argv[2])[0].label)
"""


def test_the_model_needs_no_torch(tuned: Tuned, python: Callable[..., Any]) -> None:
    row = held(tuned)[0]
    done = python(WITHOUT_TORCH, tuned.folder, tuned.photos / row["id"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == topwork.load(tuned.folder).predict(tuned.photos / row["id"])[0].label


@pytest.mark.slow
def test_folds_measure_every_picture_and_a_refit_says_so(photos: Path, tmp_path: Path) -> None:
    recipe = Recipe(strategy="top", folds=3, training=Training(**QUICK["top"]))
    found = topwork.fit(photos, recipe, output=tmp_path / "m.topwork")
    shown = [json.loads(line) for line in (tmp_path / "m.topwork" / "samples.jsonl").read_text().splitlines()]
    assert {row["fold"] for row in shown} == {0, 1, 2}
    assert found.facts["accuracy"]["n"] == 24
    assert found.facts["accuracy"]["method"].startswith("3-fold cross-validation")
    assert found.facts["training"]["refit"] is True
    assert found.facts["training"]["n_training"] == 24


def test_checkpoints_of_other_trainings_are_left_alone(
    photos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed must find its own again, whatever else was fitted in between."""
    (empty_cache / "training").mkdir()
    other = empty_cache / "training" / "another.safetensors"
    other.write_bytes(b"of another run")
    topwork.fit(photos, Recipe(strategy="top", training=Training(**QUICK["top"] | {"epochs": 1, "views": 1})))
    assert other.exists()


def test_pictures_that_decide_when_to_stop_train_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from topwork.training import common, whole

    heads, stops = [], []
    head = whole.Full._head

    def spy_head(self: Any, rows: Any) -> Any:
        heads.append(set(rows.tolist()))
        return head(self, rows)

    def spy_subset(examples: Any, kept: Any) -> Any:
        stops.append(set(kept.tolist()))
        raise KeyboardInterrupt  # no need to train

    monkeypatch.setattr(whole.Full, "_head", spy_head)
    monkeypatch.setattr(common, "Subset", spy_subset)
    with pytest.raises(KeyboardInterrupt):
        topwork.fit(photos, Recipe(strategy="full", training=Training(**QUICK["full"] | {"patience": 1})))
    assert not heads[0] & stops[0]  # the first subset that is made is that of the stop pictures

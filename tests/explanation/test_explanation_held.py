"""A model answers from what it holds: its folder may be replaced, gone, or never have been written."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.explanation.network import network_of
from topwork.visualization.shipped import shipped_network

Harm = Callable[[Path, Any, pytest.MonkeyPatch], None]


def replaced(path: Path, other: Any, _: pytest.MonkeyPatch) -> None:
    other.fit.save(path)


def gone(path: Path, _: Any, __: pytest.MonkeyPatch) -> None:
    shutil.rmtree(path)


def elsewhere(path: Path, _: Any, patch: pytest.MonkeyPatch) -> None:
    (path.parent / "elsewhere").mkdir()
    patch.chdir(path.parent / "elsewhere")


@pytest.mark.parametrize("harm", [replaced, gone, elsewhere], ids=lambda harm: harm.__name__)
def test_nothing_that_happens_to_the_folder_changes_an_answer(
    harm: Harm, model_copy: Path, fitted: Any, fitted_logits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_copy.parent)
    model, picture = topwork.load(model_copy.name), fitted.photos / "dots" / "000.png"
    options: dict[str, Any] = {"faithfulness": False, "neighbours": 1, "photos": str(fitted.photos)}
    [expected] = topwork.explain(fitted.folder, picture, **options)
    looked_at = shipped_network(model).fingerprint
    harm(model_copy, fitted_logits, monkeypatch)
    [found] = topwork.explain(model, picture, **options)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.probability == pytest.approx(model.predict(picture)[0].probability, abs=1e-5)
    assert found.neighbours[0].path == expected.neighbours[0].path
    assert shipped_network(model).fingerprint == looked_at
    assert model.trained_on() == topwork.load(fitted.folder).trained_on()


def test_two_fits_to_one_path_each_explain_themselves(fitted: Any, fitted_logits: Any, tmp_path: Path) -> None:
    fits = [dataclasses.replace(each.fit, facts={**each.facts, "model": str(tmp_path / "m.topwork")}) for each in
            (fitted, fitted_logits)]  # fmt: skip
    for fit in fits:
        fit.save(tmp_path / "m.topwork")
    picture = fitted.photos / "dots" / "000.png"
    for fit in fits:
        [answer], [found] = fit.model.predict(picture), topwork.explain(fit.model, picture, faithfulness=False)
        assert found.label == answer.label
        assert found.probability == pytest.approx(answer.probability, abs=1e-5)


def test_a_fit_that_was_never_saved_is_explained(fitted: Any) -> None:
    fit = dataclasses.replace(fitted.fit, facts={**fitted.facts, "model": None})
    picture = fitted.photos / "stripes" / "001.png"
    options: dict[str, Any] = {"faithfulness": False, "neighbours": 2}
    [found], [saved] = (topwork.explain(model, picture, **options) for model in (fit.model, fitted.folder))
    np.testing.assert_array_equal(found.values, saved.values)
    assert found.neighbours == saved.neighbours
    assert fit.model.trained_on() == topwork.load(fitted.folder).trained_on()
    assert network_of(fit.model).stages == network_of(topwork.load(fitted.folder)).stages

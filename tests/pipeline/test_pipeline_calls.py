"""Calls from Python that people try: what is natural works, for the rest a sentence says what to call."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork import ImageSource, Recipe, UsageError


class DataFrame:
    """As much of pandas as tells a table."""

    columns = ("path", "label")
    iloc = None

    def __iter__(self) -> Any:
        return iter(self.columns)


WRONG: dict[str, tuple[Callable[[Any, list[Path]], Any], str]] = {
    "labels for a recipe": (lambda m, p: topwork.fit(p, ["a"] * len(p)), "topwork.fit(topwork.ImageSource.of(paths"),
    "arrays": (lambda m, p: topwork.fit(np.zeros((2, 8, 8, 3)), np.zeros(2)), "topwork.ImageSource.of(paths, labels)"),
    "settings for a recipe": (lambda m, p: topwork.fit(p, {"head": "lda"}), "topwork.Recipe(**settings)"),
    "a folder for a recipe": (lambda m, p: topwork.fit(p, "m.topwork"), "named by output="),
    "a table": (lambda m, p: topwork.fit(DataFrame()), "not DataFrame; give pictures with their labels as"),
    "a table to predict": (lambda m, p: m.predict(DataFrame()), "give its column of paths: model.predict(df['path'])"),
    "a dictionary to predict": (lambda m, p: m.predict({"a": 1}), "expected a picture or several"),
    "numbers to predict": (lambda m, p: m.predict([1, 2]), "not int; convert it first"),
    "a file's map": (lambda m, p: m.heatmap(p[0], "ant"), "topwork.explain(model, 'a.jpg')"),
    "a map of no class": (lambda m, p: m.heatmap(np.zeros((9, 9, 3), np.uint8), "?"), "not '?'; model.labels lists"),
    "no model": (lambda m, p: topwork.load(None), "by the path of its folder"),  # type: ignore[arg-type]
    "a label too few": (lambda m, p: ImageSource.of(p, ["a"]), "expected a label for each of"),
    "labels no texts": (
        lambda m, p: ImageSource.of(p, [0.5] * len(p)),
        "a label must be a text, a whole number or None",
    ),
    "two labels": (lambda m, p: ImageSource.of([p[0], p[0]], "ab"), "has two labels, 'a' and 'b'"),
    "a folder with a label": (lambda m, p: ImageSource.of([p[0].parent], ["a"]), "list the pictures themselves"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_sentence_says_what_to_call(fitted: Any, name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(UsageError) as caught:
        call(fitted.fit.model, sorted(fitted.photos.rglob("*.png")))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_with_labels_are_what_the_folder_is(fitted: Any) -> None:
    paths = sorted(fitted.photos.rglob("*.png"))
    source = ImageSource.of(map(str, paths), [path.parent.name for path in paths])
    fit = topwork.fit(source, Recipe(head="lda", features="pooled"))
    assert fit.facts["classes"] == fitted.facts["classes"]
    assert fit.facts["accuracy"] == fitted.facts["accuracy"]
    assert topwork.evaluate(fit.model, source)["leaked"] == [str(path) for path in paths]


def test_an_array_of_paths_is_a_list_of_paths(fitted: Any) -> None:
    paths = [str(path) for path in sorted(fitted.photos.rglob("*.png"))[:2]]
    for array in (np.array(paths), np.array(paths, object)):
        assert [each.path for each in fitted.fit.model.predict(array)] == paths


def test_a_notebook_shows_results_in_a_line(fitted: Any) -> None:
    fit = fitted.fit
    shown = [repr(each) for each in (fit, fit.model, ImageSource.open(fitted.photos), topwork.audit(fitted.photos))]
    assert [each.split("(")[0] for each in shown] == ["Fit", "Model", "ImageSource", "Audit"]
    assert f"{fit.facts['n_images']} pictures, {len(fit.facts['classes'])} classes" in shown[0]
    assert all(len(each) < 400 and "object at" not in each for each in shown)


def test_labels_may_be_numbers_or_missing(fitted: Any) -> None:
    paths = sorted(fitted.photos.rglob("*.png"))[:3]
    source = ImageSource.of([*paths, "gone.png"], [np.int64(1), 0, None, "0"])
    assert [sample.label for sample in source.samples] == ["1", "0", None]
    assert [item.path for item in source.excluded] == ["gone.png"]


@pytest.mark.parametrize(("guess", "words"), [("train", "use topwork.fit"), ("predict", r"load\(MODEL\).predict")])
def test_guessed_names(guess: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        getattr(topwork, guess)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from topwork import extra
    from topwork.backbones.extra import require

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        UsageError, match=r'^the network x needs timm, which is not installed; run pip install "topwork'
    ):
        require("the network x")
    monkeypatch.setitem(sys.modules, "usearch", None)
    monkeypatch.delitem(sys.modules, "usearch.index", raising=False)
    with pytest.raises(
        UsageError, match=r"^an index needs the package usearch, which is not installed; run pip install"
    ):
        extra.package("usearch.index", "an index")

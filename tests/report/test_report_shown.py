"""What the page of a fit says and shows: the pictures it asks for, the choice, the test split, the notes."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from topwork.report import Thumb, fit_pictures, render_fit
from topwork.report.choice import choice_view
from topwork.report.words import NBSP

THUMB = Thumb(picture=b"\xff\xd8\xffpicture", heatmap=b"\xff\xd8\xffheat", width=192, height=128)
PLAIN = Thumb(picture=b"\xff\xd8\xffpicture", heatmap=None, width=192, height=128)
ACCURACY = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 100, "correct": 90}


class Recording(Mapping[str, Thumb]):
    """Has a thumbnail of every picture and remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getitem__(self, path: str) -> Thumb:
        self.asked.append(path)
        return THUMB

    def __iter__(self) -> Iterator[str]:
        return iter(self.asked)

    def __len__(self) -> int:
        return len(self.asked)


def mistakes(n: int, name: str) -> list[dict[str, Any]]:
    return [
        {"path": f"{name}{i}.jpg", "label": "ant", "predicted": "bee", "probability": 0.9, "known": True}
        for i in range(n)
    ]


def suspects(n: int) -> list[dict[str, Any]]:
    return [
        {"path": f"s{i}.jpg", "label": "ant", "suggested": "bee", "probability": 0.9, "label_probability": 0.01}
        for i in range(n)
    ]


def facts(**more: Any) -> dict[str, Any]:
    duplicates = [[f"g{i}_{k}.jpg" for k in range(2 + i % 9)] for i in range(30)]
    return {
        "classes": {"ant": 60, "bee": 40},
        "accuracy": ACCURACY,
        "mistakes": mistakes(100, "m"),
        "label_suspects": suspects(20),
        "groups": {"duplicates": duplicates},
        "test": {"accuracy": ACCURACY, "mistakes": mistakes(100, "t"), "leaked": ["l0.jpg", "l1.jpg"]},
        **more,
    }


def page(**more: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", render_fit(facts(**more)))).replace(NBSP, " ")


UNMEASURED = {"value": None, "low": 0.0, "high": 1.0, "n": 0, "correct": 0, "naive": 1.0}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"test": None},
        {"test": {"accuracy": UNMEASURED, "mistakes": [], "leaked": ["l0.jpg"]}},
        {"groups": None},
        {"mistakes": None, "label_suspects": []},
        {"mistakes": [{}], "label_suspects": [{"path": ""}]},
    ],
)
def test_the_page_asks_for_exactly_the_pictures_it_announces(more: dict[str, Any]) -> None:
    pictures = Recording()
    render_fit(facts(**more), pictures=pictures)
    assert sorted(pictures.asked) == sorted(fit_pictures(facts(**more)))


def test_the_number_of_pictures_is_bounded() -> None:
    wanted = fit_pictures(facts())
    kinds = {kind: [path for path in wanted if path.startswith(kind)] for kind in "mtsg"}
    assert {kind: len(paths) for kind, paths in kinds.items()} == {"m": 16, "t": 36, "s": 20, "g": 16 * 4}
    assert kinds["m"][-1] == "m15.jpg"  # those whose label looks wrong come first
    assert {wanted[path] for path in kinds["m"] + kinds["t"] + kinds["s"]} == {"bee"}
    assert {wanted[path] for path in kinds["g"]} == {None}
    assert "g8_0.jpg" in wanted  # one of the largest groups
    assert "g0_0.jpg" not in wanted  # a small one


def test_a_duplicate_that_went_wrong_keeps_its_heat_map() -> None:
    assert fit_pictures({"groups": {"duplicates": [["m0.jpg", "b"]]}, "mistakes": mistakes(1, "m")}) == {
        "m0.jpg": "bee",
        "b": None,
    }


def candidate(head: str, brier: float | None, accuracy: float, parameter: float = 1.0) -> dict[str, Any]:
    setting = {"head": head, "features": "pooled", "geometry": "crop", "parameter": parameter}
    return {**setting, "accuracy": accuracy, "brier": brier}


CANDIDATES = [candidate("svm", 0.09, 0.95), candidate("lda", 0.12, 0.93, 0.1), candidate("lda", 0.1, 0.9, 0.5)]
WINNER = {"head": "lda", "features": "pooled", "geometry": "crop", "parameter": 0.5}
FIT = {"head": "lda", "features": "pooled", "geometry": "crop"}


def test_the_chosen_candidate_is_the_winner_with_its_own_parameter() -> None:
    view = choice_view({**FIT, "choice": {"candidates": CANDIDATES, "winner": WINNER}})
    assert view is not None
    assert [(row["head"], row["brier"], row["chosen"]) for row in view["shown"]] == [
        ("svm", "0.090", False),
        ("lda", "0.100", True),
        ("lda", "0.120", False),
    ]
    assert (
        view["outcome"] == "Chosen: LDA on pooled features (crop, parameter 0.5); by Brier score it is number 2 of 3."
    )


def test_older_facts_without_a_winner_mark_the_most_accurate_of_its_kind() -> None:
    view = choice_view({**FIT, "choice": {"candidates": CANDIDATES}})
    assert view is not None
    assert [row["parameter"] for row in view["shown"] if row["chosen"]] == ["0.1"]


def test_candidates_without_brier_scores_stand_by_accuracy() -> None:
    table = [candidate("lda", None, 0.8), candidate("svm", None, 0.9)]
    view = choice_view({**FIT, "choice": {"candidates": table}})
    assert view is not None
    assert [row["head"] for row in view["shown"]] == ["svm", "lda"]


@pytest.mark.parametrize(
    ("recipe", "first"),
    [
        (
            {},
            "The first candidate (LDA on pooled features) stays unless another beats its Brier score by more than",
        ),
        ({"head": "auto", "features": "auto"}, "The first candidate (LDA on pooled features) stays"),
        ({"head": "svm"}, "The first candidate (SVM on pooled features) stays"),
        ({"head": "other"}, "The first candidate stays"),
        ({"features": "logits"}, "The first candidate stays"),  # no such candidate in these facts
    ],
)
def test_how_the_choice_goes_is_said(recipe: dict[str, Any], first: str) -> None:
    text = page(choice={"candidates": CANDIDATES, "winner": WINNER}, recipe=recipe, **FIT)
    assert first in text
    assert "Accuracy Brier score".replace(" ", "") in text.replace(" ", "")


def test_validation_pictures_that_chose_are_counted() -> None:
    choice = {"candidates": CANDIDATES, "winner": WINNER}
    assert "The 40 pictures of the validation split chose the head" in page(choice=choice, n_val=40)
    assert "inside the training part alone" in page(choice=choice, n_val=0)
    assert "validation split chose" not in page(choice=choice)


def section(name: str, **more: Any) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', render_fit(facts(**more), pictures=Recording()), re.DOTALL)
    return found[0] if found else ""


def test_mistakes_of_the_test_split_stand_in_its_section() -> None:
    text = section("test")
    assert "100 test pictures were named wrongly" in text
    assert text.count('class="card"') == 36
    assert "t35.jpg" in text
    assert "m0.jpg" not in text
    assert "carelessly" not in text
    assert "near-duplicates of training or validation pictures are left out: <b>2</b>" in text
    test = {"accuracy": ACCURACY, "mistakes": []}
    assert "Not one test picture was named wrongly" in section("test", test=test)


@pytest.mark.parametrize(
    ("leaked", "sentence"),
    [
        (["a", "b"], "All 2 test pictures are near-duplicates of training or validation pictures"),
        ([], "There was no usable test picture"),
    ],
)
def test_a_test_split_without_a_figure_is_a_sentence(leaked: list[str], sentence: str) -> None:
    per_class = {"ant": {"recall": None, "support": 0}}
    test = {"accuracy": UNMEASURED, "per_class": per_class, "mistakes": [], "leaked": leaked, "n_images": 0}
    text = page(test=test)
    assert text.count(sentence) == 2  # in the headline and in its section
    for wrong in (
        "not measured",
        "named wrongly, the surest",
        "Not one test picture",
        "0 of 0",
        "With them",
        "threshold",
    ):
        assert wrong not in text


def test_heat_maps_say_whose_they_are() -> None:
    finished, shipped = "trained on these pictures too", "it had not seen these pictures"
    assert section("mistakes").count(finished) == 1
    assert shipped in section("test")
    assert finished not in section("test")
    assert "Map: orange" not in render_fit(facts(), pictures={"m0.jpg": PLAIN})


def test_labels_to_check_are_mistakes_with_a_mark() -> None:
    text = section("mistakes")
    assert "Mistakes, and labels to check" in text
    assert text.count('<span class="tag mark">label looks wrong</span>') == 20 + 1  # each, and where it is explained
    assert text.index("s0.jpg") < text.index("m0.jpg")
    without = section("mistakes", label_suspects=[])
    assert "looks wrong" not in without
    assert "<h2>Mistakes</h2>" in without


def test_notes_stand_right_under_the_headline() -> None:
    text = section("accuracy", notes=["'dup' is <one> group."], n_sampled_out=1200, recipe={"head_limit": 20000})
    assert "&#39;dup&#39; is &lt;one&gt; group." in text
    assert "1,200 pictures beyond the recipe&#39;s head_limit of 20,000 were not used." in text
    assert text.index("better than always") < text.index('class="note"') < text.index("90 of 100 pictures right")
    assert 'class="note"' not in section("accuracy", notes=[], n_sampled_out=0)
    assert "1 picture beyond the recipe&#39;s head_limit was not used." in section("accuracy", n_sampled_out=1)

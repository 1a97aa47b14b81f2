from typing import Any

import pytest

from topwork.auditing.advice import Background, advise
from topwork.auditing.composition import imbalance


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of two fine classes."""
    clean = {
        "n_images": 80, "classes": {"ant": 40, "bee": 40}, "n_unlabelled": 0, "unreadable": [], "skipped": [],
        "exact_duplicates": [], "near_duplicates": [], "label_conflicts": [], "quality": [], "imbalance": None,
    }  # fmt: skip
    return {**clean, **changes}


def test_fine_pictures_need_no_advice() -> None:
    assert advise(facts()) == []
    hidden = {"path": ".x", "reason": "hidden file"}
    readme = {"path": "README.md", "reason": "not a picture (.md)"}
    assert advise(facts(skipped=[hidden, readme])) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": {"ant": 80}}, "Add a second class: there is only “ant”"),
        ({"classes": {}}, "Put the pictures of each class into a folder"),
        ({"classes": {"ant": 1, "bee": 79}}, "Add pictures to “ant”"),
        ({"classes": {"ant": 5, "bee": 75}}, "Collect more of “ant” (5)"),
        ({"n_unlabelled": 3}, "Label 3 pictures that have none"),
        (
            {"unreadable": [{"path": "a", "reason": "empty file"}]},
            "1 of 81 files that cannot be read, such as a: empty",
        ),
        ({"exact_duplicates": [["a", "b", "c"], ["d", "e"]]}, "Delete 3 exact copies (2 pictures more than once"),
        ({"near_duplicates": [["a", "b", "c"]]}, "1 group of near-duplicates (3 pictures, such as a and b)"),
        (
            {"skipped": [{"path": "q", "reason": "file not found"}]},
            "1 entry was passed over, such as q: file not found",
        ),
        (
            {"quality": [{"path": "a", "findings": ["dark", "tiny (2 x 2)"]}, {"path": "b", "findings": ["dark"]}]},
            "Look at 2 pictures out of the ordinary (2 dark, 1 tiny), such as a",
        ),
    ],
)
def test_each_finding_has_its_sentence(changes: dict[str, Any], words: str) -> None:
    sentences = advise(facts(**changes))
    assert len(sentences) == 1
    assert words in sentences[0]


@pytest.mark.parametrize(
    ("names", "sentences"),
    [
        (["Daisy", "daisy", "rose"], ["“Daisy” and “daisy” differ only in case: make them one class."]),
        (["K\u00e4fer", "Ka\u0308fer"], ["how their letters are stored"]),
        (["k\u00e4fer", "Ka\u0308fer"], ["case and how their letters are stored"]),
        (["STRASSE", "straße", "Straße"], ["and “Straße” differ only in case"]),
        (["a", "A", "b", "B"], ["“a” and “A”", "“b” and “B”"]),
        (["a", "\u00e4", "b "], []),
    ],
)
def test_classes_that_are_spelt_alike(names: list[str], sentences: list[str]) -> None:
    found = advise(facts(classes=dict.fromkeys(names, 40)))
    assert len(found) == len(sentences)
    for sentence, words in zip(found, sentences, strict=True):
        assert words in sentence


def test_a_class_needs_pictures_to_learn_from() -> None:
    (sentence,) = advise(facts(), Background(training={"ant": 30, "bee": 0}))
    assert "“bee”" in sentence
    assert "it has 0" in sentence


def test_imbalance_is_said_with_its_numbers() -> None:
    classes = {"crack": 12, "ok": 300}
    assert advise(facts(classes=classes, imbalance=imbalance(classes))) == [
        "Collect more of “crack”: 12 pictures against 300 of “ok”."
    ]


def test_what_most_pictures_share_is_one_sentence() -> None:
    assert advise(facts(), Background(widespread=["dark", "flat"])) == [
        "Most pictures are dark and flat: if they should not be, check the exposure, or the scaling of 16-bit files."
    ]


def test_imbalance_has_a_note_where_accuracy_misleads() -> None:
    found = imbalance({"ok": 90, "cracked": 10})
    assert found is not None
    assert found["note"].startswith("Always answering “ok” would be right for 90%")
    assert imbalance({"ok": 1, "none": 0}) is None

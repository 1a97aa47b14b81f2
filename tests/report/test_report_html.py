"""The pages: complete, tolerant of gaps, escaped, and without a single reference to the outside."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from topwork.report import Chapter, Figure, Thumb, render_audit, render_fit, render_gallery

EVIL = "<script>alert(1)</script>\"' onerror=x {{ 7*7 }} & </title></style>"
VOID = {"meta", "wbr", "img", "link", "br", "hr", "input"}
THUMB = Thumb(picture=b"\xff\xd8\xffpicture", heatmap=b"\xff\xd8\xffheat", width=192, height=128)


def measure(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_low": value - 0.1, f"{name}_high": min(1.0, value + 0.1)}


def strategy_facts(text: str) -> dict[str, Any]:
    """The blocks of a fine-tuned model; every name and sentence in them is ``text``."""
    accuracy = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}
    candidate = {"strategy": text, "status": "measured", "reason": text, "estimate": 60.0, "seconds": 70.0}
    epoch = {"epoch": 1, "loss": 1.5, "training_accuracy": 0.6, "accuracy": 0.8, "held_loss": 0.7, "seconds": 6.1}
    return {
        "n_measured": 40,
        "comparison": {
            "requested": "auto",
            "method": text,
            "n": 40,
            "budget": 600.0,
            "sentence": text,
            "candidates": [
                {**candidate, "accuracy": accuracy, "gain": {"value": 0.0, "low": 0.0, "high": 0.0}, "chosen": True},
                {**candidate, "status": text, "accuracy": None, "gain": None, "chosen": False},
            ],
        },
        "training": {
            "strategy": text,
            "settings": {"epochs": 2, text: text, "rate": 2e-5},
            "parameters": {"trained": 2_800_000, "frozen": 700_000},
            "epochs": [epoch, {**epoch, "epoch": 2, "accuracy": None, "held_loss": float("nan")}],
            "rates": [[0, 0.00002], [10, 0.0001]],
            "stopped": text,
            "n_training": 60,
            "export_difference": 3e-6,
            "refit": True,
            "resumed": True,
            "device": text,
        },
        "next_steps": [{"kind": "labels", "sentence": text, "gain": 0.02, "basis": "estimated", "command": text}],
    }


def fit_facts(labels: list[str], path: str = "a/b.jpg") -> dict[str, Any]:
    count = len(labels)
    matrix = [[9 if i == j else int(j == (i + 1) % count) for j in range(count)] for i in range(count)]
    accuracy = {
        "value": 0.9,
        "low": 0.76,
        "high": 0.97,
        "naive": 0.93,
        "n": 10 * count,
        "correct": 9 * count,
        "method": "CV",
    }
    per_class = {
        label: {**measure("precision", 0.9), **measure("recall", 0.9), "f1": 0.9, "support": 10} for label in labels
    }
    bins = [{"low": 0.5, "high": 0.6, "count": 3, "confidence": 0.55, "accuracy": 0.67}]
    calibration = {
        "ece": 0.03,
        "brier": 0.08,
        "log_loss": 0.2,
        "method": "temperature",
        "bins": bins,
        "note": "few",
    }
    novelty = {
        "threshold": 1.3,
        "coverage": 0.95,
        "target": 0.95,
        "n": 20,
        "guaranteed": 0.95,
        "method": "c",
        "note": None,
    }
    point = {"n": 8, "accuracy": 0.8, "low": 0.7, "high": 0.9, "per_class": dict.fromkeys(labels, 0.7)}
    candidate = {"head": "svm", "features": "logits", "geometry": "crop", "parameter": 0.1, "accuracy": 0.94}
    mistake = {"path": path, "label": labels[0], "predicted": labels[1], "probability": 0.7, "known": False}
    return {
        "format": 1,
        "topwork": "0.1.0",
        "created": "2026-11-22T10:00:00Z",
        "model": "cars.topwork",
        "task": "classify",
        "strategy": "features",
        "backbone": "lite0",
        "head": "svm",
        "features": "logits",
        "geometry": "crop",
        "classes": dict.fromkeys(labels, 10),
        "n_images": 10 * count,
        "n_unlabelled": 2,
        "excluded": [{"path": path, "reason": "truncated JPEG"}],
        "groups": {"count": 18, "duplicates": [[path, "b.jpg"]], "images": 2, "largest": 2},
        "accuracy": accuracy,
        "balanced_accuracy": 0.8,
        "per_class": per_class,
        "confusion": {"labels": labels, "matrix": matrix},
        "calibration": calibration,
        "novelty": novelty,
        "mistakes": [mistake] * 200,
        "label_suspects": [
            {
                "path": path,
                "label": labels[0],
                "suggested": labels[1],
                "probability": 0.97,
                "label_probability": 0.01,
            }
        ],
        "learning_curve": {
            "points": [point, {**point, "n": 16}],
            "forecast": {**point, "n": 32, "accuracy": 0.9, "per_class": dict.fromkeys(labels, 0.9)},
            "advice": "Twice as many pictures would help.",
        },
        "choice": {
            "candidates": [candidate, {**candidate, "head": "lda"}],
            "folds": [{"fold": 0, "head": "svm"}],
        },
        **strategy_facts(path),
        "test": {
            "accuracy": accuracy,
            "per_class": per_class,
            "confusion": {"labels": labels, "matrix": matrix},
            "calibration": calibration,
            "novelty": novelty,
            "mistakes": [mistake] * 40,
            "n_images": 9,
            "leaked": [path],
        },
        "seconds": {"scan": 0.1, "total": 10.1},
        "cache": {"hits": 0, "misses": 20},
        "seed": 0,
        "recipe": {"head": "auto", "group_duplicates": True},
        "versions": {"python": "3.11.7"},
        "weights": {"sha256": "ab", "licence": "Apache-2.0", "source": "https://example.org/w"},
        "data_fingerprint": "cd",
    }


def audit_facts(path: str = "a/b.jpg", label: str = "a") -> dict[str, Any]:
    return {
        "n_images": 100,
        "source": path,
        "classes": {label: 90, "b": 10},
        "n_unlabelled": 3,
        "unreadable": [{"path": path, "reason": label}],
        "skipped": [{"path": path, "reason": label}],
        "exact_duplicates": [[path, "c.jpg"]],
        "near_duplicates": [[f"{i}.jpg" for i in range(20)]],
        "label_conflicts": [{"paths": [path, "c.jpg"], "labels": [label, "b"], "kind": "exact"}],
        "quality": [
            {"path": path, "findings": ["tiny (20\u00d720)", label]},
            {"path": "d", "findings": ["tiny (9\u00d79)"]},
        ],
        "sizes": {
            "width": {"min": 1, "median": 640, "max": 20000},
            "height": {"min": 1, "median": 2, "max": 3},
        },
        "formats": {"JPEG": 90, label: 10},
        "modes": {"RGB": 99},
        "imbalance": {"ratio": 9.0, "largest": label, "smallest": "b", "note": label},
        "advice": [f"Mend {label}.", "Then fit."],
        "seconds": 2.0,
    }


class Page(HTMLParser):
    """Collects tags and attributes; holds the page to balanced nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


PICTURES = {"a/b.jpg": THUMB, EVIL: THUMB}
PAGES = {
    "two": render_fit(fit_facts(["classic", "modern"]), pictures=PICTURES),
    "eight": render_fit(fit_facts([f"class {i}" for i in range(8)]), pictures=PICTURES),
    "fifty": render_fit(fit_facts([f"a rather long class name {i}" for i in range(50)])),
    "hundred": render_fit(fit_facts([f"c{i}" for i in range(100)])),
    "minimal": render_fit({}),
    "hostile": render_fit({**fit_facts([EVIL, "b"], EVIL), "model": EVIL, "created": EVIL}, pictures=PICTURES),
    "audit": render_audit(audit_facts(), pictures=PICTURES),
    "audit minimal": render_audit({}),
    "audit hostile": render_audit(audit_facts(EVIL, EVIL), pictures=PICTURES),
    "gallery": render_gallery(
        "topwork see", "Maps", [Chapter("One", [Figure(b"png", "", 40, 30)]), Chapter("Empty", [])]
    ),
    "gallery hostile": render_gallery(
        EVIL, EVIL, [Chapter(EVIL, [Figure(b"png", EVIL, 4, 3)], EVIL)] * 3, subtitle=[EVIL]
    ),
}


@pytest.fixture(params=PAGES)
def source(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]


def test_a_page_refers_to_nothing_outside_itself(source: str) -> None:
    page = Page(source)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in {"src", "href", "srcset", "data", "action", "poster", "xlink:href"} & attributes.keys():
            assert re.match(r"data:image/(jpeg|png);base64,|#", attributes[name] or ""), (tag, name)
    assert not re.search(r"url\(|@import|<\?|javascript:", source)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")


def test_a_page_is_accessible(source: str) -> None:
    page = Page(source)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1
    assert all(image.get("alt") for image in page.all("img"))
    assert all(image.get("width") and image.get("height") for image in page.all("img"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.all("svg"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    names = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(names) == len(set(names))
    links = [str(link["href"]) for link in page.all("a")]
    assert {link.removeprefix("#") for link in links} <= set(names)


def test_nothing_undefined_shows(source: str) -> None:
    text = Page(source).text
    assert "None" not in text
    assert "Undefined" not in text
    assert "nan" not in re.findall(r"\w+", text)


@pytest.mark.parametrize("name", ["hostile", "audit hostile", "gallery hostile"])
def test_text_from_outside_is_shown_as_text(name: str) -> None:
    page = Page(PAGES[name])
    assert EVIL in page.text
    assert "<script>alert" not in PAGES[name]


def test_the_sections_stand_in_the_order_of_their_use() -> None:
    names = [attributes.get("id") for attributes in Page(PAGES["two"]).all("section")]
    assert names == [
        "accuracy",
        "next",
        "test",
        "classes",
        "confusion",
        "mistakes",
        "calibration",
        "novelty",
        "learning",
        "duplicates",
        "excluded",
        "strategies",
        "training",
        "choice",
        "making",
    ]


def test_a_minimal_fit_says_that_nothing_was_measured() -> None:
    page = Page(PAGES["minimal"])
    assert [section.get("id") for section in page.all("section")] == ["accuracy"]
    assert "The accuracy was not measured." in page.text


@pytest.mark.parametrize("name", sorted(fit_facts(["a", "b"])))
@pytest.mark.parametrize("value", [None, "missing"])
def test_any_block_may_be_missing(name: str, value: str | None) -> None:
    facts = fit_facts(["a", "b"])
    if value is None:
        facts[name] = None
    else:
        del facts[name]
    Page(render_fit(facts))


@pytest.mark.parametrize("name", sorted(audit_facts()))
def test_any_block_of_an_audit_may_be_missing(name: str) -> None:
    Page(render_audit({**audit_facts(), name: None}))


def test_blocks_without_their_details_are_tolerated() -> None:
    facts: dict[str, Any] = {name: {} for name, value in fit_facts(["a", "b"]).items() if isinstance(value, dict)}
    Page(render_fit(facts))
    facts |= {
        "accuracy": {"value": float("nan")},
        "mistakes": [{}],
        "label_suspects": [{}],
        "excluded": [{"path": "x"}],
    }
    facts |= {
        "classes": {"a": 3},
        "per_class": {"a": {"recall": None}},
        "learning_curve": {"points": [{"n": 3}]},
    }
    Page(render_fit(facts))


def test_long_lists_are_cut_and_say_so() -> None:
    page = Page(PAGES["two"])
    assert page.text.count("24 more mistakes") == 2  # of training and of test pictures
    assert "and 164 more, in report.json" in page.text
    assert "and 4 more, in report.json" in page.text
    assert "200 pictures were named wrongly" in page.text


def test_pictures_and_heat_maps_are_embedded() -> None:
    images = Page(PAGES["two"]).all("img")
    assert len(images) == 2 * 2 * (12 + 24) + 1  # mistakes, one of the duplicates
    assert Page(PAGES["fifty"]).all("img") == []


def test_the_confusion_matrix_suits_the_number_of_classes() -> None:
    kinds = {name: {str(svg["class"]) for svg in Page(PAGES[name]).all("svg")} for name in ("two", "fifty", "hundred")}
    tables = {name: [t.get("class") for t in Page(PAGES[name]).all("table")] for name in ("two", "eight", "fifty")}
    assert "confusion" in tables["two"]
    assert "confusion upright" in tables["eight"]
    assert "grid" in kinds["fifty"]
    assert "The 20 classes that are taken for each other most" in PAGES["hundred"]
    assert "Commonest confusions" in PAGES["hundred"]


def test_leaked_test_pictures_are_named_and_left_out() -> None:
    text = Page(PAGES["two"]).text
    assert "near-duplicates of training or validation pictures are left out: 1." in text
    assert "With them the figure would have been 93" in text


def test_near_duplicates_that_were_not_kept_together_are_admitted() -> None:
    kept = fit_facts(["a", "b"])
    loose = {**kept, "recipe": {"group_duplicates": False}}
    assert "stayed whole in every split" in render_fit(kept)
    assert "stayed whole" not in render_fit(loose)
    assert "may be flattered" in render_fit(loose)


def test_an_audit_begins_with_what_to_do() -> None:
    page = Page(PAGES["audit"])
    assert page.text.index("Mend a.") < page.text.index("At least one of the labels")
    assert "tiny (2)" in page.text  # two sizes, one kind of finding
    assert "Nothing: no fault was found" in PAGES["audit minimal"]


def test_the_same_facts_give_the_same_page() -> None:
    assert render_audit(audit_facts(), pictures=PICTURES) == PAGES["audit"]


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = "import sys, topwork.report; print([m for m in ('jinja2', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Labels and file names that are formulas: no table that topwork writes has one raw, and the labels are read back."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from topwork.cli.answers import writing
from topwork.images import ImageSource
from topwork.retrieval.labelling import Item, Worklist

LABELS = ("=1+1", "+cmd", "@sum", "-3", "'=quoted", '=HYPERLINK("http://x","a")', "\uff1d1+1", "cat;=1+1")
Command = Callable[..., tuple[int, str, str]]


def cells(path: Path, mark: str = ",") -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [cell for row in csv.reader(file, delimiter=mark) for cell in row]


def assert_harmless(path: Path) -> None:
    for mark in ",;\t":
        assert not [cell for cell in cells(path, mark) if cell.strip('" ')[:1] in tuple("=+-@\t\r\uff1d")], mark


@pytest.fixture
def manifest(tmp_path: Path, pattern: Callable[..., np.ndarray], as_file: Callable[..., bytes]) -> Path:
    """A list of somebody else with such labels, raw; each picture is there twice, one under a name like a formula."""
    path = tmp_path / "list.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for number, label in enumerate(LABELS):
            for name in (f"{number}.png", f"=cmd{number}.png"):
                (tmp_path / name).write_bytes(as_file(pattern("any", number)))
                writer.writerow((name, label.replace("'", "''", 1)))
    return path


def test_labels_come_back_from_the_list_to_label_and_copies_are_listed(
    manifest: Path, topwork_command: Command, tmp_path: Path
) -> None:
    index, listed, copies = (tmp_path / name for name in ("x.index", "next.csv", "copies.csv"))
    before = {sample.location: sample.label for sample in ImageSource.open(manifest).samples}
    assert set(before.values()) == set(LABELS)
    assert topwork_command("index", manifest, "-o", index)[0] == 0
    assert topwork_command("label", index, "-o", listed)[0] == 0
    assert_harmless(listed)
    after = {sample.location: sample.label for sample in ImageSource.open(listed).samples if sample.label}
    assert after == before
    assert {item.label for item in Worklist(listed).items if item.label} == set(LABELS)
    assert topwork_command("duplicates", index, "-o", copies)[0] == 0
    assert_harmless(copies)
    assert len(cells(copies)) == 8 * (2 * len(LABELS) + 1)


def test_what_a_person_added_to_the_list_stays_as_it_is(tmp_path: Path) -> None:
    path, place = tmp_path / "next.csv", f"{tmp_path}/a.jpg"
    path.write_text("path,label,by,suggested,confidence,stands_for,change,=x\na.jpg,ant,person,,,,-0.5,@b\n")
    for label in ("-7", "a\rb", "two\nlines"):
        Worklist(path).set_label(place, label)
        assert Worklist(path).items == [Item(place, label, "person", others={"change": "-0.5", "=x": "@b"})]
        assert "-0.5" in cells(path)  # a number stays one
    (tmp_path / "a.jpg").write_bytes(b"x")
    (sample,) = ImageSource.open(path).samples
    assert sample.label == "two\nlines"


def test_answers_have_no_formula_and_their_numbers_are_numbers(tmp_path: Path) -> None:
    path, answer = tmp_path / "answers.csv", {"label": "@sum", "probability": 0.25}
    row = {"path": "=cmd.png", **answer, "known": True, "novelty": -1e-4, "top": [answer], "error": "-x"}
    with writing(path, top=1, videos=False) as table:
        assert table is not None
        table.add(row)
    written = cells(path)
    assert written[len(written) // 2 :] == ["'=cmd.png", "'@sum", "0.250000", "true", "-0.000100", "'-x"]

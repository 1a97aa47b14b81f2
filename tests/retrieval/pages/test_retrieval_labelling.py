"""The list of what to label, the command that makes it, the page that fills it."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unicodedata import normalize

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.errors import SourceError, UsageError
from topwork.images import ImageSource
from topwork.retrieval import Index, build_index
from topwork.retrieval.labelling import Choice, Item, Worklist, choose
from topwork.retrieval.labelling.server import LabelServer, Session

Command = Callable[..., tuple[int, str, str]]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The list


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="/"), min_size=1).filter(
            lambda name: name not in (".", "..") and "://" not in name and "::" not in name
        ),
        max_size=5,
        unique=True,
    )
)
def test_every_name_of_a_file_is_read_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("list")
    items = [Item(str(folder / name), label=normalize("NFC", f"={name}"), by="person") for name in names]
    Worklist(folder / "next.csv").replace(items)
    assert Worklist(folder / "next.csv").items == items
    assert not any(row["path"][0] in "=+-@" for row in table(folder / "next.csv"))


def test_what_a_person_decided_stays(tmp_path: Path) -> None:
    path = tmp_path / "next.csv"
    a, b, g = (str(tmp_path / f"{name}.jpg") for name in "abg")
    path.write_text(
        "path;label;by;suggested;Note\n"
        "a.jpg;mine;;;\n"  # typed into the list
        "b.jpg;other;propagated;guess;\n"  # a propagated label, corrected
        "c.jpg;guess;propagated;guess;\n"  # one that was left as it is
        "d.jpg;;;guess;look at this\n"
        "e.jpg;;;;\n"
        "gone/f.jpg;mine;person;;\n"
        "g.jpg;found;index;found;\n",
        encoding="utf-8-sig",
    )
    Worklist(path).replace([Item(b), Item(g, "new", "index", "new"), Item(a, "machine", "propagated", "machine")])
    rows = {row["path"]: row for row in table(path)}
    assert {name: (row["label"], row["by"]) for name, row in rows.items()} == {
        "b.jpg": ("other", "person"),
        "g.jpg": ("new", "index"),
        "a.jpg": ("mine", "person"),
        "d.jpg": ("", ""),
        "gone/f.jpg": ("mine", "person"),
    }
    assert rows["d.jpg"]["note"] == "look at this"


def test_a_list_that_somebody_else_writes_meanwhile_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "next.csv"
    first = Worklist(path)
    first.replace([Item(str(tmp_path / "a.jpg")), Item(str(tmp_path / "b.jpg"))])
    Worklist(path).set_label(str(tmp_path / "a.jpg"), "theirs")
    first.set_label(str(tmp_path / "b.jpg"), "mine")
    assert [row["label"] for row in table(path)] == ["theirs", "mine"]
    path.unlink()
    first.set_label(str(tmp_path / "b.jpg"), "again")
    assert [row["label"] for row in table(path)] == ["theirs", "again"]


@pytest.mark.parametrize("content", [b"name,size\na,1\n", b"\xff\x00\xfa\x9d\x80", b'path\n"a\n'])
def test_a_file_that_is_no_list_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "next.csv").write_bytes(content)
    with pytest.raises(
        SourceError, match=r"expected a list of pictures at .*; choose another -o|expected UTF-8 text in"
    ):
        Worklist(tmp_path / "next.csv")
    assert (tmp_path / "next.csv").read_bytes() == content


# Choosing


def test_the_loop_from_no_labels_to_a_manifest_that_fit_reads(indexed: Index, tmp_path: Path) -> None:
    worklist = Worklist(tmp_path / "next.csv")
    facts = choose(indexed, worklist, Choice(6, ignore_labels=True))
    true = {indexed.place(row): row.label for row in indexed.rows()}
    assert (facts["classes"], facts["measured"], len(facts["suggested"])) == ({}, None, 6)
    assert {true[row["path"]] for row in facts["suggested"]} == {"checks", "dots", "stripes"}
    for row in facts["suggested"]:
        worklist.set_label(row["path"], str(true[row["path"]]))
    again = choose(indexed, worklist, Choice(4, ignore_labels=True))
    assert again["labelled"] == {"person": 6, "index": 0, "labels": 0}
    assert not {row["path"] for row in again["suggested"]} & {row["path"] for row in facts["suggested"]}
    assert {row["suggested"] for row in again["suggested"]} & set(true.values())
    source = ImageSource.open(tmp_path / "next.csv")
    assert {sample.location: sample.label for sample in source.samples if sample.label} == {
        row["path"]: true[row["path"]] for row in facts["suggested"]
    }
    assert len(source.samples) == 10


def test_labels_of_the_index_and_of_a_file_are_known(indexed: Index, photos: Path, tmp_path: Path) -> None:
    facts = choose(indexed, Worklist(tmp_path / "all.csv"))
    assert (facts["suggested"], facts["labelled"]["index"]) == ([], 24)
    assert facts["measured"]["left_out"] == 24
    (tmp_path / "known.csv").write_text(f"path,label\n{photos / 'dots' / '000.png'},spots\n/nowhere/else.png,x\n")
    with pytest.raises(SourceError):
        choose(indexed, Worklist(tmp_path / "a.csv"), Choice(labels=str(tmp_path / "missing.csv")))
    facts = choose(
        indexed, Worklist(tmp_path / "some.csv"), Choice(3, labels=str(tmp_path / "known.csv"), ignore_labels=True)
    )
    assert (facts["classes"], facts["labelled"]["labels"], len(facts["suggested"])) == ({"spots": 1}, 1, 3)


def test_propagated_labels_are_written_as_such_and_made_anew(
    indexed: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = {indexed.place(row): str(row.label) for row in indexed.rows()}
    known = list(true)[::2]
    (tmp_path / "known.csv").write_text("\n".join(["path,label", *(f"{place},{true[place]}" for place in known)]))
    choice = Choice(2, str(tmp_path / "known.csv"), True, propagated=True, min_confidence=0.5)
    worklist = Worklist(tmp_path / "next.csv")
    facts = choose(indexed, worklist, choice)
    made = [item for item in worklist.items if item.by == "propagated"]
    assert facts["propagated"] == len(made) > 0
    assert all(float(item.confidence) >= 0.5 and not item.is_made for item in made)
    assert not {item.location for item in made} & {row["path"] for row in facts["suggested"]}
    sure = choose(indexed, worklist, Choice(2, str(tmp_path / "known.csv"), True, propagated=True, min_confidence=1))
    assert sure["propagated"] == 0
    assert not [item for item in worklist.items if item.by == "propagated"]


def test_copies_are_suggested_once(
    tmp_path: Path, scene: Callable[[int], np.ndarray], as_file: Callable[..., bytes]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        (photos / f"{number}.png").write_bytes(as_file(scene(number)))
    for quality in (60, 75, 90):
        (photos / f"copy{quality}.jpg").write_bytes(as_file(scene(0), "JPEG", quality=quality))
    (photos / "same.png").write_bytes((photos / "1.png").read_bytes())
    with build_index(photos, tmp_path / "i.index") as index:
        facts = choose(index, Worklist(tmp_path / "next.csv"))
    assert len(facts["suggested"]) == 4
    assert (tmp_path / "next.csv").read_text().splitlines()[1].startswith("photos/")


@pytest.mark.parametrize("wrong", [{"count": 0}, {"min_confidence": 0}, {"min_confidence": 1.5}])
def test_wrong_choices(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be"):
        Choice(**wrong)


def test_an_empty_index_and_one_with_one_picture(
    tmp_path: Path, as_file: Callable[..., bytes], topwork_command: Command
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(as_file(np.zeros((32, 32, 3), np.uint8)))
    build_index(tmp_path / "photos", tmp_path / "i.index").close()
    code, out, err = topwork_command("label", tmp_path / "i.index", "-o", tmp_path / "next.csv", "--json")
    assert (code, [row["stands_for"] for row in json.loads(out)["suggested"]]) == (0, [1]), err
    import sqlite3

    with sqlite3.connect(tmp_path / "i.index" / "pictures.sqlite") as database:
        database.executescript("DELETE FROM pictures; DELETE FROM parts; DELETE FROM facts WHERE name = 'digest'")
    code, out, err = topwork_command("label", tmp_path / "i.index", "-o", tmp_path / "empty.csv", "--propagate")
    assert (code, out.splitlines()[0]) == (0, "0 pictures, 0 with a label"), err
    assert (tmp_path / "empty.csv").read_text() == "path,label,by,suggested,confidence,stands_for\n"


def test_the_command(indexed: Index, tmp_path: Path, topwork_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    target = tmp_path / "next.csv"
    code, out, _ = topwork_command("label", indexed.path, "-o", target, "--ignore-labels", "--count", 3)
    assert code == 0
    assert "label next" in out
    assert len(table(target)) == 3
    code, out, _ = topwork_command("label", indexed.path, "-o", target, "--propagate")
    assert (code, "Left out in turn," in out) == (0, True)
    assert max(map(len, out.replace(str(tmp_path), "").replace(str(indexed.path), "").splitlines())) <= 80
    assert topwork_command("label", indexed.path, "-o", tmp_path / "no" / "next.csv", "--count", 1)[0] == 0
    assert topwork_command("label", indexed.path, "-o", target / "next.csv")[0] == 1  # a file is no folder
    for options, message in (
        (["-o", tmp_path / "next.txt"], "a name that ends in .csv"),
        (["-o", target, "--page", "--json"], "--json or --page"),
        (["-o", target, "--classes", "a,b"], "expected --page with --classes"),
    ):
        code, _, err = topwork_command("label", indexed.path, *options)
        assert (code, message in err) == (2, True), err


# The page


@dataclass
class Served:
    session: Session
    url: str
    chosen: list[int] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        return [row["label"] for row in table(self.session.worklist.path)][:4]


@pytest.fixture
def served(indexed: Index, tmp_path: Path) -> Iterator[Served]:
    """A page with four pictures and two classes, one of a name that would like to be more."""
    worklist = Worklist(tmp_path / "next.csv")
    choice = Choice(4, ignore_labels=True)
    choose(indexed, worklist, choice)
    times: list[int] = []

    def again() -> None:
        times.append(1)
        choose(indexed, worklist, choice)

    session = Session(indexed, worklist, again, "topwork fit next.csv -o MODEL.topwork", ["dots", "<img src=x>"])
    server = LabelServer(session)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Served(session, server.url, times)
    server.stop()
    thread.join(20)


@pytest.fixture
def opened(served: Served, browser: Any) -> Any:
    browser.open(served.url)
    browser.wait("document.querySelectorAll('#classes button').length === 2 && at('picture').naturalWidth > 0")
    return browser


def press(browser: Any, key: str, count: str) -> None:
    browser.key(key)
    browser.wait(f"!busy && at('count').textContent === '{count} of 4 labelled'")


def test_keys_label_go_back_and_undo_and_each_label_is_saved_at_once(opened: Any, served: Served) -> None:
    press(opened, "1", "1")
    assert served.labels == ["dots", "", "", ""]
    press(opened, "2", "2")
    assert served.labels == ["dots", "<img src=x>", "", ""]
    assert opened.value("document.querySelectorAll('#classes img').length") == 0
    opened.key("s")
    press(opened, "1", "3")
    assert served.labels == ["dots", "<img src=x>", "", "dots"]
    press(opened, "u", "2")
    assert served.labels == ["dots", "<img src=x>", "", ""]
    for _ in range(9):
        opened.key("ArrowLeft")
    press(opened, "2", "2")
    press(opened, "u", "2")
    assert served.labels == ["dots", "<img src=x>", "", ""]
    assert opened.value("document.querySelector('.is-label').textContent") == "1dots"


def test_a_new_class_is_typed_and_gets_a_key(opened: Any, served: Served) -> None:
    opened.key("n")
    opened.type("Überraschung 1")  # its 1 and u are no commands
    press(opened, "Enter", "1")
    press(opened, "3", "2")
    assert served.labels == ["Überraschung 1", "Überraschung 1", "", ""]
    opened.open(served.url)
    opened.wait("document.querySelectorAll('#classes button').length === 3")
    assert opened.value("place") == 2  # goes on where it was


def test_clicks_label_too_and_the_end_says_what_comes_next(opened: Any, served: Served) -> None:
    for number in range(1, 5):
        opened.click("#classes li:nth-child(1) button")
        opened.wait(f"!busy && at('count').textContent === '{number} of 4 labelled'")
    assert served.labels == ["dots"] * 4
    assert opened.value("[at('done').hidden, at('done-title').textContent, at('next').textContent]") == [
        False,
        "All 4 are labelled",
        "topwork fit next.csv -o MODEL.topwork",
    ]
    opened.key("Enter")
    opened.wait("!busy && at('count').textContent === '0 of 4 labelled'")
    assert served.chosen == [1]
    assert opened.value("at('accept').textContent").startswith("Enter Looks like dots (")
    opened.key("Enter")  # takes what is suggested
    opened.wait("!busy && at('count').textContent === '1 of 4 labelled'")
    assert served.session.worklist.items[0].label == "dots"


def test_a_phone_shows_everything(served: Served, browser: Any) -> None:
    browser.open(served.url, width=390, height=844, mobile=True)
    browser.wait("document.querySelectorAll('#classes button').length === 2 && at('picture').naturalWidth > 0")
    assert browser.value("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [390, 844]
    browser.tap(*browser.middle("#classes li:nth-child(2) button"))
    browser.wait("at('count').textContent === '1 of 4 labelled'")
    assert served.labels[0] == "<img src=x>"


def test_a_label_that_cannot_be_saved_is_told(opened: Any, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("topwork.storage.write_atomic", full)
    opened.key("1")
    opened.wait("!at('error').hidden")
    assert "no space left on device" in opened.value("at('error').textContent")
    assert opened.value("place") == 0
    opened.errors.clear()


def test_only_the_page_itself_is_answered(served: Served) -> None:
    origin, token = served.url.rstrip("/").rsplit("/", 1)
    post = {"url": f"{served.url}label", "json": {"item": 0, "label": "x"}}
    with httpx.Client() as client:
        assert client.get(f"{served.url}state").status_code == 200
        answers = [
            client.get(f"{origin}/"),
            client.get(f"{origin}/{token[:-1]}/state"),
            client.get(f"{served.url}state", headers={"Host": "photos.example:80"}),
            client.post(**post, headers={"Origin": "http://photos.example"}),
            client.post(**post, headers={"Origin": "null"}),
            client.post(f"{served.url}label", content=json.dumps(post["json"]), headers={"Content-Type": "text/plain"}),
        ]
        assert [answer.status_code for answer in answers] == [403] * 6
        bad = [
            {"item": 99, "label": "x"},
            {"item": 0, "label": "a\nb"},
            {"item": 0, "label": "x" * 101},
            {"item": 0, "label": 5},
            {"item": True, "label": "x"},
            {"item": 0},
            [],
        ]
        for content in (*map(json.dumps, bad), "[" * 100_000, "{"):
            answer = client.post(f"{served.url}label", content=content, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()["error"][:32]) == (400, "expected the number of a picture")
        assert [client.get(f"{served.url}picture/{n}").status_code for n in (-1, 4, "a")] == [404, 404, 422]
        assert served.labels == [""] * 4
        page = client.get(served.url)
        assert "script-src 'sha256-" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert client.post(**post, headers={"Origin": origin}).status_code == 200
    assert served.url.startswith("http://127.0.0.1:")


def test_a_picture_keeps_its_number_when_rows_leave_the_list(indexed: Index, tmp_path: Path) -> None:
    worklist = Worklist(tmp_path / "next.csv")
    choose(indexed, worklist, Choice(4, ignore_labels=True))
    session = Session(indexed, worklist, lambda: None, "")
    paths = [item["path"] for item in session.state()["items"]]
    lines = worklist.path.read_text().splitlines(keepends=True)
    worklist.path.write_text("".join([lines[0], *lines[2:]]))
    session.label(1, "bee")
    session.label(0, "ant")
    shown = session.state()["items"]
    assert [item["path"] for item in shown] == paths
    assert [item["label"] for item in shown] == ["ant", "bee", "", ""]


def test_a_picture_that_is_gone_is_shown_as_its_thumbnail(
    tmp_path: Path, as_file: Callable[..., bytes], scene: Callable[[int], np.ndarray]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(as_file(scene(1)))
    with build_index(tmp_path / "photos", tmp_path / "i.index") as index:
        worklist = Worklist(tmp_path / "next.csv")
        choose(index, worklist)
        session = Session(index, worklist, lambda: None, "")
        whole = session.picture(0)
        (tmp_path / "photos" / "a.png").unlink()
        assert session.picture(0) == index.thumbnail(index.rows()[0].id) != whole


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as Unix does it")
def test_ctrl_c_ends_it_and_says_what_is_next(indexed: Index, tmp_path: Path) -> None:
    command = [
        "label",
        indexed.path,
        "-o",
        "next.csv",
        "--page",
        "--ignore-labels",
        "--count",
        "2",
        "--classes",
        "a, b",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "topwork", *map(str, command)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    url = next(line.split()[-1] for line in process.stdout if line.startswith("Label here: "))
    state = httpx.get(f"{url}state", timeout=20).json()
    assert state["classes"] == ["a", "b"]
    httpx.post(f"{url}label", json={"item": 1, "label": "b"}, timeout=20)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 label of yours in next.csv" in rest
    assert "Next: topwork fit next.csv -o MODEL.topwork" in rest
    assert [row["label"] for row in table(tmp_path / "next.csv")] == ["", "b"]

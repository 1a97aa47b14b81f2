"""A list of pictures to label never loses what a person put there."""

import subprocess
import sys
from pathlib import Path

import pytest

from topwork import storage
from topwork.errors import SourceError, TopworkError
from topwork.retrieval.labelling.worklist import Item, Worklist


def test_a_manifest_of_somebody_else_is_refused_and_left(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    text = "path,label,group,split\na.jpg,ant,g,test\nb.jpg,,,\n"
    mine.write_text(text)
    with pytest.raises(SourceError, match="it is another manifest; choose another -o"):
        Worklist(mine)
    assert mine.read_text() == text


def test_split_and_group_that_a_person_wrote_stay(tmp_path: Path) -> None:
    place = f"{tmp_path}/a.jpg"
    (tmp_path / "next.csv").write_text(
        "path,label,by,suggested,confidence,stands_for,split,group\na.jpg,ant,person,,,,test,MINE\n"
    )
    made = Worklist(tmp_path / "next.csv")
    made.replace([Item(place, group="from the index"), Item(f"{tmp_path}/b.jpg", group="other")])
    first, second = Worklist(tmp_path / "next.csv").items
    assert (first.label, first.split, first.group) == ("ant", "test", "MINE")
    assert (second.split, second.group) == ("", "other")


def test_rows_that_are_not_chosen_again_stay_where_a_person_added_to_them(tmp_path: Path) -> None:
    path = tmp_path / "next.csv"
    path.write_text(
        "path,label,by,suggested,confidence,stands_for,split,group,note\n"
        "a.jpg,,,,,3,test,source,\n"  # a split
        "b.jpg,ant,propagated,ant,0.95,,,mine,\n"  # another group
        "c.jpg,,,,,2,,source,\n"  # nothing
        "d.jpg,,,,,2,,source,why?\n"
    )
    places = {name: f"{tmp_path}/{name}.jpg" for name in "abcde"}
    Worklist(path).replace([Item(places["e"])], {place: Item(place, group="source") for place in places.values()})
    assert path.read_text() == (
        "path,label,by,suggested,confidence,stands_for,split,group,note\n"
        "e.jpg,,,,,,,,\n"
        "a.jpg,,,,,,test,source,\n"
        "b.jpg,,,,,,,mine,\n"  # its label is made anew, or not at all
        "d.jpg,,,,,,,source,why?\n"
    )


def test_a_row_that_left_the_list_meanwhile_comes_back_with_its_label(tmp_path: Path) -> None:
    path, (a, b) = tmp_path / "next.csv", (f"{tmp_path}/{name}.jpg" for name in "ab")
    first = Worklist(path)
    first.replace([Item(a, stands_for="2"), Item(b, stands_for="3", group="g")])
    Worklist(path).replace([Item(a, stands_for="2")], {b: Item(b, group="g")})
    first.set_label(b, "bee")
    assert [(item.location, item.label, item.group) for item in Worklist(path).items] == [(a, "", ""), (b, "bee", "g")]
    with pytest.raises(KeyError):
        first.set_label(f"{tmp_path}/c.jpg", "bee")


def test_names_that_begin_or_end_with_a_blank_are_read_back(tmp_path: Path) -> None:
    items = [Item(f"{tmp_path}/{name}", "ant", "person") for name in (" lead.jpg", "odd/trail .jpg ", "plain.jpg")]
    (tmp_path / "odd").mkdir()
    for item in items:
        Path(item.location).write_bytes(b"")
    Worklist(tmp_path / "next.csv").replace(items)
    assert Worklist(tmp_path / "next.csv").items == items
    (tmp_path / "next.csv").write_text("path,label,by\n plain.jpg , ant ,person\n")
    assert Worklist(tmp_path / "next.csv").items == items[2:]


def test_its_folder_is_made(tmp_path: Path) -> None:
    Worklist(tmp_path / "no" / "dir" / "next.csv").replace([Item(f"{tmp_path}/a.jpg")])
    assert (tmp_path / "no" / "dir" / "next.csv").is_file()


LABELLING = """
import sys
from topwork.retrieval.labelling import Worklist
worklist = Worklist(sys.argv[1])
for number in range(50):
    worklist.set_label(f"{sys.argv[2]}{number}.jpg", "ant")
"""


def test_no_label_is_lost_when_two_programs_label_one_list(tmp_path: Path) -> None:
    path = tmp_path / "next.csv"
    Worklist(path).replace([Item(f"{tmp_path}/{who}{number}.jpg") for who in "abc" for number in range(50)])
    command = [sys.executable, "-c", LABELLING, str(path)]
    others = [subprocess.Popen([*command, f"{tmp_path}/{who}"]) for who in "ab"]
    mine = Worklist(path)
    for number in range(50):
        mine.set_label(f"{tmp_path}/c{number}.jpg", "bee")
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    labels = [item.label for item in Worklist(path).items]
    assert (labels.count("ant"), labels.count("bee")) == (100, 50)


def test_a_label_that_could_not_be_written_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worklist = Worklist(tmp_path / "next.csv")
    worklist.replace([Item(f"{tmp_path}/a.jpg")])

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_atomic", full)
        with pytest.raises(TopworkError, match=r"cannot write .*next.csv: no space left on device"):
            worklist.set_label(f"{tmp_path}/a.jpg", "ant")
    assert [item.label for item in worklist.items] == [""]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "path,label,by\na.jpg,caf\u00e9,person\n".encode("cp1252"),
            "in Windows-1252 it reads 'a.jpg,caf\u00e9,person'",
        ),
        ("path,label,by\na.jpg,b,person\n".encode("utf-16-le"), "UTF-16 text without its mark"),
        (b"path,label,by,suggested\na.jpg,cat, big,person,,\nb.jpg,cat, big,person,,x\n", "has 6; put"),
    ],
)
def test_a_list_that_a_program_saved_in_another_way_is_left_alone(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "next.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=words):
        Worklist(path)
    assert path.read_bytes() == content

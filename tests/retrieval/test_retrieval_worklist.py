"""A list of pictures to label never loses what a person put there."""

from pathlib import Path

import pytest

from topwork.errors import SourceError
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

"""index, search and duplicates on the command line."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from topwork.retrieval import Index

Command = Callable[..., tuple[int, str, str]]


def ask(command: Command, *arguments: object) -> Any:
    code, out, err = command(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_the_json_of_index(topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    photos, out = photo_set(tmp_path / "photos", 2), tmp_path / "x.index"
    (photos / "dots" / "broken.png").write_bytes(b"x")
    facts = ask(topwork_command, "index", photos, "-o", out)
    assert {name: facts[name] for name in ("added", "updated", "unchanged", "removed", "moved", "pictures")} == {
        "added": 6, "updated": 0, "unchanged": 0, "removed": 0, "moved": 0, "pictures": 6,
    }  # fmt: skip
    assert [row["path"] for row in facts["excluded"]] == ["dots/broken.png"]
    assert facts["seconds"] > 0
    info = ask(topwork_command, "index", out, "--info")
    assert info["pictures"] == info["labelled"] == 6
    assert (info["recall"], info["exact"], info["sources"]) == (1.0, True, [str(photos)])
    size = sum(path.stat().st_size for path in out.iterdir() if path.suffix != ".json")
    assert info["bytes"] == size
    for option in (["--backbone", "vgg16"], ["-o", out], ["--rebuild"], ["--allow-remote"]):
        code, _, err = topwork_command("index", out, "--info", *option)
        assert (code, f"expected no {option[0]} with --info" in err) == (2, True)
    code, text, _ = topwork_command("index", out, "--info")
    assert code == 0
    assert "100.0 % of the graph" in text
    assert max(map(len, text.splitlines())) <= 80


def test_index_says_what_it_did(topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    photos, out = photo_set(tmp_path / "photos", 2), tmp_path / "x.index"
    (photos / "notes.txt").write_text("on purpose")
    code, text, _ = topwork_command("index", photos, "-o", out)
    assert code == 0
    assert f"{out}: 6 pictures (6 added)" in text
    assert "notes.txt" not in text
    assert f"Next: topwork search {out} PICTURE" in text
    code, _, err = topwork_command("index", photos)
    assert (code, "give one with -o" in err) == (2, True)


def test_the_json_of_search(topwork_command: Command, indexed: Index, photos: Path) -> None:
    query = photos / "stripes" / "000.png"
    rows = ask(topwork_command, "search", indexed.path, query, "-k", 3)
    assert [set(row) for row in rows] == [{"path", "score", "label"}] * 3
    assert [row["label"] for row in rows] == ["stripes"] * 3
    assert all(Path(row["path"]).is_file() for row in rows)
    dots = ask(topwork_command, "search", indexed.path, query, "--where", "label = 'dots'")
    assert {row["label"] for row in dots} == {"dots"}
    away = ask(topwork_command, "search", indexed.path, query, "--not", photos / "dots" / "000.png", "-k", 24)
    assert len(away) == 23
    assert ask(topwork_command, "search", indexed.path, query, "--crop", "0,0,100,100", "--exact")


def test_a_class_is_searched(topwork_command: Command, indexed: Index, fitted: Any) -> None:
    rows = ask(topwork_command, "search", indexed.path, "--class", f"{fitted.folder}:checks", "-k", 5)
    assert {row["label"] for row in rows} == {"checks"}


def test_sheet_and_page(topwork_command: Command, indexed: Index, photos: Path, tmp_path: Path) -> None:
    sheet, page = tmp_path / "s.png", tmp_path / "p.html"
    query = photos / "stripes" / "000.png"
    code, text, err = topwork_command(
        "search", indexed.path, query, "-k", 3, "-o", sheet, "--html", page, "--not", photos / "dots" / "000.png"
    )
    assert code == 0, err
    assert f"Sheet: {sheet}" in text
    assert Image.open(sheet).width > 3 * 180
    html = page.read_text()
    assert html.count("<img ") == 5
    assert len(re.findall(r'<a href="file:///[^"]+stripes/\d+.png"><img', html)) == 4
    assert "<script" not in html
    assert re.search(r'src="data:image/jpeg;base64,/9j/', html)


def test_a_picture_that_is_gone_is_shown_by_its_thumbnail(
    topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path]
) -> None:
    photos, out = photo_set(tmp_path / "photos", 2), tmp_path / "x.index"
    ask(topwork_command, "index", photos, "-o", out)
    query = tmp_path / "query.png"
    (photos / "dots" / "000.png").rename(query)
    code, text, err = topwork_command("search", out, query, "-k", 1, "--html", tmp_path / "p.html")
    assert code == 0, err
    assert "dots/000.png" in text.replace("\n", "") or "000.png" in text
    assert (tmp_path / "p.html").read_text().count("<img ") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected pictures to look for, or --class"),
        (["a.png", "--class", "m:c"], "and not both"),
        (["a.png"], "cannot read a.png: file not found"),
        (["--class", "nothing"], "expected MODEL:CLASS"),
        (["--class", "m:c", "--exact"], "expected --class alone"),
        (["PHOTO", "--crop", "1,2,3"], "expected a crop as four whole numbers"),
        (["PHOTO", "--crop", "0,0,9000,10"], "expected a crop x,y,w,h within"),
        (["PHOTO", "--where", "1; DROP TABLE pictures"], "expected a filter such as"),
        (["PHOTO", "-k", "0"], "-k"),
        (["PHOTO", "-o", "x.jpg"], "ends in .png"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    topwork_command: Command, indexed: Index, photos: Path, arguments: list[str], sentence: str
) -> None:
    given = [photos / "dots" / "000.png" if each == "PHOTO" else each for each in arguments]
    code, out, err = topwork_command("search", indexed.path, *given)
    assert code in (1, 2)
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_duplicates_are_listed_moved_and_moved_back(
    topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path]
) -> None:
    photos, out, away = photo_set(tmp_path / "photos", 3), tmp_path / "x.index", tmp_path / "away"
    (photos / "dots" / "copy.png").write_bytes((photos / "dots" / "001.png").read_bytes())
    (photos / "checks" / "copy.png").write_bytes((photos / "dots" / "001.png").read_bytes())
    ask(topwork_command, "index", photos, "-o", out)
    code, text, _ = topwork_command(
        "duplicates", out, "-o", tmp_path / "list.csv", "--html", tmp_path / "d.html", "--exact"
    )
    assert code == 0
    assert "1 group of copies among 11 pictures; 2 pictures" in text
    assert "2 labels!" in text
    assert "Nothing was changed" in text
    table = [line for line in text.splitlines() if str(tmp_path) not in line]  # paths are never cut
    assert max(map(len, table)) <= 80
    rows = list(csv.DictReader((tmp_path / "list.csv").open()))
    assert [row["best"] for row in rows] == ["yes", "no", "no"]
    assert (tmp_path / "d.html").read_text().count("<img ") == 3
    facts = ask(topwork_command, "duplicates", out, "--move", away)
    assert facts["moved"] == []  # which of the labels is right is not for a command to say
    assert {row["reason"] for row in facts["left"]} == {"the group has 2 labels; settle that first"}
    assert not away.exists()
    (photos / "checks" / "copy.png").rename(photos / "dots" / "copy2.png")
    ask(topwork_command, "index", photos, "-o", out)
    facts = ask(topwork_command, "duplicates", out, "--move", away)
    assert [group["kind"] for group in facts["groups"]] == ["exact"]
    assert len(facts["moved"]) == 2
    assert not (photos / "dots" / "copy.png").exists()
    code, text, _ = topwork_command("duplicates", out, "--undo", away)
    assert "2 pictures moved back from" in text
    assert (photos / "dots" / "copy.png").exists()
    code, _, err = topwork_command("duplicates", out, "-o", photos / "dots" / "001.png")
    assert (code, "ends in .csv" in err) == (2, True)
    assert Image.open(photos / "dots" / "001.png").width > 0
    code, _, err = topwork_command("duplicates", out, "--undo", away, "--exact")
    assert (code, "expected --undo alone" in err) == (2, True)


def test_no_duplicates(topwork_command: Command, indexed: Index) -> None:
    code, text, _ = topwork_command("duplicates", indexed.path)
    assert code == 0
    assert text.strip() == "No groups of copies among 24 pictures"


def test_without_usearch_the_command_says_what_to_install(
    topwork_command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "usearch.index", None)
    code, _, err = topwork_command("index", photos, "-o", tmp_path / "x.index")
    assert code == 2
    assert 'pip install "topwork[search]"' in err
    assert not (tmp_path / "x.index").exists()

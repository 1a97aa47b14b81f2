"""``topwork frames``: the folder it writes, what it leaves alone, what it says."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.images import ImageSource, frame_set

Film = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def videos(film: Film, pattern: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """Two classes with a video each, three scenes of half a second in one, one in the other; a picture beside them."""
    root = tmp_path / "VIDEOS"
    film(root / "bee" / "-x.mp4", [pattern("any", n // 5) for n in range(15)])
    film(root / "ant" / "a%d.mkv", [pattern("any", 9)] * 3)
    Image.fromarray(pattern("any", 3)).save(root / "ant" / "1.png")
    return root


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "frames.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_and_a_manifest(videos: Path, tmp_path: Path, topwork_command: Command) -> None:
    target = tmp_path / "out"
    code, out, _ = topwork_command("frames", videos, "-o", target, "--json")
    facts = json.loads(out)
    assert code == 0
    rows = rows_of(target)
    assert [row["path"] for row in rows] == [
        "ant/a%d-00000.000s.jpg",
        "bee/x-00000.000s.jpg",
        "bee/x-00000.500s.jpg",
        "bee/x-00001.000s.jpg",
    ]
    assert {row["label"] for row in rows} == {"ant", "bee"}
    assert [row["group"] for row in rows] == [f"{videos}/ant/a%d.mkv", *[f"{videos}/bee/-x.mp4"] * 3]
    assert [float(row["time"]) for row in rows] == [0, 0, 0.5, 1]
    assert all((target / row["path"]).is_file() for row in rows)
    assert facts["frames"] == 4
    assert [video["kept"] for video in facts["videos"]] == [1, 3]
    assert facts["excluded"] == [{"path": f"{videos}/ant/1.png", "reason": "not a video"}]


def test_the_folder_itself_and_its_manifest_are_the_same_source(
    videos: Path, tmp_path: Path, topwork_command: Command
) -> None:
    topwork_command("frames", videos, "-o", tmp_path / "out")
    by_folder, by_manifest = (ImageSource.open(tmp_path / name) for name in ("out", "out/frames.csv"))
    assert by_folder.samples == by_manifest.samples
    assert [sample.time for sample in by_folder.samples] == [0, 0, 0.5, 1]
    assert len({sample.group for sample in by_folder.samples}) == 2


def test_names_are_just_names(videos: Path, tmp_path: Path, topwork_command: Command, monkeypatch: Any) -> None:
    monkeypatch.chdir(videos / "bee")
    (videos / "bee" / "-x.mp4").rename("concat:b.mp4")
    code, _, _ = topwork_command("frames", "-o", tmp_path / "out", "--png", "--size", "55", "--", "concat:b.mp4")
    assert code == 0
    first = rows_of(tmp_path / "out")[0]
    assert (first["path"], first["group"]) == ("concat_b-00000.000s.png", "concat:b.mp4")
    assert "label" not in first
    assert Image.open(tmp_path / "out" / first["path"]).size == (70, 55)


def test_what_is_not_its_own_is_never_overwritten(videos: Path, tmp_path: Path, topwork_command: Command) -> None:
    target = tmp_path / "out"
    assert topwork_command("frames", videos, "-o", target)[0] == 0
    assert topwork_command("frames", videos, "-o", target, "--every", "1s")[0] == 0  # its own earlier result
    assert len(rows_of(target)) == 3
    (target / "notes.txt").write_text("mine")
    for place in (target, videos):
        code, _, err = topwork_command("frames", videos, "-o", place)
        assert code == 1
        assert err.startswith(f"topwork: expected {place} to be free or an earlier")
    assert (target / "notes.txt").read_text() == "mine"


def test_a_manifest_that_was_changed_is_not_replaced(videos: Path, tmp_path: Path, topwork_command: Command) -> None:
    target = tmp_path / "out"
    for _ in range(2):  # one that was not is
        assert topwork_command("frames", videos, "-o", target)[0] == 0
    text = (target / "frames.csv").read_text().replace(",bee,", ",wasp,")
    (target / "frames.csv").write_text(text)
    code, _, err = topwork_command("frames", videos, "-o", target)
    assert (code, "it was changed" in err) == (1, True)
    assert (target / "frames.csv").read_text() == text


def test_a_killed_run_leaves_the_old_state(
    videos: Path, tmp_path: Path, topwork_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    topwork_command("frames", videos, "-o", target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    done: list[int] = []

    def stop(pixels: Any, png: bool) -> bytes:
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt
        return b"..."

    monkeypatch.setattr(frame_set, "_encoded", stop)
    assert topwork_command("frames", videos, "-o", target, "--every", "0.1s")[0] == 130
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"VIDEOS", "out"}


def test_one_bad_video_is_named_the_others_are_taken(videos: Path, tmp_path: Path, topwork_command: Command) -> None:
    (videos / "bee" / "empty.mp4").touch()
    code, out, _ = topwork_command("frames", videos, "-o", tmp_path / "out")
    assert code == 0
    assert f"left out: {videos}/bee/empty.mp4 (empty file)" in out
    assert "4 frames of 2 videos" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["VIDEOS", "--every", "1s", "--scene"], 2, "expected one of --every, --count and --scene"),
        (["VIDEOS", "--every", "often"], 2, "a time must look like 0.5s"),
        (["VIDEOS/ant/1.png"], 1, "expected videos, but found none"),
        (["missing.mp4"], 1, "there is nothing; check the path"),
        (["bad.mp4"], 1, "not one frame could be read (bad.mp4: not a video that can be read"),
    ],
)
def test_errors(
    videos: Path,
    tmp_path: Path,
    topwork_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.mp4").write_text("bad" * 20)
    found, out, err = topwork_command("frames", *arguments, "-o", "out")
    assert (found, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
    assert not Path("out").exists()


def test_without_ffmpeg(videos: Path, tmp_path: Path, topwork_command: Command, monkeypatch: Any) -> None:
    monkeypatch.setenv("TOPWORK_FFMPEG", "/nowhere/ffmpeg")
    code, out, err = topwork_command("frames", videos, "-o", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "install it with `apt install ffmpeg`" in err

"""Videos through the whole flow: no leak between frames of one video, timelines, what too few videos mean."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.errors import SourceError
from topwork.images import ImageSource
from topwork.timeline import Timeline

Film = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]


def pan(picture: np.ndarray, n: int, start: int = 0) -> list[np.ndarray]:
    """``n`` frames of 96 by 96 that move over a picture."""
    return [picture[: 2 * 48, start + 3 * k : start + 3 * k + 96] for k in range(n)]


@pytest.fixture(scope="module")
def lookalikes(film: Film, pattern: Callable[..., np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos in each of two classes that have nothing to tell them apart: every video shows a place of its own."""
    root = tmp_path_factory.mktemp("lookalikes")
    for number in range(8):
        frames = pan(pattern("any", number, 96, 140), 12)
        film(root / ("left", "right")[number % 2] / f"{number}.mp4", frames, times=[k / 2 for k in range(12)])
    return root


def test_frames_of_one_video_never_sit_on_both_sides(lookalikes: Path, tmp_path: Path) -> None:
    recipe = topwork.Recipe(head="lda", features="pooled", geometry="crop")
    facts = topwork.fit(lookalikes, recipe, output=tmp_path / "m.topwork").facts
    assert facts["accuracy"]["naive"] > 0.9  # each frame has its neighbours in training
    assert facts["accuracy"]["value"] < 0.7  # the truth: there is nothing to learn
    assert facts["groups"]["count"] <= 8
    assert [video["path"] for video in facts["videos"]] == sorted(f"{v}" for v in _ids(lookalikes))
    folds = defaultdict(set)
    for line in (tmp_path / "m.topwork" / "samples.jsonl").read_text().splitlines():
        row = json.loads(line)
        folds[row["id"].split("@")[0]].add(row["fold"])
    assert len(folds) == 8
    assert all(len(found) == 1 for found in folds.values())


def _ids(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*.mp4")]


@pytest.mark.parametrize("per_class", [1, 2])
def test_too_few_videos_of_each_class(
    lookalikes: Path, tmp_path: Path, per_class: int, topwork_command: Command
) -> None:
    rows = [f"{lookalikes / name},{name.split('/')[0]}" for name in sorted(_ids(lookalikes))]
    few = [row for label in ("left", "right") for row in [r for r in rows if r.endswith(label)][:per_class]]
    (tmp_path / "few.csv").write_text("path,label\n" + "\n".join(few))
    code, out, err = topwork_command("fit", tmp_path / "few.csv")
    if per_class == 1:
        assert code == 1
        assert err.splitlines()[-1].startswith("topwork: expected at least 2 videos of a class, found 1 of each")
        return
    assert code == 0
    assert "note: Few videos of left (2), right (2)" in out
    assert "without keeping near-duplicates and frames of one video together it would look like" in out


def test_fine_tuning_measures_without_a_leak_too(lookalikes: Path) -> None:
    pytest.importorskip("torch")
    one = [str(next((lookalikes / label).glob("*.mp4"))) for label in ("left", "right")]
    manifest = lookalikes / "one.csv"
    manifest.write_text("path,label\n" + "".join(f"{path},{Path(path).parent.name}\n" for path in one))
    with pytest.raises(SourceError, match="expected at least 2 videos"):
        topwork.fit(manifest, topwork.Recipe(strategy="top"))


@pytest.fixture(scope="module")
def change(film: Film, pattern: Callable[..., np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of checks, then five of stripes, two pictures a second."""
    frames = [pattern(kind, 900 + n) for kind in ("checks", "stripes") for n in range(10)]
    return film(tmp_path_factory.mktemp("change") / "-a%d.mp4", frames, times=[n / 2 for n in range(20)])


def test_a_timeline(fitted: Any, change: Path) -> None:
    line = Timeline(topwork.load(fitted.folder), str(change), smooth=2)
    moments = list(line)
    assert [moment.time for moment in moments] == [n / 2 for n in range(20)]
    assert [moment.steady.label for moment in moments[:9]] == ["checks"] * 9
    assert [moment.steady.label for moment in moments[-9:]] == ["stripes"] * 9
    assert (line.seconds, line.damage) == (9.5, None)
    raw = {label: [m.raw.probability if m.raw.label == label else 0 for m in moments] for label in ("checks",)}
    assert moments[3].steady.probability == pytest.approx(np.mean(raw["checks"][1:6]), abs=0.05)
    assert all(sum(p for _, p in moment.top) == pytest.approx(1) for moment in moments)


def test_the_model_sees_in_a_video_what_it_sees_in_training(fitted: Any, change: Path) -> None:
    model = topwork.load(fitted.folder)
    frames = ImageSource.open(change).samples
    alone = {sample.time: prediction for sample, prediction in zip(frames, model.predict(frames), strict=True)}
    for moment in Timeline(model, str(change), smooth=0):
        assert moment.raw == moment.steady
        if moment.time in alone:
            assert moment.raw.probability == alone[moment.time].probability
            assert moment.raw.novelty == alone[moment.time].novelty


def test_predict_on_a_video(fitted: Any, change: Path, tmp_path: Path, topwork_command: Command) -> None:
    picture = next(fitted.photos.rglob("*.png"))
    table = tmp_path / "line.csv"
    code, out, _ = topwork_command("predict", fitted.folder, picture, change, "--json", "--every", "1s")
    assert code == 0
    rows = json.loads(out)
    assert rows[0]["path"] == str(picture)
    assert "time" not in rows[0]
    films = rows[1:]
    assert [row["time"] for row in films] == list(range(10))
    assert films[0]["path"] == f"{change}@0.000s"
    assert set(films[0]) == {*rows[0], "video", "time", "raw"}
    assert set(films[0]["raw"]) == {"label", "probability", "known", "novelty"}
    assert topwork_command("predict", fitted.folder, picture, change, "-o", table, "--every", "1s")[0] == 0
    with table.open() as file:
        written = list(csv.DictReader(file))
    assert [row["label"] for row in written] == [row["label"] for row in rows]
    assert (written[0]["video"], written[0]["time"], written[0]["raw_label"]) == ("", "", "")
    assert (written[5]["video"], float(written[5]["time"])) == (str(change), 4.0)
    assert [row["raw_label"] for row in written[1:]] == [row["raw"]["label"] for row in films]
    code, out, _ = topwork_command("predict", fitted.folder, change)
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("0:")] == [
        ["0:00.0", "0:05.0", "checks"],
        ["0:05.0", "0:09.5", "stripes"],
    ]
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_a_folder_of_videos_and_faults(
    fitted: Any, change: Path, film: Film, tmp_path: Path, topwork_command: Command, pattern: Any
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.mp4").write_bytes(b"nothing")
    cut = film(tmp_path / "in" / "cut.mkv", [pattern("dots", n) for n in range(40)], lossless=True)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    code, out, _ = topwork_command("predict", fitted.folder, tmp_path / "in", "--json")
    rows = json.loads(out)
    faults = {Path(row["path"]).name: row["error"] for row in rows if row["error"]}
    assert code == 0
    assert set(faults) == {"broken.mp4", "cut.mkv"}
    assert faults["cut.mkv"].startswith("damaged after ")
    assert 1 < sum(row["error"] is None for row in rows) < 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--explain", "why"), "--explain is for pictures"),
        (("-o", "timeline.txt"), "ends in .csv"),
        (("--every", "0"), "at least 0.001 s between frames"),
        (("--smooth", "soon"), "a time must look like"),
    ],
)
def test_wrong_options(
    fitted: Any, change: Path, topwork_command: Command, options: tuple[str, str], words: str
) -> None:
    code, _, err = topwork_command("predict", fitted.folder, change, *options)
    assert code == 2
    assert words in err


def test_without_ffmpeg(fitted: Any, change: Path, topwork_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_FFMPEG", "/nowhere/ffmpeg")
    code, out, err = topwork_command("predict", fitted.folder, change)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "videos are read by the program FFmpeg" in err


def test_a_video_is_evaluated_and_audited(fitted: Any, lookalikes: Path, change: Path, tmp_path: Path) -> None:
    rows = f"path,label\n{change},checks\n"
    (tmp_path / "list.csv").write_text(rows)
    facts = topwork.evaluate(fitted.folder, tmp_path / "list.csv")
    assert facts["accuracy"]["n"] == len(ImageSource.open(change).samples)
    found = topwork.audit(lookalikes).facts
    assert sum(video["kept"] for video in found["videos"]) == found["n_images"]

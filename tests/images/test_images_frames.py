"""Which frames become pictures, how they are kept, and videos as parts of image sources."""

import os
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from topwork.errors import ImageError, SourceError, UsageError
from topwork.images import ImageSource, kept_frames
from topwork.images.decode import decode
from topwork.images.frames import Chooser, Filmed, FrameChoice
from topwork.images.kept_frames import frames_folder, trim
from topwork.images.video import open_video

Film = Callable[..., Path]


def texture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """[h, w, 3]: coarse blocks with fine noise; other seeds have nothing in common."""
    random = np.random.default_rng(seed)
    blocks = random.integers(30, 225, (6, 8, 1)).repeat(16, axis=0).repeat(16, axis=1)
    return np.clip(blocks + random.normal(0, 20, (height, width, 1)), 0, 255).astype(np.uint8).repeat(3, axis=2)


def blurred(frame: np.ndarray, radius: float = 5) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius)))


def chosen(path: Path, choice: FrameChoice) -> tuple[list[float], Filmed]:
    chooser = Chooser(open_video(str(path)), choice)
    times = [frame.time for frame in chooser]
    return times, chooser.filmed


def test_nearly_identical_frames_are_dropped_and_counted(film: Film, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shaky = [np.clip(texture(1) + random.normal(0, 4, (96, 128, 3)), 0, 255).astype(np.uint8) for _ in range(20)]
    path = film(tmp_path / "a.mp4", [*shaky, *[texture(2)] * 10])
    times, filmed = chosen(path, FrameChoice(every=0.5))
    assert times == [0.0, 2.0]
    assert (filmed.frames, filmed.looked_at, filmed.kept, filmed.similar, filmed.blurred) == (30, 6, 2, 4, 0)
    assert str(filmed) == "30 frames, 6 looked at, 2 kept (4 nearly identical)"
    assert len(chosen(path, FrameChoice(every=0.5, similar=True))[0]) == 6


def test_frames_less_sharp_than_their_neighbours_are_dropped(film: Film, tmp_path: Path) -> None:
    frames = [blurred(texture(n)) if n in (3, 4, 9) else texture(n) for n in range(12)]
    path = film(tmp_path / "a.mp4", frames)
    times, filmed = chosen(path, FrameChoice(every=0.1))
    assert times == [n / 10 for n in range(12) if n not in (3, 4, 9)]
    assert filmed.blurred == 3
    assert len(chosen(path, FrameChoice(every=0.1, blurred=True))[0]) == 12


def test_a_video_that_is_blurred_throughout_is_kept(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [blurred(texture(n)) for n in range(6)])
    assert chosen(path, FrameChoice(every=0.1))[1].blurred == 0


@pytest.mark.parametrize(("count", "expected"), [(1, [0.0]), (4, [0.0, 0.5, 1.0, 1.5]), (20, None), (500, None)])
def test_a_count_evenly_over_the_length(film: Film, tmp_path: Path, count: int, expected: list[float] | None) -> None:
    path = film(tmp_path / "a.mkv", [texture(n) for n in range(20)], times=[n / 10 for n in range(20)])
    times, _ = chosen(path, FrameChoice(count=count))
    assert times == (expected or [n / 10 for n in range(20)])


def test_at_most_so_many(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [texture(n) for n in range(20)])
    assert chosen(path, FrameChoice(every=0.1, most=4))[0] == [0.0, 0.5, 1.0, 1.5]


def test_the_first_sharp_frame_of_each_scene(film: Film, tmp_path: Path) -> None:
    scenes = [[texture(seed)] * 12 for seed in range(3)]
    scenes[1][:3] = [blurred(texture(1), 1.5)] * 3  # out of focus at first
    path = film(tmp_path / "a.mp4", [frame for scene in scenes for frame in scene])
    times, filmed = chosen(path, FrameChoice(scene=True))
    assert times == [0.0, 1.5, 2.4]
    assert (filmed.frames, filmed.looked_at) == (36, 3)


def test_a_fast_pan_is_no_cut(film: Film, tmp_path: Path) -> None:
    wide = np.concatenate([texture(n) for n in range(12)], axis=1)
    path = film(tmp_path / "a.mp4", [wide[:, 30 * n : 30 * n + 128] for n in range(40)])
    assert chosen(path, FrameChoice(scene=True))[0] == [0.0]


def test_a_choice_is_its_text_and_back() -> None:
    for choice in (FrameChoice(0.1, most=3, side=720), FrameChoice(scene=True, blurred=True), FrameChoice(count=7)):
        assert FrameChoice.from_text(choice.text) == choice
    for wrong in ({"every": 0.0}, {"every": float("nan")}, {"count": 0}, {"side": -1}):
        with pytest.raises(UsageError):
            FrameChoice(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def videos(film: Film, tmp_path: Path, as_file: Callable[..., bytes]) -> Path:
    """Two videos and a picture in two classes."""
    root = tmp_path / "set"
    film(root / "bee" / "garden.mp4", [texture(n // 5) for n in range(20)])
    film(root / "ant" / "a%d.mkv", [texture(50 + n // 5) for n in range(10)])
    (root / "ant" / "1.png").write_bytes(as_file(texture(99)))
    return root


def test_videos_stand_beside_pictures(videos: Path, empty_cache: Path) -> None:
    source = ImageSource.open(videos)
    assert source.kind == "classes"
    assert [(s.id, s.label, s.group, s.time) for s in source.samples] == [
        ("ant/1.png", "ant", None, None),
        ("ant/a%d.mkv@0.000s", "ant", "ant/a%d.mkv", 0.0),
        ("ant/a%d.mkv@0.500s", "ant", "ant/a%d.mkv", 0.5),
        ("bee/garden.mp4@0.000s", "bee", "bee/garden.mp4", 0.0),
        ("bee/garden.mp4@0.500s", "bee", "bee/garden.mp4", 0.5),
        ("bee/garden.mp4@1.000s", "bee", "bee/garden.mp4", 1.0),
        ("bee/garden.mp4@1.500s", "bee", "bee/garden.mp4", 1.5),
    ]
    assert [(video.path, video.frames, video.kept) for video in source.videos] == [
        ("ant/a%d.mkv", 10, 2),
        ("bee/garden.mp4", 20, 4),
    ]
    picture = decode(source.samples[-1].read())
    assert (picture.format, picture.pixels.shape) == ("JPEG", (96, 128, 3))
    assert np.abs(picture.pixels.astype(int) - texture(3)).mean() < 8
    assert source.samples[-1].read(4) == source.samples[-1].read()[:4]


def test_other_sources_hold_videos_too(videos: Path, tmp_path: Path, empty_cache: Path) -> None:
    lone = ImageSource.open(videos / "bee" / "garden.mp4")
    assert (lone.kind, len(lone.samples), lone.classes) == ("unlabelled", 4, [])
    manifest = videos / "list.csv"
    manifest.write_text("path,label,split,group\nbee/garden.mp4,bee,test,monday\nant/1.png,ant,,\n")
    frame = ImageSource.open(manifest).samples[-1]
    assert (frame.id, frame.label, frame.split, frame.group) == ("bee/garden.mp4@1.500s", "bee", "test", "monday")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", videos)
    assert [s.id for s in ImageSource.open(archive).samples] == [s.id for s in ImageSource.open(videos).samples]
    listed = ImageSource.open([str(videos / "bee" / "garden.mp4"), str(videos / "ant" / "1.png")])
    assert len(listed.samples) == 5
    assert ImageSource.open(videos, frames=None).samples[-1].id == "bee/garden.mp4"


def test_without_ffmpeg_videos_are_left_out_by_name(
    videos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_FFMPEG", "/nowhere/ffmpeg")
    source = ImageSource.open(videos)
    assert [sample.id for sample in source.samples] == ["ant/1.png"]
    assert {each.path for each in source.excluded} == {"ant/a%d.mkv", "bee/garden.mp4"}
    assert all("FFmpeg" in each.reason and each.is_fault for each in source.excluded)
    with pytest.raises(SourceError, match="videos are read by the program FFmpeg"):
        ImageSource.open(videos / "bee")


def test_a_damaged_video_is_named(film: Film, tmp_path: Path, empty_cache: Path) -> None:
    path = film(tmp_path / "a.mkv", [texture(n) for n in range(40)], lossless=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = ImageSource.open(path)
    assert 1 < len(source.samples) < 6
    assert source.excluded[0].reason.startswith("damaged after ")


def test_frames_are_decoded_once(videos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [sample.read() for sample in ImageSource.open(videos).samples]
    moved = videos.rename(videos.with_name("moved"))
    monkeypatch.setenv("TOPWORK_FFMPEG", "/nowhere/ffmpeg")
    assert [sample.read() for sample in ImageSource.open(moved).samples] == first


def test_what_is_missing_or_damaged_is_made_again(videos: Path, empty_cache: Path) -> None:
    samples = [sample for sample in ImageSource.open(videos).samples if sample.time is not None]
    before = [sample.read() for sample in samples]
    shutil.rmtree(frames_folder())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda sample: sample.read(), samples)) == before
    for archive in frames_folder().glob("*.zip"):
        data = bytearray(archive.read_bytes())
        data[len(data) // 4] ^= 255
        archive.write_bytes(data)
    assert [sample.read() for sample in samples] == before


def test_a_video_that_changed_is_not_mixed_up(videos: Path, film: Film, empty_cache: Path) -> None:
    sample = ImageSource.open(videos).samples[-1]
    film(videos / "bee" / "garden.mp4", [texture(7)] * 20)
    shutil.rmtree(frames_folder())
    with pytest.raises(ImageError, match="its video has changed since it was listed"):
        sample.read()


def test_a_run_that_is_killed_leaves_nothing_half_made(
    videos: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def die(pixels: np.ndarray) -> bytes:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return b"..."

    with monkeypatch.context() as patch:
        patch.setattr(kept_frames, "as_jpeg", die)
        with pytest.raises(KeyboardInterrupt):
            ImageSource.open(videos / "bee")
    assert list(frames_folder().iterdir()) == []
    assert len(ImageSource.open(videos / "bee").samples) == 4


def test_the_least_recently_used_go_first(empty_cache: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        with zipfile.ZipFile(frames_folder() / f"{name}.zip", "w") as file:
            file.writestr("x", b"." * 1000)
        os.utime(frames_folder() / f"{name}.zip", (1e9 - age, 1e9 - age))
    trim(2500, keep=frames_folder() / "old.zip")
    assert {path.stem for path in frames_folder().glob("*.zip")} == {"new", "old"}

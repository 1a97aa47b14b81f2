"""Videos in a style: written whole or not at all, with their times, without flicker."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.errors import ImageError, TopworkError, UsageError
from topwork.images.video import FrameReader, open_video
from topwork.images.video_writer import VideoWriter
from topwork.progress import Silent
from topwork.style.films import Follower, paint_video
from topwork.style.transfer import Settings, Style, Transfer

Film = Callable[..., Path]


def frames_of(path: Path) -> list[Any]:
    with FrameReader(open_video(str(path))) as reader:
        return list(reader)


def grey(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_a_video_is_written_with_its_rate(ffmpeg: str, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "deep" / "a.mp4", 12.5) as writer:
        for level in (20, 120, 220):
            writer.write(grey(level, 47, 63))  # odd sides get a row and a column
    found = frames_of(tmp_path / "deep" / "a.mp4")
    assert [round(frame.time, 3) for frame in found] == [0, 0.08, 0.16]
    assert found[0].pixels.shape == (48, 64, 3)
    assert [round(float(frame.pixels[:40, :40].mean()), -1) for frame in found] == [20, 120, 220]
    assert open_video(str(tmp_path / "deep" / "a.mp4")).rate == pytest.approx(12.5)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.mp4"]


def _fail_after(writer: VideoWriter) -> None:
    writer.write(grey(1))
    raise ZeroDivisionError


def test_what_fails_leaves_the_old_video(ffmpeg: str, tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), VideoWriter(target, 10) as writer:
        _fail_after(writer)
    assert target.read_bytes() == b"old"
    with pytest.raises(TopworkError, match="FFmpeg cannot write"), VideoWriter(target, 10) as writer:
        writer.write(grey(1, 1, 1)[:0])
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_run_left_goes_with_the_next(ffmpeg: str, tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    program = (
        "import os, sys, numpy; from pathlib import Path; from topwork.images.video_writer import VideoWriter; "
        "writer = VideoWriter(Path(sys.argv[1]), 10); writer.write(numpy.zeros((32, 32, 3), numpy.uint8)); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(target)], check=False).returncode == 9
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    with VideoWriter(target, 10) as writer:
        writer.write(grey(1))
    assert list(tmp_path.iterdir()) == [target]


def test_frames_are_painted_in_their_order_and_size(film: Film, tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", [grey(level) for level in (40, 80, 120, 160)])
    seen = []

    def paint(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        return 255 - pixels

    count = paint_video(source, tmp_path / "out.mp4", paint, side=32, rate=None, progress=Silent())
    assert count == 4
    assert {pixels.shape for pixels in seen} == {(24, 32, 3)}
    found = frames_of(tmp_path / "out.mp4")
    assert [round(frame.time, 2) for frame in found] == [0, 0.1, 0.2, 0.3]
    np.testing.assert_allclose([frame.pixels.mean() for frame in found], [215, 175, 135, 95], atol=8)


def test_where_the_camera_skipped_frames_the_last_one_stands(film: Film, tmp_path: Path) -> None:
    source = film(tmp_path / "in.mkv", [grey(40), grey(200), grey(90)], times=[0, 0.1, 0.5])
    paint_video(source, tmp_path / "out.mp4", lambda pixels: pixels, side=64, rate=10, progress=Silent())
    levels = [round(float(frame.pixels.mean()), -1) for frame in frames_of(tmp_path / "out.mp4")]
    assert levels[0] == 40
    assert levels[-1] == 90
    assert set(levels[1:-1]) == {200}


def test_a_damaged_video_is_painted_as_far_as_it_goes(film: Film, tmp_path: Path) -> None:
    said = []

    class Listening(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    random = np.random.default_rng(0)
    source = film(tmp_path / "in.mkv", [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)])
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    count = paint_video(source, tmp_path / "out.mp4", lambda p: p, side=64, rate=None, progress=Listening())
    assert 0 < count < 40
    assert len(said) == 1
    assert "in.mkv is painted up to" in said[0]


def test_fewer_frames_when_asked(film: Film, tmp_path: Path) -> None:
    source = film(tmp_path / "in.mp4", [grey(10 * n) for n in range(20)])
    assert paint_video(source, tmp_path / "out.mp4", lambda p: p, side=64, rate=5, progress=Silent()) == 10


def test_the_sound_comes_with_it(film: Film, ffmpeg: str, tmp_path: Path) -> None:
    import json
    import subprocess

    from topwork.images.video import find_ffmpeg

    silent = film(tmp_path / "silent.mp4", [grey(10 * n) for n in range(10)])
    command = [ffmpeg, "-v", "error", "-i", silent, "-f", "lavfi", "-t", "1", "-i", "sine=440", "-c:v", "copy"]
    subprocess.run([*command, tmp_path / "in.mp4"], check=True, timeout=60)
    paint_video(tmp_path / "in.mp4", tmp_path / "out.mp4", lambda p: p, side=64, rate=None, progress=Silent())
    command = [find_ffmpeg().ffprobe, "-v", "error", "-show_streams", "-of", "json", tmp_path / "out.mp4"]
    streams = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)["streams"]
    assert sorted(stream["codec_type"] for stream in streams) == ["audio", "video"]


def test_what_is_no_video_is_named(tmp_path: Path, ffmpeg: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ImageError, match=r"cannot read .*a\.mp4: .*choose another video"):
        paint_video(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda p: p, side=64, rate=None, progress=Silent())
    with pytest.raises(UsageError, match=r"\.mp4, \.mov"):
        VideoWriter(tmp_path / "a.gif", 10)


def test_a_frame_begins_with_what_the_last_one_became(tiny_vgg: Any, picture: Any) -> None:
    """Little noise on a still scene: painted from noise each frame differs, followed it hardly does."""
    random, styles = np.random.default_rng(0), [Style(picture(1))]
    scene = 255 * picture(0)
    frames = [np.clip(scene + random.normal(0, 2, scene.shape), 0, 255).astype(np.uint8) for _ in range(3)]
    options: dict[str, Any] = {"size": 64, "scales": 1, "start": "noise"}
    many = Transfer(tiny_vgg, styles, Settings(steps=40, **options))
    follower = Follower(many, Transfer(tiny_vgg, styles, Settings(steps=4, **options)))
    followed = [follower(frame).astype(int) for frame in frames]
    alone = [
        list(Transfer(tiny_vgg, styles, Settings(steps=40, seed=seed, **options)).steps(frame.astype(np.float32) / 255))
        for seed, frame in enumerate(frames)
    ]
    single = [255 * steps[-1].picture for steps in alone]
    flicker = np.mean([np.abs(after - before).mean() for before, after in pairwise(followed)])
    apart = np.mean([np.abs(after - before).mean() for before, after in pairwise(single)])
    assert flicker < 0.3 * apart


def test_after_a_cut_it_begins_anew(tiny_vgg: Any, picture: Any) -> None:
    made = []

    class Counted(Transfer):
        def steps(self, *arguments: Any, **options: Any) -> Any:
            made.append(self.settings.steps)
            return super().steps(*arguments, **options)

    many, few = (Counted(tiny_vgg, [Style(picture(1))], Settings(size=64, steps=n, scales=1)) for n in (3, 1))
    follower = Follower(many, few)
    for level in (40, 45, 200, 205):
        assert follower(grey(level)).shape == (48, 64, 3)
    assert made == [3, 1, 3, 1]

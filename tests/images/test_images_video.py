"""Videos: what FFmpeg is asked, what its frames are, and what is said of files that are none."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from topwork.errors import ImageError, MissingExtraError
from topwork.images import video as module
from topwork.images.video import FrameReader, Video, find_ffmpeg, is_video, last_time, open_video

Film = Callable[..., Path]
posix = pytest.mark.skipif(os.name != "posix", reason="a shell script stands for FFmpeg")

TIMES = [0.0, 0.1, 0.2, 0.5, 1.3, 1.4, 2.0]


def halves(left: tuple[int, int, int], right: tuple[int, int, int], height: int = 32, width: int = 64) -> np.ndarray:
    """[h, w, 3] with two colours side by side."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[:, : width // 2], frame[:, width // 2 :] = left, right
    return frame


RED, BLUE = (230, 20, 20), (20, 20, 230)


def numbered(n: int) -> list[np.ndarray]:
    """Frames of one grey value each, 20 apart."""
    return [np.full((32, 64, 3), 20 + 20 * i, np.uint8) for i in range(n)]


def read(path: Path, **options: object) -> tuple[list[float], list[np.ndarray], FrameReader]:
    with FrameReader(open_video(str(path)), **options) as reader:  # type: ignore[arg-type]
        frames = list(reader)
    return [frame.time for frame in frames], [frame.pixels for frame in frames], reader


@pytest.fixture
def uneven(film: Film, tmp_path: Path) -> Path:
    """Seven frames at uneven times."""
    return film(tmp_path / "uneven.mkv", numbered(7), times=TIMES, lossless=True)


def test_times_of_a_variable_frame_rate_are_kept(uneven: Path) -> None:
    times, pixels, reader = read(uneven)
    assert times == TIMES
    assert [int(frame.mean().round()) for frame in pixels] == [20, 40, 60, 80, 100, 120, 140]
    assert (reader.decoded, reader.damage) == (7, None)


def test_times_are_those_that_ffprobe_gives(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", numbered(7), times=[0, 0.033, 0.07, 0.4, 0.433, 0.9, 3.217])
    entries = ["-show_entries", "frame=pts_time", "-of", "json", str(path)]
    said = subprocess.run([find_ffmpeg().ffprobe, "-v", "error", *entries], capture_output=True, check=True).stdout
    assert read(path)[0] == [float(row["pts_time"]) for row in json.loads(said)["frames"]]


@pytest.mark.parametrize(
    ("every", "expected"),
    [(0.5, [0.0, 0.5, 1.3, 2.0]), (1.0, [0.0, 1.3, 2.0]), (0.1, TIMES), (100, [0.0]), (0.7, [0.0, 1.3, 1.4])],
)
def test_the_first_frame_at_or_after_each_tick(uneven: Path, every: float, expected: list[float]) -> None:
    assert read(uneven, every=every)[0] == expected


def test_ticks_of_a_common_frame_rate(film: Film, tmp_path: Path) -> None:
    # 30000/1001 a second: no tick of a tenth of a second falls on a frame
    times = [n * 1001 / 30000 for n in range(60)]
    path = film(tmp_path / "a.mkv", [np.full((16, 16, 3), n, np.uint8) for n in range(60)], times=times, lossless=True)
    expected = [next(t for t in times if t >= k / 2 - 1e-3) for k in range(4)]
    assert read(path, every=0.5)[0] == pytest.approx(expected, abs=1e-3)


def turn(path: Path, matrix: tuple[int, ...]) -> None:
    """Write a display matrix, as telephones do, into the track header of an MP4 file."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


ONE, W = 0x10000, 0x40000000


@pytest.mark.parametrize(
    ("matrix", "shape", "red"),
    [
        ((0, ONE, 0, -ONE, 0, 0, 32 * ONE, 0, W), (64, 32, 3), np.s_[:28]),  # a quarter clockwise: left becomes top
        ((-ONE, 0, 0, 0, -ONE, 0, 64 * ONE, 32 * ONE, W), (32, 64, 3), np.s_[:, 36:]),
        ((0, -ONE, 0, ONE, 0, 0, 0, 64 * ONE, W), (64, 32, 3), np.s_[36:]),
    ],
    ids=["90", "180", "270"],
)
def test_rotation_is_applied(
    film: Film, tmp_path: Path, matrix: tuple[int, ...], shape: tuple[int, ...], red: tuple[slice, ...]
) -> None:
    path = film(tmp_path / "a.mp4", [halves(RED, BLUE)] * 2)
    turn(path, matrix)
    frame = read(path)[1][0]
    assert frame.shape == shape
    assert np.abs(frame[red].reshape(-1, 3).mean(axis=0) - RED).max() < 15


def test_pixels_become_square(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", numbered(1), "-aspect", "4:1", lossless=True)
    assert read(path)[1][0].shape == (32, 128, 3)


def test_large_frames_are_reduced_small_ones_are_not(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [halves(RED, BLUE, 120, 200)], lossless=True)
    small, same = read(path, side=60)[1][0], read(path, side=500)[1][0]
    assert (small.shape, same.shape) == ((60, 100, 3), (120, 200, 3))
    assert np.abs(small[:, :48].astype(int) - RED).max() < 8


def test_ten_bits_become_eight(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", [halves(RED, BLUE)], "-pix_fmt", "yuv420p10le", lossless=True)
    assert np.abs(read(path)[1][0][:, :24].astype(int) - RED).max() < 6


@pytest.fixture(scope="module")
def three(film: Film, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of three frames."""
    return film(tmp_path_factory.mktemp("three") / "a.mp4", numbered(3))


NAMES = ("-x.mp4", "-i.mp4", "a%d.mp4", "%03d.mkv", "concat:b.mp4", "pipe:0.mp4", "a'b [c];d,e.mp4", "käfer ☃.mp4")


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows does not allow")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_just_a_name(three: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(three, tmp_path / name))
    monkeypatch.chdir(tmp_path)
    assert len(read(path)[0]) == len(read(Path(name))[0]) == 3


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n"])
def test_a_playlist_cannot_name_other_files(three: Path, tmp_path: Path, text: str) -> None:
    shutil.copy(three, tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(ImageError, match="not a video"):
        open_video(str(tmp_path / "a.mp4"))


def test_one_frame(film: Film, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", numbered(1))
    assert read(path, every=0.5)[0] == [0.0]


def test_a_cut_off_video_ends_before_the_damage(film: Film, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(60)]
    path = film(tmp_path / "a.mkv", frames, lossless=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    times, pixels, reader = read(path)
    assert 20 < len(times) < 40
    assert reader.damage
    assert all(np.array_equal(a, b) for a, b in zip(pixels, frames, strict=False))  # nothing is filled in


def test_frames_from_the_damage_on_are_not_given(film: Film, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = film(tmp_path / "a.mkv", [random.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(60)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = random.bytes(4000)
    path.write_bytes(data)
    times, _, reader = read(path)
    assert 20 < len(times) < 40
    assert reader.damage


def test_what_is_no_video(film: Film, ffmpeg: str, tmp_path: Path, as_file: Callable[..., bytes]) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "picture.mp4").write_bytes(as_file(halves(RED, BLUE)))
    (tmp_path / "text.mp4").write_text("hello " * 100)
    whole = film(tmp_path / "whole.mp4", numbered(9)).read_bytes()
    (tmp_path / "head.mp4").write_bytes(whole[: whole.index(b"moov") + 8])
    (tmp_path / "start.mp4").write_bytes(whole[: whole.index(b"moov") - 8])  # the table of contents is at the end
    sound = ["-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac", str(tmp_path / "sound.mp4")]
    subprocess.run([ffmpeg, "-v", "error", *sound], check=True)
    for name, words in {
        "empty.mp4": "empty file",
        "picture.mp4": "a picture that is named like a video; rename it",
        "text.mp4": "not a video that can be read: ",
        "head.mp4": "not a video that can be read: there is nothing in it, perhaps it was cut off",
        "start.mp4": "not a video that can be read: moov atom not found",
        "sound.mp4": r"a video without pictures \(sound only\)",
        "missing.mp4": "file not found",
    }.items():
        with pytest.raises(ImageError, match=words) as caught:
            open_video(str(tmp_path / name))
        assert str(tmp_path) not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_length_without_decoding(uneven: Path) -> None:
    video = open_video(str(uneven))
    assert last_time(video) == 2.0
    assert video.seconds == pytest.approx(2.0, abs=0.2)


def test_leaving_early_ends_the_program(uneven: Path) -> None:
    with FrameReader(open_video(str(uneven))) as reader:
        next(iter(reader))
    assert reader._process.poll() is not None


@pytest.fixture
def no_ffmpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TOPWORK_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def test_without_ffmpeg_it_says_how_to_get_it(no_ffmpeg: None) -> None:
    with pytest.raises(MissingExtraError, match=r"program FFmpeg, which is not on this computer; install it with `apt"):
        find_ffmpeg()


def script(folder: Path, text: str) -> Iterator[Path]:
    for name in ("ffmpeg", "ffprobe"):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        yield path


@posix
def test_an_old_ffmpeg_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = script(tmp_path, "echo 'ffmpeg version 3.4.8'; echo 'libavutil      55. 78.100 / 55. 78.100'")
    monkeypatch.setenv("TOPWORK_FFMPEG", str(program))
    with pytest.raises(MissingExtraError, match=r"FFmpeg 4\.3 or newer, but .* is another \(ffmpeg version 3\.4\.8\)"):
        find_ffmpeg()


@posix
@pytest.mark.parametrize(("version", "option"), [("56. 70.100", "-vsync"), ("59. 39.100", "-fps_mode")])
def test_every_frame_is_asked_for_in_the_words_of_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, option: str
) -> None:
    program, _ = script(tmp_path, f"echo 'ffmpeg version N-109'; echo 'libavutil      {version} / {version}'")
    monkeypatch.setenv("TOPWORK_FFMPEG", str(program))
    assert find_ffmpeg().passthrough == (option, "passthrough")


@posix
def test_a_program_that_stands_still_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = script(tmp_path, "[ $1 = -version ] && echo 'libavutil      58. 1.100 /' && exit\nexec sleep 60")
    monkeypatch.setenv("TOPWORK_FFMPEG", str(program))
    monkeypatch.setattr(module, "_PATIENCE", 0.3)
    begun = time.monotonic()
    with FrameReader(Video("a.mp4", 0, 1.0)) as reader, pytest.raises(ImageError, match="no frame of it"):
        list(reader)
    assert reader.damage == "FFmpeg stood still for 0 s"
    assert time.monotonic() - begun < 20


def test_videos_are_known_by_name() -> None:
    assert is_video("a/b.MOV")
    assert not is_video("a/b.gif")
    assert not is_video("mp4")

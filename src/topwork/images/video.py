"""Videos, read by the system's FFmpeg: what is in a file, and its frames with their times.

FFmpeg runs as a program of its own. Names of files reach it as ``file:`` and an absolute path, so that none is taken
for an option, a protocol or a pattern; only containers of videos are opened, so that no playlist can name other files.
"""

import json
import math
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import ImageError, MissingExtraError
from topwork.images.decode import MAX_PIXELS, looks_like_a_picture
from topwork.images.storage import read_bytes
from topwork.shortage import shortage_of

_NAMES = "mp4 m4v mov avi mkv webm mpg mpeg mts m2ts wmv flv ogv 3gp 3g2 mxf"
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
_CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf"
_LIBAVUTIL = {(56, 51): "4.3", (57, 28): "5.1"}
_OLDEST, _WITH_FPS_MODE = _LIBAVUTIL
_HOW = "with `apt install ffmpeg`, `brew install ffmpeg` or `winget install ffmpeg`, or set TOPWORK_FFMPEG to its path"
_PATIENCE = 60.0  # seconds without a sign of life
_ROUNDING = 1e-4  # seconds; times are rounded to microseconds, so a frame may come a little before its tick
_DAMAGE = re.compile(
    r"corrupt (?:decoded frame|input packet)|error (?:while decoding|submitting)|invalid data found"
    r"|ended prematurely|partial file|concealing|truncat",
    re.IGNORECASE,
)
_FRAME = re.compile(r"n:\s*\d+ pts:\s*(-?\d+|NOPTS) .*? s:(\d+)x(\d+) ")
_BAD = re.compile(r"(?:\[[^\]]* @ [^\]]*\] )*\[(?:warning|error|fatal|panic)\]")
_PREFIX = re.compile(r"^(?:\[[^\]]*\] ?)+")  # of a line: who says it, and how bad it is

Pixels = NDArray[np.uint8]


def is_video(path: str) -> bool:
    """Whether a file is a video by its name.

    >>> is_video("bee/garden.MP4"), is_video("bee/garden.jpg")
    (True, False)
    """
    return PurePosixPath(path).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class Ffmpeg:
    """The two programs."""

    ffmpeg: str
    ffprobe: str
    passthrough: tuple[str, ...]
    """Options by which every frame is written once, whatever its time."""


def find_ffmpeg() -> Ffmpeg:
    """FFmpeg by the environment variable ``TOPWORK_FFMPEG``, else on the PATH.

    MissingExtraError where there is none, or one that is too old.
    """
    chosen = os.environ.get("TOPWORK_FFMPEG")
    ffmpeg = shutil.which(chosen or "ffmpeg")
    if ffmpeg is None:
        where = f"at {chosen} (TOPWORK_FFMPEG)" if chosen else "on this computer"
        raise MissingExtraError(f"videos are read by the program FFmpeg, which is not {where}; install it {_HOW}")
    beside = Path(ffmpeg).with_name(Path(ffmpeg).name.replace("ffmpeg", "ffprobe"))
    ffprobe = shutil.which(str(beside)) or shutil.which("ffprobe")
    if ffprobe is None:
        raise MissingExtraError(
            f"videos need ffprobe, which belongs to FFmpeg but is not beside {ffmpeg}; install it {_HOW}"
        )
    return _checked(ffmpeg, ffprobe)


@lru_cache(maxsize=8)
def _checked(ffmpeg: str, ffprobe: str) -> Ffmpeg:
    try:
        said = subprocess.run(
            [ffmpeg, "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=False
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        if short := shortage_of(error):
            raise short from error
        raise MissingExtraError(
            f"videos are read by FFmpeg, but {ffmpeg} does not run ({error}); install it {_HOW}"
        ) from error
    # Not the version of FFmpeg itself: builds from its repository have none.
    found = re.search(r"libavutil\s+(\d+)\.\s*(\d+)\.", said)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < _OLDEST:
        first = said.partition("\n")[0][:60] or "says no version"
        raise MissingExtraError(
            f"videos need FFmpeg {_LIBAVUTIL[_OLDEST]} or newer, but {ffmpeg} is another ({first}); install one {_HOW}"
        )
    return Ffmpeg(ffmpeg, ffprobe, ("-fps_mode" if version >= _WITH_FPS_MODE else "-vsync", "passthrough"))


@dataclass(frozen=True)
class Video:
    """What is known of a video before it is decoded. ``stream``: number of the pictures' stream in the file."""

    path: str
    stream: int
    seconds: float | None
    """Length as the file says it; None where it does not."""
    rate: float | None = None
    """Frames a second, on average, as the file says it."""


def open_video(path: str) -> Video:
    """Look into a local file; ImageError with the reason if it holds no moving pictures."""
    head = read_bytes(path, 16)
    if not head:
        raise ImageError("empty file")
    if looks_like_a_picture(head):
        raise ImageError("a picture that is named like a video; rename it")
    found = json.loads(_ffprobe("-show_format", "-show_streams", path=path))
    if not found.get("streams"):
        raise ImageError("not a video that can be read: there is nothing in it, perhaps it was cut off")
    streams = [row for row in found["streams"] if row.get("codec_type") == "video" and not _is_cover(row)]
    if not streams:
        raise ImageError("a video without pictures (sound only)")
    chosen = next((row for row in streams if row.get("disposition", {}).get("default")), streams[0])
    _check_size(chosen)
    length = _length(chosen) or _length(found.get("format", {}))
    return Video(path, int(chosen["index"]), length, _rate(chosen.get("avg_frame_rate", "")))


def _is_cover(stream: dict[str, Any]) -> bool:
    return any(stream.get("disposition", {}).get(kind) for kind in ("attached_pic", "timed_thumbnails", "still_image"))


def _check_size(stream: dict[str, Any]) -> None:
    """ImageError where a frame, as it is shown, is larger than a picture may be: a line of 640 pixels can stand for
    a million."""
    shape = _rate(stream.get("sample_aspect_ratio", "").replace(":", "/")) or 1
    pixels = stream.get("width", 0) * stream.get("height", 0) * max(shape, 1)
    if not pixels:  # FFmpeg looked into a frame, and found it too large
        raise ImageError(f"the size of its frames cannot be known, or is more than the limit of {MAX_PIXELS:,} pixels")
    if pixels > MAX_PIXELS:
        raise ImageError(f"frames of {pixels:,.0f} pixels, more than the limit of {MAX_PIXELS:,}")


def _length(facts: dict[str, Any]) -> float | None:
    try:
        seconds = float(facts["duration"])
    except (KeyError, ValueError):
        clock = re.fullmatch(r"(\d+):(\d+):([\d.]+)", facts.get("tags", {}).get("DURATION", ""))
        seconds = sum(float(n) * unit for n, unit in zip(clock.groups(), (3600, 60, 1), strict=True)) if clock else 0
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def _rate(text: str) -> float | None:
    """Of a fraction as FFmpeg writes it; None where it is not known.

    >>> _rate("30000/1001"), _rate("0/0")
    (29.97002997002997, None)
    """
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1) or None
    except (ValueError, ZeroDivisionError):
        return None


def last_time(video: Video) -> float:
    """When the last frame comes, in seconds, by looking through the file without decoding it; 0 if it is not known."""
    entries = ["-select_streams", str(video.stream), "-show_entries", "packet=pts_time:format=start_time"]
    found = json.loads(_ffprobe(*entries, path=video.path))
    times = [float(row["pts_time"]) for row in found.get("packets", []) if "pts_time" in row]
    return max(times, default=0.0) - float(found.get("format", {}).get("start_time", 0))


def _input(path: str) -> list[str]:
    bounds = ["-max_pixels", str(MAX_PIXELS)]  # of a frame, for the decoders
    return [
        *bounds,
        "-protocol_whitelist",
        "file,pipe",
        "-format_whitelist",
        _CONTAINERS,
        "-i",
        f"file:{os.path.abspath(path)}",
    ]


def _ffprobe(*options: str, path: str) -> bytes:
    command = [find_ffmpeg().ffprobe, "-v", "error", "-print_format", "json", *options, *_input(path)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=5 * _PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ImageError("FFmpeg found no end of it") from error
    if done.returncode:
        raise ImageError(f"not a video that can be read: {_reason(done.stderr.decode(errors='replace').splitlines())}")
    return done.stdout


def _reason(lines: Sequence[str]) -> str:
    """What FFmpeg says is wrong, without addresses and the file's path; ShortageError where it lacks memory."""
    texts = [_PREFIX.sub("", line).strip() for line in lines]
    if any("Cannot allocate memory" in text for text in texts) and (short := shortage_of(MemoryError())):
        raise short
    texts = [text.rpartition(": ")[2] if text.startswith("file:") else text for text in texts if text]
    named = next((text for text in texts if "whitelist" not in text), "")
    if any("whitelist" in text for text in texts):
        return "it is another kind of file"
    return named[:100] or "FFmpeg does not say why"


@dataclass(frozen=True, eq=False)
class Frame:
    """``time``: in seconds from the start of the video; ``pixels``: ``[h, w, 3]`` RGB, upright, pixels square."""

    time: float
    pixels: Pixels


class FrameReader:
    """The frames of a video in the order they are shown, decoded once; a context manager.

    ``every``: only the first frame at or after each multiple of so many seconds; None: all. ``side``: a frame whose
    shorter side is longer is reduced to that; None: as filmed. Times are those in the file, to the microsecond,
    whatever the frame rate. A damaged video ends before the damage: then ``damage`` says what is wrong.
    """

    def __init__(self, video: Video, *, every: float | None = None, side: int | None = None) -> None:
        self.decoded = 0
        """Frames decoded so far."""
        self.time = 0.0
        """When the last of them is shown."""
        self.damage: str | None = None
        self._video = video
        self._said: list[str] = []
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        program = find_ffmpeg()
        command = [
            program.ffmpeg,
            "-nostdin",
            "-hide_banner",
            "-nostats",
            "-loglevel",
            "level+info",
            *_input(video.path),
        ]
        command += ["-map", f"0:{video.stream}", "-an", "-sn", "-dn", "-filter:v", _filters(every, side)]
        command += [*program.passthrough, "-c:v", "rawvideo", "-f", "rawvideo", "pipe:1"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._listener.join()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        """Turn what FFmpeg says into events: it says when each frame is shown before it writes the frame."""
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip()
            if line.startswith("[showinfo@"):
                if found := _FRAME.search(line):
                    time = None if found[1] == "NOPTS" else int(found[1]) / 1e6
                    name = "decoded" if line.startswith("[showinfo@all") else "frame"
                    self._events.put((name, (time, int(found[2]), int(found[3]))))
            elif _BAD.match(line):
                self._events.put(("damage" if _DAMAGE.search(line) else "complaint", line))
        self._events.put(("end", None))

    def __iter__(self) -> Iterator[Frame]:
        """The frames; ImageError where not one can be decoded."""
        given = 0
        while True:
            try:
                name, value = self._events.get(timeout=_PATIENCE)
            except queue.Empty:
                self.damage = f"FFmpeg stood still for {_PATIENCE:.0f} s"
                break
            if name == "decoded":
                self.decoded += 1
                self.time = self.time if value[0] is None else value[0]
            elif name == "frame":
                # What the header says is not what must come.
                pixels = self._read(*value[1:]) if math.prod(value[1:]) <= MAX_PIXELS else None
                if pixels is None:
                    break
                given += 1
                yield Frame(self.time, pixels)
            elif name == "end":
                break
            else:
                self._said.append(value)
                # Before the first frame there may be leftovers of what was cut off when the recording began.
                if name == "damage" and self.decoded:
                    self.damage = _reason([value])
                    break
        if not given:
            raise ImageError(f"no frame of it can be decoded: {_reason(self._said)}")
        self._check_end()

    def _read(self, width: int, height: int) -> Pixels | None:
        assert self._process.stdout is not None
        data = self._process.stdout.read(width * height * 3)
        return np.frombuffer(data, np.uint8).reshape(height, width, 3) if len(data) == width * height * 3 else None

    def _check_end(self) -> None:
        """A container that was cut off may be read without an error, but it ends before its time."""
        seconds = self._video.seconds
        if self.damage is None and seconds is not None and self.time < 0.9 * seconds - 1:
            self.damage = f"its pictures end at {self.time:.1f} of {seconds:.1f} s"


def _filters(every: float | None, side: int | None) -> str:
    """The filter graph; FFmpeg itself turns the frames upright before it."""
    tick = f"floor(({{}}+{_ROUNDING})/{every or 1:.9f})"
    steps = ["settb=1/1000000", "showinfo@all=checksum=0"]
    if every is not None:
        steps.append(f"select='gte(t,-{_ROUNDING})*(isnan(prev_t)+gt({tick.format('t')},{tick.format('prev_t')}))'")
    factor = "1" if side is None else f"min(1,{side}/min(iw*sar,ih))"
    steps.append(
        f"scale=w='max(1,round(iw*sar*{factor}))':h='max(1,round(ih*{factor}))'"
        ":flags=area+accurate_rnd+full_chroma_int+bitexact"
    )
    return ",".join([*steps, "format=rgb24", "showinfo@kept=checksum=0"])

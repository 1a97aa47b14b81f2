"""A video of pictures, written by the system's FFmpeg."""

import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from topwork import storage, temporary
from topwork.errors import TopworkError, UsageError
from topwork.images.video import find_ffmpeg

FORMATS = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"  # as most encoders want it: the last column or row is black then


def check_name(path: Path) -> None:
    """UsageError for a name that is not one of a video that can be written."""
    if path.suffix.lower() not in FORMATS:
        kinds = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise UsageError(f"expected a video to write, {kinds}, not {path}; choose another name")


class VideoWriter:
    """Writes pictures of one size, ``rate`` a second; a context manager.

    The file is there only when all went well; until then an earlier one stays. ``sound``: a video whose sound is taken
    over. UsageError for a name of another kind, TopworkError where FFmpeg cannot write it.

    >>> VideoWriter(Path("waves.gif"), 25)
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: expected a video to write, .mp4, .mov, .mkv, .webm or .avi, not waves.gif; ...
    """

    def __init__(self, path: Path, rate: float, *, sound: Path | None = None) -> None:
        check_name(path)
        self._path, self._rate, self._sound = path, rate, sound
        self._program = find_ffmpeg().ffmpeg
        self._beside = ExitStack()
        self._part = path
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Append a picture ``[h, w, 3]`` uint8."""
        if self._process is None:
            self._process = self._started(pixels.shape[1], pixels.shape[0])
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(pixels).tobytes())
        except BrokenPipeError:
            raise self._failure() from None

    def _started(self, width: int, height: int) -> subprocess.Popen[bytes]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._part = self._beside.enter_context(temporary.folder_beside(self._path)) / self._path.name
        except OSError as error:
            raise self._unwritable(error) from error
        command = [self._program, "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{width}x{height}", "-r", f"{self._rate:.6f}", "-i", "pipe:0"]
        if self._sound is not None:
            command += ["-i", f"file:{self._sound.absolute()}", "-map", "0:v", "-map", "1:a?"]
        command += ["-vf", _EVEN, "-pix_fmt", "yuv420p", "-q:v", "3", f"file:{self._part.absolute()}"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said)

    def _failure(self) -> TopworkError:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        why = lines[-1] if lines else "it does not say why"
        return TopworkError(f"FFmpeg cannot write {self._path} ({why}); choose another name or kind, such as .mp4")

    def _unwritable(self, error: OSError) -> TopworkError:
        return TopworkError(f"cannot write {self._path}: {storage.reason(error)}; choose another place")

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._process is not None:
                self._end(complete=kind is None)
        finally:
            self._said.close()
            self._beside.close()

    def _end(self, *, complete: bool) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not complete:
            self._process.kill()
        with suppress(BrokenPipeError):  # it ended before; its exit code says whether it failed
            self._process.stdin.close()
        if self._process.wait() and complete:
            raise self._failure()
        if complete:
            try:
                self._part.replace(self._path)
            except OSError as error:
                raise self._unwritable(error) from error

"""Decoding pictures of a stranger in a process of its own, which is ended when it takes too long.

`topwork.images.decode` looks at what a file promises first, and its limits hold work and memory of every known kind of
bomb to seconds; but the decoders below it are large and written in C. A server that answers strangers decodes here: an
endless loop, a crash and an allocation that nobody thought of cost one worker, and the next picture gets a new one.

This module is both ends: `Guard` starts the interpreter on it, and then it reads requests from standard input. A
message is a line of JSON and as many bytes as the line says.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

import topwork
from topwork.errors import ImageError, ShortageError
from topwork.images.decode import DecodePolicy, Picture, decode

SECONDS = 10.0
"""For one picture."""
MEMORY = 1 << 30
"""Bytes that a worker may take beside its own code, on Linux; the limits of `decode` hold everywhere."""
_STARTING = 60.0  # seconds for an interpreter with NumPy on a busy computer
_READY = "ready"


class Guard:
    """One worker, started when it is needed first and again after it was ended; safe to use from several threads.

    A picture that takes more than ``seconds`` or more than ``memory`` bytes, or that crashes its decoder, is refused
    with an ImageError.

    >>> from topwork.images.guarded import Guard
    >>> with Guard(seconds=30) as guard:
    ...     guard.decode(b"GIF89a")
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: truncated GIF: ...
    """

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self.seconds, self.memory = seconds, memory
        self._worker: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker; the next picture starts another one."""
        with self._one_at_a_time:
            self._end()

    def decode(self, data: bytes, policy: DecodePolicy | None = None) -> Picture:
        """The picture in ``data``, as `topwork.images.decode` gives it."""
        with self._one_at_a_time:
            answer = self._asked(data, policy or DecodePolicy())
            if answer is None:  # perhaps it was ended by the system, for something else
                answer = self._asked(data, policy or DecodePolicy())
        if answer is None:
            raise ImageError("a picture that ended its decoder twice; it is damaged or made to do so")
        said, pixels = answer
        if "error" in said:
            raise ImageError(said["error"])
        shape = said.pop("shape")
        return Picture(np.frombuffer(pixels, np.uint8).reshape(shape), **{**said, "notes": tuple(said["notes"])})

    def _asked(self, data: bytes, policy: DecodePolicy) -> tuple[dict[str, Any], bytes] | None:
        """The worker's answer, None if it ended; ImageError if it had to be ended."""
        worker = self._started()
        with _Deadline(worker, self.seconds) as deadline:
            try:
                _send(worker.stdin, asdict(policy), data)
                return _receive(worker.stdout)
            except (OSError, EOFError, ValueError) as error:
                self._end()
                if not deadline.passed:
                    return None
                raise ImageError(
                    f"a picture that took more than {self.seconds:g} s to decode; it is damaged or made to do so"
                ) from error

    def _started(self) -> subprocess.Popen[bytes]:
        if self._worker is not None and self._worker.poll() is None:
            return self._worker
        self._end()
        found = str(Path(topwork.__file__).parents[1])  # -P: nothing is imported from the current folder
        path = os.pathsep.join(filter(None, (found, os.environ.get("PYTHONPATH"))))
        worker = self._worker = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        )
        with _Deadline(worker, _STARTING):
            try:
                _receive(worker.stdout)
            except (OSError, EOFError, ValueError) as error:
                self._end()
                raise ImageError("its decoder could not be started; try again") from error
        return worker

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.kill()
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not sent yet
                    continue
        worker.wait()


class _Deadline:
    """Kills a worker that is still at it after some seconds, so that reading from it ends."""

    def __init__(self, worker: subprocess.Popen[bytes], seconds: float) -> None:
        self.passed = False
        self._worker = worker
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _pass(self) -> None:
        self.passed = True
        self._worker.kill()


_shared = Guard()
atexit.register(_shared.close)


def decode_guarded(data: bytes, policy: DecodePolicy | None = None) -> Picture:
    """As `topwork.images.decode`, in one worker of this process with the limits ``SECONDS`` and ``MEMORY``.

    For pictures that come from others, such as those of a request: one at a time. `Guard` is for other limits.

    >>> from topwork.images.guarded import decode_guarded
    >>> decode_guarded(b"this is text")
    Traceback (most recent call last):
    ...
    topwork.errors.ImageError: not a picture that can be read ...: it is text, starting with 'this is text'
    """
    return _shared.decode(data, policy)


def _send(stream: IO[bytes] | None, said: dict[str, Any], data: bytes | memoryview = b"") -> None:
    assert stream is not None
    stream.write(json.dumps({**said, "bytes": len(data)}).encode() + b"\n")
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> tuple[dict[str, Any], bytes]:
    assert stream is not None
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    said = json.loads(line)
    size = said.pop("bytes")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return said, data


def _limit_memory(extra: int) -> None:
    """Where the system can: Linux. (macOS does not keep to such a limit, Windows has none.)"""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, hard))


def _answer(data: bytes, policy: DecodePolicy) -> tuple[dict[str, Any], bytes]:
    try:
        found = decode(data, policy)
        said = {name: getattr(found, name) for name in ("format", "mode", "width", "height", "notes")}
        return {**said, "shape": found.pixels.shape}, found.pixels.tobytes()
    except ImageError as error:
        return {"error": str(error)}, b""
    except (ShortageError, MemoryError):
        return {"error": "a picture that takes more memory than is allowed for it"}, b""


def _work(memory: int) -> None:
    _limit_memory(memory)
    _send(sys.stdout.buffer, {"state": _READY})
    while True:
        try:
            policy, data = _receive(sys.stdin.buffer)
        except EOFError:  # whoever asks is gone
            return
        _send(sys.stdout.buffer, *_answer(data, DecodePolicy(**policy)))


if __name__ == "__main__":
    _work(int(sys.argv[1]))

"""What several folders of tests share: a cache of their own, generated pictures, one small fitted model."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Torch's threads spin while they wait for each other: two processes on two cores took four times as long together. It
# is read when torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

pytest_plugins = ("chromium",)

CLASSES = ("checks", "dots", "stripes")


# Where the machine is ours to set up, a test that did not run must not look like one that passed.
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    may_be_left_out = item.get_closest_marker("gpu") or item.get_closest_marker("network")
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail") and not may_be_left_out:
        report.outcome = "failed"
        report.longrepr = f"left out, but in CI every test runs that is not marked gpu or network: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report: Any = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"left out, but in CI every file of tests is read: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of the session: no test reads or writes the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPWORK_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture
def empty_cache(cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without features, for tests that count hits; graphs that are there already come along."""
    folder = tmp_path / "own_cache"
    folder.mkdir()
    if (cache_folder / "graphs").is_dir():
        shutil.copytree(cache_folder / "graphs", folder / "graphs")
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(folder))
    return folder


def _pattern(kind: str, seed: int, height: int = 110, width: int = 140) -> np.ndarray:
    """[h, w, 3]: a noisy texture of a random colour; ``kind`` is one of CLASSES, or "any" for blocks of no class."""
    random = np.random.default_rng([seed, len(kind), height, width])
    y, x = np.mgrid[:height, :width]
    if kind == "any":
        picture = np.full((height, width, 3), random.uniform(0, 255, 3))
        for _ in range(9):
            top, left = random.integers(0, height - 30), random.integers(0, width - 40)
            tall, wide = random.integers(20, 60), random.integers(20, 80)
            picture[top : top + tall, left : left + wide] = random.uniform(0, 255, 3)
        return np.clip(picture + random.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    u, v = 2 * np.pi * x / random.uniform(9, 16) + random.uniform(0, 6), 2 * np.pi * y / random.uniform(9, 16)
    wave = {"checks": np.sign(np.sin(u) * np.sin(v)), "dots": np.cos(u) * np.cos(v), "stripes": np.sin(u)}[kind]
    picture = random.uniform(60, 200, 3) + 60 * wave[..., None] * random.uniform(0.5, 1, 3)
    return np.clip(picture + random.normal(0, 15, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pattern() -> Callable[..., np.ndarray]:
    return _pattern


@pytest.fixture(scope="session")
def as_file() -> Callable[..., bytes]:
    """The bytes of an array as a file of some format."""

    def make(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def photo_set(as_file: Callable[..., bytes]) -> Callable[..., Path]:
    """Make a folder with a subfolder per class, ``n`` pictures each; other seeds give other pictures."""

    def make(root: Path, n: int = 6, *, classes: Sequence[str] = CLASSES, first: int = 0) -> Path:
        for name in classes:
            (root / name).mkdir(parents=True, exist_ok=True)
            for seed in range(first, first + n):
                (root / name / f"{seed:03}.png").write_bytes(as_file(_pattern(name, seed)))
        return root

    return make


@dataclass(frozen=True)
class Fitted:
    """A model that was fitted once for the whole session; copy ``folder`` before changing anything in it."""

    photos: Path
    folder: Path
    fit: Any

    @property
    def facts(self) -> dict[str, Any]:
        return self.fit.facts  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory, photo_set: Callable[..., Path]) -> Path:
    """24 pictures in three classes."""
    return photo_set(tmp_path_factory.mktemp("photos"), 8)


@pytest.fixture(scope="session")
def long_photos(
    tmp_path_factory: pytest.TempPathFactory, pattern: Callable[..., np.ndarray], as_file: Callable[..., bytes]
) -> Path:
    """28 pictures of 64 x 320 in two classes: what tells them apart is at one end, the middle is alike for both."""
    root = tmp_path_factory.mktemp("long")
    for label in ("checks", "stripes"):
        (root / label).mkdir()
        for seed in range(14):
            picture = pattern("any", 100 * (label == "checks") + seed, 64, 320)
            end = slice(0, 64) if seed % 2 else slice(256, 320)
            picture[:, end] = pattern(label, seed, 64, 64)
            (root / label / f"{seed:02}.png").write_bytes(as_file(picture))
    return root


@pytest.fixture(scope="session")
def fitted(cache_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model of ``photos`` with a head on pooled features."""
    import topwork

    folder = tmp_path_factory.mktemp("models") / "small.topwork"
    return Fitted(photos, folder, topwork.fit(photos, topwork.Recipe(head="lda", features="pooled"), output=folder))


@pytest.fixture(scope="session")
def fitted_logits(cache_folder: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A model of ``photos`` with a head on logits."""
    import topwork

    folder = tmp_path_factory.mktemp("models") / "logits.topwork"
    recipe = topwork.Recipe(head="svm", features="logits", geometry="pad")
    return Fitted(photos, folder, topwork.fit(photos, recipe, output=folder))


@pytest.fixture
def model_copy(fitted: Fitted, tmp_path: Path) -> Path:
    """A copy of the fitted model's folder, to do harm to."""
    return Path(shutil.copytree(fitted.folder, tmp_path / "copy.topwork"))


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program text in a fresh interpreter."""

    def run(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **environment},
        )

    return run


@pytest.fixture
def topwork_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: exit code, stdout, stderr."""
    from topwork.cli.app import run

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The program; tests that need it are skipped where it is not installed."""
    from topwork.errors import MissingExtraError
    from topwork.images.video import find_ffmpeg

    try:
        return find_ffmpeg().ffmpeg
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def film(ffmpeg: str) -> Callable[..., Path]:
    """Make a video of frames ``[h, w, 3]`` with even sides, shown at ``times`` in seconds, else 10 a second.

    Only encoders that every FFmpeg has; ``lossless`` for exact pixels. More options go to FFmpeg.
    """
    from topwork.images.video import find_ffmpeg

    def make(
        path: Path,
        frames: Sequence[np.ndarray],
        *options: str,
        times: Sequence[float] | None = None,
        lossless: bool = False,
    ) -> Path:
        height, width = frames[0].shape[:2]
        shown = [f"eq(N,{n})*{round(1000 * time)}" for n, time in enumerate(times or np.arange(len(frames)) / 10)]
        command = [ffmpeg, "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        command += ["-r", "10", "-i", "pipe:0", "-filter:v", f"settb=1/1000,setpts='{'+'.join(shown)}'"]
        command += [*find_ffmpeg().passthrough, "-enc_time_base", "1:1000", "-bf", "0"]
        command += ["-c:v", "ffv1"] if lossless else ["-c:v", "mpeg4", "-q:v", "2"]
        path.parent.mkdir(parents=True, exist_ok=True)
        data = b"".join(np.ascontiguousarray(frame, np.uint8).tobytes() for frame in frames)
        subprocess.run([*command, *options, f"file:{path.absolute()}"], input=data, check=True, timeout=60)
        return path

    return make

"""Every command and every piece of Python in the README and in docs/ runs, and the generated parts are up to date."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from topwork.cli.app import run
from topwork.recipe import Recipe

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
HAS_FFMPEG = shutil.which("ffmpeg") is not None
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of one language on a page."""
    return [text for found, text in BLOCK.findall(page.read_text(encoding="utf-8")) if found == language]


@pytest.fixture(scope="module")
def workplace(
    tmp_path_factory: pytest.TempPathFactory,
    photo_set: Callable[..., Path],
    empty_module_cache: None,
    request: pytest.FixtureRequest,
) -> Path:
    """A folder with everything that the examples name."""
    folder = tmp_path_factory.mktemp("workplace")
    photo_set(folder / "PHOTOS", 6)
    photo_set(folder / "MORE_PHOTOS", 3, first=50)
    (folder / "dir").mkdir()
    pictures = sorted((folder / "MORE_PHOTOS").rglob("*.png"))
    for name, picture in zip(("a.jpg", "b.jpg", "dir/c.jpg"), pictures, strict=False):
        shutil.copy(picture, folder / name)
    rows = [f"{p.relative_to(folder)},{p.parent.name}" for p in sorted((folder / "PHOTOS").rglob("*.png"))]
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for picture in (folder / "PHOTOS").rglob("*.png"):
            archive.write(picture, picture.relative_to(folder / "PHOTOS"))
    doodles(folder / "DOODLES")
    if HAS_FFMPEG:
        videos(folder, request.getfixturevalue("film"), request.getfixturevalue("pattern"))
    assert run(["fit", str(folder / "PHOTOS"), "-o", str(folder / "cars.topwork")]) == 0
    assert run(["index", str(folder / "PHOTOS"), "-o", str(folder / "photos.index")]) == 0
    return folder


def videos(folder: Path, film: Callable[..., Path], pattern: Callable[..., np.ndarray]) -> None:
    """Three videos of two seconds in each of two classes, and one of both."""
    for kind in ("checks", "stripes"):
        for n in range(3):
            frames = [pattern(kind, 100 * n + k) for k in range(5)]
            film(folder / "VIDEOS" / kind / f"{n}.mp4", frames, times=[k / 2 for k in range(5)])
    frames = [pattern(kind, 900 + k) for kind in ("checks", "stripes") for k in range(4)]
    film(folder / "clip.mp4", frames, times=[k / 2 for k in range(8)])


def needs_ffmpeg(text: str) -> None:
    """Skip an example about videos where they cannot be read."""
    if not HAS_FFMPEG and re.search("VIDEOS|clip|frames|filmed", text):
        pytest.skip("FFmpeg is not installed")


def doodles(folder: Path) -> None:
    """QuickDraw files of three simple shapes, each drawing a little different."""
    folder.mkdir()
    turn = np.linspace(0, 2 * np.pi, 20)
    shapes = {
        "circle": [[np.cos(turn), np.sin(turn)]],
        "cross": [[[-1, 0, 1], [-1, 0, 1]], [[-1, 0, 1], [1, 0, -1]]],
        "zigzag": [[[-3, -2, -1, 0, 1, 2, 3], [0, 1, 0, 1, 0, 1, 0]]],
    }
    for word, strokes in shapes.items():
        random = np.random.default_rng(len(word))
        shaky = [
            [100 * np.asarray(stroke) + random.normal(0, 8, np.shape(stroke)) for stroke in strokes] for _ in range(12)
        ]
        rows = [{"word": word, "recognized": True, "drawing": [s.tolist() for s in drawing]} for drawing in shaky]
        (folder / f"{word}.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def empty_module_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """`topwork cache clear` stands among the examples; it must not clear what other tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPWORK_CACHE_DIR", str(tmp_path_factory.mktemp("docs_cache")))
        yield


def commands() -> list[tuple[str, str]]:
    """All lines of shell blocks that call topwork, with their page."""
    lines = [(page.name, line) for page in PAGES for text in blocks(page, "sh") for line in text.splitlines()]
    return [(page, line.split("  #")[0].strip()) for page, line in lines if line.startswith("topwork ")]


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_run(page: str, command: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_ffmpeg(command)
    monkeypatch.chdir(workplace)
    assert run(shlex.split(command)[1:]) == 0, f"{page}: {command}"


@pytest.mark.parametrize(
    ("page", "code"), [(page.name, code) for page in PAGES for code in blocks(page, "python")], ids=lambda v: v[:20]
)
def test_python_runs(page: str, code: str, workplace: Path) -> None:
    needs_ffmpeg(code)
    done = subprocess.run([sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True)
    assert done.returncode == 0, f"{page}: {done.stderr}"


def test_the_recipe_in_the_documentation_is_the_default() -> None:
    (text,) = blocks(ROOT / "docs" / "fit.md", "toml")
    assert tomllib.loads(text) == Recipe().to_dict()


def test_links_and_pictures_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_public_names_are_documented() -> None:
    import topwork

    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    missing = [name for name in topwork.__all__ if f"`{name}" not in text]
    assert not missing
    named = set(re.findall(r"^\| `(\w+)", text, re.MULTILINE))
    assert named == set(topwork.__all__)


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""QuickDraw files of toys, of which it is known what can be told apart."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.backbones.extra import torch_threads


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are faster in one thread where other tests run at the same time."""
    with torch_threads(1):
        yield


def _circle(random: np.random.Generator, *, backwards: bool) -> np.ndarray:
    """[17, 2]: a shaky circle from a random start, this way round or the other."""
    angle = random.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, 17) * (-1 if backwards else 1)
    return 100 * np.column_stack([np.cos(angle), np.sin(angle)]) + random.normal(0, 3, (17, 2))


def _line_of(word: str, *strokes: np.ndarray, **others: Any) -> str:
    return json.dumps({"word": word, "drawing": [stroke.T.round(2).tolist() for stroke in strokes], **others}) + "\n"


@pytest.fixture(scope="session")
def line_of() -> Callable[..., str]:
    """A line of a QuickDraw file: word, strokes [points, 2], what else stands in it."""
    return _line_of


@pytest.fixture(scope="session")
def turns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Circles drawn clockwise and anticlockwise, 40 each: the pictures are alike, the strokes are not."""
    folder = tmp_path_factory.mktemp("turns")
    for word, backwards in (("clockwise", False), ("anticlockwise", True)):
        random = np.random.default_rng(int(backwards))
        lines = [_line_of(word, _circle(random, backwards=backwards)) for _ in range(40)]
        (folder / f"{word}.ndjson").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Circles and squares, 12 each."""
    folder = tmp_path_factory.mktemp("rings")
    random = np.random.default_rng(7)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]])
    squares = [_line_of("square", 100 * corners + random.normal(0, 4, (5, 2))) for _ in range(12)]
    circles = [_line_of("circle", _circle(random, backwards=False)) for _ in range(12)]
    (folder / "square.ndjson").write_text("".join(squares))
    (folder / "circle.ndjson").write_text("".join(circles))
    return folder

"""Golden pictures: generated patterns and the answers of the measured graph, kept with every model.

Whatever runs the model later (another runtime, a browser, a server) can be held to these answers. The patterns come
from a seed, so nothing of the training pictures leaks.
"""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

_SHAPES = ((224, 224), (300, 200), (97, 163), (31, 480))


def patterns(seed: int = 0) -> list[Pixels]:
    """Smooth coloured patterns with some noise, ``[h, w, 3] uint8``, of several shapes.

    >>> [p.shape for p in patterns()][:2]
    [(224, 224, 3), (300, 200, 3)]
    """
    random = np.random.default_rng(seed)
    return [_pattern(random, height, width) for height, width in _SHAPES]


def _pattern(random: np.random.Generator, height: int, width: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = np.zeros((height, width, 3))
    for frequency in (2, 5, 11, 23):
        angle, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi, 3)
        along = np.cos(angle) * x + np.sin(angle) * y
        waves += np.sin(2 * np.pi * frequency * along[..., None] + phase) / frequency**0.5
    noisy = 127 + 60 * waves + random.normal(0, 8, waves.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def golden_files(answer: Callable[[Pixels], dict[str, Any]], seed: int = 0) -> dict[str, bytes]:
    """The files of the folder ``golden``: PNG pictures, and their ``answer`` (plain values) in answers.json."""
    files: dict[str, bytes] = {}
    answers: dict[str, Any] = {}
    for number, pixels in enumerate(patterns(seed)):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        files[f"golden/{number}.png"] = buffer.getvalue()
        answers[f"{number}.png"] = answer(pixels)
    files["golden/answers.json"] = json.dumps(answers, indent=1).encode()
    return files

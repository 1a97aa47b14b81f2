"""Drawings as they looked when a person last looked at them: ``golden/drawings.png``, four styles side by side.

After a change on purpose: look at what ``python tests/images/test_images_golden.py`` writes, then commit it.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from topwork.images.quickdraw import Drawing, render

GOLDEN = Path(__file__).parent / "golden" / "drawings.png"


def house() -> Drawing:
    """A roof, a wall, a door, a sun and a lone dot."""
    turn = np.linspace(0, 2 * np.pi, 24)
    strokes = [
        [[20, 120, 220], [110, 30, 110]],
        [[40, 40, 200, 200], [110, 240, 240, 110]],
        [[100, 100, 140, 140], [240, 170, 170, 240]],
        [230 + 22 * np.cos(turn), 30 + 22 * np.sin(turn)],
        [[130], [205]],
    ]
    return Drawing("house", tuple(np.stack(stroke, axis=1).astype(np.float32) for stroke in map(np.asarray, strokes)))


def sheet() -> np.ndarray:
    """[64, 256, 3]: thin, thick, coloured, inverted."""
    styles = ({"stroke_width": 1.0}, {"stroke_width": 4.0}, {"colour": True}, {"inverted": True, "padding": 8.0})
    return np.hstack([render(house(), size=64, **style) for style in styles])


def test_drawings_look_as_they_did() -> None:
    golden = np.asarray(Image.open(GOLDEN)).astype(int)
    assert golden.shape == (64, 256, 3)
    assert len(np.unique(golden)) > 50
    assert np.abs(sheet() - golden).max() <= 1  # rounding of another processor


if __name__ == "__main__":
    Image.fromarray(sheet()).save(GOLDEN)

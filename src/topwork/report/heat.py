"""Values over a picture, in the one way that all pages have: orange speaks for the class, blue against it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from topwork.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

FOR, AGAINST = (214, 72, 20), (32, 102, 192)
"""Colours of values that speak for and against the class: told apart by colour-blind eyes too."""
DIMMED = 0.35  # brightness of what the network did not see
STRENGTH = 0.85  # opacity of the strongest value


def map_over(
    pixels: "NDArray[np.uint8]", values: "NDArray[np.floating[Any]]", box: Sequence[float] | None = None, *, side: int
) -> "tuple[Image.Image, float]":
    """The picture nearly in grey with the values over it, as RGB, and the value that has the full colour.

    ``pixels`` are ``[h, w, 3] uint8``; the longest side of the result is ``side`` pixels. ``values`` ``[h', w']``,
    signed and of any unit, cover the ``box`` ``(left, top, right, bottom)`` in pixels of the picture (default: all of
    it), which may reach beyond it, as it does where the network saw a padded picture. Full colour has the strength that
    half a percent of the pixels exceed; NaN counts as 0. What lies outside of the box is dimmed. UsageError for other
    shapes.

    >>> import numpy as np
    >>> map_over(np.zeros((50, 80, 3), np.uint8), np.eye(3, dtype=np.float32), (15, 0, 65, 50), side=160)[1]
    1.0
    """
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(values, np.float32), posinf=0, neginf=0)
    if values.ndim != 2 or values.size == 0:
        raise UsageError(f"expected a heat map [h, w], got shape {values.shape}; pass one class's map")
    height, width = pixels.shape[:2]
    box = (0, 0, width, height) if box is None else box
    if box[2] <= box[0] or box[3] <= box[1]:
        raise UsageError(f"expected a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {tuple(box)}")
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    placed, seen = _placed(values, [edge * scale for edge in box], size)
    full = float(np.percentile(np.abs(placed[seen]), 99.5)) if seen.any() else 0.0
    grey = np.asarray(small.convert("L"), np.float32)[..., None]
    base = (0.35 * np.asarray(small, np.float32) + 0.65 * grey) * np.where(seen, 1.0, DIMMED)[..., None]
    return coloured(base, (placed / (full or 1.0)).clip(-1, 1)), full


def coloured(base: "NDArray[np.float32]", values: "NDArray[np.float32]") -> "Image.Image":
    """Colours for ``values`` -1..1 ``[h, w]`` over ``base`` ``[h, w, 3]``.

    >>> import numpy as np
    >>> coloured(np.zeros((1, 1, 3), np.float32), np.zeros((1, 1), np.float32)).getpixel((0, 0))
    (0, 0, 0)
    """
    import numpy as np
    from PIL import Image

    opacity = STRENGTH * np.abs(values)[..., None]
    ink = np.where(values[..., None] > 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    return Image.fromarray((base * (1 - opacity) + ink * opacity).clip(0, 255).astype(np.uint8))


def _placed(
    values: "NDArray[np.float32]", box: Sequence[float], size: tuple[int, int]
) -> "tuple[NDArray[np.float32], NDArray[np.bool_]]":
    """The values at every pixel of a picture of ``size`` (width, height), 0 outside of the box, and what is inside."""
    import numpy as np
    from PIL import Image

    left, top, right, bottom = (round(edge) for edge in box)
    across, down = max(1, right - left), max(1, bottom - top)
    canvas, inside = Image.new("F", size), Image.new("L", size)
    canvas.paste(Image.fromarray(values).resize((across, down), Image.Resampling.BILINEAR), (left, top))
    inside.paste(1, (left, top, left + across, top + down))
    return np.asarray(canvas, np.float32), np.asarray(inside) > 0

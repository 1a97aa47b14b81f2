"""Small pictures for a report: thumbnails, and heat maps drawn over them."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from topwork.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# Dark to light with steadily rising luminance, so that the order survives grey printing and colour blindness.
COLOURS = ((18, 10, 60), (88, 18, 110), (156, 36, 104), (210, 72, 66), (244, 142, 36), (252, 226, 120))
DIMMED = 0.35  # brightness of what the network did not see
STRENGTH = 0.8  # opacity of the strongest heat


@dataclass(frozen=True)
class Thumb:
    """A picture as a report shows it.

    >>> Thumb(picture=b"...", heatmap=None, width=192, height=128).width
    192
    """

    picture: bytes
    """The thumbnail, as JPEG."""
    heatmap: bytes | None
    """The thumbnail with its heat map over it, as JPEG of the same size."""
    width: int
    """Width of the thumbnail in pixels."""
    height: int
    """Height of the thumbnail in pixels."""

    @classmethod
    def of(
        cls,
        pixels: "NDArray[np.uint8]",
        heat: "NDArray[np.floating[Any]] | None" = None,
        box: tuple[float, float, float, float] | None = None,
        size: int = 192,
    ) -> "Thumb":
        """The thumbnail of ``pixels`` ``[h, w, 3] uint8``, with ``heat`` drawn over it where there is any.

        The longest side is ``size`` pixels, be it enlarged; ``heat`` and ``box`` as in ``overlay``. Anything but
        ``[h, w, 3] uint8`` with at least one pixel raises UsageError.

        >>> import numpy as np
        >>> thumb = Thumb.of(np.zeros((400, 300, 3), np.uint8))
        >>> thumb.picture[:3], thumb.width, thumb.height
        (b'\\xff\\xd8\\xff', 144, 192)
        """
        small = _shrink(pixels, size)
        heatmap = None if heat is None else overlay(pixels, heat, box, size)
        return cls(_jpeg(small), heatmap, *small.size)


def overlay(
    pixels: "NDArray[np.uint8]",
    heat: "NDArray[np.floating[Any]]",
    box: tuple[float, float, float, float] | None = None,
    size: int = 192,
) -> bytes:
    """A JPEG of the picture with its heat map over it; longest side ``size`` pixels.

    ``pixels`` is ``[h, w, 3] uint8``; ``heat`` is ``[h', w']``, any size and unit: its positive part is
    scaled to its maximum, the rest (and NaN) counts as no heat. ``box = (x0, y0, x1, y1)`` is the part of the
    picture the heat covers, in pixels of ``pixels`` (default: all of it); it may reach beyond the picture, as
    it does when the network saw a padded one. What lies outside is dimmed. Wrong shapes raise UsageError.

    >>> import numpy as np
    >>> overlay(np.zeros((400, 300, 3), np.uint8), np.eye(7), box=(0, 50, 300, 350))[:3]
    b'\\xff\\xd8\\xff'
    """
    import numpy as np
    from PIL import Image

    heat = np.asarray(heat, dtype=np.float32)
    if heat.ndim != 2 or heat.size == 0:
        raise UsageError(f"expected a heat map [h, w], got shape {heat.shape}; pass one class's map")
    small = np.asarray(_shrink(pixels, size), dtype=np.float32)  # [h, w, 3] 0..255
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = box or (0.0, 0.0, float(width), float(height))
    if x1 <= x0 or y1 <= y0:
        raise UsageError(f"expected a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, got {box}")

    rows, seen_rows = _bilinear(small.shape[0], height, (y0, y1), heat.shape[0])
    columns, seen_columns = _bilinear(small.shape[1], width, (x0, x1), heat.shape[1])
    strength = rows @ _positive(heat) @ columns.T  # [h, w] 0..1
    seen = np.outer(seen_rows, seen_columns)  # [h, w] bool

    opacity = (STRENGTH * np.sqrt(strength) * seen)[..., None]
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    # Half the colour is taken from the picture, so that the heat is what speaks.
    base = (0.5 * small + 0.5 * grey[..., None]) * np.where(seen, 1.0, DIMMED)[..., None]
    drawn = base * (1 - opacity) + colourise(strength) * opacity
    return _jpeg(Image.fromarray(drawn.clip(0, 255).astype(np.uint8)))


def colourise(values: "NDArray[np.floating[Any]]") -> "NDArray[np.float32]":
    """Colours ``[..., 3]`` in 0..255 for ``values`` ``[...]`` in 0..1, dark for 0 and light for 1.

    >>> import numpy as np
    >>> colourise(np.array([0.0, 1.0])).tolist()
    [[18.0, 10.0, 60.0], [252.0, 226.0, 120.0]]
    """
    import numpy as np

    stops = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, stops, channel) for channel in zip(*COLOURS, strict=True)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _positive(heat: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """The positive part, scaled to a maximum of 1."""
    import numpy as np

    positive = np.where(np.isfinite(heat), heat, 0).clip(min=0)
    peak = float(positive.max())
    return (positive / (peak if peak > 0 else 1.0)).astype(np.float32)


def _bilinear(
    n: int, length: int, ends: tuple[float, float], cells: int
) -> tuple["NDArray[np.float32]", "NDArray[np.bool_]"]:
    """Along one axis: every heat cell's weight at every thumbnail pixel ``[n, cells]``, and which are inside.

    The thumbnail's ``n`` pixels show ``length`` picture pixels; ``cells`` heat cells cover ``ends`` of them.
    """
    import numpy as np

    at = (np.arange(n) + 0.5) * length / n  # centres of the thumbnail's pixels, in picture pixels
    start, end = ends
    where = np.clip((at - start) / (end - start) * cells - 0.5, 0, cells - 1)  # in cells, from centre to centre
    weights = np.clip(1 - np.abs(where[:, None] - np.arange(cells)), 0, None).astype(np.float32)
    return weights, (at >= start) & (at < end)


def _shrink(pixels: "NDArray[np.uint8]", size: int) -> "Image.Image":
    import numpy as np
    from PIL import Image

    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise UsageError(f"expected pixels [h, w, 3] uint8, got {list(pixels.shape)} {pixels.dtype}; decode as RGB")
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    return picture.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _jpeg(picture: "Image.Image") -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()

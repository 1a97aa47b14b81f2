"""Small pictures for a report: thumbnails, and the same with a heat map over them."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from topwork.errors import UsageError
from topwork.report.heat import map_over

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


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

        The longest side is ``size`` pixels, be it enlarged; ``heat`` and ``box`` as the values of ``heat.map_over``.
        Anything but ``[h, w, 3] uint8`` with at least one pixel raises UsageError.

        >>> import numpy as np
        >>> thumb = Thumb.of(np.zeros((400, 300, 3), np.uint8))
        >>> thumb.picture[:3], thumb.width, thumb.height
        (b'\\xff\\xd8\\xff', 144, 192)
        """
        small = _shrink(pixels, size)
        heatmap = None if heat is None else _jpeg(map_over(pixels, heat, box, side=size)[0])
        return cls(_jpeg(small), heatmap, *small.size)


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

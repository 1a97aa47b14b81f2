"""What the commands of ``style`` write: whether it can be written, the pictures, and what it took."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topwork.errors import TopworkError, UsageError


def check_picture(path: Path, given: Sequence[Path] = ()) -> None:
    """Raise before the work where a picture cannot be written to ``path``, or would replace one ``given``."""
    from topwork import storage

    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"expected a name that ends in .png or .jpg, not {path}; choose another name")
    if path.is_dir():
        raise TopworkError(f"cannot write {path}: it is a folder; choose another place")
    check_not_given(path, given)
    storage.check_writable(path)


def check_video(path: Path, given: Sequence[Path]) -> None:
    """Raise before the work where a video cannot be written to ``path``, or would replace one ``given``."""
    from topwork import storage
    from topwork.images.video_writer import check_name

    check_name(path)
    if path.is_dir():
        raise TopworkError(f"cannot write {path}: it is a folder; choose another place")
    check_not_given(path, given)
    storage.check_writable(path)


def check_not_given(path: Path, given: Sequence[Path]) -> None:
    """UsageError where the result would take the place of a file that it is made from."""
    if path.exists() and any(each.exists() and path.samefile(each) for each in given):
        raise UsageError(f"expected another name than that of a file it is made from, {path}; choose one")


def write_picture(path: Path, pixels: Any) -> None:
    """A picture ``[h, w, 3]`` uint8 as PNG or JPEG, by its name."""
    import io

    from PIL import Image

    from topwork.cli.maps import write_file

    buffer = io.BytesIO()
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    Image.fromarray(pixels).save(buffer, kind, quality=95)
    write_file(path, buffer.getvalue())


def levels(picture: Any) -> Any:
    """``[h, w, 3]`` in 0..1 as uint8."""
    import numpy as np

    return np.rint(255 * picture).astype(np.uint8)


def spent(begun: float) -> dict[str, float | None]:
    """Seconds since ``begun``, and the most memory that the process had, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        peak = None
    else:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
    return {"seconds": round(time.perf_counter() - begun, 2), "peak_memory_mb": peak}

"""The piece of docs/model-folder.md that reads a picture without topwork, held to what topwork decodes."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.images import DecodePolicy, decode
from topwork.images.profiles import from_code_points

PAGE = Path(__file__).parents[2] / "docs" / "model-folder.md"
SIDE = 32


@pytest.fixture(scope="module")
def pixels_of() -> Callable[..., np.ndarray]:
    block = PAGE.read_text(encoding="utf-8").partition("## Without topwork")[2].partition("```python\n")[2]
    named: dict[str, Any] = {}
    exec(block.partition("session = ")[0], named)
    return named["pixels_of"]  # type: ignore[no-any-return]


y, x = np.mgrid[:90, :130] / 130
COLOURS = np.rint(np.stack([x, y, (1 - x) * y], axis=-1) * 255).astype(np.uint8)
RGB = Image.fromarray(COLOURS)
P3 = from_code_points(12, 13)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def seen_through() -> Image.Image:
    image = RGB.convert("RGBA")
    image.putalpha(Image.fromarray(COLOURS[:, :, 0]))
    return image


def with_gamma(png: bytes) -> bytes:
    body = b"gAMA" + struct.pack(">I", 100_000)
    return png[:33] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


SAME = {
    "JPEG": lambda: saved(RGB, "JPEG"),
    "large JPEG, turned": lambda: saved(RGB.resize((520, 360)), "JPEG", exif=turned()),
    "progressive grey JPEG": lambda: saved(RGB.convert("L"), "JPEG", progressive=True),
    "CMYK JPEG": lambda: saved(RGB.convert("CMYK"), "JPEG"),
    "PNG": lambda: saved(RGB, "PNG"),
    "PNG with alpha": lambda: saved(seen_through(), "PNG"),
    "grey PNG with alpha": lambda: saved(seen_through().convert("LA"), "PNG"),
    "palette with a transparent colour": lambda: saved(RGB.quantize(20), "PNG", transparency=3),
    "black and white": lambda: saved(RGB.convert("1"), "PNG"),
    "WebP with alpha": lambda: saved(seen_through(), "WEBP", lossless=True),
    "BMP": lambda: saved(RGB, "BMP"),
    "Display P3": lambda: saved(RGB, "PNG", icc_profile=P3),
}
REFUSED = {
    "16-bit grey": lambda: saved(Image.fromarray(COLOURS[:, :, 0].astype(np.uint16) * 257), "PNG"),
    "gamma": lambda: with_gamma(saved(RGB, "PNG")),
    "alpha with a profile": lambda: saved(seen_through(), "PNG", icc_profile=P3),
    "TIFF": lambda: saved(RGB, "TIFF"),
    "GIF": lambda: saved(RGB.quantize(20), "GIF"),
}


@pytest.mark.parametrize("name", SAME)
def test_it_reads_what_topwork_reads(name: str, pixels_of: Callable[..., np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(SAME[name]())
    wanted = decode(path.read_bytes(), DecodePolicy(shrink_to=SIDE)).pixels
    found = pixels_of(path, SIDE)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= (1 if name == "Display P3" else 0)


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_it_would_read_otherwise(
    name: str, pixels_of: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(REFUSED[name]())
    assert decode(path.read_bytes()).width == 130
    with pytest.raises((ValueError, OSError)):
        pixels_of(path, SIDE)

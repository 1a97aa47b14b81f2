"""The same pixels as a browser shows, which runs the same models: colour profiles, transparency, first frames."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from topwork.images import decode
from topwork.images.profiles import SRGB, from_code_points, from_gamma

Y, X = np.mgrid[:64, :64] / 63
COLOURS = np.rint(np.stack([X, Y, (1 - X) * Y], axis=-1) * 255).astype(np.uint8)
RGB = Image.fromarray(COLOURS)
P3, GAMMA_18 = from_code_points(12, 13), from_gamma(1 / 1.8, SRGB)


def saved(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def seen_through() -> Image.Image:
    image = RGB.convert("RGBA")
    image.putalpha(Image.fromarray(COLOURS[:, :, 0]))
    return image


SHOWN = {
    "JPEG": saved(RGB, "JPEG"),
    "JPEG in Display P3": saved(RGB, "JPEG", icc_profile=P3),
    "grey JPEG with a profile of RGB": saved(RGB.convert("L"), "JPEG", icc_profile=GAMMA_18),
    "CMYK": saved(RGB.convert("CMYK"), "JPEG"),
    "PNG in Display P3": saved(RGB, "PNG", icc_profile=P3),
    "PNG with alpha and a profile": saved(seen_through(), "PNG", icc_profile=GAMMA_18),
    "WebP in Display P3": saved(RGB, "WEBP", lossless=True, icc_profile=P3),
    "AVIF in Display P3": saved(RGB, "AVIF", icc_profile=P3),
    "the profile of sRGB": saved(
        RGB, "PNG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "a broken profile": saved(RGB, "JPEG", icc_profile=b"broken" * 30),
    "a GIF": saved(RGB.quantize(30), "GIF", transparency=4),
}


@pytest.fixture(scope="module")
def shown(chromium: Any) -> dict[str, np.ndarray]:
    """Each picture ``[64, 64, 3]`` as it stands on a page."""
    images = "".join(f"<img src='{url}' style='display:block'>" for url in SHOWN.values())
    chromium.open("about:blank", width=64, height=64 * len(SHOWN))
    chromium.page.set_content(f"<body style='margin:0'>{images}")
    chromium.wait("Array.from(document.images).every(image => image.complete && image.naturalWidth)")
    page = np.asarray(Image.open(io.BytesIO(chromium.screenshot())).convert("RGB"))
    return {name: page[64 * i : 64 * (i + 1), :64] for i, name in enumerate(SHOWN)}


@pytest.mark.parametrize("name", SHOWN)
def test_pixels_are_those_of_a_browser(name: str, shown: dict[str, np.ndarray]) -> None:
    pixels = decode(base64.b64decode(SHOWN[name].partition(",")[2])).pixels
    assert np.abs(pixels.astype(int) - shown[name]).mean() < 1

"""HEIC: one small file, made with pillow-heif, since the decoder's own wheel writes none.

It has four colours, and EXIF data with orientation 6, which does not count in HEIF: its own transforms do, within
libheif.
"""

import base64
import sys
import zlib

import numpy as np
import pytest

from topwork.errors import ImageError
from topwork.images import DecodePolicy, decode

FOUR_COLOURS = zlib.decompress(
    base64.b64decode(
        "eNpjYGCQSSupLMhIzUxmAILczDRDEDs3MzGNgYFxX25qSSIDBChmpOQUQdkMBZnJJQxowCQzJx9siIsDAxMDI4jF+AhCA8E2oBgQMM2Ai6gAsUVm"
        "Zl4amAeSFQVyUsHKgGoyypINGZAEGUFKXCsywcr5CjJLchmgKhn+ZhYUFQDpu5kFyflAugyo15mRGSQ0AaxI7gPDn78/fjAw8DMnAHVIODDyMP7/"
        "D1LADFLBDEJyu5gcEoGSWk6MjGgyCxQaWae9erJs5w6ODAMFoBAziGBQTAIqZ3NhPFh8oBNoiXByfk5RXnJOBVCUl4GtASgkkllckAr1rgMUayTn"
        "JBZA2SDHG0BpcCD8////AzQwBAoyKzJBgswcHBxASiKzIBcWF4wMjKyNTMysLUC2VGZRahpUnC85pTgZHPggEx/lpiSCYmmTBuN6zgeKFiv/f9K9"
        "/19YdvrO6epTl++P+P9Txu5T3f8fb3Mv/jLbc/+PVt/vze9/PIjx0Zn3VLPv9eK6h5l3urJ/n17am/Ci7bCNQevPzIru9VpOXQoscdaiCbYTIi59"
        "2S+9xH2poe9FzYCzX48axbV6lJ9W4dx9YynfOlbWCxsmb9Vl0H/z/X3ahI7QCXv8Vt+Y7PjDOdEsSTvNJenmowhRBeYCW5P5sTOdrQPOqO5PLpRv"
        "7E7xYLxXaAV0NRskrn19GbSAPA4GRkYhUHSAghziWQBQBK9u"
    )
)


def test_heic_is_read() -> None:
    picture = decode(FOUR_COLOURS)
    assert (picture.format, picture.width, picture.height) == ("HEIF", 64, 48)
    assert picture.pixels.shape == (48, 64, 3)
    corners = picture.pixels[[12, 12, 36, 36], [10, 50, 10, 50]].astype(int)
    wanted = np.array([[220, 30, 30], [30, 200, 40], [40, 60, 210], [240, 240, 240]])
    assert np.abs(corners - wanted).max() < 25


def test_heic_is_bounded_and_damage_is_named() -> None:
    with pytest.raises(ImageError, match="max_pixels"):
        decode(FOUR_COLOURS, DecodePolicy(max_pixels=1000))
    with pytest.raises(ImageError, match="HEIF"):
        decode(FOUR_COLOURS[:500])


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif.as_plugin", None)
    with pytest.raises(ImageError, match=r'HEIC.*pip install "topwork\[heic\]"'):
        decode(FOUR_COLOURS)

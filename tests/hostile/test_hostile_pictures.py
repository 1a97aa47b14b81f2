"""Pictures that are made to take memory, time or another program, and files that are damaged where no error says so.

Nothing here looks at a clock: what is refused is refused by what the file promises, before it is decoded, and a
decoder that is asked nevertheless is made to fail.
"""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from topwork.errors import ImageError
from topwork.images import DecodePolicy, decode
from topwork.images.guarded import Guard

FIT = DecodePolicy(shrink_to=256)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


SMALL = Image.new("RGB", (64, 64), (9, 99, 199))
PNG, JPEG, GIF = encode(SMALL, "PNG"), encode(SMALL, "JPEG"), encode(SMALL, "GIF")
PROGRESSIVE = encode(SMALL, "JPEG", progressive=True)
_GIF_HEAD = 13 + 3 * (2 << (GIF[10] & 7))


def png_of(width: int, height: int, colour: int = 2, depth: int = 8, interlaced: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND")


def jpeg_of(width: int, height: int, data: bytes = JPEG) -> bytes:
    """The same scan under a header that promises another size."""
    at = next(data.index(bytes([0xFF, kind])) for kind in (0xC0, 0xC2) if bytes([0xFF, kind]) in data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def webp_of(width: int, height: int) -> bytes:
    """34 bytes: a lossless WebP of one colour."""
    header = bytes([0x2F]) + struct.pack("<I", (width - 1) | (height - 1) << 14)
    body = header + bytes([0x88, 0x88, 0x08])
    return b"RIFF" + struct.pack("<I", 4 + 8 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def tiff_of(tags: dict[int, tuple[int, int, int]], rest: bytes = b"") -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + rest


def gif_with(blocks: bytes) -> bytes:
    return GIF[:_GIF_HEAD] + blocks + GIF[_GIF_HEAD:]


def many_scans(count: int) -> bytes:
    at = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:at] + PROGRESSIVE[at:-2] * count + b"\xff\xd9"


_TIFF = {256: (4, 1, 64), 257: (4, 1, 64), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a canvas of 34 bytes": (lambda: webp_of(10_000, 10_000), "max_pixels"),
    "a canvas within the limit for other formats": (lambda: webp_of(6000, 6000), "for this format"),
    "zeros of 16 bits": (lambda: png_of(10_000, 10_000, 6, 16), "max_pixels"),
    "an interlaced PNG": (lambda: png_of(10_000, 10_000, 6, 8, 1), "max_pixels"),
    "a million chunks": (lambda: PNG[:33] + chunk(b"teSt") * 1_000_000 + PNG[33:], "chunks"),
    "a million empty chunks of pixels": (lambda: PNG[:33] + chunk(b"IDAT") * 1_000_000 + PNG[33:], "chunks"),
    "200 scans": (lambda: many_scans(200), "100 scans"),
    "scans of a large picture": (lambda: jpeg_of(11_000, 11_000, many_scans(20)), "in all scans"),
    "the largest JPEG": (lambda: jpeg_of(40_000, 40_000), "stored pixels"),
    "all coefficients in memory": (lambda: jpeg_of(15_000, 15_000, PROGRESSIVE), "in several scans"),
    "50 MB of fill bytes": (lambda: JPEG[:2] + b"\xff" * 50_000_000 + JPEG[2:], "no marker"),
    "50 MB of empty segments": (lambda: JPEG[:2] + b"\xff\xe1\0\2" * 12_500_000 + JPEG[2:], "4096 segments"),
    "comments of one byte": (lambda: gif_with(b"\x21\xfe\1a\0" * 3_000_000), "extensions"),
    "one long comment": (lambda: gif_with(b"\x21\xfe" + b"\xff" + (b"a" * 255 + b"\xff") * 90_000), "parts in one"),
    "junk before the frame": (lambda: gif_with(bytes(30_000_000)), "stray bytes"),
    "a large GIF": (lambda: GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:], "max_pixels"),
    "tags of 20 MB each": (
        lambda: tiff_of(_TIFF | {40_000 + i: (1, 20_000_000, 8) for i in range(900)}, bytes(20_000_000)),
        "tags have more",
    ),
    "thousands of tags": (lambda: tiff_of({1000 + i: (3, 1, 1) for i in range(5000)}), "5,000 tags"),
    "eight million strips": (
        lambda: tiff_of(_TIFF | {273: (4, 8_000_000, 200), 279: (4, 8_000_000, 200)}, bytes(32_000_000)),
        "strips or tiles",
    ),
    "a tile larger than the picture": (
        lambda: tiff_of(_TIFF | {322: (4, 1, 2**20), 323: (4, 1, 2**20), 324: (4, 1, 8), 325: (4, 1, 8)}),
        "max_pixels",
    ),
    "numbers of 64 bits": (
        lambda: tiff_of(_TIFF | {256: (4, 1, 7000), 257: (4, 1, 7000), 258: (3, 1, 64), 339: (3, 1, 3)}, bytes(100)),
        "392,000,000 bytes of pixels, more than the limit",
    ),
    "hundreds of samples": (lambda: tiff_of(_TIFF | {277: (3, 1, 500)}), "500 samples"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("it was decoded")

    make, reason = BOMBS[name]
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", decoded)
    with pytest.raises(ImageError) as caught:
        decode(make(), FIT)
    assert reason in str(caught.value)


def test_the_files_behind_the_bombs_are_whole() -> None:
    for data in (PNG, JPEG, GIF, PROGRESSIVE, webp_of(64, 64), many_scans(3)):
        assert decode(data, FIT).pixels.shape == (64, 64, 3)


def test_phone_pictures_of_108_and_200_megapixels_are_read() -> None:
    for size in ((12_000, 9_000), (16_320, 12_240)):
        picture = decode(encode(Image.new("L", size, 90), "JPEG", quality=30), FIT)
        assert (picture.width, picture.height) == size
        assert picture.pixels.shape == (size[1] // 8, size[0] // 8, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
        b"\xc5\xd0\xd3\xc6" + bytes(60),
        b"8BPS\0\1" + bytes(60),
        b"\xd7\xcd\xc6\x9a" + bytes(60),
        b"P6 4 4 255\n" + bytes(48),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
    ids=["EPS", "binary EPS", "Photoshop", "WMF", "PPM", "SVG"],
)
def test_formats_that_are_not_on_the_list_are_not_opened(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a picture that can be read"):
        decode(data)


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """A JPEG whose scan has some kilobytes."""
    noise = np.random.default_rng(3).normal(128, 30, (160, 200, 3)).clip(0, 255).astype(np.uint8)
    return encode(Image.fromarray(noise), "JPEG", quality=80)


def test_damage_that_libjpeg_fills_in_is_named(photograph: bytes) -> None:
    begin, end = photograph.rindex(b"\xff\xda") + 14, len(photograph) - 2
    middle = (begin + end) // 2
    damaged = {
        "its middle is lost": photograph[: middle - 2000] + photograph[middle + 2000 :],
        "its second half is lost, the end marker is there": photograph[:middle] + photograph[end:],
        "zeros": photograph[: middle - 1000] + bytes(2000) + photograph[middle + 1000 :],
    }
    for name, data in damaged.items():
        for policy in (DecodePolicy(), DecodePolicy(shrink_to=40)):
            with pytest.raises(ImageError, match="damaged JPEG"):
                pytest.fail(f"{name}: {decode(data, policy).pixels.shape}")


@pytest.mark.parametrize("extra", [b"\0", b"abcdefgh", bytes(3000), b"\xff" * 9], ids=["one", "few", "zeros", "fill"])
def test_a_few_bytes_before_the_end_of_a_whole_jpeg_do_no_harm(photograph: bytes, extra: bytes) -> None:
    whole = decode(photograph).pixels
    assert (decode(photograph[:-2] + extra + b"\xff\xd9").pixels == whole).all()


def test_the_pixels_of_jpegs_are_those_of_pillow(photograph: bytes) -> None:
    for data in (photograph, encode(Image.open(io.BytesIO(photograph)).convert("CMYK"), "JPEG"), PROGRESSIVE):
        image = Image.open(io.BytesIO(data))
        assert (decode(data).pixels == np.asarray(image.convert("RGB"))).all()


def test_what_libtiff_complains_about_is_the_reason(capfd: pytest.CaptureFixture[str]) -> None:
    fax = bytearray(encode(Image.effect_noise((200, 200), 90).convert("1"), "TIFF", compression="group4"))
    fax[300:360] = b"\x55" * 60
    with pytest.raises(ImageError, match="damaged TIFF"):
        decode(bytes(fax))
    assert capfd.readouterr().err == ""


def test_a_guarded_decoder_gives_the_same_pictures(photograph: bytes) -> None:
    with Guard(seconds=60) as guard:
        for data in (photograph, PNG):
            there, here = guard.decode(data, FIT), decode(data, FIT)
            assert (there.pixels == here.pixels).all()
            assert (there.format, there.mode, there.width, there.height, there.notes) == (
                (here.format, here.mode, here.width, here.height, here.notes)
            )
        with pytest.raises(ImageError, match="it is text"):
            guard.decode(b"text")


def test_a_decoder_that_takes_too_long_is_ended_and_the_next_picture_is_read() -> None:
    with Guard(seconds=0.001) as guard:
        with pytest.raises(ImageError, match=r"took more than 0\.001 s"):
            guard.decode(webp_of(5000, 5000))
        guard.seconds = 60
        assert guard.decode(PNG).pixels.shape == (64, 64, 3)


def test_a_decoder_that_is_ended_by_something_else_is_started_again() -> None:
    with Guard(seconds=60) as guard:
        guard.decode(PNG)
        assert guard._worker is not None
        guard._worker.kill()
        assert guard.decode(PNG).pixels.shape == (64, 64, 3)
    assert guard._worker is None

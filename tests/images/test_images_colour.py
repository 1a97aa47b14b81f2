"""Colour profiles, depths and transparency: what a browser shows."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from topwork.errors import ImageError
from topwork.images import decode
from topwork.images.profiles import from_code_points, from_gamma


@pytest.fixture(scope="module")
def colours() -> np.ndarray:
    """[64, 64, 3]: soft colours from all over the cube."""
    y, x = np.mgrid[:64, :64] / 63
    return np.rint(np.stack([x, y, (1 - x) * y], axis=-1) * 255).astype(np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def in_space(colours: np.ndarray, profile: bytes) -> np.ndarray:
    """The numbers that colours of sRGB have in a wider space."""
    to = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    made = ImageCms.profileToProfile(Image.fromarray(colours), ImageCms.createProfile("sRGB"), to, outputMode="RGB")
    return np.asarray(made)


P3 = from_code_points(12, 13) or b""


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_one_picture_in_two_profiles_gives_the_same_pixels(colours, kind, options):
    wide = in_space(colours, P3)
    assert apart(wide, colours) > 8
    assert apart(decode(encode(wide, kind, icc_profile=P3, **options)).pixels, colours) < 0.6


def test_jpegs_follow_their_profile(colours):
    plain = decode(encode(colours, "JPEG", quality=95, subsampling=0)).pixels
    wide = decode(encode(in_space(colours, P3), "JPEG", quality=95, subsampling=0, icc_profile=P3)).pixels
    assert apart(wide, plain) < 1.5


def test_alpha_and_palettes_follow_the_profile(colours):
    rgba = np.dstack([in_space(colours, P3), np.full((64, 64), 255, np.uint8)])
    rgba[:8, :, 3] = 0
    pixels = decode(encode(rgba, icc_profile=P3)).pixels
    assert apart(pixels[8:], colours[8:]) < 0.6
    assert (pixels[:8] == 255).all()
    red = Image.new("P", (4, 4))
    red.putpalette(in_space(np.array([[[200, 30, 30]]], np.uint8), P3).tobytes())
    buffer = io.BytesIO()
    red.save(buffer, "PNG", icc_profile=P3)
    assert apart(decode(buffer.getvalue()).pixels, np.array([200, 30, 30])) < 1.5


def test_the_profile_of_srgb_changes_nothing(colours):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (decode(encode(colours, icc_profile=srgb)).pixels == colours).all()


@pytest.mark.parametrize("profile", [b"no profile" * 40, P3[:150], P3[:16] + b"XYZ?" + P3[20:]])
def test_a_broken_profile_is_noted_and_ignored(colours, profile):
    picture = decode(encode(colours, icc_profile=profile))
    assert (picture.pixels == colours).all()
    assert picture.notes == ("colour profile ignored (damaged)",)


def test_a_profile_for_other_pixels_is_ignored(colours):
    as_grey = P3[:16] + b"GRAY" + P3[20:]
    picture = decode(encode(colours, icc_profile=as_grey))
    assert (picture.pixels == colours).all()
    assert picture.notes == ()


def test_gamma_and_primaries_of_a_png_count_as_in_a_browser(colours):
    png = encode(colours)
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000))
    linear = decode(with_chunks(png, gamma)).pixels
    light = colours / 255
    wanted = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(linear - wanted).max() < 1.5
    assert (decode(with_chunks(png, chunk(b"sRGB", b"\0"), gamma)).pixels == colours).all()
    assert (decode(with_chunks(png, chunk(b"gAMA", struct.pack(">I", 45_455)))).pixels == colours).all()
    display_p3 = chunk(b"cICP", bytes([12, 13, 0, 1]))
    assert apart(decode(with_chunks(encode(in_space(colours, P3)), display_p3)).pixels, colours) < 0.6


def test_senseless_numbers_make_no_profile():
    assert from_gamma(0.0, None) is None
    assert from_gamma(1e9, None) is None
    assert from_code_points(200, 13) is None


def test_16_bit_grey_shows_white_where_it_is_transparent():
    grey = np.array([[0, 300, 65535, 20000]], np.uint16)
    png = with_chunks(encode(grey), chunk(b"tRNS", struct.pack(">H", 300)))
    assert decode(png).pixels[0, :, 0].tolist() == [0, 255, 255, 78]


def test_a_png_of_16_bits_or_2_bits_shows_white_where_it_is_transparent():
    def png(depth: int, colour: int, body: bytes, seen_through: bytes) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0))
        pixels = chunk(b"tRNS", seen_through) + chunk(b"IDAT", zlib.compress(b"\0" + body)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + header + pixels

    rgb = struct.pack(">6H", 1000, 2000, 3000, 9000, 9000, 9000)
    assert decode(png(16, 2, rgb, rgb[:6])).pixels[0].tolist() == [[255] * 3, [35] * 3]
    assert decode(png(2, 0, bytes([0b10_01_0000]), b"\0\2")).pixels[0].tolist() == [[255] * 3, [85] * 3]


def test_metadata_of_any_size_does_not_matter(colours):
    png = encode(colours)
    text = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(2_000_000)))
    profile = chunk(b"iCCP", b"large\0\0" + zlib.compress(P3[:128] + bytes(5_000_000)))
    assert (decode(with_chunks(png, text)).pixels == colours).all()
    picture = decode(with_chunks(png, profile))
    assert (picture.pixels == colours).all()
    assert "ignored" in picture.notes[0]


def test_what_the_first_frame_of_a_gif_does_not_cover_is_white():
    frame = Image.new("P", (4, 4), 1)
    frame.putpalette([0, 0, 0, 0, 200, 0])
    buffer = io.BytesIO()
    frame.save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", 6, 5)  # the canvas
    at = data.rindex(b"\x2c", 0, len(data) - 12)
    data[at + 1 : at + 5] = struct.pack("<HH", 1, 1)
    pixels = decode(bytes(data)).pixels
    assert pixels.shape == (5, 6, 3)
    assert (pixels[1:5, 1:5] == [0, 200, 0]).all()
    assert (pixels[0] == 255).all()
    assert (pixels[:, 5] == 255).all()


# TIFF: samples as they are stored, without another library


def tiff(samples: np.ndarray, order: str = "<", *, planar: bool = False, **tags: int | tuple[int, ...]) -> bytes:
    """``[h, w, s]`` samples uncompressed; ``tags``: photometric, bits, format, extra."""
    height, width, count = samples.shape
    stored = np.moveaxis(samples, 2, 0) if planar else samples
    parts = [stored[i].tobytes() for i in range(count)] if planar else [stored.tobytes()]
    offsets = [8 + sum(map(len, parts[:i])) for i in range(len(parts))]
    at = 8 + sum(map(len, parts))
    entries = {
        256: (width,),
        257: (height,),
        258: (tags.get("bits", samples.dtype.itemsize * 8),) * count,
        259: (1,),
        262: (tags.get("photometric", 2 if count > 2 else 1),),
        273: tuple(offsets),
        277: (count,),
        278: (height,),
        279: tuple(map(len, parts)),
        284: (2 if planar else 1,),
        339: (tags.get("format", 3 if samples.dtype.kind == "f" else 1),) * count,
    }
    if "extra" in tags:
        entries[338] = (tags["extra"],)
    body, after = b"", at + 2 + 12 * len(entries) + 4
    values = b""
    for tag in sorted(entries):
        packed = struct.pack(f"{order}{len(entries[tag])}I", *entries[tag])
        if len(packed) > 4:
            packed, values = struct.pack(order + "I", after + len(values)), values + packed
        body += struct.pack(order + "HHI", tag, 4, len(entries[tag])) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + b"".join(parts) + struct.pack(order + "H", len(entries)) + body + bytes(4) + values


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u2", "f2", "f4", "f8"])
@pytest.mark.parametrize("planar", [False, True])
def test_tiffs_of_more_than_8_bits_a_sample(colours, order, kind, planar):
    top = 65535 if kind == "u2" else 1
    samples = (colours / 255 * top).round(0 if kind == "u2" else 6).astype(order + kind)
    assert np.abs(decode(tiff(samples, order, planar=planar)).pixels.astype(int) - colours).max() <= 1
    grey = samples[:, :, :1]
    for photometric in (0, 1):
        pixels = decode(tiff(grey, order, photometric=photometric)).pixels
        wanted = colours[:, :, 0] if photometric else 255 - colours[:, :, 0]
        assert np.abs(pixels[:, :, 0].astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "zstd", "lzma"])
def test_compressed_tiffs_of_16_bits(colours, compression):
    grey = colours[:, :, 0].astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(65535 - grey).save(buffer, "TIFF", compression=compression, tiffinfo={262: 0})
    data = buffer.getvalue()
    page = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    if page.tag_v2[262] != 0:
        pytest.fail("Pillow wrote other samples than this test wants")
    assert (decode(data).pixels[:, :, 0] == colours[:, :, 0]).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiffs_of_odd_depths(bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (9, 13, 3))
    rows = []
    for row in values.reshape(9, -1):
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows.append([int(text[i : i + 8], 2) for i in range(0, len(text), 8)])
    data = tiff(values.astype(np.uint8), bits=bits)
    stored = np.array(rows, np.uint8).tobytes()
    # the same tags with the packed rows at the end
    data = bytearray(data)
    for tag, value in ((273, len(data)), (279, len(stored))):
        at = data.rindex(struct.pack("<HHI", tag, 4, 1))
        data[at + 8 : at + 12] = struct.pack("<I", value)
    assert (decode(bytes(data) + stored).pixels == np.rint(values * 255 / (2**bits - 1))).all()


@pytest.mark.parametrize(("kind", "top"), [("u1", 255), ("u2", 65535), ("f4", 1)])
@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("count", [1, 3])
def test_tiffs_with_alpha(kind, top, extra, count):
    half = np.full((3, 3, count), 0.4 * (0.5 if extra == 1 else 1)) * top
    data = tiff(np.dstack([half, np.full((3, 3), 0.5) * top]).astype("<" + kind), extra=extra)
    assert np.abs(decode(data).pixels - (0.4 * 0.5 + 0.5) * 255).max() <= 2


def test_float_a_little_out_of_range_is_clipped():
    values = np.array([[[-0.01], [0.5], [1.02]]], "<f4")
    assert decode(tiff(values)).pixels[0, :, 0].tolist() == [0, 128, 255]


def test_other_tiffs_are_refused_by_name(colours):
    signed = colours.astype("<i2")
    with pytest.raises(ImageError, match=r"3 samples of 16 bits .* is not read; save it as PNG"):
        decode(tiff(signed, format=2, planar=True))

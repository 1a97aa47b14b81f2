import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topwork.errors import ImageError, UsageError
from topwork.images import DecodePolicy, decode, to_pixels
from topwork.images.decode import shrink_scale


def distance(pixels: np.ndarray, wanted: np.ndarray) -> float:
    assert pixels.shape == wanted.shape
    return float(np.abs(pixels.astype(int) - wanted.astype(int)).mean())


def reason(data: bytes, policy: DecodePolicy = DecodePolicy()) -> str:  # noqa: B008
    with pytest.raises(ImageError) as caught:
        decode(data, policy)
    message = str(caught.value)
    assert "\n" not in message
    assert "object at 0x" not in message
    return message


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 3),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 3),
        ("PNG", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
def test_every_format_gives_the_pixels_that_were_saved(blocks, encoded, kind, options, tolerance):
    picture = decode(encoded(Image.fromarray(blocks), kind, **options))
    assert distance(picture.pixels, blocks) <= tolerance
    assert (picture.format, picture.mode, picture.width, picture.height) == (kind, "RGB", 80, 60)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous


def test_animations_give_their_first_frame(blocks, encoded):
    first, second = Image.fromarray(blocks), Image.new("RGB", (80, 60), "red")
    gif = encoded(first, "GIF", save_all=True, append_images=[second])
    webp = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    tiff = encoded(first, "TIFF", save_all=True, append_images=[second])
    for data in (gif, webp, tiff):
        with Image.open(io.BytesIO(data)) as image:
            assert image.n_frames == 2
        assert distance(decode(data).pixels, blocks) < 2


def test_mpo_counts_as_jpeg(blocks, encoded):
    image = Image.fromarray(blocks)
    data = encoded(image, "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    picture = decode(data, DecodePolicy(shrink_to=30))
    assert (picture.format, picture.pixels.shape, picture.width) == ("JPEG", (30, 40, 3), 80)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_exif_rotations_come_out_upright(blocks, encoded, kind, orientation):
    upright = Image.fromarray(blocks)
    # what a camera held so would have stored: the inverse of what the tag asks the reader to do
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](blocks)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    picture = decode(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options))
    assert distance(picture.pixels, np.asarray(upright)) < 3
    assert (picture.width, picture.height) == (80, 60)
    assert picture.pixels.flags.c_contiguous


def test_rotation_and_shrinking_go_together(encoded):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (801, 402)), "JPEG", exif=exif)
    picture = decode(data, DecodePolicy(shrink_to=100))
    assert (picture.width, picture.height, picture.pixels.shape) == (402, 801, (201, 101, 3))


@pytest.mark.parametrize("value", [0, 9, 77])
def test_senseless_orientation_is_ignored(blocks, encoded, value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert distance(decode(encoded(Image.fromarray(blocks), "PNG", exif=exif)).pixels, blocks) == 0


def test_damaged_exif_does_not_cost_the_picture(blocks, encoded):
    data = encoded(Image.fromarray(blocks), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(data).pixels.shape == (60, 80, 3)


def test_cmyk_jpeg_has_the_right_colours(encoded):
    colour = (200, 60, 30)
    data = encoded(Image.new("RGB", (32, 32), colour).convert("CMYK"), "JPEG", quality=95)
    picture = decode(data)
    assert picture.mode == "CMYK"
    assert distance(picture.pixels, np.full((32, 32, 3), colour)) < 3


def test_ycck_jpeg_is_converted(encoded):
    data = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG", quality=95)
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0  # the colour transform: none
    # The same numbers read as YCCK: (255, 255, 255) in YCbCr is RGB (255, 121, 255) after clipping, libjpeg's
    # C, M, Y are 255 minus that, Adobe's inversion gives ink (255, 121, 255), and that is light (0, 134, 0).
    ycck = data[: marker + 11] + b"\2" + data[marker + 12 :]
    assert decode(data).pixels[8, 8].tolist() == [255, 255, 255]
    pixel = decode(ycck).pixels[8, 8].tolist()
    assert np.abs(np.array(pixel) - [0, 134, 0]).max() <= 3


def test_transparency_is_shown_over_white(encoded):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]
    wanted = [[200, 0, 0], [255, 255, 255], [227, 127, 127]]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        pixels = decode(encoded(Image.fromarray(rgba), kind, **options)).pixels[0]
        assert np.abs(pixels.astype(int) - wanted).max() <= 1
    grey_alpha = Image.fromarray(np.array([[[40, 255], [40, 0]]], np.uint8), "LA")
    assert decode(encoded(grey_alpha, "PNG")).pixels[0].tolist() == [[40] * 3, [255] * 3]


def test_palette_transparency_is_shown_over_white(encoded):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        picture = decode(encoded(image, kind, transparency=0))
        assert picture.mode == "P"
        assert picture.pixels[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    assert decode(encoded(image, "PNG")).pixels[0].tolist() == [[10, 20, 30], [200, 100, 50]]


def test_rgb_png_with_a_transparent_colour_is_shown_over_white(encoded):
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert decode(encoded(image, "PNG", transparency=(1, 2, 3))).pixels[0].tolist() == [[255] * 3, [9] * 3]


@pytest.mark.parametrize(("dtype", "kind"), [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("<i4", "TIFF")])
def test_16_bit_grey_is_scaled_not_clipped(encoded, dtype, kind):
    values = np.array([[0, 257, 128 * 257, 65535, 200, 65335]])
    image = Image.fromarray(values.astype(dtype))
    pixels = decode(encoded(image, kind)).pixels
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255, 1, 254]
    assert (pixels == pixels[:, :, :1]).all()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0, 0.5, 1], [0, 128, 255]), ([0, 2, 255], [0, 2, 255]), ([0, 257 * 9, 65535], [0, 9, 255])],
)
def test_float_grey_is_scaled_by_its_range(encoded, values, wanted):
    data = encoded(Image.fromarray(np.array([values], np.float32)), "TIFF")
    assert decode(data).pixels[0, :, 1].tolist() == wanted


@pytest.mark.parametrize("values", [[-1.0, 0.0], [0.0, 1e6], [0.0, float("nan")]])
def test_float_grey_out_of_range_is_refused(encoded, values):
    assert "floating-point grey" in reason(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))


def test_32_bit_grey_out_of_range_is_refused(encoded):
    assert "-5..7" in reason(encoded(Image.fromarray(np.array([[-5, 7]], np.int32)), "TIFF"))


@pytest.mark.parametrize(("mode", "kind"), [("1", "PNG"), ("1", "TIFF"), ("L", "JPEG"), ("L", "PNG"), ("L", "BMP")])
def test_grey_and_black_and_white(encoded, mode, kind):
    image = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 8, axis=1).repeat(8, axis=0)).convert(mode)
    pixels = decode(encoded(image, kind)).pixels
    assert pixels[0, 0].max() < 3
    assert pixels[0, -1].min() > 252


def test_lab_and_ycbcr_are_converted(encoded):
    colour = np.array([[[200, 60, 30]]], np.uint8)
    ycbcr = Image.fromarray(colour).convert("YCbCr")
    assert distance(decode(encoded(ycbcr, "TIFF")).pixels, colour) < 3
    # L* = 128/255 * 100 = 50 without chroma is sRGB 119
    lab = Image.new("LAB", (2, 2), (128, 128, 128))
    assert np.abs(decode(encoded(lab, "TIFF")).pixels.astype(int) - 119).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (20000, 20)])
def test_odd_sizes(encoded, size):
    for kind in ("JPEG", "PNG"):
        picture = decode(encoded(Image.new("RGB", size), kind), DecodePolicy(shrink_to=64))
        assert picture.pixels.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_truncated_files_are_refused(encoded, kind, share):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    decode(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = reason(data[: int(len(data) * share)])
    assert kind in message


def test_jpeg_cut_off_and_padded_with_zeros_is_refused(encoded):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    # such bytes in the metadata, usually of a thumbnail, must not be taken for the end of the picture
    data = encoded(noise, "JPEG", comment=b"\xff\xd9")
    assert data.count(b"\xff\xd9") == 2
    assert reason(data[: len(data) // 2] + bytes(len(data) // 2)) == "truncated JPEG: its end is missing"


def test_jpeg_with_something_after_its_end_is_fine(blocks, encoded):
    assert decode(encoded(Image.fromarray(blocks), "JPEG") + b"\0maker's trailer\0" * 50).height == 60


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_damage_in_the_middle_is_refused(encoded, kind):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = bytearray(encoded(noise, kind))
    data[len(data) // 2 : len(data) // 2 + 200] = b"\x55" * 200
    assert kind in reason(bytes(data))


def test_one_wrong_byte_in_a_png_is_refused(encoded):
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = bytearray(encoded(noise, "PNG", compress_level=0))  # stored as it is: every byte decodes
    data[len(data) // 2] ^= 1
    assert "PNG" in reason(bytes(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"this is text\nnamed .jpg", "it is text, starting with 'this is text named .jpg'"),
        ("größe: 3".encode(), "it is text"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"%PDF-1.4 ...", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "damaged HEIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (bytes(1000), "zero bytes"),
        (b"\x01\x02\xfe\xff\x01\x02\xfe\xff", "01 02 fe ff"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
    ],
)
def test_other_files_are_named_for_what_they_are(data, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert words in reason(data)


def png_with_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header_without_warning_or_global_state():
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(png_with_header(12_000, 10_000)) == (
            "120,000,000 pixels, more than the limit of 64,000,000 (max_pixels)"
        )
        assert "max_pixels" in reason(png_with_header(2**31 - 1, 2**31 - 1))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_larger_limit_than_pillows_own_is_respected():
    # past the limit, so the complaint is about the missing data, not the size
    assert "PNG" in reason(png_with_header(20_000, 10_000), DecodePolicy(max_pixels=10**9))


def test_a_jpeg_that_is_shrunk_counts_by_what_is_decoded(encoded):
    data = encoded(Image.new("RGB", (100, 100)), "JPEG")
    assert decode(data, DecodePolicy(max_pixels=10_000)).width == 100
    assert "10,000 pixels" in reason(data, DecodePolicy(max_pixels=9_999))
    assert decode(data, DecodePolicy(max_pixels=2_500, shrink_to=10)).pixels.shape == (13, 13, 3)
    assert "10,000 stored pixels" in reason(data, DecodePolicy(max_pixels=2_499, shrink_to=10))
    in_scans = encoded(Image.new("RGB", (100, 100)), "JPEG", progressive=True)
    assert "10,000 stored pixels in several scans" in reason(in_scans, DecodePolicy(max_pixels=4_999, shrink_to=10))
    assert decode(in_scans, DecodePolicy(max_pixels=6_000, shrink_to=10)).height == 100


def test_zero_width_is_refused():
    assert reason(png_with_header(0, 5))


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 3_000))
def test_shrink_scale_is_the_largest_that_keeps_the_shorter_side(width, height, shrink_to):
    scale = shrink_scale((width, height), shrink_to)
    fitting = [s for s in (1, 2, 4, 8) if s == 1 or min(width, height) // s >= shrink_to]
    assert scale == max(fitting)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 120))
def test_jpegs_shrink_by_that_scale_on_loading(width, height, shrink_to):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "JPEG")
    picture = decode(buffer.getvalue(), DecodePolicy(shrink_to=shrink_to))
    scale = shrink_scale((width, height), shrink_to)
    assert picture.pixels.shape == (-(-height // scale), -(-width // scale), 3)
    assert min(picture.pixels.shape[:2]) >= min(shrink_to, width, height)
    assert (picture.width, picture.height) == (width, height)


def test_shrunk_pixels_show_the_same_picture(blocks, encoded):
    large = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)
    data = encoded(Image.fromarray(large), "JPEG", quality=95)
    assert distance(decode(data, DecodePolicy(shrink_to=60)).pixels, blocks) < 4


def test_only_jpegs_shrink(blocks, encoded):
    assert decode(encoded(Image.fromarray(blocks), "PNG"), DecodePolicy(shrink_to=5)).pixels.shape == (
        60,
        80,
        3,
    )


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_random_damage_never_escapes_as_another_error(kind, data):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, kind)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            said = f"{decode(bytes(damaged), DecodePolicy(max_pixels=10**6)).pixels.ndim} dimensions"
        except ImageError as error:
            said = str(error)
    assert said
    assert "\n" not in said


def test_threads_give_the_same_pixels(blocks, encoded):
    data = [encoded(Image.fromarray(np.roll(blocks, shift, axis=1)), "JPEG") for shift in range(8)]
    alone = [decode(each).pixels for each in data]
    results: dict[tuple[int, int], np.ndarray] = {}

    def work(name: int) -> None:
        for i, each in enumerate(data):
            results[name, i] = decode(each).pixels

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 32
    assert all((pixels == alone[i]).all() for (_, i), pixels in results.items())


def test_to_pixels_takes_every_kind_of_picture(blocks, encoded, tmp_path):
    data = encoded(Image.fromarray(blocks), "PNG")
    path = tmp_path / "wrong suffix.txt"
    path.write_bytes(data)
    pictures = [path, str(path), f"file://{path}", data, bytearray(data), Image.fromarray(blocks), blocks]
    for each in [*pictures, np.asfortranarray(blocks)]:
        picture = to_pixels(each)
        assert (picture.pixels == blocks).all()
        assert picture.pixels.flags.c_contiguous
        assert (picture.width, picture.height, picture.mode) == (80, 60, "RGB")


def test_to_pixels_takes_grey_and_alpha_arrays(blocks):
    grey = blocks[:, :, 0]
    assert (to_pixels(grey).pixels == grey[:, :, None]).all()
    assert (to_pixels(grey[:, :, None]).pixels == grey[:, :, None]).all()
    alpha = np.concatenate([blocks, np.zeros_like(blocks[:, :, :1])], axis=2)
    assert (to_pixels(alpha).pixels == 255).all()
    alpha[:, :, 3] = 255
    assert (to_pixels(alpha).pixels == blocks).all()


def test_to_pixels_turns_an_opened_picture_upright(blocks, encoded):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = encoded(Image.fromarray(np.ascontiguousarray(blocks[::-1, ::-1])), "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert (to_pixels(image).pixels == blocks).all()
        assert image.getexif()[0x0112] == 3  # the caller's image stays as it was


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), 3, None, [1]]
)
def test_to_pixels_refuses_what_is_no_picture(wrong):
    with pytest.raises(UsageError, match="not"):
        to_pixels(wrong)


def test_to_pixels_names_what_is_wrong_with_a_file(tmp_path, encoded):
    with pytest.raises(ImageError, match="file not found"):
        to_pixels(tmp_path / "no.jpg")
    with pytest.raises(ImageError, match="a folder, not a file"):
        to_pixels(tmp_path)
    with pytest.raises(ImageError, match="without pixels"):
        to_pixels(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ImageError, match="max_pixels"):
        to_pixels(Image.new("L", (10, 10)), DecodePolicy(max_pixels=99))
    cut = encoded(Image.effect_noise((64, 64), 50), "PNG")[:500]
    with pytest.raises(ImageError, match="truncated PNG"), Image.open(io.BytesIO(cut)) as image:
        to_pixels(image)


@pytest.mark.parametrize(
    "options",
    [{"max_pixels": 0}, {"shrink_to": 0}, {"shrink_to": 1.5}, {"max_pixels": True}, {"max_pixels": 10**9 + 1}],
)
def test_senseless_policies_are_refused(options):
    with pytest.raises(UsageError, match="must be a whole number"):
        DecodePolicy(**options)

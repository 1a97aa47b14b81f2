"""TIFF files: the first page's tags looked at before decoding, and samples that Pillow does not read rightly.

Pillow (libtiff) reads samples of 8 bits in every layout, and grey of 16 and 32. For the others the file is described to
it as one of bytes: it unpacks the compression, in its bounds, and the samples are taken out of the bytes here.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from topwork.errors import ImageError
from topwork.images.modes import Pixels, of_float, rows, scaled

_ENTRIES = 1000  # tags of a page
_VALUES = 2**26  # bytes of all their values together
_PARTS = 200_000  # strips or tiles
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 278, 279, 284
_PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 317, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _PROFILE = 338, 339, 34675
_BYTEWISE = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
_JPEG_2000 = {33003, 33004, 33005, 34712}
_FLOAT = 3
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2


@dataclass(frozen=True)
class Page:
    """The tags of a page: numbers by tag, and the bytes of its colour profile."""

    order: str
    """"<" or ">": how numbers are stored."""
    numbers: dict[int, tuple[int, ...]]
    profile: bytes | None

    def one(self, tag: int, default: int = 0) -> int:
        return self.numbers.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        return self.one(_WIDTH), self.one(_HEIGHT)

    @property
    def samples(self) -> int:
        return self.one(_SAMPLES, 1)

    @property
    def bits(self) -> int:
        return self.one(_BITS, 1)

    @property
    def is_float(self) -> bool:
        return self.one(_SAMPLE_FORMAT, 1) == _FLOAT

    @property
    def is_planar(self) -> bool:
        return self.samples > 1 and self.one(_PLANAR, 1) == 2

    @property
    def orientation(self) -> int:
        return self.one(_ORIENTATION, 1)

    @property
    def is_for_pillow(self) -> bool:
        """Whether Pillow gives the right pixels."""
        if self.one(_COMPRESSION, 1) in _JPEG_2000:
            return False
        if self.bits <= 8:
            return True
        plain = not self.is_planar and self.one(_PHOTOMETRIC) != _WHITE_IS_ZERO and self.samples != 2
        return not self.is_float and self.bits in (16, 32) and plain


def first_page(data: bytes, max_pixels: int) -> Page:
    """The tags of the first page; ImageError if they promise too much."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"\x2b\0", b"\0\x2b")
    at = _number(data, order, 8, "Q") if big else _number(data, order, 4, "I")
    count = _number(data, order, at, "Q" if big else "H")
    if count > _ENTRIES:
        raise ImageError(f"a TIFF of {count:,} tags, more than the limit of {_ENTRIES:,}")
    at, entry, inline = (at + 8, 20, 8) if big else (at + 2, 12, 4)
    numbers: dict[int, tuple[int, ...]] = {}
    profile, total = None, 0
    for start in range(at, at + count * entry, entry):
        tag, kind = _number(data, order, start, "H"), _number(data, order, start + 2, "H")
        n = _number(data, order, start + 4, "Q" if big else "I")
        length = n * _SIZES.get(kind, 1)
        total += length
        if total > _VALUES:
            raise ImageError(f"a TIFF whose tags have more than {_VALUES >> 20} MB")
        place = start + entry - inline
        if length > inline:
            place = _number(data, order, place, "Q" if big else "I")
        if tag == _PROFILE:
            profile = data[place : place + length]
        elif kind in _CODES and tag in _KNOWN and n:
            if n > _PARTS:
                raise ImageError(f"a TIFF of {n:,} strips or tiles, more than the limit of {_PARTS:,}")
            numbers[tag] = struct.unpack_from(f"{order}{n}{_CODES[kind]}", data, place)
    page = Page(order, numbers, profile)
    _check(page, max_pixels)
    return page


_KNOWN = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _PLANAR),
    *(_ROWS_PER_STRIP, _STRIP_COUNTS, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS),
    *(_EXTRA_SAMPLES, _SAMPLE_FORMAT),
}


def _number(data: bytes, order: str, at: int, code: str) -> int:
    return int(struct.unpack_from(order + code, data, at)[0])


def _check(page: Page, max_pixels: int) -> None:
    width, height = page.size
    tile = page.one(_TILE_WIDTH) * page.one(_TILE_HEIGHT)
    pixels = max(width * height, tile)
    if pixels > max_pixels:
        raise ImageError(f"{pixels:,} pixels, more than the limit of {max_pixels:,} (max_pixels)")
    if page.samples > 8 or page.samples * page.bits > 256:
        raise ImageError(f"a TIFF of {page.samples} samples of {page.bits} bits a pixel")


def load(data: bytes, page: Page) -> Image.Image:
    """The first page in 8 bits, mode L, LA, RGB or RGBA, for kinds that Pillow does not read rightly."""
    _require_readable(page)
    values = np.dstack([_plane(data, page, i) for i in range(page.samples)]) if page.is_planar else _plane(data, page)
    colours = 3 if page.one(_PHOTOMETRIC) == _RGB else 1
    given, extra = values[:, :, :colours], values[:, :, colours : colours + 1]
    if page.is_float:
        made, alpha = of_float(given), np.rint(np.clip(extra, 0, 1) * 255).astype(np.uint8)
    else:
        top = 2**page.bits - 1
        made, alpha = scaled(given, top), scaled(extra, top)
    if page.one(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        np.subtract(255, made, out=made)
    return _image(made, alpha, page.one(_EXTRA_SAMPLES))


def _require_readable(page: Page) -> None:
    compression, colour = page.one(_COMPRESSION, 1), page.one(_PHOTOMETRIC)
    kind = f"{page.samples} samples of {page.bits} bits{' in floating point' if page.is_float else ''}"
    if compression in _JPEG_2000:
        raise ImageError("a TIFF compressed with JPEG 2000, which is not read; save it as PNG or as another TIFF")
    readable = (
        len(set(page.numbers.get(_BITS, (1,)))) == 1
        and (page.bits in (16, 32, 64) if page.is_float else page.bits <= 16 and page.one(_SAMPLE_FORMAT, 1) == 1)
        and colour in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
        and page.samples in ((3, 4) if colour == _RGB else (1, 2))
        and compression in _BYTEWISE
        and page.one(_FILL_ORDER, 1) == 1
        and (page.one(_PREDICTOR, 1) == 1 or page.bits in (16, 32, 64))
    )
    if not readable:
        raise ImageError(f"a TIFF of {kind} (colours {colour}, compression {compression}) is not read; save it as PNG")


def _image(made: Pixels, alpha: Pixels, kind: int) -> Image.Image:
    image = Image.fromarray(made if made.shape[2] == 3 else made[:, :, 0])
    if alpha.shape[2] == 0 or kind not in (1, 2):
        return image
    image.putalpha(Image.fromarray(alpha[:, :, 0]))
    if kind == 1:  # premultiplied: Pillow knows how to divide
        premultiplied = "RGBa" if image.mode == "RGBA" else "La"
        image = Image.frombytes(premultiplied, image.size, image.tobytes()).convert(image.mode)
    return image


_UNPACKED = 170_000_000  # bytes; Pillow takes each for a pixel, and more for an attack


def _plane(data: bytes, page: Page, plane: int | None = None) -> NDArray[Any]:
    """``[h, w, samples]`` as stored; of one plane of a planar file ``[h, w, 1]``."""
    width, height = page.size
    samples = page.samples if plane is None else 1
    tile = (page.one(_TILE_WIDTH), page.one(_TILE_HEIGHT)) if _TILE_OFFSETS in page.numbers else (width, 0)
    if tile[0] < 1:
        raise ImageError("damaged TIFF: tiles without a width")
    line = -(-tile[0] * samples * page.bits // 8)  # bytes of a row of a strip or tile
    across = -(-width // tile[0])
    down = -(-height // tile[1]) * tile[1] if tile[1] else height
    if line * across * down > _UNPACKED:
        raise ImageError(
            f"{line * across * down:,} bytes of pixels, more than the limit of {_UNPACKED:,}; save it as PNG"
        )
    stored = np.asarray(_as_bytes(data, page, plane, (line * across, down), (line, tile[1])))
    stored = stored.reshape(down, across, line)[:height]
    made = np.empty((height, across, tile[0] * samples), _dtype(page))
    for part in rows(height, width * samples):
        made[part] = _samples(stored[part], page, tile[0] * samples, samples)
    return made.reshape(height, across * tile[0], samples)[:, :width]


def _dtype(page: Page) -> np.dtype[Any]:
    return np.dtype(f"f{page.bits // 8}" if page.is_float else np.uint16)


def _samples(stored: NDArray[np.uint8], page: Page, count: int, samples: int) -> NDArray[Any]:
    """``[h, tiles, count]`` samples from the bytes ``[h, tiles, line]`` of rows, the predictor undone (TIFF 6, 14)."""
    if page.bits % 8:
        bits = np.unpackbits(stored, axis=-1, count=count * page.bits).reshape(*stored.shape[:2], count, page.bits)
        return bits @ (1 << np.arange(page.bits - 1, -1, -1, dtype=np.uint32))
    size, predictor = page.bits // 8, page.one(_PREDICTOR, 1)
    if predictor == 3:  # differences of bytes, the highest bytes of a row first (Adobe's technical note 3)
        summed = np.cumsum(stored.reshape(*stored.shape[:2], -1, samples), axis=2, dtype=np.uint8)
        planes = summed.reshape(*stored.shape[:2], size, count)
        stored = np.ascontiguousarray(np.moveaxis(planes, 2, 3)).reshape(*stored.shape[:2], -1)
        return stored.view(np.dtype(f">f{size}"))
    unsigned = np.dtype(f"u{size}")
    values = stored.view(np.dtype(f"{page.order}u{size}")).astype(unsigned)
    if predictor == 2:
        parted = values.reshape(*values.shape[:2], -1, samples)
        values = np.cumsum(parted, axis=2, dtype=unsigned).reshape(values.shape)
    return values.view(_dtype(page)) if page.is_float else values


def _as_bytes(data: bytes, page: Page, plane: int | None, size: tuple[int, int], tile: tuple[int, int]) -> Image.Image:
    """The stored bytes, out of their compression, as a grey picture of ``size``; ``tile``: height 0 for strips."""
    tiled = tile[1] > 0
    offsets, counts = (_TILE_OFFSETS, _TILE_COUNTS) if tiled else (_STRIP_OFFSETS, _STRIP_COUNTS)
    places, lengths = page.numbers.get(offsets, ()), page.numbers.get(counts, ())
    if plane is not None:
        each = len(places) // page.samples
        places, lengths = (values[plane * each : (plane + 1) * each] for values in (places, lengths))
    tags = {
        _WIDTH: size[:1],
        _HEIGHT: size[1:],
        _BITS: (8,),
        _COMPRESSION: (page.one(_COMPRESSION, 1),),
        _PHOTOMETRIC: (_BLACK_IS_ZERO,),
        _SAMPLES: (1,),
        offsets: places,
        counts: lengths,
    }
    tags |= {_TILE_WIDTH: tile[:1], _TILE_HEIGHT: tile[1:]} if tiled else {}
    tags |= {} if tiled else {_ROWS_PER_STRIP: (min(page.one(_ROWS_PER_STRIP, size[1]), size[1]),)}
    image = TiffImagePlugin.TiffImageFile(BytesIO(_with_page(data, page.order, tags)), "")
    image.load()
    return image


def _with_page(data: bytes, order: str, tags: dict[int, tuple[int, ...]]) -> bytes:
    """The file with another first page: its own bytes stay where they are, the new tags follow them."""
    begin = len(data) + len(data) % 2
    values, entries = b"", b""
    after = begin + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        numbers = tags[tag]
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack(order + "I", after + len(values)), values + packed
        entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + packed.ljust(4, b"\0")
    magic = b"II\x2a\0" if order == "<" else b"MM\0\x2a"
    head = magic + struct.pack(order + "I", begin)
    page = struct.pack(order + "H", len(tags)) + entries + bytes(4) + values
    return b"".join((head, data[8:], bytes(len(data) % 2), page))

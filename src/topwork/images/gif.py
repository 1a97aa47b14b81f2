"""GIF files: what stands before the first frame is left out, so comments of any number and length cost nothing."""

import struct

from topwork.errors import ImageError

_BLOCKS = 10_000  # before the first frame, their parts of up to 255 bytes counted
_BYTES = 4 * 2**20  # before the first frame
_HEADER = 13
_EXTENSION, _FRAME, _END = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = b"\xf9"


def from_first_frame(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """The file without its extensions before the first frame, but for the one that says what is transparent; and the
    width and height of the canvas with that frame on it. ImageError where there is none, or too much before it.
    """
    head = at = _HEADER + (3 * (2 << (data[10] & 7)) if len(data) > _HEADER and data[10] & 0x80 else 0)
    control = b""
    for _ in range(_BLOCKS):
        kind = data[at] if at < len(data) else _END
        if kind == _FRAME:
            left, top, width, height = struct.unpack_from("<4H", data[at + 1 : at + 9].ljust(8, b"\0"))
            canvas = struct.unpack_from("<2H", data, 6)
            return data[:head] + control + data[at:], (max(canvas[0], left + width), max(canvas[1], top + height))
        if kind == _END:
            raise ImageError(f"{'truncated' if at >= len(data) else 'damaged'} GIF: it has no frame")
        if kind != _EXTENSION:  # a stray byte
            at += 1
            continue
        begin, at = at, _after_parts(data, at + 2)
        if at - head > _BYTES:
            raise ImageError(f"a GIF with more than {_BYTES >> 20} MB before its first frame")
        if data[begin + 1 : begin + 2] == _GRAPHIC_CONTROL:
            control = data[begin:at]
    raise ImageError(f"a GIF with more than {_BLOCKS:,} extensions or stray bytes before its first frame")


def _after_parts(data: bytes, at: int) -> int:
    """Where the parts of an extension end that begin at ``at``; an empty one is the last."""
    for _ in range(_BLOCKS):
        length = data[at] if at < len(data) else 0
        at += 1 + length
        if length == 0:
            return at
    raise ImageError(f"a GIF with more than {_BLOCKS:,} parts in one of its extensions")

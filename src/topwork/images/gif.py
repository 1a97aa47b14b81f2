"""GIF files: what stands before the first frame is left out, so comments of any number and length cost nothing."""

from topwork.errors import ImageError

_BLOCKS = 10_000  # before the first frame, their parts of up to 255 bytes counted
_HEADER = 13
_EXTENSION, _FRAME, _GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9


def from_first_frame(data: bytes) -> bytes:
    """The file without its extensions before the first frame, but for the one that says what is transparent.

    ImageError if they are too many; a file that is not built like this is returned as it is.
    """
    if len(data) < _HEADER:
        return data
    head = at = _HEADER + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
    control = b""
    for _ in range(_BLOCKS):
        kind = data[at : at + 1]
        if kind == bytes([_FRAME]):
            return data[:head] + control + data[at:]
        if kind != bytes([_EXTENSION]) or at + 2 > len(data):
            return data[: head + _BLOCKS]  # no frame comes: Pillow says so
        begin, at = at, at + 2
        for _ in range(_BLOCKS):
            length = data[at] if at < len(data) else 0
            at += 1 + length
            if length == 0:
                break
        else:
            raise ImageError(f"a GIF with more than {_BLOCKS:,} parts in one of its extensions")
        if data[begin + 1] == _GRAPHIC_CONTROL:
            control = data[begin:at]
    raise ImageError(f"a GIF with more than {_BLOCKS:,} extensions before its first frame")

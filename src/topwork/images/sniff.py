"""What the first bytes of a file say about it, in words for a person."""

import re

_SIGNATURES = (
    (b"%PDF", "it is a PDF document"),
    (b"PK\x03\x04", "it is a ZIP archive or an office document"),
    (b"\x1f\x8b", "it is gzip-compressed"),
    (b"Rar!", "it is a RAR archive"),
    (b"7z\xbc\xaf", "it is a 7z archive"),
    (b"\x00\x00\x01\x00", "it is an icon; save it as PNG"),
    (b"8BPS", "it is a Photoshop document; save it as PNG or JPEG"),
    (b"\xff\x0a", "it is JPEG XL; save it as PNG or JPEG"),
    (b"\x00\x00\x00\x0cJXL ", "it is JPEG XL; save it as PNG or JPEG"),
    (b"\x00\x00\x00\x0cjP", "it is JPEG 2000; save it as PNG or JPEG"),
    (b"\xff\x4f\xff\x51", "it is JPEG 2000; save it as PNG or JPEG"),
    (b"P6", "it is PPM; save it as PNG"),
    (b"\x1a\x45\xdf\xa3", "it is a video (Matroska or WebM)"),
    (b"ID3", "it is an MP3 sound file"),
    (b"\x93NUMPY", "it is a NumPy array"),
    (b"\x89HDF", "it is an HDF5 file"),
    (b"\x00\x05\x16\x07", "it is macOS metadata (AppleDouble)"),
)


def what_it_is(data: bytes) -> str:
    """A few words on a file that is no readable picture.

    >>> what_it_is(b"%PDF-1.7")
    'it is a PDF document'
    >>> what_it_is(b"see the other folder\\n")
    "it is text, starting with 'see the other folder'"
    """
    if data[4:8] == b"ftyp":
        return _what_iso_media(data[8:12])
    if data[:4] == b"RIFF":
        return "it is an AVI video" if data[8:11] == b"AVI" else "it is a RIFF file without a picture"
    for signature, words in _SIGNATURES:
        if data.startswith(signature):
            return words
    if not any(data[:4096]):
        return "it is filled with zero bytes"
    return _what_text(data[:256]) or f"its first bytes are {data[:8].hex(' ')}"


def _what_iso_media(brand: bytes) -> str:
    if brand in (b"avif", b"avis"):
        return "it is AVIF; save it as PNG or JPEG"
    return "it is a video (MP4 or MOV)"


def _what_text(head: bytes) -> str | None:
    # errors="ignore" would let anything pass; up to 3 bytes at the end may be a cut character
    for end in range(len(head), max(len(head) - 4, 0), -1):
        try:
            text = head[:end].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        if any(ord(char) < 32 and char not in "\t\n\r\f" for char in text):
            return None
        lowered = text.lstrip().lower()
        if lowered.startswith(("<!doctype html", "<html")):
            return "it is a web page (HTML)"
        if lowered.startswith("version https://git-lfs"):
            return "it is a Git LFS pointer; run `git lfs pull`"
        if "<svg" in lowered:
            return "it is an SVG drawing; save it as PNG"
        return f"it is text, starting with {' '.join(text.split())[:24].rstrip()!r}"
    return None


def one_line(error: BaseException) -> str:
    """The message of ``error`` as one line without addresses of objects; its type's name if it has none.

    >>> one_line(OSError("cannot identify <_io.BytesIO object at 0x7f>\\nsorry"))
    'cannot identify the file sorry'
    """
    text = re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>", "the file", str(error))
    return " ".join(text.split()) or type(error).__name__


def shown(path: str) -> str:
    """``path`` for a message of one line: quoted if it has line breaks or other control characters.

    >>> shown("vw käfer/1.jpg"), shown("a\\nb")
    ('vw käfer/1.jpg', "'a\\\\nb'")
    """
    return path if path.isprintable() else repr(path)

"""The text of a table that a person or a spreadsheet program wrote, or what to do where it is stored in another way."""

import codecs

from topwork.errors import SourceError
from topwork.images.sniff import shown, what_it_is

_HOW = "save it as CSV UTF-8 (in a spreadsheet program: Save as)"


def text_of(data: bytes, place: str) -> str:
    """UTF-8, or UTF-16 with its mark ("Unicode text" of spreadsheet programs); SourceError with advice for all else.

    >>> text_of(b"path,label\\n1.jpg,caf\\xe9\\n", "list.csv")
    Traceback (most recent call last):
    ...
    topwork.errors.SourceError: expected UTF-8 text in list.csv, but line 2 is not; ...
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not wide and b"\0" in data[:8]:  # which would be letters in UTF-8
        raise SourceError(f"expected UTF-8 text in {shown(place)}, but {_what(data)}")
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"expected UTF-8 text in {shown(place)}, but {_why(data, error.start, wide)}") from error


def _what(data: bytes) -> str:
    zeros = [not any(data[start:8:2]) for start in (0, 1)]
    if len(data) >= 8 and zeros in ([True, False], [False, True]):
        return f"it is UTF-16 text without its mark; {_HOW}"
    return f"{what_it_is(data)}; give a manifest, or the folder of the pictures"


def _why(data: bytes, at: int, wide: bool) -> str:
    if wide:
        return f"it is damaged UTF-16 text; {_HOW}"
    start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
    line = data[start : end if end >= 0 else len(data)]
    number = data.count(b"\n", 0, at) + 1
    reading = line[max(0, at - start - 30) : at - start + 30].decode("cp1252", "replace").strip()
    if not reading.isprintable():
        return f"line {number} is not; {_HOW}"
    return (
        f"line {number} is not; in Windows-1252 it reads {reading!r}: {_HOW}, or, if that is right, convert it with "
        "`iconv -f WINDOWS-1252 -t UTF-8`"
    )

"""Explanations as pictures and as files of raw values."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from topwork.errors import ImageError, UsageError
from topwork.explanation.explaining import Explanation
from topwork.explanation.nearest import Neighbour
from topwork.images import DecodePolicy, decode
from topwork.images.contact_sheet import cut_to
from topwork.images.sniff import shown
from topwork.report.heat import coloured, map_over

INK, PAPER = (32, 32, 32), (255, 255, 255)
TEXT, LINE, MARGIN = 14, 20, 8  # pixels: size of the letters, height of a line, around everything
LEGEND = 12  # height of the bar of colours


def overlay(explanation: Explanation, *, side: int = 448) -> tuple[Image.Image, float]:
    """The picture nearly in grey with the values over it, as RGB, and the value that has the full colour.

    The picture's longest side is ``side`` pixels. Orange speaks for the class, blue against it; full colour has the
    strength that half a percent of the pixels exceed. What the network did not see is dimmed. UsageError for an
    explanation with an error.

    >>> from topwork.explanation import explain
    >>> [found] = explain("imagenet:tf_efficientnet_lite0", np.zeros((50, 80, 3), np.uint8), faithfulness=False)
    >>> overlay(found, side=160)[0].size
    (160, 100)
    """
    return map_over(*_drawn(explanation), side=side)


def _drawn(explanation: Explanation) -> tuple[NDArray[np.uint8], NDArray[np.float32], tuple[float, ...]]:
    """What is drawn of an explanation."""
    if explanation.pixels is None or explanation.values is None or explanation.box is None:
        raise UsageError(f"expected an explanation to draw, but {explanation.path} has none: {explanation.error}")
    return explanation.pixels, explanation.values, explanation.box


def captioned(explanation: Explanation, *, side: int = 448) -> Image.Image:
    """The overlay with its caption: class, probability, method, layer, faithfulness or a warning, and the colours.

    Below it the nearest training pictures of each class, where there are any.

    >>> from topwork.explanation import explain
    >>> found = explain("imagenet:tf_efficientnet_lite0", np.zeros((50, 80, 3), np.uint8), faithfulness=False)
    >>> captioned(found[0], side=160).size, sheet(2 * found, side=160).size
    ((176, 216), (352, 216))
    >>> png(captioned(found[0]))[:4], npz(found[0])[:2]
    (b'\\x89PNG', b'PK')
    """
    picture, full = overlay(explanation, side=side)
    by_label: dict[str, list[Neighbour]] = {}
    for neighbour in explanation.neighbours:
        by_label.setdefault(neighbour.label, []).append(neighbour)
    rows = [_neighbours(label, chosen, side) for label, chosen in by_label.items()]
    return stacked([tile(picture, _caption(explanation), side, full=full), *rows])


def tile(picture: Image.Image, lines: Sequence[str], side: int, *, full: float | None = None) -> Image.Image:
    """A picture in the middle of ``side`` pixels, lines of text below it, and the bar of colours up to ``full``.

    >>> tile(Image.new("RGB", (50, 80)), ["a", "b"], 100).size
    (116, 144)
    """
    font = ImageFont.load_default(TEXT)
    bar = 0 if full is None else LEGEND + LINE
    found = Image.new("RGB", (side + 2 * MARGIN, picture.height + 2 * MARGIN + len(lines) * LINE + bar + MARGIN), PAPER)
    found.paste(picture, (MARGIN + (side - picture.width) // 2, MARGIN))
    pen = ImageDraw.Draw(found)
    y = picture.height + 2 * MARGIN
    for line in lines:
        pen.text((MARGIN, y), cut_to(side, line, font), INK, font)
        y += LINE
    if full is not None:
        ramp = np.tile(np.linspace(-1, 1, side, dtype=np.float32), (LEGEND, 1))
        found.paste(coloured(np.full((LEGEND, side, 3), 160, np.float32), ramp), (MARGIN, y))
        for x, anchor, text in ((0, "la", f"against {-full:.3g}"), (0.5, "ma", "0"), (1, "ra", f"for {full:.3g}")):
            pen.text((MARGIN + x * side, y + LEGEND + 1), text, INK, font, anchor=anchor)
    return found


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other.

    >>> stacked([Image.new("RGB", (5, 2)), Image.new("RGB", (4, 3))]).size
    (5, 5)
    """
    whole = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), PAPER)
    top = 0
    for each in pictures:
        whole.paste(each, (0, top))
        top += each.height
    return whole


def _neighbours(label: str, neighbours: Sequence[Neighbour], side: int) -> Image.Image:
    """The nearest training pictures of a class side by side, with their similarity; names alone without pictures."""
    across, font = side // len(neighbours), ImageFont.load_default(TEXT)
    thumbnails = [thumbnail(neighbour, across - MARGIN) for neighbour in neighbours]
    tallest = max(each.height for each in thumbnails)
    found = Image.new("RGB", (side + 2 * MARGIN, tallest + 2 * LINE + 3 * MARGIN), PAPER)
    pen = ImageDraw.Draw(found)
    pen.text((MARGIN, MARGIN), cut_to(side, f"nearest training pictures of {shown(label)}", font), INK, font)
    for number, (neighbour, each) in enumerate(zip(neighbours, thumbnails, strict=True)):
        left, top = MARGIN + number * across, MARGIN + LINE
        found.paste(each, (left, top))
        name = "" if each.height else f" {shown(neighbour.path.rsplit('/', 1)[-1])}"
        words = cut_to(across - MARGIN, f"{neighbour.similarity:.2f}{name}", font)
        pen.text((left, top + tallest + MARGIN // 2), words, INK, font)
    return found


def thumbnail(neighbour: Neighbour, side: int) -> Image.Image:
    """The picture, at most ``side`` pixels wide and high; an empty one where it cannot be read any more."""
    try:
        if neighbour.sample is not None:
            picture = Image.fromarray(decode(neighbour.sample.read(), DecodePolicy(shrink_to=side)).pixels)
            picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            return picture
    except ImageError:
        pass
    return Image.new("RGB", (side, 0))


def _caption(explanation: Explanation) -> list[str]:
    measured = explanation.faithfulness
    said = "faithfulness not measured"
    if measured is not None:
        said = f"deletion {measured.deletion:.2f}, insertion {measured.insertion:.2f}"
        said = "Do not rely on this map" if measured.reason else said
    target, against = shown(explanation.target or ""), explanation.against
    number = "" if explanation.probability is None else f": {100 * explanation.probability:.1f} %"
    if against is not None:
        number = f" rather than {shown(against)}"
    return [f"{target}{number}", f"{explanation.method}, {explanation.layer}", said]


def sheet(explanations: Sequence[Explanation], *, columns: int = 4, side: int = 256) -> Image.Image:
    """Overlays with their captions side by side, ``columns`` in a row, as RGB; UsageError where there are none.

    Explanations with an error are left out.
    """
    tiles = [captioned(explanation, side=side) for explanation in explanations if not explanation.error]
    if not tiles:
        raise UsageError("expected explanations to draw, but none of the pictures could be read; give others")
    return in_rows(tiles, columns=columns)


def in_rows(pictures: Sequence[Image.Image], *, columns: int) -> Image.Image:
    """Pictures of one width, ``columns`` in a row, their lower edges in one line.

    >>> in_rows([Image.new("RGB", (5, 4))] * 3, columns=2).size
    (10, 8)
    """
    columns = min(columns, len(pictures))
    width, height = pictures[0].width, max(each.height for each in pictures)
    whole = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), PAPER)
    for number, each in enumerate(pictures):
        below = height - each.height
        whole.paste(each, (number % columns * width, number // columns * height + below))
    return whole


def npz(explanation: Explanation) -> bytes:
    """The raw values as a file of NumPy: ``values``, ``on_input`` and ``box``, with what they are.

    Opened by ``numpy.load(path)``; nothing in it is pickled.
    """
    buffer = io.BytesIO()
    names = ("path", "target", "against", "method", "layer")
    texts = {name: np.array(str(getattr(explanation, name) or "")) for name in names}
    _, values, box = _drawn(explanation)
    arrays = {"values": values, "on_input": np.asarray(explanation.on_input), "box": np.array(box)}
    np.savez_compressed(buffer, allow_pickle=False, **texts, **arrays)
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

"""``topwork summary``."""

import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from topwork.cli.output import Json, counted, print_json, print_lines
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.backbones.summary import Layer, Shape, Summary

_LONG = 80
"""Rows from which on a table by blocks is offered."""
_TITLES = ("layer", "type", "output", "parameters", "sees", "stride", "MACs")
_LEFT = 2
"""So many columns are aligned to the left, the others to the right."""
_LONGEST_TYPE, _LEAST_NAME = 11, 8


def summary(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A network or block; `topwork backbones` has names.")],
    input: Annotated[
        str | None,
        typer.Option(metavar="CxHxW", help="Channels, height and width of a picture, such as 1x28x28; else its own."),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, help="One row a block: names of at most so many parts. Else every layer.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a network layer by layer.

    Output shape, parameters, receptive field, stride, multiply-adds. Needs no weights.
    """
    from topwork.backbones.extra import require

    if depth is not None and json:
        raise UsageError("--depth is for the table; --json has every layer, leave one of them out")
    shape = parse_shape(input) if input is not None else None
    require(f"the network {name}")
    from topwork.backbones.summary import summary as summarize

    found = summarize(name, shape)
    if json:
        print_json(found.to_dict())
    else:
        _print(found, depth)


def parse_shape(text: str) -> "Shape":
    """Channels, height and width.

    >>> parse_shape("1x28x28")
    (1, 28, 28)
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and 0 < int(part) < 100_000 for part in parts):
        raise UsageError(
            f"expected channels, height and width such as 3x224x224, not {text!r}; give --input three numbers above 0"
        )
    channels, height, width = map(int, parts)
    return channels, height, width


def _print(found: "Summary", depth: int | None) -> None:
    rows = found.layers if depth is None else found.at_depth(depth)
    print_lines(_table([_row(layer) for layer in rows], max(80, shutil.get_terminal_size((80, 24)).columns)))
    channels, height, width = found.input
    fixed = found.parameters - found.trainable
    lines = [
        "",
        f"{found.name} on pictures of {channels}x{height}x{width}:",
        f"  {counted(found.parameters, 'parameter', 'parameters')}, "
        + (f"{found.trainable:,} of them trainable" if fixed else "all trainable")
        + f", {found.megabytes:,.1f} MB",
        f"  {found.multiply_adds:,} multiply-adds (MACs) a picture",
    ]
    print_lines(lines)
    if depth is None and len(rows) > _LONG:
        choice = next((d for d in range(6, 1, -1) if len(found.at_depth(d)) <= _LONG), 1)
        print_lines(["", f"{len(rows)} layers; `--depth {choice}` shows {len(found.at_depth(choice))} blocks."])


def _row(layer: "Layer") -> tuple[str, ...]:
    seen = layer.receptive_field
    return (
        layer.name or "(itself)",
        shortened(layer.type, _LONGEST_TYPE),
        "never runs" if layer.output is None else "x".join(map(str, layer.output)),
        f"{layer.parameters:,}" if layer.parameters else "-",
        "?" if seen is None else "all" if seen.whole_image else _both(*seen.size),
        "-" if seen is None or seen.stride is None else _both(*seen.stride),
        magnitude(layer.multiply_adds),
    )


def _table(rows: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    """Aligned lines of ``width`` characters at most; the names give way."""
    widths = [max(map(len, column)) for column in zip(_TITLES, *rows, strict=True)]
    gaps = 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(_LEAST_NAME, width - gaps - sum(widths[1:])))
    for name, *others in [_TITLES, tuple("-" * n for n in widths), *rows]:
        cells = zip((shortened(name, widths[0]), *others), widths, strict=True)
        aligned = [f"{cell:<{n}}" if place < _LEFT else f"{cell:>{n}}" for place, (cell, n) in enumerate(cells)]
        yield "  ".join(aligned).rstrip()


def _both(down: float, across: float) -> str:
    return f"{down:g}" if down == across else f"{down:g}x{across:g}"


def shortened(text: str, most: int) -> str:
    """Text without its middle where it is longer than ``most`` characters.

    >>> shortened("features.denseblock3.denselayer12.conv1", 21)
    'feature..ayer12.conv1'
    """
    if len(text) <= most:
        return text
    start = most // 3
    return f"{text[:start]}..{text[len(text) - (most - 2 - start) :]}"


def magnitude(count: int) -> str:
    """A large number in three digits; a dash for none.

    >>> magnitude(0), magnitude(850), magnitude(4_089_184_256)
    ('-', '850', '4.09 G')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size * 0.9995:
            value = count / size
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return str(count) if count else "-"

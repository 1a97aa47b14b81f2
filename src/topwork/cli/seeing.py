"""``topwork see``: what a network looks for, and what it keeps of a picture."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.output import Json, print_json, print_lines, printable
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.visualization.maximize import Target
    from topwork.visualization.opened import Opened

see_app = typer.Typer(help="What a network sees: its kernels, feature maps, and what excites it.")

Backbone = Annotated[str, typer.Argument(metavar="BACKBONE", help="A network; `topwork backbones` has names.")]
Picture = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")]
Sheet = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The sheet to write, a .png.")]
Arrays = Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="Also write the arrays, as .npz.")]
LayerName = Annotated[str | None, typer.Option(help="A stage; `topwork backbones BACKBONE` lists them.")]

_GRID_COLUMNS, _TILE = 8, 224  # tiles in a row, and their largest side in pixels


@see_app.command("convolve")
def convolve(
    image: Picture,
    kernel: Annotated[str, typer.Option(help='edge, sobel, sharpen, blur, or rows such as "[[1,0],[0,-1]]".')],
    stride: Annotated[int, typer.Option(min=1, help="Pixels from one place of the kernel to the next.")] = 1,
    padding: Annotated[str, typer.Option(help="valid: none; same: zeros that keep the size.")] = "valid",
    pool: Annotated[str | None, typer.Option(help="max or average, of windows of 2 x 2 pixels afterwards.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Turn the kernel by 180 degrees first.")] = False,
    grey: Annotated[bool, typer.Option("--grey", help="Of the picture's brightness, not of each colour.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="A .png of it.")] = None,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Slide a kernel over IMAGE, with the arithmetic of shapes.

    As a network's layer does it: the kernel is not turned. --flip convolves as in signal processing.
    """
    from topwork.visualization import files, steps
    from topwork.visualization.sheet import Section

    files.check_files(output, npz)
    found = steps.convolution_steps(
        files.read_picture(image, grey=grey),
        steps.kernel_of(kernel),
        stride=stride,
        padding=padding,
        pool=pool,
        flip=flip,
    )
    if output is not None:
        files.write_sheet(
            output, [Section(f"{image.name}: {kernel}", [each.tile for each in found], len(found))], side=300
        )
    files.write_arrays(npz, {each.name: each.values for each in found})
    if json:
        written = [str(path) for path in (output, npz) if path is not None]
        print_json({"steps": [each.to_dict() for each in found], "files": written})
    else:
        print_lines(line for each in found for line in each.lines)
        _print_files(output, npz)


@see_app.command("filters")
def filters(
    backbone: Backbone,
    output: Sheet,
    layer: Annotated[str | None, typer.Option(help="Another convolution than the first, by its weight.")] = None,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Show the kernels of a convolution as pictures.

    The first one's where none is named, whose kernels see colours.
    """
    from topwork.visualization import files
    from topwork.visualization import filters as kernels
    from topwork.visualization.opened import open_network

    files.check_files(output, npz)
    opened = open_network(backbone, random_weights=True)
    name, found = kernels.filters(opened.network, layer)
    section = kernels.filter_sheet(opened.spec.name, name, found)
    files.write_sheet(output, [section], side=48 if len(found) > 64 else 72)
    files.write_arrays(npz, {"kernels": found})
    facts = {"backbone": opened.spec.name, "layer": name, "kernels": list(found.shape)}
    _tell(facts, [section.title], opened, output, npz, json)


@see_app.command("activations")
def activations(
    backbone: Backbone,
    image: Picture,
    output: Sheet,
    most: Annotated[int, typer.Option("--channels", min=1, max=64, help="How many of each stage, at most.")] = 16,
    geometry: Annotated[str, typer.Option(help="How the picture becomes a square: crop, pad or stretch.")] = "crop",
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Show the strongest feature maps of IMAGE, stage by stage."""
    from topwork.visualization import activations as maps
    from topwork.visualization import files
    from topwork.visualization.opened import open_network

    files.check_files(output, npz)
    pixels = files.read_picture(image)
    opened = open_network(backbone, random_weights=True)
    found = maps.activations(opened, pixels, geometry=geometry)
    files.write_sheet(output, [maps.activation_sheet(each, most=most) for each in found], side=96)
    files.write_arrays(npz, {each.stage.name: each.maps for each in found})
    rows = [
        {"name": each.stage.name, "shape": list(each.maps.shape), "strongest": each.strongest(most)} for each in found
    ]
    lines = [maps.activation_sheet(each).title for each in found]
    _tell({"backbone": opened.spec.name, "image": str(image), "stages": rows}, lines, opened, output, npz, json)


@see_app.command("maximize")
def maximize(
    backbone: Backbone,
    output: Sheet,
    layer: LayerName = None,
    channel: Annotated[int | None, typer.Option(min=0, help="A channel of the layer, from 0.")] = None,
    neuron: Annotated[str | None, typer.Option(metavar="C,Y,X", help="A channel, and a place in its map.")] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", metavar="K", help="A class, by number or name; several can be given.")
    ] = None,
    grid: Annotated[int | None, typer.Option(min=1, max=256, help="The first so many channels of the layer.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps of gradient ascent.")] = 256,
    size: Annotated[int, typer.Option(help="Side of the picture, in pixels.")] = 224,
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise it starts from, and the views.")] = 0,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Make the picture that excites a part of a network most.

    A channel, a neuron or a class. By gradient ascent from noise; needs PyTorch and pretrained weights.
    """
    from topwork.backbones.extra import require
    from topwork.progress import for_stream
    from topwork.visualization import files
    from topwork.visualization.opened import open_network

    files.check_files(output, npz)
    require("see maximize")
    import numpy as np

    from topwork.visualization import maximize as ascent
    from topwork.visualization.sheet import Section, Tile

    opened = open_network(backbone)
    targets = _targets(opened, layer, channel, neuron, class_, grid)
    settings = ascent.Settings(steps=steps, size=size, seed=seed)
    found = ascent.maximize(opened.spec, opened.network, targets, settings, progress=for_stream())
    tiles = [Tile(each.pixels, each.target.caption(opened.spec)) for each in found]
    files.write_sheet(output, [Section(opened.spec.name, tiles, _GRID_COLUMNS)], side=min(size, _TILE))
    files.write_arrays(npz, {"pictures": np.stack([each.picture for each in found])})
    traces = [
        {**each.target.to_dict(opened.spec), "trace": [round(value, 4) for value in each.trace]} for each in found
    ]
    facts = {"backbone": opened.spec.name, "steps": steps, "size": size, "seed": seed}
    facts |= traces[0] if len(traces) == 1 else {"pictures": traces}
    lines = [
        f"{each.caption}: activation {one.trace[0]:.2f} at the first step, {one.trace[-1]:.2f} at the last"
        for each, one in zip(tiles, found, strict=True)
    ]
    _tell(facts, lines, opened, output, npz, json)


@see_app.command("dream")
def dream(
    image: Picture,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The picture to write, a .png.")],
    backbone: Annotated[str | None, typer.Option(help="The network; else topwork's default.")] = None,
    layer: LayerName = None,
    channel: Annotated[int | None, typer.Option(min=0, help="One channel of the layer; else all of them.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps at each size.")] = 10,
    octaves: Annotated[int, typer.Option(min=1, max=12, help="So many sizes, from small to the picture's.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Decides by how much each step is moved.")] = 0,
    json: Json = False,
) -> None:
    """Put more of what a layer sees in IMAGE into it.

    By gradient ascent at several sizes; needs PyTorch and pretrained weights.
    """
    from topwork.backbones.extra import require
    from topwork.progress import for_stream
    from topwork.recipe import DEFAULT_BACKBONE
    from topwork.visualization import files
    from topwork.visualization.opened import open_network

    files.check_files(output, None)
    require("see dream")
    pixels = files.read_picture(image)
    from topwork.visualization import dream as dreams

    opened = open_network(backbone or DEFAULT_BACKBONE)
    name = layer or dreams.middle_stage(opened.spec)
    settings = dreams.DreamSettings(steps=steps, octaves=octaves, channel=channel, seed=seed)
    found = dreams.dream(opened.spec, opened.network, pixels, name, settings, progress=for_stream())
    files.write_picture(output, found.picture)
    traces = [[round(value, 4) for value in trace] for trace in found.trace]
    facts = {"backbone": opened.spec.name, "image": str(image), "layer": name, "channel": channel, "seed": seed}
    lines = [f"{opened.spec.name}, {name}: activation by size"]
    lines += [f"  {trace[0]:.2f} at the first step, {trace[-1]:.2f} at the last" for trace in found.trace]
    _tell({**facts, "trace": traces}, lines, opened, output, None, json)


@see_app.command("invert")
def invert(
    backbone: Backbone,
    image: Picture,
    output: Sheet,
    layer: Annotated[list[str] | None, typer.Option(help="A stage, can be given again; else every stage.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps of gradient descent for each.")] = 256,
    geometry: Annotated[str, typer.Option(help="How the picture becomes a square: crop, pad or stretch.")] = "crop",
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise it starts from.")] = 0,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Make pictures that look like IMAGE to a layer.

    What differs from IMAGE is lost there. By gradient descent from noise; needs PyTorch and pretrained weights.
    """
    from topwork.backbones.extra import require
    from topwork.progress import for_stream
    from topwork.visualization import files
    from topwork.visualization.opened import open_network
    from topwork.visualization.sheet import Section, Tile

    files.check_files(output, npz)
    require("see invert")
    pixels = files.read_picture(image)
    import numpy as np

    from topwork.visualization import invert as inversion
    from topwork.visualization.square import network_square

    opened = open_network(backbone)
    square = network_square(opened.spec, pixels, geometry)
    layers = layer or [stage.name for stage in opened.spec.stages]
    found = inversion.invert(opened.spec, opened.network, square, layers, steps=steps, seed=seed, progress=for_stream())
    tiles = [Tile(square, "the picture"), *(Tile(each.picture, each.layer) for each in found)]
    files.write_sheet(output, [Section(f"{opened.spec.name}: {image.name}", tiles, 5)], side=_TILE)
    files.write_arrays(npz, {"picture": square, **{each.layer: np.array(each.picture) for each in found}})
    rows = [{"layer": each.layer, "trace": [round(value, 5) for value in each.trace]} for each in found]
    lines = [
        f"{each.layer}: distance {each.trace[0]:.2f} at the first step, {min(each.trace):.3f} at the best"
        for each in found
    ]
    facts = {"backbone": opened.spec.name, "image": str(image), "steps": steps, "seed": seed, "layers": rows}
    _tell(facts, lines, opened, output, npz, json)


@see_app.command("top")
def top(
    backbone: Backbone,
    source: Annotated[str, typer.Argument(metavar="PHOTOS", help="A folder, a CSV/TSV manifest, or a URL.")],
    output: Sheet,
    layer: Annotated[str, typer.Option(help="A stage; `topwork backbones BACKBONE` lists them.")],
    channel: Annotated[int, typer.Option(min=0, help="A channel of the layer, from 0.")],
    count: Annotated[int, typer.Option(min=1, max=100, help="How many patches, one a picture.")] = 9,
    geometry: Annotated[str, typer.Option(help="How a picture becomes a square: crop, pad or stretch.")] = "crop",
    json: Json = False,
) -> None:
    """Show what in PHOTOS excites a channel most.

    Patches cut out at the receptive field of the channel, one a picture. Needs PyTorch and pretrained weights.
    """
    from topwork.backbones.extra import require
    from topwork.images import ImageSource
    from topwork.progress import for_stream
    from topwork.visualization import files
    from topwork.visualization.opened import open_network
    from topwork.visualization.sheet import Section, Tile

    files.check_files(output, None)
    require("see top")
    from topwork.visualization import patches

    opened = open_network(backbone)
    samples = ImageSource.open(source).samples
    found, excluded = patches.top_patches(
        opened.spec, opened.network, samples, layer, channel, count=count, geometry=geometry, progress=for_stream()
    )
    tiles = [Tile(each.pixels, f"{each.place.activation:.1f} {Path(each.place.sample.id).name}") for each in found]
    files.write_sheet(output, [Section(f"{opened.spec.name}, {layer} channel {channel}", tiles, 5)], side=128)
    rows = [
        {"path": each.place.sample.id, "activation": round(each.place.activation, 4), "box": list(each.box)}
        for each in found
    ]
    left_out = [vars(each) for each in excluded]
    facts = {"backbone": opened.spec.name, "layer": layer, "channel": channel, "patches": rows, "excluded": left_out}
    lines = [f"{row['activation']:8.2f}  {row['path']}" for row in rows]
    lines += [f"left out: {each.path} ({each.reason})" for each in excluded]
    _tell(facts, lines, opened, output, None, json)


def _targets(
    opened: "Opened",
    layer: str | None,
    channel: int | None,
    neuron: str | None,
    names: list[str] | None,
    grid: int | None,
) -> "list[Target]":
    """What is to be excited; UsageError unless exactly one thing is named."""
    from topwork.backbones.graph import stage_of
    from topwork.visualization import maximize as ascent

    named = [option is not None for option in (channel, neuron, names, grid)]
    if sum(named) != 1 or (names is None) != (layer is not None):
        raise UsageError(
            "expected one thing to maximize: --class K, or --layer L with --channel C, --neuron C,Y,X or --grid N; "
            f"the layers are {', '.join(stage.name for stage in opened.spec.stages)}"
        )
    if names is not None:
        return [ascent.class_target(opened.spec, name) for name in names]
    assert layer is not None  # as checked above
    if grid is not None:
        count = min(grid, stage_of(opened.spec, layer).channels)
        return [ascent.channel_target(opened.spec, layer, number) for number in range(count)]
    if channel is not None:
        return [ascent.channel_target(opened.spec, layer, channel)]
    return [ascent.channel_target(opened.spec, layer, *_neuron(neuron or ""))]


def _neuron(text: str) -> tuple[int, tuple[int, int]]:
    """Channel, and row and column.

    >>> _neuron("5,3,2")
    (5, (3, 2))
    """
    if not re.fullmatch(r"\d{1,5},\d{1,5},\d{1,5}", text, re.ASCII):
        raise UsageError(f"expected a neuron as channel, row and column such as 5,3,2, not {text!r}; count from 0")
    channel, row, column = map(int, text.split(","))
    return channel, (row, column)


def _tell(
    facts: dict[str, Any], lines: "Sequence[str]", opened: "Opened", sheet: Path, arrays: Path | None, json: bool
) -> None:
    """The result on stdout; on stderr that the weights are random, where they are."""
    if opened.warning:
        print(f"topwork: {printable(opened.warning)}", file=sys.stderr)  # noqa: T201 - a warning beside the result
    written = [str(path) for path in (sheet, arrays) if path is not None]
    if json:
        print_json({**facts, "pretrained": opened.pretrained, "files": written})
    else:
        print_lines(lines)
        _print_files(sheet, arrays)


def _print_files(sheet: Path | None, arrays: Path | None) -> None:
    words = [f"{name}: {path}" for name, path in (("Picture", sheet), ("Arrays", arrays)) if path is not None]
    print_lines(["", *words] if words else [])

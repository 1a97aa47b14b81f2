"""``topwork see``: what a network is made of, and what it keeps of a picture. What excites it: ``exciting``."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.guesses import Subcommands
from topwork.cli.output import Json, print_json, print_lines, printable
from topwork.cli.sources import AllowRemote
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.visualization.files import Outputs
    from topwork.visualization.opened import Opened

see_app = typer.Typer(cls=Subcommands, help="What a network sees: its kernels, feature maps, and what excites it.")

Network = Annotated[
    str, typer.Argument(metavar="NETWORK", help="A backbone (`topwork backbones` has names) or a model folder.")
]
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")]
Sheet = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="The sheet to write, a .png.")]
Page = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write the pictures as a page.")]
Arrays = Annotated[Path | None, typer.Option("--npz", metavar="FILE", help="Also write the arrays, as .npz.")]
Geometry = Annotated[
    str | None, typer.Option(help="What is seen of a picture: crop, pad or stretch; else what the network sees.")
]

COLUMNS = 5  # larger pictures in a row
TILE = 224  # their largest side in pixels


@see_app.command("convolve")
def convolve(
    image: Image,
    kernel: Annotated[str, typer.Option(help='edge, sobel, sharpen, blur, or rows such as "[[1,0],[0,-1]]".')],
    stride: Annotated[int, typer.Option(min=1, help="Pixels from one place of the kernel to the next.")] = 1,
    padding: Annotated[str, typer.Option(help="valid: none; same: zeros that keep the size.")] = "valid",
    pool: Annotated[str | None, typer.Option(help="max or average, of windows of 2 x 2 pixels afterwards.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Turn the kernel by 180 degrees first.")] = False,
    grey: Annotated[bool, typer.Option("--grey", help="Of the picture's brightness, not of each colour.")] = False,
    output: Sheet = None,
    html: Page = None,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Slide a kernel over IMAGE, with the arithmetic of shapes.

    As a network's layer does it: the kernel is not turned. --flip convolves as in signal processing.
    """
    from topwork.visualization import files, steps
    from topwork.visualization.sheet import Section

    outputs = files.Outputs(output, html, npz)
    outputs.check(needed=False, given=image)
    found = steps.convolution_steps(
        files.read_picture(image, grey=grey),
        steps.kernel_of(kernel),
        stride=stride,
        padding=padding,
        pool=pool,
        flip=flip,
    )
    section = Section(f"{image.name}: {kernel}", [each.tile for each in found], len(found))
    arithmetic = [line for each in found for line in each.arithmetic]
    arrays = {each.name: each.values for each in found}
    outputs.write(image.name, [section], arrays, side=300, subtitle=arithmetic)
    if json:
        print_json({"steps": [each.to_dict() for each in found], "files": outputs.paths})
    else:
        print_lines(line for each in found for line in each.lines)
        _print_files(outputs)


@see_app.command("filters")
def filters(
    network: Network,
    output: Sheet = None,
    layer: Annotated[str | None, typer.Option(help="Another convolution than the first, by its weight.")] = None,
    html: Page = None,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Show the kernels of a convolution as pictures.

    The first one's where none is named, whose kernels see colours.
    """
    from topwork.visualization import files
    from topwork.visualization import filters as kernels
    from topwork.visualization.opened import open_network

    outputs = files.Outputs(output, html, npz)
    outputs.check()
    opened = open_network(network, random_weights=True)
    name, found = kernels.filters(opened.network, layer)
    section = kernels.filter_sheet(opened.spec.name, name, found)
    outputs.write(opened.spec.name, [section], {"kernels": found}, side=48 if len(found) > 64 else 72)
    tell({"layer": name, "kernels": list(found.shape)}, [section.title], opened, outputs, json=json)


@see_app.command("activations")
def activations(
    network: Network,
    image: Image,
    output: Sheet = None,
    most: Annotated[int, typer.Option("--channels", min=1, max=64, help="How many of each stage, at most.")] = 16,
    geometry: Geometry = None,
    html: Page = None,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Show the strongest feature maps of IMAGE, stage by stage."""
    from topwork.visualization import activations as maps
    from topwork.visualization import files
    from topwork.visualization.opened import open_network

    outputs = files.Outputs(output, html, npz)
    outputs.check(given=image)
    opened = open_network(network, random_weights=True)
    found = maps.activations(opened, files.read_picture(image, opened.decoding), geometry=geometry)
    sections = [maps.activation_sheet(each, most=most) for each in found]
    title = f"{opened.spec.name}: {image.name}"
    outputs.write(title, sections, {each.stage.name: each.maps for each in found}, side=maps.SIDE)
    rows = [
        {"name": each.stage.name, "shape": list(each.maps.shape), "strongest": each.strongest(most)} for each in found
    ]
    facts = {"image": str(image), "stages": rows}
    tell(facts, [section.title for section in sections], opened, outputs, json=json)


@see_app.command("invert")
def invert(
    network: Network,
    image: Image,
    output: Sheet = None,
    layer: Annotated[list[str] | None, typer.Option(help="A stage, can be given again; else every stage.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps of gradient descent for each.")] = 256,
    geometry: Geometry = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise it starts from.")] = 0,
    html: Page = None,
    npz: Arrays = None,
    json: Json = False,
) -> None:
    """Make pictures that look like IMAGE to a layer.

    What differs from IMAGE is lost there. By gradient descent from noise; needs PyTorch and pretrained weights.
    """
    from topwork.backbones.extra import require
    from topwork.progress import for_stream
    from topwork.visualization import files
    from topwork.visualization.opened import open_network, square_geometry
    from topwork.visualization.sheet import Section, Tile

    outputs = files.Outputs(output, html, npz)
    outputs.check(given=image)
    require("see invert")
    import numpy as np

    from topwork.visualization import invert as inversion
    from topwork.visualization.square import network_square

    opened = open_network(network)
    way = square_geometry(opened, geometry)
    square = network_square(opened.spec, files.read_picture(image, opened.decoding), way)
    layers = layer or [stage.name for stage in opened.spec.stages]
    found = inversion.invert(opened, square, layers, steps=steps, seed=seed, progress=for_stream())
    tiles = [Tile(square, "the picture"), *(Tile(each.picture, each.layer) for each in found)]
    title = f"{opened.spec.name}: {image.name}"
    arrays = {"picture": square, **{each.layer: np.array(each.picture) for each in found}}
    outputs.write(image.name, [Section(title, tiles, COLUMNS)], arrays, side=TILE)
    rows = [{"layer": each.layer, "trace": [round(value, 5) for value in each.trace]} for each in found]
    lines = [
        f"{each.layer}: distance {each.trace[0]:.2f} at the first step, {min(each.trace):.3f} at the best"
        for each in found
    ]
    tell({"image": str(image), "steps": steps, "seed": seed, "layers": rows}, lines, opened, outputs, json=json)


@see_app.command("top")
def top(
    network: Network,
    source: Annotated[str, typer.Argument(metavar="PHOTOS", help="A folder, a CSV/TSV manifest, or a URL.")],
    layer: Annotated[str, typer.Option(help="A stage; `topwork backbones BACKBONE` lists them.")],
    channel: Annotated[int, typer.Option(min=0, help="A channel of the layer, from 0.")],
    output: Sheet = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many patches, one a picture.")] = 9,
    rule: Annotated[
        str,
        typer.Option(help="How patches are reconstructed: deconvnet or guided; auto: as suits the network."),
    ] = "auto",
    geometry: Geometry = None,
    html: Page = None,
    npz: Arrays = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Show what in PHOTOS excites a channel most.

    Patches cut out at the receptive field of the channel, one a picture, each beside its reconstruction from
    that one value. Needs PyTorch and pretrained weights.
    """
    from topwork.backbones.extra import require
    from topwork.images import ImageSource
    from topwork.progress import for_stream
    from topwork.visualization import files
    from topwork.visualization.opened import open_network
    from topwork.visualization.sheet import Section

    outputs = files.Outputs(output, html, npz)
    outputs.check()
    require("see top")
    from topwork.visualization import deconvnet, patches

    opened = open_network(network)
    asked, rule = rule, deconvnet.rule_for(opened, rule)
    samples = ImageSource.open(source, allow_remote=allow_remote).samples
    found, excluded = patches.top_patches(
        opened, samples, layer, channel, count=count, geometry=geometry, rule=rule, progress=for_stream()
    )
    title = f"{opened.spec.name}, {layer} channel {channel}"
    has_signals = found[0].signal is not None
    halves = "On the left what the channel's strongest value sees, on the right what in it made that value large."
    section = Section(
        title, [each.tile for each in found], 3 if has_signals else COLUMNS, halves if has_signals else ""
    )
    outputs.write(opened.spec.name, [section], patches.patch_arrays(found), side=256 if has_signals else 128)
    rows = [
        {"path": each.place.sample.id, "activation": round(each.place.activation, 4), "box": list(each.box)}
        for each in found
    ]
    lines = [f"{row['activation']:8.2f}  {row['path']}" for row in rows]
    lines += [f"left out: {each.path} ({each.reason})" for each in excluded]
    if not has_signals:
        lines.append("no reconstructions: their rules are ones for ReLU and ReLU6, which this network lacks")
    elif not deconvnet.depends_on_picture(opened, rule):
        lines.append(
            "the reconstructions are alike: a deconvnet needs max pooling to tell pictures apart; see --rule guided"
        )
    elif asked == "auto" and rule != "deconvnet":
        lines.append(f"reconstructed by --rule {rule}: this network has no max pooling, which a deconvnet needs")
    facts = {"layer": layer, "channel": channel, "reconstruction": rule if has_signals else None, "patches": rows}
    tell({**facts, "excluded": [vars(each) for each in excluded]}, lines, opened, outputs, json=json)


def neuron_of(text: str) -> tuple[int, tuple[int, int]]:
    """Channel, and row and column.

    >>> neuron_of("5,3,2")
    (5, (3, 2))
    """
    if not re.fullmatch(r"\d{1,5},\d{1,5},\d{1,5}", text, re.ASCII):
        raise UsageError(f"expected a neuron as channel, row and column such as 5,3,2, not {text!r}; count from 0")
    channel, row, column = map(int, text.split(","))
    return channel, (row, column)


def tell(facts: dict[str, Any], lines: Sequence[str], opened: "Opened", outputs: "Outputs", *, json: bool) -> None:
    """The result on stdout; on stderr that the weights are random, where they are."""
    if opened.warning:
        print(f"topwork: {printable(opened.warning)}", file=sys.stderr)  # noqa: T201 - a warning beside the result
    if json:
        about = {"backbone": opened.spec.name, "pretrained": opened.pretrained}
        print_json({**about, **facts, "files": outputs.paths})
    else:
        print_lines(lines)
        _print_files(outputs)


def _print_files(outputs: "Outputs") -> None:
    words = [f"{name}: {path}" for name, path in outputs.named]
    print_lines(["", *words] if words else [])

"""``topwork see maximize`` and ``dream``: pictures that excite a part of a network, from noise and in a photograph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.output import Json
from topwork.cli.seeing import TILE, Arrays, Image, Network, Page, Sheet, neuron_of, tell
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.visualization.opened import Opened
    from topwork.visualization.targets import Target

LayerName = Annotated[str | None, typer.Option(help="A stage; `topwork backbones BACKBONE` lists them.")]

_GRID_COLUMNS = 8


def maximize(
    network: Network,
    output: Sheet = None,
    layer: LayerName = None,
    channel: Annotated[int | None, typer.Option(min=0, help="A channel of the layer, from 0.")] = None,
    neuron: Annotated[str | None, typer.Option(metavar="C,Y,X", help="A channel, and a place in its map.")] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", metavar="K", help="A class, by number or name; several can be given.")
    ] = None,
    grid: Annotated[int | None, typer.Option(min=1, max=256, help="The first so many channels of the layer.")] = None,
    diverse: Annotated[int | None, typer.Option(min=2, help="So many different pictures of one target.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Steps of gradient ascent.")] = 256,
    size: Annotated[int, typer.Option(help="Side of the picture, in pixels.")] = 160,
    smoothness: Annotated[float, typer.Option(min=0, help="Weight of the total variation, to be kept low.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise it starts from, and the views.")] = 0,
    html: Page = None,
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

    outputs = files.Outputs(output, html, npz)
    outputs.check()
    require("see maximize")
    import numpy as np

    from topwork.visualization import ascent, diversity
    from topwork.visualization import maximize as maximization
    from topwork.visualization.sheet import Section, Tile

    opened = open_network(network)
    targets = _targets(opened, layer, channel, neuron, class_, grid)
    settings = ascent.Settings(steps=steps, size=size, seed=seed, smoothness=smoothness)
    if diverse is None:
        found = maximization.maximize(opened, targets, settings, progress=for_stream())
    else:
        if len(targets) > 1:
            raise UsageError("expected one target for --diverse, not several; give one --class, --channel or --neuron")
        found = diversity.diverse(opened, targets[0], diverse, settings, progress=for_stream())
    tiles = [Tile(each.pixels, each.target.caption(opened)) for each in found]
    section = Section(opened.spec.name, tiles, _GRID_COLUMNS)
    subtitle = [f"{steps} steps", f"seed {seed}"]
    pictures = np.stack([each.picture for each in found])
    outputs.write(opened.spec.name, [section], {"pictures": pictures}, side=min(size, TILE), subtitle=subtitle)
    traces = [{**each.target.to_dict(opened), "trace": [round(value, 4) for value in each.trace]} for each in found]
    facts: dict[str, Any] = {"steps": steps, "size": size, "smoothness": smoothness, "seed": seed}
    facts |= traces[0] if len(traces) == 1 else {"pictures": traces}
    lines = [
        f"{each.caption}: activation {one.trace[0]:.2f} at the first step, {one.trace[-1]:.2f} at the last"
        for each, one in zip(tiles, found, strict=True)
    ]
    tell(facts, lines, opened, outputs, json=json)


def dream(
    image: Image,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The picture to write, a .png.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NETWORK", help="A backbone or a model folder; else the default."),
    ] = None,
    layer: LayerName = None,
    channel: Annotated[int | None, typer.Option(min=0, help="One channel of the layer; else all of them.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps at each size.")] = 10,
    octaves: Annotated[int, typer.Option(min=1, max=12, help="So many sizes, from small to the picture's.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Decides by how much each step is moved.")] = 0,
    html: Page = None,
    npz: Arrays = None,
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
    from topwork.visualization.sheet import Section, Tile

    outputs = files.Outputs(output, html, npz)
    outputs.check(given=image)
    require("see dream")
    pixels = files.read_picture(image)
    from topwork.visualization import dream as dreams

    opened = open_network(network or DEFAULT_BACKBONE)
    name = layer or dreams.middle_stage(opened.spec)
    settings = dreams.DreamSettings(steps=steps, octaves=octaves, channel=channel, seed=seed)
    found = dreams.dream(opened, pixels, name, settings, progress=for_stream())
    title = f"{opened.spec.name}, {name}: {image.name}"
    section = Section(title, [Tile(pixels, "the picture"), Tile(found.picture, "the dream")], 2)
    arrays = {"picture": pixels, "dream": found.picture}
    outputs.write(image.name, [section], arrays, side=TILE, alone=found.picture)
    traces = [[round(value, 4) for value in trace] for trace in found.trace]
    facts = {"image": str(image), "layer": name, "channel": channel, "seed": seed, "trace": traces}
    lines = [f"{opened.spec.name}, {name}: activation by size"]
    lines += [f"  {trace[0]:.2f} at the first step, {trace[-1]:.2f} at the last" for trace in found.trace]
    tell(facts, lines, opened, outputs, json=json)


def _targets(
    opened: "Opened",
    layer: str | None,
    channel: int | None,
    neuron: str | None,
    names: list[str] | None,
    grid: int | None,
) -> "list[Target]":
    """What is to be excited; UsageError unless exactly one thing is named."""
    from topwork.visualization.targets import channel_target, class_target

    named = [option is not None for option in (channel, neuron, names, grid)]
    if sum(named) != 1 or (names is None) != (layer is not None):
        raise UsageError(
            "expected one thing to maximize: --class K, or --layer L with --channel C, --neuron C,Y,X or --grid N; "
            f"the layers are {', '.join(stage.name for stage in opened.spec.stages)}"
        )
    if names is not None:
        return [class_target(opened, name) for name in names]
    assert layer is not None  # as checked above
    if grid is not None:
        count = min(grid, opened.layer(layer).channels)
        return [channel_target(opened, layer, number) for number in range(count)]
    if channel is not None:
        return [channel_target(opened, layer, channel)]
    return [channel_target(opened, layer, *neuron_of(neuron or ""))]

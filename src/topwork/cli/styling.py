"""``topwork style``: a picture painted in the style of others."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from topwork.cli.output import Json, counted, print_json, print_lines
from topwork.cli.painted import check_picture, check_video, levels, spent, write_picture
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.style.transfer import Settings, Style, Transfer
    from topwork.visualization.opened import Opened

_PREVIEW_EVERY, _SAVE_EVERY = 10, 20  # steps
_STEP = "painting"
STARTS = ("content", "noise")
_FOLLOWING = 5  # a frame that follows another one has the number of steps divided by this
_DEFAULT = "transfer"


class _Group(TyperGroup):
    """``topwork style A B`` means ``topwork style transfer A B``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


style_app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Paint pictures in the style of others: `topwork style CONTENT STYLE -o FILE`, or fast styles.",
)

LossNetworkName = Annotated[
    str | None, typer.Option("--backbone", metavar="NAME", help="The network that tells style; else VGG19.")
]
StyleLayers = Annotated[
    str | None,
    typer.Option(metavar="LAYER=WEIGHT,...", help="Else the network's own, such as conv1_1=1,conv2_1=0.8."),
]
ContentLayers = Annotated[
    list[str] | None, typer.Option("--content-layer", metavar="LAYER", help="Else the network's own, such as conv4_2.")
]
ContentWeight = Annotated[float, typer.Option(min=0, help="How much the content counts.")]
StyleWeight = Annotated[float, typer.Option(min=0, help="How much the style counts.")]
Smoothness = Annotated[float, typer.Option(min=0, help="Weight of the total variation, against grain.")]
Pooling = Annotated[str, typer.Option(help="average, or max as the network was trained.")]


@style_app.command(_DEFAULT)
def transfer(
    context: typer.Context,
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="The picture or video to paint.")],
    styles: Annotated[
        list[Path], typer.Argument(metavar="STYLE", help="The picture whose style it gets; several mix.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The picture to write, .png or .jpg; or the video.")
    ],
    size: Annotated[int, typer.Option(help="Longer side of the result, in pixels.")] = 512,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Updates of the picture, over all sizes.")] = 300,
    content_weight: ContentWeight = 1.0,
    style_weight: StyleWeight = 100.0,
    style_layers: StyleLayers = None,
    content_layer: ContentLayers = None,
    network: LossNetworkName = None,
    pooling: Pooling = "average",
    optimizer: Annotated[str, typer.Option(help="lbfgs or adam.")] = "lbfgs",
    start: Annotated[str, typer.Option(metavar="START", help="content, noise or a picture.")] = "content",
    smoothness: Smoothness = 20.0,
    colours: Annotated[
        str, typer.Option(help="style; or luminance or histogram, which keep those of CONTENT.")
    ] = "style",
    weight: Annotated[list[float] | None, typer.Option(help="How much each STYLE counts, in their order.")] = None,
    mask: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Where each STYLE goes: white on black, in their order.")
    ] = None,
    style_scale: Annotated[float, typer.Option(help="Size of the strokes: of STYLE beside the result.")] = 1.0,
    scales: Annotated[
        int, typer.Option(min=0, max=8, help="Sizes from coarse to fine; 0 chooses, 1 is the last alone.")
    ] = 0,
    tile: Annotated[int, typer.Option(min=0, help="Pixels of the parts of a large picture; 0 for all at once.")] = 1024,
    strip: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Several style weights, side by side on one sheet.")
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="CONTENT is a video; else told by its name.")] = False,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Frames a second of a video; else as filmed.")] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there how it looks so far, every 10 steps.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a stopped run; an error if there is none."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise it starts from.")] = 0,
    json: Json = False,
) -> None:
    """Paint CONTENT in the style of other pictures.

    By changing its pixels until a pretrained network sees the content of one, the style of the others. Needs PyTorch,
    and VGG's weights for good styles (`topwork weights pull vgg16-hed`).
    """
    from topwork.backbones.extra import require
    from topwork.images.video import is_video

    filmed = video or is_video(str(content))
    several = filmed or strip is not None
    single_only = {"--preview": preview is not None, "--resume": resume, "--start FILE": start not in STARTS}
    _check_options(filmed, single_only if several else {}, {"--fps": fps is not None})
    _check_effect(context, {"style_weight": strip is None, "seed": start == "noise"})
    if filmed and strip is not None:
        raise UsageError("expected --strip with a picture, not with a video; leave it out")
    begin = [] if start in STARTS else [Path(start)]
    given = (content, *styles, *(mask or []), *begin)
    _check_outputs(output, preview, given, filmed=filmed)
    require("style transfer")
    from topwork.style.transfer import Settings, Transfer

    first = _read(begin[0]) if begin else None
    weights = None if strip is None else _numbers(strip)
    settings = Settings(
        size=size,
        steps=steps,
        content_weight=content_weight,
        style_weight=style_weight,
        smoothness=smoothness,
        style_layers=weighted(style_layers),
        content_layers=tuple(content_layer) if content_layer else None,
        optimizer=optimizer,
        start=start if not begin else "content",
        pooling=pooling,
        colours=colours,
        scales=scales,
        style_scale=style_scale,
        tile=tile,
        seed=seed,
    )
    picture = None if filmed else _read(content)
    pictures = _styles(styles, weight or [], mask or [])
    opened = opened_network(network)
    painter = Transfer(opened, pictures, settings)
    if filmed:
        _paint_video(opened, painter, content, output, fps, json=json)
    elif weights is not None:
        _paint_strip(opened, painter, picture, weights, output, json=json)
    else:
        roles = {"content": [content], "styles": styles, "masks": mask or [], "start": begin}
        task = {"weights": [each.weight for each in pictures], "network": opened.spec.name, **_hashes(roles)}
        _paint(opened, painter, picture, output, first, preview, task, resume=resume, json=json)


def _check_effect(context: typer.Context, matters: Mapping[str, bool]) -> None:
    """UsageError for an option that was given though another one takes its effect away."""
    takers = {"style_weight": "--strip brings its own", "seed": "only --start noise is decided by it"}
    for name, does in matters.items():
        source = context.get_parameter_source(name)
        if not does and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')} would do nothing: {takers[name]}; leave it out")


def _check_options(filmed: bool, single_only: Mapping[str, bool], film_only: Mapping[str, bool]) -> None:
    """UsageError for options that say nothing about this kind of work."""
    if wrong := [name for name, given in single_only.items() if given]:
        raise UsageError(f"expected {wrong[0]} with a single picture only, without --strip or a video; leave it out")
    if wrong := [name for name, given in film_only.items() if given and not filmed]:
        raise UsageError(f"expected {wrong[0]} with a video only; leave it out")


def _check_outputs(output: Path, preview: Path | None, given: Sequence[Path], *, filmed: bool) -> None:
    if filmed:
        check_video(output, given)
    else:
        check_picture(output, given)
    if preview is not None:
        check_picture(preview, given)


def opened_network(name: str | None) -> "Opened":
    """The network that tells style, with a warning on stderr where VGG's weights are missing."""
    from topwork.style.network import open_loss_network

    opened, warning = open_loss_network(name)
    if warning:
        print(f"topwork: {warning}", file=sys.stderr)  # noqa: T201 - a warning stands beside the result
    return opened


def weighted(text: str | None) -> dict[str, float] | None:
    """Layers with their weights.

    >>> weighted("conv1_1=1.0,conv2_1=0.8"), weighted("blocks.0")
    ({'conv1_1': 1.0, 'conv2_1': 0.8}, {'blocks.0': 1.0})
    """
    if text is None:
        return None
    layers = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            layers[name] = float(weight or 1)
        except ValueError:
            raise UsageError(f"expected LAYER=WEIGHT,..., such as conv1_1=1.0,conv2_1=0.8, not {text!r}") from None
    return layers


def _numbers(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 0:
        raise UsageError(f"expected style weights such as 10,100,1000 after --strip, not {text!r}; give some")
    return found


def _styles(paths: Sequence[Path], weights: Sequence[float], masks: Sequence[Path]) -> "list[Style]":
    from topwork.style.transfer import Style
    from topwork.visualization.files import read_picture

    for name, given in (("--weight", weights), ("--mask", masks)):
        if given and len(given) != len(paths):
            raise UsageError(f"expected one {name} for each of {len(paths)} styles, got {len(given)}; give as many")
    regions: list[Any] = [read_picture(path, grey=True).astype("float32") / 255 for path in masks]
    return [
        Style(_read(path), weights[place] if weights else 1.0, regions[place] if masks else None)
        for place, path in enumerate(paths)
    ]


def _read(path: Path) -> Any:
    from topwork.visualization.files import read_picture

    return read_picture(path).astype("float32") / 255


def _hashes(roles: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """What tells whether the same files are given again."""
    from topwork import fingerprint

    return {role: [fingerprint.of_bytes(path.read_bytes()) for path in paths] for role, paths in roles.items()}


def _paint(
    opened: "Opened",
    painter: "Transfer",
    content: Any,
    output: Path,
    begin: Any,
    preview: Path | None,
    task: Mapping[str, Any],
    *,
    resume: bool,
    json: bool,
) -> None:
    from topwork.progress import for_stream, step
    from topwork.style.checkpoints import Checkpoint

    asked = {name: value for name, value in vars(painter.settings).items() if name != "tile"}
    checkpoint = Checkpoint(output, {**asked, **task})
    trace: list[dict[str, float]] = []
    if state := checkpoint.load() if resume else checkpoint.found():
        begin, trace = state
    done, begun, progress = len(trace), time.perf_counter(), for_stream()
    if done:
        progress.say(f"goes on from step {done}, which was saved in {checkpoint.path}")
    saved = True
    with step(progress, _STEP, total=painter.settings.steps):
        progress.advance(_STEP, done)
        for each in painter.steps(content, start=begin, done=done):
            if saved and each.number > done and each.number % _SAVE_EVERY == 0:
                try:
                    checkpoint.save(each.state, trace)
                except OSError as error:
                    saved = False
                    progress.say(f"cannot save the state in {checkpoint.path} ({error.strerror}); painting goes on")
            trace.append(each.value.rounded())
            progress.note(_STEP, f"content {each.value.content:.3f}, style {each.value.style:.4f}")
            progress.advance(_STEP, 1 if each.number > done else 0)
            if preview is not None and each.number % _PREVIEW_EVERY == 0:
                write_picture(preview, levels(each.picture))
    write_picture(output, levels(each.picture))
    checkpoint.remove()
    facts = {"output": str(output), **_network_facts(opened, painter.settings), "trace": trace, **spent(begun)}
    if json:
        print_json(facts)
        return
    first, last = trace[0], trace[-1]
    print_lines(
        [
            f"Picture: {output}",
            f"{opened.spec.name}: style {first['style']:.3f} to {last['style']:.4f}, content {last['content']:.3f} "
            f"in {facts['seconds']:.0f} s",
            "(1: as far away as no picture at all)",
        ]
    )


def _paint_strip(
    opened: "Opened",
    painter: "Transfer",
    content: Any,
    weights: Sequence[float],
    output: Path,
    *,
    json: bool,
) -> None:
    from topwork.progress import for_stream, step
    from topwork.visualization.sheet import Section, Tile, sheet

    settings = painter.settings
    begun, progress, tiles, rows = time.perf_counter(), for_stream(), [Tile(levels(content), "content")], []
    with step(progress, _STEP, total=settings.steps * len(weights)):
        for weight in weights:
            for each in painter.like(style_weight=weight).steps(content):
                progress.advance(_STEP, 1 if each.number else 0)
            tiles.append(Tile(levels(each.picture), f"style weight {weight:g}"))
            rows.append({"style_weight": weight, **each.value.rounded()})
    title = f"Content weight {settings.content_weight:g}, and more and more style"
    image = sheet([Section(title, tiles, columns=len(tiles))], side=settings.size)
    import numpy as np

    write_picture(output, np.asarray(image))
    facts = {"output": str(output), **_network_facts(opened, settings), "strip": rows, **spent(begun)}
    if json:
        print_json(facts)
        return
    print_lines([f"Picture: {output}", f"{counted(len(rows), 'weight', 'weights')} in {facts['seconds']:.0f} s"])


def _paint_video(
    opened: "Opened", painter: "Transfer", content: Path, output: Path, fps: float | None, *, json: bool
) -> None:
    from topwork.progress import for_stream
    from topwork.style.films import Follower, paint_video

    settings = painter.settings
    follower = Follower(painter, painter.like(steps=max(1, settings.steps // _FOLLOWING), scales=1))
    begun = time.perf_counter()
    count = paint_video(content, output, follower, side=settings.size, rate=fps, progress=for_stream())
    facts = {"output": str(output), **_network_facts(opened, settings), "frames": count, **spent(begun)}
    if json:
        print_json(facts)
        return
    print_lines([f"Video: {output}", f"{counted(count, 'frame', 'frames')} in {facts['seconds']:.0f} s"])


def _network_facts(opened: "Opened", settings: "Settings") -> dict[str, Any]:
    from topwork.style.network import chosen_layers

    style, content = chosen_layers(opened, settings.style_layers, settings.content_layers)
    return {"network": opened.spec.name, "layers": {"style": style, "content": content}}

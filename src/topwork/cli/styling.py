"""``topwork style``."""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.output import Json, print_json, print_lines
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.style.transfer import Settings, Style

_PREVIEW_EVERY = 10  # steps
_STEP = "painting"


def style(
    content: Annotated[Path, typer.Argument(metavar="CONTENT", help="The picture to paint.")],
    styles: Annotated[
        list[Path], typer.Argument(metavar="STYLE", help="The picture whose style it gets; several mix.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The picture to write, .png or .jpg.")],
    size: Annotated[int, typer.Option(help="Longer side of the result, in pixels.")] = 512,
    steps: Annotated[int, typer.Option(min=1, max=10_000, help="Updates of the picture, over all sizes.")] = 300,
    content_weight: Annotated[float, typer.Option(min=0, help="How much the content counts.")] = 1.0,
    style_weight: Annotated[float, typer.Option(min=0, help="How much the style counts.")] = 100.0,
    style_layers: Annotated[
        str | None,
        typer.Option(metavar="LAYER=WEIGHT,...", help="Else the network's own, such as conv1_1=1,conv2_1=0.8."),
    ] = None,
    content_layer: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="Else the network's own, such as conv4_2.")
    ] = None,
    network: Annotated[str | None, typer.Option("--backbone", help="The network that tells style; else VGG19.")] = None,
    pooling: Annotated[str, typer.Option(help="average, or max as the network was trained.")] = "average",
    optimizer: Annotated[str, typer.Option(help="lbfgs or adam.")] = "lbfgs",
    start: Annotated[str, typer.Option(help="content or noise.")] = "content",
    smoothness: Annotated[float, typer.Option(min=0, help="Weight of the total variation, against grain.")] = 1.0,
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
    preview: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there how it looks so far.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the noise it starts from.")] = 0,
    json: Json = False,
) -> None:
    """Paint CONTENT in the style of other pictures.

    By changing its pixels until a pretrained network sees the content of one, the style of the others. Needs PyTorch,
    and VGG's weights for good styles (`topwork weights pull vgg16-hed`).
    """
    from topwork.backbones.extra import require

    for path in (output, *([preview] if preview else [])):
        _check_output(path)
    require("style transfer")
    from topwork.progress import for_stream
    from topwork.progress import step as progress_step
    from topwork.style.network import open_loss_network
    from topwork.style.transfer import Settings, transfer_steps

    settings = Settings(
        size=size,
        steps=steps,
        content_weight=content_weight,
        style_weight=style_weight,
        smoothness=smoothness,
        style_layers=_weighted(style_layers),
        content_layers=tuple(content_layer) if content_layer else None,
        optimizer=optimizer,
        start=start,
        pooling=pooling,
        colours=colours,
        scales=scales,
        style_scale=style_scale,
        tile=tile,
        seed=seed,
    )
    pictures = _styles(styles, weight or [], mask or [])
    opened, warning = open_loss_network(network)
    if warning:
        print(f"topwork: {warning}", file=sys.stderr)  # noqa: T201 - a warning stands beside the result
    begun, progress, trace = time.perf_counter(), for_stream(), []
    with progress_step(progress, _STEP, total=steps):
        for each in transfer_steps(opened, _read(content), pictures, settings):
            trace.append({name: round(value, 6) for name, value in vars(each.value).items()})
            progress.note(_STEP, f"content {each.value.content:.3f}, style {each.value.style:.4f}")
            progress.advance(_STEP, 1 if each.number else 0)
            if preview is not None and each.number % _PREVIEW_EVERY == 0:
                _write(preview, each.picture)
    _write(output, each.picture)
    _tell(opened, settings, trace, output, time.perf_counter() - begun, json=json)


def _weighted(text: str | None) -> dict[str, float] | None:
    """Layers with their weights.

    >>> _weighted("conv1_1=1.0,conv2_1=0.8"), _weighted("blocks.0")
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


def _check_output(path: Path) -> None:
    from topwork import storage

    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"expected a name that ends in .png or .jpg, not {path}; choose another name")
    storage.check_writable(path)


def _write(path: Path, picture: Any) -> None:
    import io

    import numpy as np
    from PIL import Image

    from topwork.cli.maps import write_file

    buffer = io.BytesIO()
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(buffer, kind, quality=95)
    write_file(path, buffer.getvalue())


def _tell(
    opened: Any, settings: "Settings", trace: list[dict[str, float]], output: Path, seconds: float, *, json: bool
) -> None:
    from topwork.style.network import default_layers

    style_layers, content_layers = default_layers(opened)
    layers = {
        "style": settings.style_layers or style_layers,
        "content": list(settings.content_layers or content_layers),
    }
    facts = {
        "output": str(output),
        "network": opened.spec.name,
        "layers": layers,
        "trace": trace,
        "seconds": round(seconds, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if json:
        print_json(facts)
        return
    first, last = trace[0], trace[-1]
    print_lines(
        [
            f"Picture: {output}",
            f"{opened.spec.name}: style {first['style']:.3f} to {last['style']:.4f}, content {last['content']:.3f} "
            f"(1: as far as no picture) in {seconds:.0f} s",
        ]
    )

"""``topwork style train``, ``apply`` and ``demo``: styles that take one pass."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.output import Json, counted, print_json, print_lines
from topwork.cli.painted import check_picture, check_video, spent, write_picture
from topwork.cli.sources import AllowRemote
from topwork.cli.styling import (
    ContentLayers,
    ContentWeight,
    LossNetworkName,
    Pooling,
    Smoothness,
    StyleLayers,
    StyleWeight,
    opened_network,
    weighted,
)
from topwork.errors import ImageError, SourceError, UsageError

if TYPE_CHECKING:
    from topwork.progress import Progress
    from topwork.style.checkpoints import Checkpoint
    from topwork.style.fast_style import FastStyle
    from topwork.style.learning import Learned

_SAVE_EVERY = 100  # steps
_TRAINING, _PAINTING = "training", "painting"
_FILM = "a video; give it alone to paint it"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CAMERA = "camera"

FastStylePath = Annotated[Path, typer.Argument(metavar="FAST_STYLE", help="A folder that `topwork style train` wrote.")]


def train(
    style: Annotated[Path, typer.Argument(metavar="STYLE", help="The picture whose style is learned.")],
    photos: Annotated[
        str, typer.Argument(metavar="PHOTOS", help="Photographs of any kind, some hundreds: a folder, a list, a .zip.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The fast style to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 1000,
    batch: Annotated[int, typer.Option(min=1, help="Photographs a step.")] = 2,
    size: Annotated[int, typer.Option(help="Side of the parts of photographs it sees, in pixels.")] = 128,
    content_weight: ContentWeight = 1.0,
    style_weight: StyleWeight = 3.0,
    style_layers: StyleLayers = None,
    content_layer: ContentLayers = None,
    network: LossNetworkName = None,
    pooling: Pooling = "average",
    smoothness: Smoothness = 10.0,
    style_scale: Annotated[float, typer.Option(min=0.1, help="Size of the strokes: of STYLE beside the parts.")] = 2.0,
    width: Annotated[
        int | None, typer.Option(min=1, help="Channels of the network: 16 is fast, 32 as in the paper.  [default: 16]")
    ] = None,
    start: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on from a fast style, this one or another.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the first weights and the parts.")] = 0,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Train a fast style: a network that paints in one pass.

    Takes minutes; the result needs no PyTorch. It is written every 100 steps, so a run that is stopped has left one;
    the same command goes on from there.
    """
    from topwork import fingerprint, folder
    from topwork.backbones.extra import require

    folder.check_target(output)
    require("training a style")

    from topwork.images import ImageSource
    from topwork.progress import for_stream, step
    from topwork.style.checkpoints import Checkpoint
    from topwork.style.fast_style import FastStyle
    from topwork.style.learning import Training, learn
    from topwork.style.shipping import Material, ship
    from topwork.visualization.files import read_picture

    picture = read_picture(style)
    source = ImageSource.open(photos, labelled=False, allow_remote=allow_remote)
    earlier = None if start is None else FastStyle.load(start)
    training = Training(
        steps=steps,
        batch=batch,
        size=size,
        **_shape(earlier, width),
        content_weight=content_weight,
        style_weight=style_weight,
        smoothness=smoothness,
        style_layers=weighted(style_layers),
        content_layers=tuple(content_layer) if content_layer else None,
        pooling=pooling,
        style_scale=style_scale,
        seed=seed,
    )
    pixels: Any = picture.astype("float32") / 255
    first = None if earlier is None else earlier.trainable()
    opened = opened_network(network)
    layers = dict(zip(("style", "content"), training.layers(opened), strict=True))
    material = Material(style, picture, source.samples, training, opened.spec.name, layers)
    task = {**vars(training), "network": opened.spec.name, "style": fingerprint.of_bytes(pixels.tobytes())}
    task |= {"photographs": fingerprint.of_object([each.id for each in source.samples])}
    checkpoint = Checkpoint(output, {**task, "start": _content(start)})
    state, trace = checkpoint.found_tensors() or (None, [])
    done, begun, progress = len(trace), time.perf_counter(), for_stream()
    if done:
        progress.say(f"goes on from step {done}, which was saved in {checkpoint.path}")
    going_on = learn(opened, pixels, source.samples, training, start=first, state=state, done=done)
    with step(progress, _TRAINING, total=steps):
        progress.advance(_TRAINING, done)
        for each in _refused(going_on, checkpoint):
            trace.append(each.value.rounded())
            progress.note(_TRAINING, f"content {each.value.content:.2f}, style {each.value.style:.3f}")
            progress.advance(_TRAINING, 1)
            if each.number % _SAVE_EVERY == 0 and each.number < steps:
                _save(checkpoint, each, trace, progress)
            if each.number % _SAVE_EVERY == 0 or each.number == steps:
                ship(output, each.network(), material, trace)
    checkpoint.remove()
    facts = {
        "output": str(output),
        "network": opened.spec.name,
        "layers": layers,
        "photographs": len(source.samples),
        "trace": trace,
        **spent(begun),
    }
    if json:
        print_json(facts)
        return
    few = trace[-min(50, len(trace)) :]
    mean = {name: sum(row[name] for row in few) / len(few) for name in ("style", "content")}
    print_lines(
        [
            f"Fast style: {output}",
            f"style {mean['style']:.3f}, content {mean['content']:.2f} in the last {len(few)} steps",
            "(1: as far away as no picture at all)",
            f"{counted(steps, 'step', 'steps')} in {facts['seconds']:.0f} s; look at {output / 'report.html'}",
            f"Next: topwork style apply {output} PHOTO -o FILE",
            f"or:   topwork style demo {output}",
        ]
    )


def _content(fast_style: Path | None) -> str | None:
    """What tells whether the same style is given again."""
    from topwork import fingerprint

    return None if fast_style is None else fingerprint.of_bytes((fast_style / "model.onnx").read_bytes())


def _refused(learned: "Iterator[Learned]", checkpoint: "Checkpoint") -> "Iterator[Learned]":
    """The same; a state that does not fit is the file's fault."""
    try:
        yield from learned
    except ValueError as error:
        raise checkpoint.damaged(str(error)) from error


def _save(checkpoint: "Checkpoint", learned: "Learned", trace: list[dict[str, float]], progress: "Progress") -> None:
    try:
        checkpoint.save_tensors(learned.state(), trace)
    except OSError as error:
        progress.say(f"cannot save the state in {checkpoint.path} ({error.strerror}); training goes on")


def _shape(earlier: "FastStyle | None", width: int | None) -> dict[str, int]:
    """Width and blocks of the network: those of the style that is gone on from."""
    if earlier is None:
        return {} if width is None else {"width": width}
    found = earlier.shape()
    if width not in (None, found["width"]):
        raise UsageError(f"expected --width {found['width']}, as {earlier.name} has it, got {width}; leave it out")
    return found


def apply(
    fast_style: FastStylePath,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help=f"A picture, a folder of them, a video, or {CAMERA}: the demo page.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE|DIR", help="What to write: as SOURCE is.")
    ] = None,
    size: Annotated[
        int, typer.Option(min=0, help="Pictures with a longer side are reduced to so many pixels; 0: none.")
    ] = 1600,
    fps: Annotated[float | None, typer.Option(min=0.1, help="Frames a second of a video; else as filmed.")] = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Paint pictures or a video in a fast style.

    In one pass each, without PyTorch.
    """
    from topwork.images.video import is_video
    from topwork.style.fast_style import FastStyle

    if source == CAMERA:
        if output is not None or fps is not None:
            raise UsageError("expected no -o and no --fps with the camera, which is shown on a page; leave them out")
        _serve([fast_style], camera=True)
        return
    if output is None:
        raise UsageError("expected a place for the result, but none is named; give -o")
    begun = time.perf_counter()
    facts: dict[str, Any]
    if is_video(source):
        check_video(output, [Path(source)])
        from topwork.progress import for_stream
        from topwork.style.films import paint_video

        painter = FastStyle.load(fast_style)
        count = paint_video(Path(source), output, painter.apply, side=size, rate=fps, progress=for_stream())
        facts = {"output": str(output), "frames": count}
    elif Path(source).is_dir() or source.lower().endswith((".zip", ".csv", ".tsv", ".txt")):
        facts = _apply_folder(FastStyle.load(fast_style, threads=1), source, output, size, allow_remote=allow_remote)
    else:
        check_picture(output, [Path(source)])
        _apply_one(FastStyle.load(fast_style), Path(source), output, size)
        facts = {"output": str(output), "pictures": 1}
    facts["seconds"] = round(time.perf_counter() - begun, 2)
    if json:
        print_json(facts)
        return
    what = ("frame", "frames") if "frames" in facts else ("picture", "pictures")
    print_lines([f"{counted(facts[what[1]], *what)} in {facts['seconds']:.1f} s: {output}"])
    print_lines(f"not painted: {row['path']}: {row['reason']}" for row in facts.get("excluded", []))


def demo(
    fast_styles: Annotated[
        list[Path], typer.Argument(metavar="FAST_STYLE", help="Folders that `topwork style train` wrote.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens, on this computer only; 0: any.")] = 0,
) -> None:
    """Show fast styles live in the browser.

    On a picture that is dropped there, or on what the camera sees.
    """
    _serve(fast_styles, port=port)


def _serve(paths: list[Path], *, port: int = 0, camera: bool = False) -> None:
    from topwork.style.demo import DemoServer
    from topwork.style.fast_style import FastStyle

    server = DemoServer([FastStyle.load(path) for path in paths], port=port)
    address = server.url + ("#camera" if camera else "")
    print_lines([f"Open {address}", "Nothing leaves this computer; Ctrl-C ends it."])
    server.run()


def _apply_one(painter: "FastStyle", source: Path, output: Path, size: int) -> None:
    from topwork.style.fast_style import reduced
    from topwork.visualization.files import read_picture

    write_picture(output, painter.apply(reduced(read_picture(source), size)))


def _apply_folder(painter: "FastStyle", source: str, output: Path, size: int, *, allow_remote: bool) -> dict[str, Any]:
    """Each picture of a source under its own path in a folder, as JPEG; what cannot be read is named."""
    from topwork import storage
    from topwork.features.parallel import ordered_map
    from topwork.images import ImageSource, Sample, decode
    from topwork.images.video import is_video
    from topwork.progress import for_stream, step
    from topwork.style.fast_style import reduced

    storage.check_writable(output)
    if output.exists() and not output.is_dir():
        raise SourceError(f"cannot write to {output}: it is a file, not a folder; choose another place")
    folder, target = Path(source).resolve(), output.resolve()
    if target == folder or folder in target.parents or target in folder.parents:
        raise UsageError(
            f"expected a folder beside {source}, not {output}, where pictures could be replaced; choose one"
        )
    found = ImageSource.open(source, labelled=False, frames=None, allow_remote=allow_remote)
    excluded = [{"path": each.path, "reason": each.reason} for each in found.excluded]
    excluded += [{"path": each.id, "reason": _FILM} for each in found.samples if is_video(each.id)]
    samples = [each for each in found.samples if not is_video(each.id)]

    def painted(sample: Sample) -> tuple[Sample, Any]:
        try:
            return sample, painter.apply(reduced(decode(sample.read()).pixels, size))
        except (ImageError, UsageError) as error:
            return sample, str(error)

    made: list[str] = []
    progress = for_stream()
    with step(progress, _PAINTING, total=len(samples)):
        for sample, result in ordered_map(painted, samples):
            progress.advance(_PAINTING, 1)
            if isinstance(result, str):
                excluded.append({"path": sample.id, "reason": result})
                continue
            if not made:
                storage.mark_result(output)
            made.append(str(_place(output, sample.id, made)))
            write_picture(Path(made[-1]), result)
    if not made:
        raise SourceError(f"expected pictures in {source}, but none can be painted; the first: {excluded[0]['reason']}")
    return {"output": str(output), "pictures": len(made), "files": made, "excluded": excluded}


def _place(folder: Path, name: str, taken: list[str]) -> Path:
    """A file for a sample's id that is inside the folder and not taken."""
    parts = [part for part in name.replace("\\", "/").replace(":", "-").split("/") if part not in ("", ".", "..")]
    stem = folder.joinpath(*parts) if parts else folder / "picture"
    stem = stem.with_suffix("") if stem.suffix.lower() in _SUFFIXES else stem
    places: Iterator[Path] = (
        stem.with_name(f"{stem.name}{'' if number == 1 else f'-{number}'}.jpg") for number in range(1, len(taken) + 3)
    )
    return next(place for place in places if str(place) not in taken)

"""``topwork frames``."""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.fitting import seconds
from topwork.cli.output import Json, counted, cut, print_json, print_lines, print_table
from topwork.cli.sources import AllowRemote
from topwork.errors import SourceError, UsageError

if TYPE_CHECKING:
    from topwork.images import Excluded, Sample


def frames(
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEO...", help="Videos, folders of them (also one per class), manifests.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Look at a frame every so often, such as 0.5s (the default).")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="Look at so many, evenly over the length.")] = None,
    scene: Annotated[bool, typer.Option("--scene", help="Take the first sharp frame after each cut.")] = False,
    similar: Annotated[bool, typer.Option("--keep-similar", help="Keep nearly identical frames.")] = False,
    blurred: Annotated[bool, typer.Option("--keep-blurred", help="Keep frames less sharp than others around.")] = False,
    size: Annotated[
        int | None, typer.Option(min=16, help="Longest shorter side in pixels; else as it was filmed.")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Write PNG, without loss, instead of JPEG.")] = False,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Make pictures of videos, and a manifest to fit.

    Nearly identical and blurred frames are left out. `topwork fit DIR` then keeps the frames of one video together, as
    `topwork fit` does with videos themselves.
    """
    from topwork.images import frame_set
    from topwork.images.frames import FrameChoice
    from topwork.images.video import find_ffmpeg
    from topwork.progress import for_stream

    if sum((every is not None, count is not None, scene)) > 1:
        raise UsageError("expected one of --every, --count and --scene, but there are more; choose one")
    interval = 0.5 if every is None else seconds(every)
    choice = FrameChoice(interval, count=count, scene=scene, similar=similar, blurred=blurred, side=size)
    frame_set.check_target(output)
    find_ffmpeg()
    found, others = _videos_of(videos, allow_remote)
    made = frame_set.write(output, found, choice, png=png, progress=for_stream())
    facts: dict[str, Any] = {
        "output": str(output),
        "manifest": str(output / "frames.csv"),
        "frames": len(made.rows),
        "videos": [vars(video) for video in made.videos],
        "excluded": [vars(item) for item in [*others, *made.excluded]],
    }
    if json:
        print_json(facts)
    else:
        _print(facts)


def _videos_of(arguments: Sequence[str], allow_remote: bool) -> "tuple[list[Sample], list[Excluded]]":
    """The videos that the arguments stand for, each once, under paths that begin as was typed; and what is none."""
    from topwork.images import Excluded, ImageSource
    from topwork.images.storage import file_name, is_url, join_url
    from topwork.images.video import is_video

    videos: dict[str, Sample] = {}
    others: list[Excluded] = []
    for argument in arguments:
        source = ImageSource.open(argument, frames=None, allow_remote=allow_remote)

        def path(inside: str, source: ImageSource = source, argument: str = argument) -> str:
            if source.kind == "manifest":
                return inside
            if is_url(argument):
                return join_url(argument, inside)
            return posixpath.join(argument.replace(os.sep, "/"), inside)

        for sample in source.samples:
            name = argument if sample.location == source.root else path(sample.id)
            if is_video(file_name(sample.location)):
                videos.setdefault(sample.location, replace(sample, id=name))
            else:
                others.append(Excluded(name, "not a video"))
        others += [Excluded(path(item.path), item.reason) for item in source.excluded if item.is_fault]
    if not videos:
        why = f" ({others[0].path}: {others[0].reason})" if others else ""
        raise SourceError(
            f"expected videos, but found none in {', '.join(arguments)}{why}; give videos or their folder"
        )
    return list(videos.values()), others


def _print(facts: dict[str, Any]) -> None:
    frames, videos = counted(facts["frames"], "frame", "frames"), counted(len(facts["videos"]), "video", "videos")
    print_lines([f"{frames} of {videos} in {facts['output']}", ""])
    shown, rest = cut(facts["videos"], 30)
    names = ("looked_at", "kept", "similar", "blurred")
    rows = [(row["path"], f"{row['seconds']:.1f} s", *(f"{row[name]:,}" for name in names)) for row in shown]
    columns = ("video", "length", "looked at", "kept", "similar", "blurred")
    print_table(columns, rows, right=(1, 2, 3, 4, 5))
    shown, more = cut(facts["excluded"], 10)
    lines = [f"left out: {row['path']} ({row['reason']})" for row in shown]
    print_lines([*([rest] if rest else []), *([""] if lines else []), *lines, *([more] if more else [])])
    print_lines(["", f"Manifest: {facts['manifest']} (`topwork fit` takes it)"])

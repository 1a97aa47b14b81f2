"""``topwork fit``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.fit_output import print_fit
from topwork.cli.output import Json, print_json
from topwork.cli.sources import AllowRemote, given
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.recipe import Recipe

Source = Annotated[
    str, typer.Argument(metavar="PHOTOS", help="A folder with a subfolder per class, a CSV/TSV manifest, or a URL.")
]


def fit(
    source: Source,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The model folder to write.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="How the network is reused: features, top, full, scratch or auto.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="The pretrained network; see `topwork backbones`.")] = None,
    head: Annotated[
        str | None, typer.Option(metavar="HEAD", help="auto, svm, logistic, lda, ridge or nearest-mean.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="What the head sees: auto, pooled or logits.")] = None,
    geometry: Annotated[
        str | None, typer.Option(help="How the network gets a picture: auto, crop, pad, stretch or whole.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Outer cross-validation folds; 0 chooses.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random choice.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="auto: time for the whole fit, such as 10min or 90s.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures; 0 chooses.")] = None,
    augment: Annotated[
        str | None,
        typer.Option(metavar="PRESET", help="How training pictures vary: none, light, strong, document or satellite."),
    ] = None,
    cut: Annotated[
        str | None, typer.Option(metavar="STAGE", help="top: the last frozen stage; see `topwork backbones`.")
    ] = None,
    views: Annotated[int | None, typer.Option(help="top: cached versions of each picture.")] = None,
    unfreeze: Annotated[
        str | None, typer.Option(metavar="STAGE", help="full: the first stage that is trained.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate of the last stage; 0 chooses.")] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Share of the pictures that measures where the network is trained.")
    ] = None,
    refit: Annotated[
        bool | None, typer.Option("--refit/--no-refit", help="Ship a model trained on all pictures.")
    ] = None,
    no_duplicate_keys: Annotated[
        bool, typer.Option("--no-duplicate-keys", help="Keep no hashes and features of the pictures in the model.")
    ] = False,
    devices: Annotated[int | None, typer.Option(help="Processes (GPUs) on this machine.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = None,
    recipe: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Settings from a file.")] = None,
    allow_remote: AllowRemote = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Also print how it was measured, and what it took.")
    ] = False,
    json: Json = False,
) -> None:
    """Fit and measure a classifier, write a model folder.

    Options given here win over the recipe file. Without -o the model is measured but not kept.
    """
    from topwork.pipeline import fit as run_fit
    from topwork.progress import for_stream
    from topwork.recipe import Recipe

    settings = Recipe.from_toml(recipe) if recipe else Recipe()
    chosen = {
        "strategy": strategy,
        "backbone": backbone,
        "head": head,
        "features": features,
        "geometry": geometry,
        "folds": folds,
        "seed": seed,
        "duplicate_keys": False if no_duplicate_keys else None,
    }
    training = {
        "budget": None if budget is None else seconds(budget),
        "epochs": epochs,
        "augment": augment,
        "cut": cut,
        "views": views,
        "unfreeze": unfreeze,
        "rate": rate,
        "holdout": holdout,
        "refit": refit,
        "devices": devices,
        "nodes": nodes,
        "precision": precision,
    }
    settings = with_options(settings, _given(chosen), _given(training))
    result = run_fit(given(source, allow_remote), settings, output=output, progress=for_stream())
    if json:
        print_json(result.facts)
    else:
        print_fit(result.facts, source, verbose=verbose)


def with_options(settings: "Recipe", chosen: dict[str, Any], training: dict[str, Any]) -> "Recipe":
    """A recipe with the options of the command; UsageError for one that its strategy does not take.

    >>> from topwork.recipe import Recipe
    >>> with_options(Recipe(), {}, {"cut": "blocks.5"})
    Traceback (most recent call last):
    ...
    topwork.errors.UsageError: --cut is for the strategies top and auto, not for features; leave it out, or ...
    """
    from topwork.recipe import STRATEGIES, check_taken

    strategy = chosen.get("strategy", settings.strategy)
    if strategy in STRATEGIES:  # else the recipe says which there are
        check_taken(strategy, [*chosen, *training], "--")
    folds = chosen.get("folds", settings.folds)
    if folds and training.get("refit") is False:
        raise UsageError("--no-refit is not for folds: after them the model is trained on all pictures; leave it out")
    if folds and "holdout" in training:
        raise UsageError("--holdout is not for folds, which hold out all pictures in turn; leave one of them out")
    return replace(settings, **chosen, training=replace(settings.training, **training))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def seconds(text: str) -> float:
    """Seconds of a time span such as ``90``, ``500ms``, ``90s``, ``10min`` or ``1.5h``.

    >>> seconds("1.5h"), seconds("10 min"), seconds("45")
    (5400.0, 600.0, 45.0)
    """
    units = {"": 1, "ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
    number = text.strip().lower().rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        return float(number) * units[text.strip().lower()[len(number) :].strip()]
    except (ValueError, KeyError):
        raise UsageError(f"a time must look like 0.5s, 90s, 10min or 1h, not {text!r}") from None

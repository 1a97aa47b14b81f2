"""``topwork fit``."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.output import Json, balanced, counted, cut, percent, print_json, print_lines, print_table, spread

Source = Annotated[
    str, typer.Argument(metavar="PHOTOS", help="A folder with a subfolder per class, a CSV/TSV manifest, or a URL.")
]


def fit(
    source: Source,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The model folder to write.")] = None,
    strategy: Annotated[str | None, typer.Option(help="How the network is reused: features.")] = None,
    backbone: Annotated[str | None, typer.Option(help="The pretrained network; see `topwork backbones`.")] = None,
    head: Annotated[
        str | None, typer.Option(metavar="HEAD", help="auto, svm, logistic, lda, ridge or nearest-mean.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="What the head sees: auto, pooled or logits.")] = None,
    geometry: Annotated[
        str | None, typer.Option(help="How a picture becomes a square: auto, crop, pad or stretch.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Outer cross-validation folds; 0 chooses.")] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random choice.")] = None,
    recipe: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="Settings from a file.")] = None,
    json: Json = False,
) -> None:
    """Fit and measure a classifier, write a model folder.

    Options given here win over the recipe file. Without -o the model is measured but not kept.
    """
    from topwork.pipeline import fit as run_fit
    from topwork.progress import for_stream
    from topwork.recipe import Recipe

    chosen: dict[str, Any] = {
        "strategy": strategy,
        "backbone": backbone,
        "head": head,
        "features": features,
        "geometry": geometry,
        "folds": folds,
        "seed": seed,
    }
    settings = Recipe.from_toml(recipe) if recipe else Recipe()
    settings = replace(settings, **{name: value for name, value in chosen.items() if value is not None})
    result = run_fit(source, settings, output=output, progress=for_stream())
    if json:
        print_json(result.facts)
    else:
        _print_fit(result.facts)


def _print_fit(facts: dict[str, Any]) -> None:
    accuracy = facts["accuracy"]
    print_lines(
        [
            f"{facts['n_images']} pictures in {len(facts['classes'])} classes, {facts['groups']['count']} of them "
            f"independent; {len(facts['excluded'])} files left out",
            "",
            f"Accuracy on pictures it did not see: {spread(accuracy)}",
            f"  {accuracy['method']}; {facts['head']} head on {facts['features']}, {facts['geometry']}",
            *([balanced(facts)] if _is_uneven(facts["classes"]) else []),
        ]
    )
    print_lines(f"  note: {note}" for note in facts["notes"])
    if (accuracy["naive"] or 0) - accuracy["value"] >= 0.0005:
        print_lines([f"  without keeping near-duplicates together it would look like {percent(accuracy['naive'])}"])
    if facts["test"]:
        print_lines(_test_lines(facts["test"]))
    print_lines([""])
    print_per_class(facts)
    print_lines(["", *_notes(facts)])
    if facts["model"]:
        print_lines([f"Model:  {facts['model']}", f"Report: {Path(facts['model']) / 'report.html'}"])
    else:
        print_lines(["Nothing was written; give -o NAME.topwork to keep the model."])


def _is_uneven(classes: dict[str, int]) -> bool:
    from topwork.auditing.composition import UNEVEN

    return max(classes.values()) >= UNEVEN * min(classes.values())


def _test_lines(test: dict[str, Any]) -> list[str]:
    """The measurement on the test split, or why there is none."""
    leaked = len(test["leaked"])
    copies = counted(leaked, "picture of it is a near-duplicate", "pictures of it are near-duplicates")
    if not test["accuracy"]["n"]:
        return [f"The test split measures nothing: {copies} of training pictures, and there is no other."]
    left_out = [f"  {copies} of training pictures and left out"] if leaked else []
    return [f"Accuracy on the test split: {spread(test['accuracy'])}", *left_out]


def print_per_class(facts: dict[str, Any]) -> None:
    """Recall and precision of every class."""
    shown, rest = cut(list(facts["per_class"].items()), 30)
    rows = [(name, str(row["support"]), percent(row["recall"]), percent(row["precision"])) for name, row in shown]
    print_table(("class", "pictures", "found (recall)", "right when named (precision)"), rows, right=(1, 2, 3))
    if rest:
        print_lines([rest])


def _notes(facts: dict[str, Any]) -> list[str]:
    novelty, calibration = facts["novelty"], facts["calibration"]
    lines = [
        f"Calibration error {percent(calibration['ece'])}; "
        f"{percent(novelty['coverage'])} of such pictures count as known.",
        facts["learning_curve"]["advice"],
    ]
    if novelty["note"]:
        lines.append(novelty["note"])
    if n := len(facts["label_suspects"]):
        them, where = "it" if n == 1 else "them", "the report shows" if facts["model"] else "--json lists"
        lines.append(f"{counted(n, 'label looks', 'labels look')} wrong; {where} {them}.")
    if n := facts["n_sampled_out"]:
        lines.append(f"{counted(n, 'picture', 'pictures')} beyond head_limit {'was' if n == 1 else 'were'} not used.")
    for row in facts["excluded"][:5]:
        lines.append(f"left out: {row['path']} ({row['reason']})")
    if len(facts["excluded"]) > 5:
        lines.append(f"left out: {len(facts['excluded']) - 5} more (--json and the report list them)")
    seconds, cache = facts["seconds"]["total"], facts["cache"]
    lines.append(f"{seconds:.1f} s; features of {cache['hits']} pictures were in the cache, {cache['misses']} new.")
    return [*lines, ""]

"""``topwork predict`` and ``topwork evaluate``."""

from typing import Annotated, Any

import typer

from topwork.cli.fitting import Source, print_per_class
from topwork.cli.output import Json, cut, percent, print_json, print_lines, print_table, spread
from topwork.errors import SourceError

ModelPath = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, or imagenet:BACKBONE.")]


def predict(
    model: ModelPath,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures, folders, lists or URLs.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to list for each picture.")] = 5,
    json: Json = False,
) -> None:
    """Say what is on each picture.

    Label, probability, and whether it is known: like the training pictures.

    A picture that cannot be read is listed with the reason; the exit code is 1 when none could be read.
    """
    from topwork.model import load
    from topwork.progress import for_stream, step

    opened = load(model)
    try:
        samples, rows = _pictures(images)
    except SourceError as error:
        if json:
            print_json([{**_EMPTY, "path": path, "error": str(error)} for path in images])
        raise
    progress = for_stream()
    with step(progress, "predicting", total=len(samples)):
        for prediction in opened.predict_each(samples, top=top):
            progress.advance("predicting")
            rows.append(prediction.as_dict())
    if json:
        print_json(rows)
    else:
        _print_predictions(rows)
    if all(row["error"] for row in rows):
        raise SourceError("none of the pictures could be read; the list above says why")


_EMPTY: dict[str, Any] = {"label": None, "probability": None, "known": None, "novelty": None, "top": []}


def _pictures(images: list[str]) -> tuple[tuple[Any, ...], list[dict[str, Any]]]:
    """The pictures that were asked for, and a row with the reason for each file that is none."""
    from topwork.images import ImageSource

    source = ImageSource.open(images[0] if len(images) == 1 else images, labelled=False)
    asked = [item for item in source.excluded if item.path in images or len(images) == 1]
    return source.samples, [{**_EMPTY, "path": item.path, "error": item.reason} for item in asked]


def _print_predictions(rows: list[dict[str, Any]]) -> None:
    if len(rows) == 1 and not rows[0]["error"]:
        row = rows[0]
        print_lines([row["path"] + _known(row)])
        print_table(("class", "probability"), [(t["label"], percent(t["probability"])) for t in row["top"]], right=(1,))
        return
    table = [
        (row["path"], row["error"] or row["label"], percent(row["probability"]), "" if row["error"] else _word(row))
        for row in rows
    ]
    print_table(("picture", "label", "probability", "known"), table, right=(2,))


def _word(row: dict[str, Any]) -> str:
    return {True: "yes", False: "NO", None: "-"}[row["known"]]


def _known(row: dict[str, Any]) -> str:
    if row["known"] is False:
        return ": NOT like the training pictures; take the label with caution"
    return ""


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder.")],
    source: Source,
    json: Json = False,
) -> None:
    """Measure a model on labelled pictures it never saw."""
    from topwork.held_out import evaluate as run_evaluate
    from topwork.progress import for_stream

    facts = run_evaluate(model, source, progress=for_stream())
    if json:
        print_json(facts)
    else:
        _print_evaluation(facts)


def _print_evaluation(facts: dict[str, Any]) -> None:
    accuracy, novelty = facts["accuracy"], facts["novelty"]
    if not accuracy["n"]:
        leaked = len(facts["leaked"])
        print_lines([f"All {leaked} pictures were trained on: nothing was measured; give it pictures it never saw."])
        return
    print_lines(
        [
            f"Accuracy on {accuracy['n']} held-out pictures: {spread(accuracy)}",
            f"  every class counting alike (balanced accuracy): {percent(facts['balanced_accuracy'])}",
            "",
        ]
    )
    print_per_class(facts)
    calibration = facts["calibration"]
    lines = [""]
    if calibration:
        lines.append(f"Calibration error {percent(calibration['ece'])}; {percent(novelty['coverage'])} count as known.")
    if facts["leaked"]:
        lines.append(f"{len(facts['leaked'])} pictures were trained on and are left out.")
    if novelty["foreign"]["n"]:
        noticed, n = novelty["foreign"]["noticed"], novelty["foreign"]["n"]
        lines.append(f"Of {n} pictures of other classes {noticed} were noticed as not known.")
    shown, rest = cut(facts["mistakes"], 10)
    lines += [
        f"wrong: {row['path']} is {row['label']}, predicted {row['predicted']} ({percent(row['probability'])})"
        for row in shown
    ]
    lines += [rest] if rest else []
    lines += [f"left out: {row['path']} ({row['reason']})" for row in facts["excluded"][:5]]
    print_lines(lines)

"""``topwork evaluate``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.fit_output import print_per_class
from topwork.cli.fitting import Source
from topwork.cli.output import Json, balanced, cut, percent, print_json, print_lines, spread
from topwork.cli.sources import AllowRemote, MaxPixels, given, model_for


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder.")],
    source: Source,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page to look at.")] = None,
    max_pixels: MaxPixels = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Measure a model on labelled pictures it never saw."""
    from topwork.held_out import evaluate as run_evaluate
    from topwork.progress import for_stream

    facts = run_evaluate(model_for(model, max_pixels), given(source, allow_remote), page=html, progress=for_stream())
    if json:
        print_json(facts)
    else:
        _print_evaluation(facts)
        if html is not None:
            print_lines(["", f"Page: {html}"])


def _print_evaluation(facts: dict[str, Any]) -> None:
    from topwork.report import words

    accuracy, novelty = facts["accuracy"], facts["novelty"]
    leaked, near = len(facts["leaked"]), facts["leak_rule"] == "near-duplicates"
    if not accuracy["n"]:
        known = "were trained on, or are near-duplicates of such" if near else "were trained on"
        print_lines([f"All {leaked} pictures {known}: nothing was measured; give it pictures it never saw."])
        return
    print_lines(
        [
            f"Accuracy on {accuracy['n']} held-out pictures: {spread(accuracy)}",
            balanced(facts),
            *([f"  {promise['sentence']}"] if (promise := facts["promise"]) else []),
            "",
        ]
    )
    print_per_class(facts)
    calibration = facts["calibration"]
    lines = [""]
    if calibration:
        lines.append(words.calibration(calibration).replace(words.NBSP, " "))
        lines += [f"{percent(novelty['coverage'])} count as known."] if novelty["coverage"] is not None else []
    if leaked:
        which = "near-duplicates of training pictures" if near else "files that were trained on"
        lines.append(f"{leaked} are {which} and left out; with them it would be {percent(accuracy['naive'])}.")
    if not near:
        lines.append("The model keeps nothing to tell near-duplicates by: only identical files were looked for.")
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

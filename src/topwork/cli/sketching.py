"""``topwork strokes``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.output import Json, counted, cut, percent, print_json, print_lines, print_table

EPOCHS = 25  # as of topwork.sketching.comparison, which a help text must not import

_SEES = {"picture": "the picture", "strokes": "the strokes", "both": "both"}


def strokes(
    drawings: Annotated[
        list[str], typer.Argument(metavar="DRAWINGS...", help="QuickDraw files (.ndjson), or folders of them.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Write the three networks as ONNX.")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="How many drawings of each class, chosen by the seed; else all.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the pictures in pixels, 8 to 256.")] = 28,
    epochs: Annotated[int, typer.Option(help="Passes over the training drawings.")] = EPOCHS,
    seed: Annotated[int, typer.Option(help="Decides what is chosen and held out, and the first weights.")] = 0,
    json: Json = False,
) -> None:
    """Compare classifiers of drawings: by their strokes, their picture, or both."""
    from topwork.progress import for_stream
    from topwork.sketching.comparison import compare_strokes

    facts = compare_strokes(
        drawings,
        per_class=per_class or 0,
        size=size,
        epochs=epochs,
        seed=seed,
        output=output,
        progress=for_stream(),
    )
    if json:
        print_json(facts)
    else:
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    trained, held = facts["n_training"], facts["n_held"]
    lines = [f"{counted(trained + held, 'drawing', 'drawings')} of {len(facts['classes']):,} classes"]
    lines.append(f"trained on {trained:,}, measured on {held:,} that were held out")
    if facts["copies"]:
        lines.append(f"{counted(facts['copies'], 'copy stays', 'copies stay')} on the side of the drawing copied")
    print_lines([*lines, ""])
    rows = []
    for name, row in facts["networks"].items():
        accuracy = row["accuracy"]
        interval = f"{100 * accuracy['low']:.1f} to {percent(accuracy['high'])}"
        shown = percent(accuracy["value"]), interval, f"{row['parameters']:,}", f"{row['seconds']:,.1f}"
        rows.append((_SEES[name], *shown))
    print_table(("network sees", "accuracy", "95 % interval", "parameters", "seconds"), rows, right=(1, 2, 3, 4))
    print_lines(["", *map(_pair, facts["gains"]), "", _best(facts["best"])])
    shown_rows, rest = cut(facts["excluded"], 10)
    left_out = [f"left out: {row['path']} ({row['reason']})" for row in shown_rows]
    print_lines([*([""] if left_out else []), *left_out, *([rest] if rest else [])])
    if facts["output"]:
        print_lines(["", f"Networks: {facts['output']}"])


def _pair(row: dict[str, Any]) -> str:
    """One network against another, in words that the interval allows.

    >>> _pair({"network": "both", "over": "picture", "value": 0.041, "low": 0.02, "high": 0.062})
    'both: 4.1 points better than the picture (2.0 to 6.2)'
    >>> _pair({"network": "strokes", "over": "picture", "value": -0.01, "low": -0.03, "high": 0.012})
    'the strokes and the picture: no sure difference, -1.0 points (-3.0 to 1.2)'
    """
    first, second = _SEES[row["network"]], _SEES[row["over"]]
    value, low, high = (100 * row[name] for name in ("value", "low", "high"))
    if low > 0:
        return f"{first}: {value:.1f} points better than {second} ({low:.1f} to {high:.1f})"
    if high < 0:
        return f"{first}: {-value:.1f} points worse than {second} ({-high:.1f} to {-low:.1f})"
    return f"{first} and {second}: no sure difference, {value:.1f} points ({low:.1f} to {high:.1f})"


def _best(name: str | None) -> str:
    if name is None:
        return "No network is better than both others beyond doubt; more drawings would tell."
    return f"Best: the network that sees {_SEES[name]}."

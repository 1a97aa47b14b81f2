"""What ``topwork fit`` says on the terminal."""

from pathlib import Path
from typing import Any

from topwork.cli.next_output import next_lines
from topwork.cli.output import balanced, counted, cut, percent, print_lines, print_table, spread


def print_fit(facts: dict[str, Any], source: str | None = None, *, verbose: bool = False) -> None:
    """What a fit of ``source`` found: accuracy, class by class, how strategies compared, what to know and do.

    ``verbose``: also how it was measured, in the words of those who measure.
    """
    accuracy = facts["accuracy"]
    print_lines(
        [
            _looked_at(facts),
            "",
            f"Accuracy on pictures it did not see: {spread(accuracy)}",
            *(_how(facts) if verbose or facts["strategy"] != "features" else []),
            *([balanced(facts)] if _is_uneven(facts["classes"]) else []),
        ]
    )
    print_lines(_refit_lines(facts))
    print_lines(_geometry_lines(facts))
    print_lines(f"  note: {note}" for note in facts["notes"])
    if (accuracy["naive"] or 0) - accuracy["value"] >= 0.0005:
        kept = "near-duplicates and frames of one video" if facts["videos"] else "near-duplicates"
        print_lines([f"  without keeping {kept} together it would look like {percent(accuracy['naive'])}"])
    if facts["test"]:
        print_lines(_test_lines(facts["test"]))
    print_lines([""])
    print_per_class(facts)
    if (facts.get("comparison") or {}).get("candidates"):
        _print_comparison(facts["comparison"])
    print_lines(["", *_notes(facts), *(_details(facts) if verbose else []), ""])
    print_lines([*next_lines(facts, source), ""])
    if facts["model"]:
        print_lines([f"Model:  {facts['model']}", f"Report: {Path(facts['model']) / 'report.html'}"])
    else:
        print_lines(["Nothing was written; give -o NAME.topwork to keep the model."])


def _looked_at(facts: dict[str, Any]) -> str:
    """The pictures, and what is not what it seems."""
    n, groups, left_out = facts["n_images"], facts["groups"]["count"], len(facts["excluded"])
    parts = [f"{counted(n, 'picture', 'pictures')} in {counted(len(facts['classes']), 'class', 'classes')}"]
    if groups < n:
        parts.append(f"{groups:,} without near-duplicates")
    if left_out:
        parts.append(f"{counted(left_out, 'file', 'files')} left out")
    return "; ".join(parts)


def _how(facts: dict[str, Any]) -> list[str]:
    """How it was measured, and what was trained."""
    from topwork.report.strategies import GLOSS

    method, strategy, geometry = facts["accuracy"]["method"], facts["strategy"], facts["geometry"]
    if strategy == "features":
        return [f"  {method}; {facts['head']} head on {facts['features']}, {geometry}"]
    measured = facts.get("n_measured")
    on = f" ({counted(measured, 'picture', 'pictures')})" if measured else ""
    gloss = f" ({GLOSS[strategy]})" if strategy in GLOSS else ""
    return [f"  {method}{on}", f"  strategy {strategy}{gloss}, {geometry}"]


def _refit_lines(facts: dict[str, Any]) -> list[str]:
    """That the figures are not those of the shipped model, where it was trained once more on everything."""
    from topwork.report.strategies import refit_note

    return [f"  note: {note}"] if (note := refit_note(facts)) else []


def _geometry_lines(facts: dict[str, Any]) -> list[str]:
    """How the network gets a picture, where that was measured or cuts much away."""
    from topwork.report.words import geometry

    return [f"  {said}"] if (said := geometry(facts)) else []


def _print_comparison(comparison: dict[str, Any]) -> None:
    """A row a strategy that was measured, a line each for the others, and what follows."""
    candidates = comparison["candidates"]
    print_lines(["", f"Strategies compared ({comparison['method']}):"])
    rows = [_strategy_row(row) for row in candidates if row["accuracy"]]
    if rows:
        print_table(("strategy", "accuracy", "against features, points", "time"), rows, right=(3,))
    for row in candidates:
        if row["reason"] or not row["accuracy"]:
            print_lines([f"  {row['strategy']} {row['status']}" + (f": {row['reason']}" if row["reason"] else "")])
    print_lines([comparison["sentence"] or ""])


def _strategy_row(row: dict[str, Any]) -> tuple[str, ...]:
    from topwork.report.strategies import signed_points
    from topwork.report.words import NBSP, duration

    gain, seconds = row["gain"], row["seconds"]
    points = [signed_points(gain[key]) for key in ("value", "low", "high")] if gain else []
    return (
        f"{row['strategy']} (chosen)" if row["chosen"] else row["strategy"],
        spread(row["accuracy"]),
        "{} ({} to {})".format(*points) if points else "-",
        "-" if seconds is None else duration(seconds).replace(NBSP, " "),
    )


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
    from topwork.report import words

    novelty = facts["novelty"]
    lines = [words.calibration(facts["calibration"]).replace(words.NBSP, " ")]
    lines.append(f"Of pictures like these {percent(novelty['coverage'])} count as known.")
    if stopped := (facts.get("training") or {}).get("stopped"):
        lines.append(f"Stopped early: {stopped}.")
    if novelty["note"]:
        lines.append(novelty["note"])
    if n := facts["n_sampled_out"]:
        lines.append(f"{counted(n, 'picture', 'pictures')} beyond head_limit {'was' if n == 1 else 'were'} not used.")
    for row in facts["excluded"][:5]:
        lines.append(f"left out: {row['path']} ({row['reason']})")
    if len(facts["excluded"]) > 5:
        lines.append(f"left out: {len(facts['excluded']) - 5} more (--json and the report list them)")
    return [line for line in lines if line]


def _details(facts: dict[str, Any]) -> list[str]:
    """What only some readers want to know."""
    seconds, cache = facts["seconds"]["total"], facts["cache"]
    return [
        f"Expected calibration error {percent(facts['calibration']['ece'])}.",
        f"{seconds:.1f} s; features of {cache['hits']} pictures were in the cache, {cache['misses']} new.",
    ]

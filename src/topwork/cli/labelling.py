"""``topwork label``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from topwork.cli.indexing import IndexPath
from topwork.cli.output import Json, counted, cut, percent, print_json, print_lines, print_table, printable
from topwork.cli.sources import AllowRemote, given
from topwork.errors import UsageError

if TYPE_CHECKING:
    from topwork.retrieval.labelling.server import Session


def label(
    index: IndexPath,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The list to write, a .csv.")],
    count: Annotated[int, typer.Option(min=1, help="How many pictures to suggest.")] = 50,
    labels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Labels that are known besides those of the index.")
    ] = None,
    ignore_labels: Annotated[
        bool, typer.Option("--ignore-labels", help="Those of the index do not count: its folders are no classes.")
    ] = False,
    propagate: Annotated[
        bool, typer.Option("--propagate", help="Also label what lies near labelled pictures.")
    ] = False,
    min_confidence: Annotated[float, typer.Option(help="How sure that must be, above 0 to 1.")] = 0.9,
    page: Annotated[bool, typer.Option("--page", help="Label in the browser, by keyboard or touch.")] = False,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Classes that the page offers besides those that occur.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which pictures of a large index are looked at.")] = 0,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Choose which pictures of an index to label next: first those that say most about the others.

    The list is one that `topwork fit` takes. It also holds every label that is known; a label that a person wrote into
    it stays whatever is run.
    """
    from topwork import storage
    from topwork.progress import for_stream
    from topwork.retrieval import Index
    from topwork.retrieval.labelling import Choice, Worklist, choose

    if output.suffix.lower() != ".csv":
        raise UsageError(f"expected a name that ends in .csv, not {output}; choose another name")
    if page and json:
        raise UsageError("expected --json or --page, but got both; leave one of them out")
    if classes is not None and not page:
        raise UsageError("expected --page with --classes, which are the page's buttons; add it")
    storage.check_writable(output)
    if allow_remote and labels is None:
        raise UsageError("expected --allow-remote with --labels, whose list it is about; leave it out")
    known = None if labels is None else given(labels, allow_remote)
    choice = Choice(count, known, ignore_labels, propagate, min_confidence, seed)
    with Index.open(index) as opened:
        worklist = Worklist(output)
        facts = choose(opened, worklist, choice, progress=for_stream())
        if json:
            print_json(facts)
            return
        _print_facts(facts)
        if not page:
            _print_next(index, output, facts)
            return
        from topwork.retrieval.labelling.server import Session

        again = f"topwork fit {output} -o MODEL.topwork"
        named = [name.strip() for name in (classes or "").split(",") if name.strip()]
        _serve(Session(opened, worklist, lambda: choose(opened, worklist, choice), again, named))


def _serve(session: "Session") -> None:
    from topwork.retrieval.labelling.server import LabelServer

    server = LabelServer(session)
    print_lines(["", f"Label here: {server.url}", "Every label is saved at once; Ctrl-C ends it."])
    server.run()
    labelled = sum(1 for item in session.worklist.items if item.is_made)
    print_lines(
        [
            "",
            f"{counted(labelled, 'label', 'labels')} of yours in {session.worklist.path}",
            f"Next: {session.next_command}" if labelled else "Next: the same command again, to label some",
        ]
    )


def _print_facts(facts: dict[str, Any]) -> None:
    known = sum(facts["labelled"].values())
    sources = ", ".join(f"{count:,} by {_BY[by]}" for by, count in facts["labelled"].items() if count)
    lines = [
        f"{counted(facts['pictures'], 'picture', 'pictures')}, {known:,} with a label{f' ({sources})' if known else ''}"
    ]
    if facts["unlisted"]:
        lines.append(f"{facts['unlisted']:,} more are drawings or frames, which a list cannot name")
    print_lines(lines)
    if facts["suggested"]:
        guessed = any(row["suggested"] for row in facts["suggested"])
        shown, rest = cut(facts["suggested"], 10)
        print_lines([""])
        rows = [_row(row, guessed) for row in shown]
        columns = ("label next", "stands for", *(("looks like", "sure") if guessed else ()))
        print_table(columns, rows, right=(1, 3))
        print_lines([rest] if rest else [])
    if facts["measured"] and facts["measured"]["left_out"]:
        print_lines(["", *_measured(facts)])


_FEWEST = 2
_BY = {"person": "you", "index": "the index", "labels": "--labels"}


def _row(row: dict[str, Any], guessed: bool) -> tuple[str, ...]:
    name = row["path"].replace("\\", "/").rsplit("/", 1)[-1]
    sure = percent(row["confidence"]) if row["suggested"] else "-"
    return (name, f"{row['stands_for']:,}", *((row["suggested"] or "-", sure) if guessed else ()))


def _measured(facts: dict[str, Any]) -> list[str]:
    from topwork.evaluation.metrics import wilson

    measured, least = facts["measured"], facts["min_confidence"]
    lines = []
    if facts["propagated"] is not None:
        lines.append(f"{counted(facts['propagated'], 'label', 'labels')} propagated, at least {percent(least)} sure")
    sure, right = measured["sure"], measured["sure_right"]
    back = f"{measured['right']} of {measured['left_out']} labelled pictures"
    lines.append(f"Left out in turn, {back} got their label back from others;")
    if sure:
        interval = wilson(right, sure)
        spread = f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
        lines.append(f"{sure} at least {percent(least)} sure, {right} of them rightly ({spread}).")
    else:
        lines.append(f"none was {percent(least)} sure.")
    return lines


def _print_next(index: Path, output: Path, facts: dict[str, Any]) -> None:
    lines = ["", f"List: {output}"]
    if facts["suggested"]:
        lines.append(f"Next: write labels into it, or topwork label {index} -o {output} --page")
    elif facts["pictures"]:
        lines.append(f"Nothing is left to label; next: topwork fit {output} -o MODEL.topwork")
    if few := [name for name, count in facts["classes"].items() if count < _FEWEST]:
        lines.append(f"`fit` needs {_FEWEST} pictures of each class; so far {printable(few[0])!r} has 1")
    if facts["propagated"]:
        lines.append("Propagated labels are not checked: `fit` counts them as true, also where it measures.")
    print_lines(lines)

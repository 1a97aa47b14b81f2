"""``topwork index``."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.output import Json, counted, cut, percent, print_json, print_lines, print_table
from topwork.cli.sources import AllowRemote, given
from topwork.errors import UsageError

Photos = Annotated[
    list[str] | None,
    typer.Option("--photos", metavar="DIR", help="Where the pictures of an index from elsewhere are: read them there."),
]
IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="An index folder that `topwork index` made.")]


def index(
    source: Annotated[str, typer.Argument(metavar="PHOTOS", help="A folder, list or URL; with --info an index.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The index folder to make or update.")] = None,
    backbone: Annotated[str | None, typer.Option(help="The pretrained network; see `topwork backbones`.")] = None,
    features: Annotated[str | None, typer.Option(help="What is compared: pooled or logits.")] = None,
    vectors: Annotated[
        str | None, typer.Option(help="How features become vectors: centred, plain, pca or whitened.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Keep vectors in qdrant://HOST:PORT/COLLECTION.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep the pictures of other sources that are in it.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make all vectors anew from what the index keeps.")
    ] = False,
    info: Annotated[
        bool, typer.Option("--info", help="Say what is in the index PHOTOS, and how right it answers.")
    ] = False,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Make PHOTOS searchable, or bring an index up to date.

    A second run reads only what is new or has changed, and notices what was moved or deleted. Nothing in PHOTOS is
    changed.
    """
    if info:
        others = {"-o": output, "--backbone": backbone, "--features": features, "--vectors": vectors, "--add": add}
        others |= {"--rebuild": rebuild, "--allow-remote": allow_remote}
        if unused := next((name for name, value in others.items() if value), None):
            raise UsageError(
                f"expected no {unused} with --info, which says what is there and makes nothing; leave it out"
            )
        _info(Path(source), store, json=json)
        return
    if output is None:
        raise UsageError("expected a place for the index; give one with -o, such as -o photos.index")
    from topwork.progress import for_stream
    from topwork.retrieval.building import update

    facts = update(
        given(source, allow_remote),
        output,
        backbone=backbone,
        features=features,
        vectors=vectors,
        store=store,
        add=add,
        rebuild=rebuild,
        progress=for_stream(),
    )
    if json:
        print_json(facts)
    else:
        _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    from topwork.images import Excluded

    words = ("added", "updated", "moved", "unchanged", "removed")
    done = ", ".join(f"{facts[word]:,} {word}" for word in words if facts[word] or word == "added")
    print_lines([f"{facts['index']}: {counted(facts['pictures'], 'picture', 'pictures')} ({done})"])
    if facts["elsewhere"]:
        print_lines(
            [f"{counted(facts['elsewhere'], 'picture is', 'pictures are')} in it already, from another source."]
        )
    faults = [row for row in facts["excluded"] if Excluded(**row).is_fault]
    if faults:
        shown, rest = cut([(row["path"], row["reason"]) for row in faults], 10)
        print_lines([""])
        print_table(("left out", "reason"), shown)
        print_lines([rest] if rest else [])
    print_lines(["", f"Next: topwork search {facts['index']} PICTURE"])


def _info(path: Path, store: str | None, *, json: bool) -> None:
    from topwork.retrieval import Index

    begun = time.perf_counter()
    with Index.open(path, store=store) as opened:
        facts = {"opening": round(time.perf_counter() - begun, 4), **opened.info()}
    if json:
        print_json(facts)
        return
    made = f"{facts['features']} features of {facts['backbone']}, {facts['vectors']}"
    rows = [
        ("pictures", f"{facts['pictures']:,}, {facts['labelled']:,} with a label"),
        *(("source", place or "a list") for place in facts["sources"]),
        ("vectors", made + (f" on {facts['fitted_on']:,} pictures" if facts["fitted_on"] else "")),
        ("store", facts["store"]),
        ("size", f"{facts['bytes'] / 1e6:,.1f} MB"),
        ("opened in", f"{1000 * facts['opening']:.0f} ms"),
        ("search", "compares with every picture" if facts["exact"] else "follows the graph"),
        ("recall@10", f"{percent(facts['recall'])} of the graph against comparing with every picture"),
    ]
    print_table(("index", str(path)), rows)

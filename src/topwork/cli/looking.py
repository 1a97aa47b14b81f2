"""``topwork audit``, ``report`` and ``cache``."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.guesses import Subcommands
from topwork.cli.output import Json, cut, print_json, print_lines, print_table
from topwork.cli.sources import AllowRemote, given
from topwork.errors import ImageError

cache_app = typer.Typer(cls=Subcommands, help="The cache of features and graphs.")


def audit(
    source: Annotated[str, typer.Argument(metavar="PHOTOS", help="A folder, a CSV/TSV manifest, or a URL.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with thumbnails.")] = None,
    allow_remote: AllowRemote = False,
    json: Json = False,
) -> None:
    """Find what is wrong with PHOTOS before fitting.

    Unreadable files, duplicates, one picture under two labels, blurred or dark pictures, uneven classes. Nothing is
    changed.
    """
    from topwork import report, storage
    from topwork.auditing import audit as run_audit
    from topwork.progress import for_stream

    if html is not None:
        storage.check_file(html)
    found = run_audit(given(source, allow_remote), progress=for_stream())
    if html is not None:
        page = report.render_audit(found.facts, pictures=_Thumbnails(found.samples))
        storage.write_file(html, page.encode())
    if json:
        print_json(found.facts)
    else:
        _print_audit(found.facts)
        if html is not None:
            print_lines(["", f"Page: {html}"])


class _Thumbnails(Mapping[str, Any]):
    """Thumbnails by path, made when the page asks for them: it shows only some of the pictures."""

    def __init__(self, samples: Mapping[str, Any]) -> None:
        self._samples = samples

    def __getitem__(self, path: str) -> Any:
        from topwork import report
        from topwork.images import DecodePolicy, decode

        try:
            return report.Thumb.of(decode(self._samples[path].read(), DecodePolicy(shrink_to=192)).pixels)
        except ImageError as error:
            raise KeyError(path) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def __len__(self) -> int:
        return len(self._samples)


def _print_audit(facts: dict[str, Any]) -> None:
    print_lines([f"{facts['n_images']} readable pictures in {facts['source']}", ""])
    if facts["classes"]:
        shown, rest = cut(list(facts["classes"].items()), 30)
        print_table(("class", "pictures"), [(name, str(count)) for name, count in shown], right=(1,))
        print_lines([rest, ""] if rest else [""])
    print_lines([f"* {line}" for line in facts["advice"]] or ["Nothing to mend was found."])
    rows = [
        *(("unreadable", row["path"], row["reason"]) for row in facts["unreadable"]),
        *(("two labels", row["paths"][0], ", ".join(row["labels"])) for row in facts["label_conflicts"]),
        *(("same file", group[0], ", ".join(group[1:])) for group in facts["exact_duplicates"]),
        *(("near-duplicate", group[0], ", ".join(group[1:])) for group in facts["near_duplicates"]),
        *(("quality", row["path"], ", ".join(row["findings"])) for row in facts["quality"]),
        *(("skipped", row["path"], row["reason"]) for row in facts["skipped"]),
    ]
    if rows:
        shown, rest = cut(rows, 25)
        print_lines([""])
        print_table(("finding", "picture", "detail"), shown)
        print_lines([rest] if rest else [])


def report(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder.")],
    show: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open it in the browser (default: on a desktop).")
    ] = None,
    json: Json = False,
) -> None:
    """Print the path of a model's report, and on a desktop open it.

    A page that could load or run something, which no report of topwork does, is not opened.
    """
    from topwork import folder
    from topwork.errors import ModelError
    from topwork.report.own_page import is_own_page

    page = folder.read(model, keep=(folder.REPORT,)).contents.get(folder.REPORT)
    if page is None:
        raise ModelError(f"expected a report in {model}, but its {folder.MARKER} lists none; fit the model again")
    if not is_own_page(page):
        raise ModelError(
            f"expected a report that topwork wrote, but {model / folder.REPORT} could load or run something, so it was "
            f"not opened; its figures are in {folder.FACTS} too"
        )
    path = (model / folder.REPORT).resolve()
    if json:
        print_json({"report": str(path)})
    else:
        print_lines([str(path)])
    if _on_a_desktop() and not json if show is None else show:
        import webbrowser

        webbrowser.open(path.as_uri())


def _on_a_desktop() -> bool:
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@cache_app.command("info")
def cache_info(json: Json = False) -> None:
    """Show where the cache is and how full."""
    from topwork.features.cache import FeatureCache

    with FeatureCache() as cache:
        facts = vars(cache.info())
    if json:
        print_json(facts)
    else:
        size, limit, graphs = facts["size"] / 1e6, facts["limit"] / 1e6, facts["graphs"] / 1e6
        lines = [facts["path"], f"{facts['entries']} entries, {size:,.1f} MB of at most {limit:,.0f} MB"]
        training, frames = facts["training"] / 1e6, facts["frames"] / 1e6
        beside = [f"graphs beside it: {graphs:,.1f} MB", f"activations for fine-tuning beside it: {training:,.1f} MB"]
        print_lines([*lines, *beside, f"frames of videos beside it: {frames:,.1f} MB"])


@cache_app.command("clear", short_help="Delete what is cached; it is computed again when needed.")
def cache_clear(json: Json = False) -> None:
    """Delete the cached features, activations, graphs and frames; they are computed again when needed."""
    from topwork.features.cache import clear

    freed = clear()
    if json:
        print_json({"freed": freed})
    else:
        print_lines([f"freed {freed / 1e6:,.1f} MB"])

"""The application: its commands, and what happens to errors."""

import errno
import os
import sys
import warnings
from typing import Annotated, Any

import typer

from topwork.cli import (
    augmenting,
    drawing,
    evaluating,
    exciting,
    explaining,
    fast_styles,
    filming,
    fitting,
    indexing,
    labelling,
    looking,
    mapping,
    networks,
    predicting,
    searching,
    seeing,
    sketching,
    styling,
    weighing,
    zoo,
)
from topwork.cli.guesses import Commands
from topwork.cli.output import fitted, give_up_stdout, prepare_streams, printable, to_stdout
from topwork.errors import TopworkError, TopworkWarning, UsageError
from topwork.shortage import shortage_of

FAILED, WRONG_CALL, STOPPED = 1, 2, 130

app = typer.Typer(
    name="topwork",
    cls=Commands,
    help="Put a new top on a pretrained CNN: a folder of pictures becomes a measured, shippable classifier.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("audit")(looking.audit)
app.command("augment")(augmenting.augment)
app.command("drawings", short_help="Make a data set of pictures from QuickDraw drawings.")(drawing.drawings)
app.command("frames")(filming.frames)
app.command("strokes", short_help="Compare classifiers of drawings by strokes or picture.")(sketching.strokes)
app.command("fit")(fitting.fit)
app.command("index")(indexing.index)
app.command("search", short_help="Find the pictures of an index that look like another.")(searching.search)
app.command("duplicates", short_help="Find pictures that are there more than once.")(searching.duplicates)
app.command("map", short_help="Draw the pictures of an index as a map.")(mapping.map_)
app.command("label", short_help="Choose which pictures of an index to label next.")(labelling.label)
app.command("predict")(predicting.predict)
app.command("evaluate")(evaluating.evaluate)
app.command("explain")(explaining.explain)
app.command("report")(looking.report)
app.command("backbones")(zoo.backbones)
app.command("summary")(networks.summary)
seeing.see_app.command("maximize")(exciting.maximize)
seeing.see_app.command("dream")(exciting.dream)
app.add_typer(seeing.see_app, name="see", short_help="Show what a network sees, and what excites it.")
styling.style_app.command("train")(fast_styles.train)
styling.style_app.command("apply")(fast_styles.apply)
styling.style_app.command("demo")(fast_styles.demo)
app.add_typer(styling.style_app, name="style", short_help="Paint pictures in the style of others.")
app.add_typer(weighing.weights_app, name="weights", short_help="Fetch, verify and add pretrained weights.")
app.add_typer(looking.cache_app, name="cache")


def _print_version(wanted: bool) -> None:
    if wanted:
        import topwork

        typer.echo(f"topwork {topwork.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit code: 0, 1 (failed), 2 (wrong call) or 130 (stopped by Ctrl-C)."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn  # type: ignore[assignment]
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    prepare_streams()
    # --debug is understood anywhere in the line, because it is added after something went wrong.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app(arguments or ["--help"], prog_name="topwork", standalone_mode=False)
        with to_stdout():
            sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        code = STOPPED
    except (BrokenPipeError, SystemExit) as stop:
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, BrokenPipeError):
            raise
        give_up_stdout()  # the reader (`| head`) has gone, which is no error
        return 0
    except Exception as error:
        if debug:
            raise
        _say(f"topwork: {_sentence(error)}")
        return WRONG_CALL if isinstance(error, UsageError) or _is_from_parser(error) else FAILED
    if code == STOPPED:  # recent typer turns Ctrl-C into this code itself
        _say("topwork: stopped; what was computed is kept, the same command goes on from there")
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, TopworkError):
        return str(error)
    if short := shortage_of(error):
        return str(short)
    if _is_from_parser(error):
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        for theirs, ours in _PLAINER.items():
            message = message.replace(theirs, ours)
        context = getattr(error, "ctx", None)
        return f"{message[:1].lower()}{message[1:]}; see `{context.command_path if context else 'topwork'} --help`"
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return _of_the_system(error)
    if isinstance(error, MemoryError):
        return "memory ran out; close other programs, or give fewer or smaller pictures at a time"
    return f"unexpected {type(error).__name__}: {error}; run again with --debug and report it"


_PLAINER = {
    "Input should be a valid integer, unable to parse string as an integer": "it must be a whole number",
    "Input should be a valid number, unable to parse string as a number": "it must be a number",
    "Input should be": "it must be",
}
"""What the parser says, in words for a person."""

_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EFBIG: "choose another disk, or allow larger files (`ulimit -f`)",
    errno.EACCES: "choose another place, or change who may use it",
    errno.EPERM: "choose another place, or change who may use it",
    errno.EROFS: "choose a place that can be written",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "check the path",
    errno.EEXIST: "choose another name",
    errno.ELOOP: "check the links",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs, or give fewer pictures at a time",
    errno.EIO: "look after the disk or the connection to it",
    errno.ESTALE: "look after the connection to the disk",
    errno.ETIMEDOUT: "look after the connection to the disk",
    errno.EBUSY: "close the program that uses it",
    errno.EBADF: "leave the streams of the command open",
}
"""Trouble that any computer has now and then, which is no fault of topwork; what to do about it."""


def _of_the_system(error: OSError) -> str:
    from topwork.storage import reason

    remedy = _REMEDIES[error.errno or 0]
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return f"the computer refused something that is needed: {where}{reason(error)}; {remedy}"


def _is_from_parser(error: Exception) -> bool:
    """Whether the parser raised it; recent typer carries its own copy of click, so the class is not enough."""
    return hasattr(error, "format_message")


_usual_warning = warnings.showwarning


def _warn(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    """topwork's own warnings as a sentence, others as usual."""
    if issubclass(category, TopworkWarning):
        _say(f"topwork: {message}")
    else:
        _usual_warning(message, category, *rest)


def _say(text: str) -> None:
    print("\n".join(fitted(printable(text), sys.stderr)), file=sys.stderr)  # noqa: T201 - the one place where errors are printed

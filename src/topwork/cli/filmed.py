"""The part of ``topwork predict`` that is about videos: a timeline, as rows, as a table, as CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topwork.cli.output import cut, percent, print_lines, print_table
from topwork.errors import ImageError, MissingExtraError, TopworkError, UsageError

if TYPE_CHECKING:
    from topwork.images import Sample
    from topwork.model import Model
    from topwork.progress import Progress
    from topwork.tables import Cell

Rows = list[dict[str, Any]]

_COLUMNS = ("video", "time", "label", "probability", "known", "novelty", "raw_label", "raw_probability")


def rows_of(
    model: "Model", video: "Sample", *, every: float, smooth: float, top: int, progress: "Progress"
) -> tuple[Rows, str | None]:
    """A row a moment, and why there are none, or not all."""
    from topwork.timeline import Timeline

    line = Timeline(model, video.location, every=every, smooth=smooth, top=top, progress=progress)
    rows: Rows = []
    try:
        for moment in line:
            path = f"{video.id}@{moment.time:.3f}s"
            rows.append({"path": path, "video": video.id, **moment.as_dict(), "error": None})
    except (ImageError, MissingExtraError) as error:
        return rows, str(error)
    return rows, f"damaged after {line.seconds:.1f} s, where its frames end: {line.damage}" if line.damage else None


def print_timeline(rows: Rows) -> None:
    """The stretches of one video in which the answer stays the same."""
    from topwork.evaluation.smoothing import stretches

    found = stretches([row["label"] for row in rows])
    frames = "1 frame" if len(rows) == 1 else f"{len(rows):,} frames"
    print_lines([f"{rows[0]['video']}: {frames} until {clock(rows[-1]['time'])}", ""])
    table = []
    for stretch, after in zip(found, [*found[1:], None], strict=True):
        inside = rows[stretch.first : stretch.last + 1]
        until = rows[after.first if after else stretch.last]["time"]
        mean = sum(row["probability"] for row in inside) / len(inside)
        table.append((clock(inside[0]["time"]), clock(until), stretch.label, percent(mean), _known(inside)))
    shown, rest = cut(table, 40)
    print_table(("from", "to", "label", "probability", "known"), shown, right=(0, 1, 3, 4))
    print_lines([rest] if rest else [])


def _known(rows: Rows) -> str:
    """The share of moments that are like the training pictures."""
    known = [row["known"] for row in rows]
    return "-" if None in known else f"{100 * sum(known) / len(known):.0f} %"


def clock(seconds: float) -> str:
    """A time in a video.

    >>> clock(75.5), clock(3600)
    ('1:15.5', '1:00:00.0')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{rest / 10:04.1f}"


def require_ffmpeg() -> None:
    """MissingExtraError without FFmpeg."""
    from topwork.images.video import find_ffmpeg

    find_ffmpeg()


def check_csv(path: Path, given: Sequence[str]) -> None:
    """Raise before the work where the timeline could not be written, or would replace what was ``given``."""
    from topwork import storage

    if path.suffix.lower() != ".csv" or path.is_dir():
        raise UsageError(f"expected the timeline's name to end in .csv, not {path}; choose another with --csv")
    if any(path.resolve() == Path(each).resolve() for each in given):
        raise UsageError(f"expected another file for the timeline than {path}, which is asked about; choose another")
    storage.check_writable(path)


def _cells(row: dict[str, Any]) -> tuple["Cell", ...]:
    raw, known = row["raw"], None if row["known"] is None else str(row["known"]).lower()
    measured = (_number(row["time"]), row["label"], _number(row["probability"]), known, _number(row["novelty"]))
    return (row["video"], *measured, raw["label"], _number(raw["probability"]))


def _number(value: float | None) -> "Cell":
    from topwork.tables import Number

    return None if value is None else Number(f"{value:.6f}")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The timeline of all videos, a row a moment; TopworkError where it cannot be written."""
    from topwork import storage
    from topwork.tables import csv_text

    try:
        storage.write_atomic(path, csv_text(_COLUMNS, map(_cells, rows)).encode())
    except OSError as error:
        raise TopworkError(f"cannot write {path}: {storage.reason(error)}; choose another with --csv") from error

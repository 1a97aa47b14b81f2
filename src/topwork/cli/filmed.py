"""The part of ``topwork predict`` that is about videos: a timeline, as rows and as a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from topwork.cli.output import counted, cut, percent, print_lines, print_table
from topwork.errors import ImageError, MissingExtraError

if TYPE_CHECKING:
    from topwork.images import Sample
    from topwork.model import Model
    from topwork.progress import Progress


@dataclass
class Film:
    """What is remembered of a video's rows, for its timeline."""

    name: str
    moments: list[tuple[float, str, float, bool | None]] = field(default_factory=list)
    """Time in seconds, label, probability, and whether it is known."""

    def add(self, row: Mapping[str, Any]) -> None:
        """A row of it."""
        self.moments.append((row["time"], row["label"], row["probability"], row["known"]))


def rows_of(
    model: "Model", video: "Sample", *, every: float, smooth: float, top: int, progress: "Progress"
) -> Iterator[dict[str, Any]]:
    """A row a moment; in the end one with the reason where there are none, or not all."""
    from topwork.cli.entries import Fault
    from topwork.timeline import Timeline

    line = Timeline(model, video.location, every=every, smooth=smooth, top=top, progress=progress)
    try:
        for moment in line:
            path = f"{video.id}@{moment.time:.3f}s"
            yield {"path": path, "video": video.id, **moment.as_dict(), "error": None}
    except (ImageError, MissingExtraError) as error:
        yield Fault(video.id, str(error)).row()
    else:
        if line.damage:
            reason = f"damaged after {line.seconds:.1f} s, where its frames end: {line.damage}"
            yield Fault(video.id, reason).row()


def print_timeline(film: Film) -> None:
    """The stretches of one video in which the answer stays the same."""
    from topwork.evaluation.smoothing import stretches

    moments = film.moments
    found = stretches([label for _, label, _, _ in moments])
    print_lines([f"{film.name}: {counted(len(moments), 'frame', 'frames')} until {clock(moments[-1][0])}", ""])
    table = []
    for stretch, after in zip(found, [*found[1:], None], strict=True):
        inside = moments[stretch.first : stretch.last + 1]
        until = moments[after.first if after else stretch.last][0]
        mean = sum(probability for _, _, probability, _ in inside) / len(inside)
        known = _known([each for _, _, _, each in inside])
        table.append((clock(inside[0][0]), clock(until), stretch.label, percent(mean), known))
    shown, rest = cut(table, 40)
    print_table(("from", "to", "label", "probability", "known"), shown, right=(0, 1, 3, 4))
    print_lines([rest] if rest else [])


def _known(known: Sequence[bool | None]) -> str:
    """The share of moments that are like the training pictures."""
    return "-" if None in known else f"{100 * sum(map(bool, known)) / len(known):.0f} %"


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

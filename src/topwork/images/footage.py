"""Videos in a source: in the place of each come the frames chosen of it."""

from collections.abc import Iterable
from dataclasses import replace

from topwork.errors import ImageError, MissingExtraError
from topwork.images.frames import Filmed, FrameChoice
from topwork.images.kept_frames import frames_at
from topwork.images.sample import Excluded, Sample
from topwork.images.sniff import shown
from topwork.images.storage import file_name
from topwork.images.video import is_video
from topwork.progress import Progress

_SAID = 12  # videos of which a line each is said


def with_frames(
    samples: Iterable[Sample], choice: FrameChoice, progress: Progress
) -> tuple[list[Sample], list[Excluded], list[Filmed]]:
    """The samples with the chosen frames in the place of each video, what cannot be used, and how each was filmed.

    Frames have the label and split of their video, and its ``group`` or else its id, since a split must not part them.
    """
    found: list[Sample] = []
    excluded: list[Excluded] = []
    filmed: list[Filmed] = []
    for sample in samples:
        if not is_video(file_name(sample.location)):
            found.append(sample)
            continue
        try:
            frames, how = frames_at(sample.location, choice, progress=progress)
        except (ImageError, MissingExtraError) as error:
            excluded.append(Excluded(sample.id, str(error)))
            continue
        filmed.append(replace(how, path=sample.id))
        if how.damage:
            excluded.append(Excluded(sample.id, filmed[-1].damaged))
        found += [
            replace(
                sample,
                id=f"{sample.id}@{frame.time:.3f}s",
                location=frame.location,
                group=sample.group or sample.id,
                time=frame.time,
            )
            for frame in frames
        ]
    for how in filmed[:_SAID]:
        progress.say(f"{shown(how.path)}: {how}")
    if len(filmed) > _SAID:
        frames_kept = sum(how.kept for how in filmed)
        progress.say(
            f"{len(filmed)} videos in all: {frames_kept:,} frames kept of {sum(h.looked_at for h in filmed):,}"
        )
    return found, excluded, filmed

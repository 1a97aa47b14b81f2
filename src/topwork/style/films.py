"""Videos in a style: frame by frame, each from what the one before became, so that nothing flickers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.errors import ImageError
from topwork.images.video import Frame, FrameReader, Video, open_video
from topwork.images.video_writer import VideoWriter
from topwork.progress import Progress, step
from topwork.style.fast_style import reduced

if TYPE_CHECKING:
    from topwork.style.transfer import Transfer

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

_RATE = 25.0  # frames a second where a file does not say
_CUT = 0.2  # mean difference of neighbouring frames, of 1, from which on another scene begins
_STEP = "painting frames"


def paint_video(
    source: Path, target: Path, paint: Callable[[Pixels], Pixels], *, side: int, rate: float | None, progress: Progress
) -> int:
    """Write a video of what ``paint`` makes of each frame ``[h, w, 3]`` uint8, with the same sound; returns how many.

    ``side``: frames whose longer side is longer are reduced to it, 0: none. ``rate``: frames a second, None: as filmed.
    """
    try:
        video = open_video(str(source))
    except ImageError as error:
        raise ImageError(f"cannot read {source}: {error}; choose another video") from error
    rate = rate or video.rate or _RATE
    rate = min(rate, video.rate or rate)
    total = None if video.seconds is None else max(1, round(video.seconds * rate))
    written, painted = 0, 0
    with step(progress, _STEP, total=total), VideoWriter(target, rate, sound=source) as writer:
        made: Pixels | None = None
        for frame in _frames(video, rate, progress):
            place = round(frame.time * rate)
            while made is not None and written < place:  # where the camera skipped a frame, the last one stands
                writer.write(made)
                written += 1
            made = paint(reduced(frame.pixels, side))
            painted += 1
            progress.advance(_STEP, 1)
        if made is not None:
            writer.write(made)
    return painted


def _frames(video: Video, rate: float, progress: Progress) -> Iterator[Frame]:
    with FrameReader(video, every=1 / rate) as reader:
        try:
            yield from reader
        except ImageError as error:
            raise ImageError(f"cannot read {video.path}: {error}; choose another video") from error
        if reader.damage is not None:
            progress.say(f"{video.path} is painted up to {reader.time:.1f} s only: {reader.damage}")


class Follower:
    """Paints frames of a video by optimisation; each begins with what the frame before became.

    Where nothing moves nothing has to change, so ``transfer`` makes its steps for the first frame and after a cut, and
    ``following``, which has few of them and one size, is enough for the others.
    """

    def __init__(self, transfer: "Transfer", following: "Transfer") -> None:
        self._transfer, self._following = transfer, following
        self._before: tuple[Floats, Floats] | None = None

    def __call__(self, pixels: Pixels) -> Pixels:
        """A frame ``[h, w, 3]`` uint8 in the style, at the size of the settings."""
        from topwork.style.transfer import scales_of

        height, width = scales_of(pixels.shape[0], pixels.shape[1], self._transfer.settings)[-1]
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        content: Floats = np.asarray(resized, np.float32) / np.float32(255)
        if self._before is None or float(np.abs(content - self._before[0]).mean()) > _CUT:
            steps = self._transfer.steps(content)
        else:
            before, painted = self._before
            # The strokes of the frame before, on what this one shows.
            steps = self._following.steps(content, start=np.clip(painted + content - before, 0, 1))
        *_, last = steps
        self._before = (content, last.state)
        return np.rint(255 * last.picture).astype(np.uint8)

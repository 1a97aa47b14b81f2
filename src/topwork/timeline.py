"""What a model says along a video: an answer at each moment, steadied over time."""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork.errors import UsageError
from topwork.evaluation.smoothing import moving_average
from topwork.features.parallel import ordered_map
from topwork.images.frames import FOR_SOURCES, as_jpeg
from topwork.images.kept_frames import listening, local_copy
from topwork.images.storage import file_name
from topwork.images.video import FrameReader, open_video
from topwork.model import Model
from topwork.progress import Progress, Silent


@dataclass(frozen=True)
class Answered:
    """An answer without its other classes."""

    label: str
    probability: float
    known: bool | None
    novelty: float | None


@dataclass(frozen=True)
class Moment:
    """What the model says of one moment of a video."""

    time: float
    """Seconds from the start."""
    steady: Answered
    """From probabilities and novelty averaged over the time around."""
    raw: Answered
    """From this frame alone."""
    top: tuple[tuple[str, float], ...]
    """The best classes of the averaged answer with their probabilities."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork predict --json``."""
        top = [{"label": label, "probability": probability} for label, probability in self.top]
        return {"time": self.time, **asdict(self.steady), "top": top, "raw": asdict(self.raw)}


class Timeline:
    """The moments of a video in order, by iterating once; then ``seconds`` and ``damage`` are known.

    ``video``: a path or URL. A frame ``every`` so many seconds is asked, decoded as in training, none is left out;
    ``smooth``: seconds over which answers are averaged, half before and half after; 0: none. Memory is bounded,
    whatever the length. Iterating raises ImageError where no frame can be read, MissingExtraError without FFmpeg.
    """

    def __init__(
        self,
        model: Model,
        video: str,
        *,
        every: float = 0.5,
        smooth: float = 1.0,
        top: int = 5,
        progress: Progress | None = None,
    ) -> None:
        if not 1e-3 <= every <= 1e6 or not 0 <= smooth <= 1e6:
            raise UsageError(
                f"expected at least 0.001 s between frames and 0 s or more to smooth over, not {every:g} and {smooth:g}"
            )
        self._model, self._video, self._every, self._smooth, self._top = model, video, every, smooth, top
        self._progress = progress or Silent()
        self.seconds = 0.0
        """When the last frame is shown."""
        self.damage: str | None = None
        """What is wrong with the video, which ends there."""

    def __iter__(self) -> Iterator[Moment]:
        raw: deque[tuple[float, NDArray[np.float64]]] = deque()

        def noted() -> Iterator[tuple[float, NDArray[np.float64]]]:
            for row in self._answers():
                raw.append(row)
                yield row

        for mean in moving_average(noted(), self._smooth):
            time, values = raw.popleft()
            best = np.argsort(-mean[:-1], kind="stable")[: self._top]
            top = tuple((self._model.labels[i], float(mean[i])) for i in best)
            yield Moment(time, self._answered(mean), self._answered(values), top)

    def _answers(self) -> Iterator[tuple[float, NDArray[np.float64]]]:
        """Time and ``[c + 1]`` of each frame: probabilities, then novelty, which is no number where there is none."""
        with local_copy(self._video) as path, listening(self._progress, file_name(self._video)) as on_time:
            video = open_video(path)
            # The same side and the same compression as in training: the model sees what it was measured on.
            with FrameReader(video, every=self._every, side=FOR_SOURCES.side) as reader:
                for time, values in ordered_map(self._answer, ((f.time, as_jpeg(f.pixels)) for f in reader)):
                    on_time(time, video.seconds)
                    yield time, values
            self.seconds, self.damage = reader.time, reader.damage

    def _answer(self, frame: tuple[float, bytes]) -> tuple[float, NDArray[np.float64]]:
        time, data = frame
        answer = self._model.answer(self._model.pixels(data))
        novelty = np.nan if answer.novelty is None else answer.novelty
        return time, np.append(answer.probabilities, novelty).astype(np.float64)

    def _answered(self, values: NDArray[Any]) -> Answered:
        best = int(np.argmax(values[:-1]))
        novelty = None if np.isnan(values[-1]) else float(values[-1])
        return Answered(self._model.labels[best], float(values[best]), self._model.is_known(novelty), novelty)

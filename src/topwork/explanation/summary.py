"""What a model looks at in a set of pictures: the object, or the border, the background or one place."""

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topwork import fingerprint
from topwork.errors import ImageError, SourceError, UsageError
from topwork.evaluation.metrics import Interval
from topwork.explanation import composites
from topwork.explanation.composites import GRID, Quad
from topwork.explanation.faithfulness import enlarged
from topwork.explanation.methods import METHODS, Explain, aim_at, layer_of
from topwork.explanation.network import ClassifierNetwork, Floats, Pixels, network_of
from topwork.features.parallel import ordered_map
from topwork.images import Excluded, ImageSource, Sample
from topwork.model import Model, load
from topwork.progress import Progress, Silent, step

MOST = 160
"""Pictures that are looked at."""
LARGE, PLACE = 0.6, 0.125
"""Shares that border or background, and a single place at the rim, must surely exceed to be warned of.

The border is half of the picture, a place a sixteenth of it. Photographs of cars, flowers, clothing and cutlery gave
0.13 to 0.46 for the border, 0.02 to 0.25 for the background and at most 0.10 for a place; textures that fill the
picture up to 0.60, 0.50 and 0.12. A coloured frame that decided the class gave a border of 1.01, backgrounds that did a
background of 0.74, corners a place of 0.51 and 0.79.
"""


@dataclass(frozen=True)
class ClassView:
    """What is seen of a class, by predicted label: mean picture and mean map, for people to look at."""

    n: int
    picture: Pixels = field(repr=False)
    """``[h, w, 3] uint8``: the mean of what the network got."""
    values: Floats | None = field(repr=False)
    """``[h, w]``: the mean of the maps; None where the method gives none for this model."""
    border: float | None
    """As ``Summary.border``, of the experiments with this class; None where there are only two classes."""
    background: float | None


@dataclass(frozen=True)
class Summary:
    """Where the differences between classes come from; see ``summarize``."""

    model: str
    source: str
    n_images: int
    n_trained_on: int
    """Of them, pictures that the model was trained on: it knows those by heart, so others say more."""
    border: Interval
    """Share of the border in what decides between classes; the centre, half of the picture, has the rest."""
    background: Interval | None
    """Share of what is outside of the objects; None where the last map tells no places."""
    place: Interval
    """Share of the place that decides most, out of ``GRID`` rows and columns."""
    at: tuple[int, int]
    """Its row and column."""
    grid: NDArray[np.float64] = field(repr=False)
    """``[GRID, GRID]``: the shares of all places, each exchanged alone."""
    classes: dict[str, ClassView]
    excluded: tuple[Excluded, ...]

    @property
    def warnings(self) -> list[str]:
        """What is wrong, a sentence each; empty where the model looks at the object, as far as was measured."""
        found = []
        if self.border.low > LARGE:
            found.append(f"The model looks at the border of the pictures: it decides {_percent(self.border)}.")
        if self.background is not None and self.background.low > LARGE:
            found.append(f"The model looks at the background: it decides {_percent(self.background)}.")
        if self.place.low > PLACE and not _is_middle(self.at):  # in the middle it may well be the object
            found.append(
                f"The model looks at one place, {place_name(self.at)}: this sixteenth of the picture decides "
                f"{_percent(self.place)}."
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in ``topwork explain --summary --json``."""
        classes = {
            label: {"n": view.n, "border": view.border, "background": view.background}
            for label, view in self.classes.items()
        }
        return {
            "model": self.model,
            "source": self.source,
            "n_images": self.n_images,
            "n_trained_on": self.n_trained_on,
            "border": self.border.as_dict(),
            "background": self.background and self.background.as_dict(),
            "place": {**self.place.as_dict(), "row": self.at[0], "column": self.at[1]},
            "grid": self.grid.round(4).tolist(),
            "classes": classes,
            "warnings": self.warnings,
            "excluded": [asdict(item) for item in self.excluded],
        }


def summarize(
    model: Model | str,
    source: Any,
    *,
    method: str = "cam",
    experiments: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> Summary:
    """What decides between the classes of a model, measured on a set of pictures.

    Of up to ``MOST`` pictures, parts are exchanged between classes (``composites``): how much of the difference of
    their scores goes with the border, how much with what is not the object, how much with one of 16 places. Classes are
    the predicted ones. ``method`` gives the maps whose mean is shown; more ``experiments``, with four pictures each,
    make the intervals narrower. UsageError for fewer than 4 of them, SourceError where fewer than two classes are
    predicted at least twice, or too little tells them apart.
    """
    if experiments < 4:
        raise UsageError(f"expected at least 4 experiments, not {experiments}; 64 are a good start")
    progress = progress or Silent()
    opened = model if isinstance(model, Model) else load(model)
    network = network_of(opened)
    explain = _maps(network, method)
    images = ImageSource.open(source, progress=progress)
    seen = opened.trained_on()
    samples = _spread(images.samples, seed)
    squares, contents, excluded = _squares(opened, network, samples, progress)
    predicted = network.probabilities(squares).argmax(axis=1).tolist() if len(squares) else []
    quads = composites.draw_quads(predicted, experiments, seed)
    if not quads:
        raise SourceError(
            f"expected pictures of at least two classes, two of each, but of {len(predicted)} that could be read the "
            "model takes all, or all but one, for the same class; give pictures of several classes"
        )
    centre = composites.centre_mask(*squares.shape[2:])
    with step(progress, "exchanging parts", total=3):
        border = composites.part_effects(network.scores, squares, quads, lambda _: centre)
        progress.advance("exchanging parts")
        background = _background(network, squares, quads)
        progress.advance("exchanging parts")
        places, whole = composites.place_effects(network.scores, squares, quads[: experiments // 2])
        progress.advance("exchanging parts")
    total = whole.astype(np.float64)
    if total.sum() <= 0:
        raise _too_little(len(squares))
    grid = places.sum(0) / total.sum()
    row, column = divmod(int(grid.argmax()), GRID)
    return Summary(
        model=opened.name,
        source=images.root,
        n_images=len(squares),
        n_trained_on=sum(content in seen for content in contents),
        border=_share(border, quads, len(squares)),
        background=None if background is None else _share(background, quads, len(squares)),
        place=_known(composites.share(places[:, row, column], total, quads[: len(total)]), len(squares)),
        at=(row, column),
        grid=grid,
        classes=_classes(opened, squares, predicted, quads, (border, background), explain),
        excluded=(*images.excluded, *excluded),
    )


def _maps(network: ClassifierNetwork, method: str) -> Explain | None:
    """The method made ready; None for a model without class activation maps where those are asked for."""
    if method == "cam" and not network.has_heatmap:
        return None
    chosen = METHODS.get(method)
    return chosen.prepare(network, layer_of(method, chosen, network, None))


def _share(effects: NDArray[np.float64], quads: list[Quad], pictures: int) -> Interval:
    """Of the second of two effects ``[n, 2]``."""
    return _known(composites.share(effects[:, 1], effects.sum(1), quads), pictures)


def _known(found: Interval | None, pictures: int) -> Interval:
    if found is None:
        raise _too_little(pictures)
    return found


def _too_little(pictures: int) -> SourceError:
    return SourceError(
        f"expected pictures whose exchange tells the classes apart, but {pictures} tell too little; give more of each "
        "class, of which the model is sure"
    )


def place_name(at: tuple[int, int]) -> str:
    """Where a place of the grid is, in words.

    >>> place_name((0, 0)), place_name((3, 1)), place_name((1, 2))
    ('the upper left corner', 'the lower edge', 'the middle')
    """
    row, column = at
    down = {0: "upper", GRID - 1: "lower"}.get(row, "")
    across = {0: "left", GRID - 1: "right"}.get(column, "")
    if down and across:
        return f"the {down} {across} corner"
    return f"the {down or across} edge" if down or across else "the middle"


def _is_middle(at: tuple[int, int]) -> bool:
    return all(0 < each < GRID - 1 for each in at)


def _percent(interval: Interval) -> str:
    shares = [round(100 * min(max(each, 0), 1)) for each in (interval.value, interval.low, interval.high)]
    return "{} % of what tells the classes apart ({} to {} %)".format(*shares)


def _spread(samples: tuple[Sample, ...], seed: int) -> list[Sample]:
    """At most ``MOST`` pictures, of each label in turn."""
    random = np.random.default_rng(seed)
    by_label: dict[str | None, list[Sample]] = defaultdict(list)
    for place in random.permutation(len(samples)).tolist():
        by_label[samples[place].label].append(samples[place])
    most = max(map(len, by_label.values()))
    turns = [members[turn] for turn in range(most) for members in by_label.values() if turn < len(members)]
    return turns[:MOST]


def _squares(
    model: Model, network: ClassifierNetwork, samples: list[Sample], progress: Progress
) -> tuple[Floats, list[str], list[Excluded]]:
    """The network's inputs ``[n, 3, h, w]``, the pictures' content hashes, and what could not be read.

    Parts can be exchanged between inputs of one shape only: where they differ, all take the most frequent one.
    """

    def one(sample: Sample) -> tuple[Floats, str] | ImageError:
        try:
            data = sample.read()
            return network.square(model.pixels(data)), fingerprint.of_bytes(data)
        except ImageError as error:
            return error

    found, contents, excluded = [], [], []
    with step(progress, "reading pictures", total=len(samples)):
        for sample, read in zip(samples, ordered_map(one, samples), strict=True):
            progress.advance("reading pictures")
            if isinstance(read, ImageError):
                excluded.append(Excluded(sample.id, str(read)))
            else:
                found.append(read[0])
                contents.append(read[1])
    return _of_one_shape(found), contents, excluded


def _of_one_shape(inputs: list[Floats]) -> Floats:
    """Inputs ``[n, 3, h, w]`` in the most frequent shape of all."""
    shapes = Counter(each.shape[1:] for each in inputs).most_common(1)
    for shape, _ in shapes:
        inputs = [np.stack([enlarged(channel, *shape) for channel in each]) for each in inputs]
    return np.array(inputs, np.float32)


def _background(network: ClassifierNetwork, squares: Floats, quads: list[Quad]) -> NDArray[np.float64] | None:
    """The effects ``[n, 2]`` of objects and of what is around them; what is an object in any of four counts as one."""
    used = sorted({place for quad in quads for place in quad.pictures})
    maps = {place: network.stage_map(network.stages[-1], squares[place : place + 1])[0] for place in used}
    if any(each.ndim != 3 or min(each.shape[1:]) < 2 for each in maps.values()):
        return None
    masks = {
        place: enlarged(composites.object_mask(each).astype(np.float32), *squares.shape[2:]) > 0.5
        for place, each in maps.items()
    }
    return composites.part_effects(
        network.scores, squares, quads, lambda quad: np.any([masks[place] for place in quad.pictures], axis=0)
    )


def _classes(
    model: Model,
    squares: Floats,
    predicted: list[int],
    quads: list[Quad],
    effects: tuple[NDArray[np.float64], NDArray[np.float64] | None],
    explain: Explain | None,
) -> dict[str, ClassView]:
    mean, std = (np.array(values)[:, None, None] for values in (model.preprocess.mean, model.preprocess.std))
    found = {}
    for k in sorted(set(predicted)):
        rows = np.flatnonzero(np.array(predicted) == k)
        pixels = (squares[rows].mean(0) * std + mean).clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)
        aim = aim_at(len(model.labels), k)
        values = None if explain is None else np.mean([explain(squares[row], aim) for row in rows], axis=0)
        # With two classes every experiment is with both, so there is nothing to tell of one alone.
        of_class = [i for i, quad in enumerate(quads) if k in quad.classes] if len(set(predicted)) > 2 else []
        border, background = (_share_outside(each, of_class) for each in effects)
        found[model.labels[k]] = ClassView(len(rows), pixels, values, border, background)
    return found


def _share_outside(effects: NDArray[np.float64] | None, rows: list[int]) -> float | None:
    """None where there are no experiments with a class, or the classes do not differ in them."""
    if effects is None or effects[rows].sum() <= 0:
        return None
    return round(float(effects[rows, 1].sum() / effects[rows].sum()), 4)

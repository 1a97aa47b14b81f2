"""Explanations and summaries as pages: the picture beside its map, in words what it means and how far to believe it."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from topwork.backbones.spec import LAST_MAP
from topwork.explanation.drawing import overlay, thumbnail
from topwork.explanation.explaining import Explanation
from topwork.explanation.faithfulness import Faithfulness
from topwork.explanation.nearest import Neighbour
from topwork.explanation.summary import ClassView, Summary
from topwork.explanation.summary_drawing import class_picture, percent, places_picture
from topwork.report import Card, Chapter, Figure, render_gallery
from topwork.report.common import base_name
from topwork.report.words import NBSP
from topwork.report.words import percent as share

SIDE = 360  # pixels of the longest side of a picture on the page
_THUMBNAIL = 128
DO_NOT_RELY = "Do not rely on this map"
NAMES = {
    "cam": "Class activation map",
    "grad-cam": "Grad-CAM",
    "grad-cam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "hirescam": "HiResCAM",
    "gradient": "Gradient",
    "gradient-x-input": "Gradient times input",
    "smoothgrad": "SmoothGrad",
    "integrated-gradients": "Integrated gradients",
    "guided-backprop": "Guided backpropagation",
    "deconvnet": "Deconvnet",
    "occlusion": "Occlusion",
}


def explanation_page(model: str, explanations: Sequence[Explanation]) -> str:
    """The page of explanations of one model, one method and one layer; those with an error are left out.

    >>> from topwork.explanation import explain
    >>> found = explain("imagenet:tf_efficientnet_lite0", np.zeros((50, 80, 3), np.uint8), faithfulness=False)
    >>> "What speaks for" in explanation_page("imagenet:tf_efficientnet_lite0", found)
    True
    """
    done = [each for each in explanations if not each.error]
    first = done[0]
    name = NAMES.get(first.method, first.method)
    where = "the last feature map" if first.layer == LAST_MAP else f"layer {first.layer}"
    text = f"Of {where}. The picture is on the left, on the right what in it speaks for the answer."
    legend = (
        "Orange speaks for the class that is named, blue against it; the strongest colour of each map is its own "
        "strongest value. What is dimmed the network did not see."
    )
    chapter = Chapter(name, [_card(each) for each in done], text, legend=legend)
    return render_gallery(
        "topwork explain", "What speaks for these answers", [chapter], subtitle=_subtitle(model, done)
    )


def _subtitle(model: str, done: Sequence[Explanation]) -> list[str]:
    doubted = sum(each.faithfulness is not None and not each.faithfulness.trusted for each in done)
    counted = f"{len(done):,} picture{'' if len(done) == 1 else 's'}"
    return [base_name(model), counted, *([f"{doubted:,} not to be relied on"] if doubted else [])]


def _card(each: Explanation) -> Card:
    assert each.pixels is not None
    drawn, full = overlay(each, side=SIDE)
    title = str(each.target)
    if each.against is not None:
        title += f" rather than {each.against}"
    elif each.probability is not None:
        title += f" {share(each.probability)}"
    labels = dict.fromkeys(neighbour.label for neighbour in each.neighbours)
    rows = [
        (
            f"Nearest training pictures of {label}",
            [_neighbour(near) for near in each.neighbours if near.label == label],
        )
        for label in labels
    ]
    untrusted = each.faithfulness is not None and not each.faithfulness.trusted
    return Card(
        [_figure(_small(each.pixels)), _figure(drawn)],
        title=title,
        name="/".join(each.path.replace("\\", "/").split("/")[-2:]),
        mark=DO_NOT_RELY if untrusted else "",
        reasons=[*_reasons(each.faithfulness), f"Full colour is a value of {full:.3g}."],
        rows=rows,
    )


def _reasons(measured: Faithfulness | None) -> list[str]:
    """Why the map is not to be relied on, or what it has passed; the figures with it."""
    if measured is None:
        return ["It was not measured how far this map can be believed."]
    figures = (
        f"Deletion {measured.deletion:.2f}, insertion {measured.insertion:.2f}, likeness to maps of shuffled weights "
        f"{measured.weight_correlation:.2f}."
    )
    passed = "It passed both checks: it marks what the answer depends on, and it depends on what the model learned."
    return [measured.explanation or passed, figures]


def _neighbour(near: Neighbour) -> Figure:
    picture = thumbnail(near, _THUMBNAIL)
    shown = picture if picture.height else Image.new("RGB", (_THUMBNAIL, _THUMBNAIL), (128, 128, 128))
    return _figure(shown, f"{near.similarity:.2f}", base_name(near.path))


def summary_page(summary: Summary) -> str:
    """The page of a summary: what decides, place by place, then each class."""
    views = summary.classes
    verdict = " ".join(summary.warnings) or "Neither border, nor background, nor a single place decides by itself."
    background = percent(summary.background.value if summary.background else None)
    caption = (
        f"What each place decides, in %. The border, half of the picture, decides {percent(summary.border.value)}, "
        f"what is not the object {background}."
    ).replace(" %", f"{NBSP}%")
    places = Chapter("What decides", [_figure(places_picture(summary, 2 * SIDE)[0], caption)], verdict)
    text = "Mean picture and mean map of each predicted class."
    legend = (
        "Orange speaks for the class, blue against it." if any(v.values is not None for v in views.values()) else ""
    )
    classes = Chapter("Classes", [_view(label, view) for label, view in views.items()], text, legend=legend)
    known = f", {summary.n_trained_on} of which it was trained on" if summary.n_trained_on else ""
    subtitle = [
        base_name(summary.model),
        f"{summary.n_images} pictures{known}",
        "parts of them were exchanged between classes",
    ]
    title = "What decides between the classes"
    return render_gallery("topwork explain --summary", title, [places, classes], subtitle=subtitle)


def _view(label: str, view: ClassView) -> Card:
    drawn, _ = class_picture(view, SIDE)
    figures = [_figure(_small(view.picture))] if view.values is not None else []
    note = f"mean of {view.n} pictures"
    if view.border is not None:
        note += f"; border {percent(view.border)}, background {percent(view.background)} of what decides"
    return Card([*figures, _figure(drawn)], title=label, note=note.replace(" %", f"{NBSP}%"))


def _small(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = SIDE / max(picture.size)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _figure(picture: Image.Image, caption: str = "", name: str = "") -> Figure:
    """As JPEG of twice the pixels that it is shown with, sharp on dense screens."""
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=85, optimize=True)
    return Figure(buffer.getvalue(), caption, max(1, picture.width // 2), max(1, picture.height // 2), name=name)

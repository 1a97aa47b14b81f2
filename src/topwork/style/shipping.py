"""A trained style as its folder: what model.json says of it, and the page with photographs in it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from topwork import fingerprint, packing
from topwork.errors import ImageError
from topwork.images import DecodePolicy, Sample, decode
from topwork.report import Card, Chapter, Figure, render_gallery
from topwork.style.fast_style import FastStyle, reduced, save
from topwork.style.learning import Training

Pixels = NDArray[np.uint8]

_SHOWN, _SIDE = 6, 384  # photographs on the page, and pixels of their longer side
_QUALITY = 88


@dataclass(frozen=True, eq=False)
class Material:
    """What a style is made from. ``picture``: the style, ``[h, w, 3]`` uint8; ``layers``: of style and content."""

    style: Path
    picture: Pixels
    photographs: Sequence[Sample]
    training: Training
    network: str
    layers: Mapping[str, Any]


def ship(target: Path, graph: onnx.ModelProto, material: Material, trace: Sequence[Mapping[str, float]]) -> None:
    """Write the folder of a fast style, in one step; ``trace`` has the losses of each step so far."""
    facts = {
        "name": target.stem,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": packing.versions(),
        "style": {"file": material.style.name, "sha256": fingerprint.of_bytes(material.picture.tobytes())},
        "training": asdict(material.training),
        "steps": len(trace),
        "photographs": len(material.photographs),
        "loss_network": material.network,
        "layers": dict(material.layers),
        "losses": trace[-1],
    }
    painter = FastStyle(graph.SerializeToString(), {}, name=target.stem)
    save(target, graph, facts, report=_report(painter, material, facts))


def _report(painter: FastStyle, material: Material, facts: Mapping[str, Any]) -> str:
    pairs = []
    for sample in _spread(material.photographs):
        try:
            pixels = reduced(decode(sample.read(), DecodePolicy(shrink_to=_SIDE)).pixels, _SIDE)
        except ImageError:
            continue
        pairs.append(Card([_figure(pixels, "photograph"), _figure(painter.apply(pixels), "painted")]))
    losses = facts["losses"]
    subtitle = [
        f"{facts['steps']:,} steps, each of {material.training.batch} out of {facts['photographs']:,} photographs, "
        f"judged by {material.network}",
        f"losses of the last step: style {losses['style']:.3f}, content {losses['content']:.2f} (1: as far away as no "
        "picture at all)",
    ]
    chapters = [
        Chapter("The style", [_figure(reduced(material.picture, _SIDE), material.style.name)]),
        Chapter("Photographs it was trained on", pairs),
    ]
    return render_gallery("topwork style train", facts["name"], chapters, subtitle=subtitle)


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    return [samples[place] for place in sorted({int(p) for p in np.linspace(0, len(samples) - 1, _SHOWN)})]


def _figure(pixels: Pixels, caption: str) -> Figure:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return Figure(buffer.getvalue(), caption, pixels.shape[1], pixels.shape[0])

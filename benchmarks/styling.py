"""``make bench``: style transfer beside the structure of PyTorch's own tutorial, coarse to fine, and fast styles.

``python benchmarks/styling.py [CONTENT STYLE]``; without them the pictures come from scikit-image. JSON on
stdout. The loss network is VGG16 (`topwork weights pull vgg16-hed`) where its weights are here, else one of its shape
with random weights, which takes as long. Every figure comes from a process of its own; ratios are within one run.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import peak_megabytes
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

SIZE, STEPS, ROUNDS = 512, 100, 2
STYLE_LAYERS = {"conv1_1": 1.0, "conv2_1": 0.8, "conv3_1": 0.6, "conv4_1": 0.4, "conv5_1": 0.3}
CONTENT_LAYER = "conv4_2"
STYLE_WEIGHT = 100.0


def pictures(paths: list[Path]) -> list[Floats]:
    """Content and style, squares of ``SIZE`` pixels, ``[h, w, 3]`` in 0..1."""
    if paths:
        images = [Image.open(path).convert("RGB") for path in paths]
    else:
        from skimage import data

        names: tuple[Any, ...] = (data.astronaut, data.immunohistochemistry)
        images = [Image.fromarray(load()) for load in names]
    return [np.asarray(image.resize((SIZE, SIZE)), np.float32) / np.float32(255) for image in images]


def opened_vgg() -> Any:
    """VGG16's convolutions with its weights, or with random ones."""
    from topwork.errors import TopworkError
    from topwork.visualization.opened import open_network

    try:
        return open_network("vgg16-hed")
    except TopworkError:
        return open_network("vgg16", random_weights=True)


def ours(content: Floats, style: Floats, steps: int, scales: int) -> dict[str, Any]:
    """Topwork at the settings of the comparison: losses at the full size by seconds."""
    from topwork.style.transfer import Settings, Style, Transfer

    opened = opened_vgg()
    begun = time.perf_counter()
    settings = Settings(
        size=SIZE, steps=steps, style_weight=STYLE_WEIGHT, smoothness=0, pooling="max", scales=scales,
        style_layers=STYLE_LAYERS, content_layers=(CONTENT_LAYER,), tile=0,
    )  # fmt: skip
    trace = []
    for each in Transfer(opened, [Style(style)], settings).steps(content):
        if max(each.size) == SIZE:
            trace.append((time.perf_counter() - begun, each.value.total))
        last = each
    return {"trace": trace, "picture": last.picture, "seconds": trace[-1][0], "megabytes": peak_megabytes()}


def tutorial(content: Floats, style: Floats, steps: int) -> dict[str, Any]:
    """The structure of PyTorch's tutorial with the layers, weights and scaled losses of the other side."""
    import tutorial_style

    pixels = [torch_pixels(each) for each in (content, style)]
    convolutions, mean, std = tutorial_style.convolutions(opened_vgg())
    model = tutorial_style.built(
        convolutions, mean, std, pixels[0], pixels[1], content_layer=CONTENT_LAYER, style_layers=STYLE_LAYERS
    )
    begun = time.perf_counter()
    made, evaluations = tutorial_style.run(model, pixels[0], STYLE_WEIGHT, steps)
    # A call of the optimiser makes 20 evaluations, perhaps more than were asked for.
    seconds = (time.perf_counter() - begun) * steps / evaluations
    picture = made.clamp(0, 1)[0].permute(1, 2, 0).numpy()
    return {"picture": picture, "seconds": seconds, "megabytes": peak_megabytes()}


def torch_pixels(picture: Floats) -> Any:
    """``[1, 3, h, w]``."""
    import torch

    return torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]


def loss_of(picture: Floats, content: Floats, style: Floats) -> float:
    """What both sides keep low, in float32, of a finished picture."""
    import tutorial_style

    pixels = [torch_pixels(each) for each in (content, style)]
    convolutions, mean, std = tutorial_style.convolutions(opened_vgg())
    model = tutorial_style.built(
        convolutions, mean, std, pixels[0], pixels[1], content_layer=CONTENT_LAYER, style_layers=STYLE_LAYERS
    )
    return float(tutorial_style.total(model, torch_pixels(picture), STYLE_WEIGHT))


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def fast_style() -> dict[str, Any]:
    """Seconds of one picture of ``SIZE`` pixels through ONNX Runtime."""
    from topwork.style import feedforward
    from topwork.style.fast_style import FastStyle

    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    found = {}
    for width in (16, 32):
        style = FastStyle(feedforward.network(width=width).SerializeToString(), {}, name="untrained")
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            style.apply(pixels)
            times.append(time.perf_counter() - begun)
        found[f"width {width}"] = round(statistics.median(times[1:]), 3)
    return found


def until(trace: list[tuple[float, float]], loss: float) -> float | None:
    """Seconds until a loss is reached."""
    return next((seconds for seconds, value in trace if value <= loss), None)


def main() -> None:
    """Measure everything, JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", type=Path, help="content and style")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    content, style = pictures(arguments.pictures)
    rounds = []
    for _ in range(ROUNDS):
        theirs = alone(tutorial, content, style, arguments.steps)
        one = alone(ours, content, style, arguments.steps, 1)
        rounds.append((theirs, one))
        sys.stderr.write(f"tutorial {theirs['seconds']:.0f} s, topwork {one['seconds']:.0f} s\n")
    theirs, one = rounds[0]
    coarse = alone(ours, content, style, arguments.steps, 0)
    json.dump(
        {
            "size": SIZE,
            "steps": arguments.steps,
            "tutorial": {
                "seconds": [round(each[0]["seconds"], 1) for each in rounds],
                "megabytes": theirs["megabytes"],
                "loss": round(alone(loss_of, theirs["picture"], content, style), 3),
            },
            "topwork": {
                "seconds": [round(each[1]["seconds"], 1) for each in rounds],
                "megabytes": one["megabytes"],
                "loss": round(alone(loss_of, one["picture"], content, style), 3),
            },
            "times_as_fast": round(statistics.median(a["seconds"] / b["seconds"] for a, b in rounds), 2),
            "coarse_to_fine": {
                "seconds": round(coarse["seconds"], 1),
                "loss": round(alone(loss_of, coarse["picture"], content, style), 3),
                "single_scale_needs_seconds_for_that": until(one["trace"], coarse["trace"][-1][1]),
            },
            "fast_style_seconds": fast_style(),
        },
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main()

"""``make bench``: what looking inside costs, as ratios inside one run.

``python benchmarks/looking.py [PHOTOS]``; without a folder the pictures are generated. JSON on stdout.
pytorch-grad-cam is compared with where it is installed (the extra ``bench``). Each pair takes turns; a ratio is the
median of the rounds.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from photos import make_set

import topwork
from topwork.explanation import explain
from topwork.explanation.methods import METHODS, aim_at, occluded
from topwork.explanation.network import ClassifierNetwork, network_of
from topwork.features.session import cores
from topwork.images import ImageSource
from topwork.model import Model

NETWORK = "tf_efficientnet_lite0"
ROUNDS, PICTURES, STEPS = 5, 100, 256


def paired(one: Callable[[], Any], other: Callable[[], Any], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of two functions that take turns, and the median of how many times as long the second one takes."""
    one(), other()
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = []
        for function in (one, other) if number % 2 else (other, one):
            begun = time.perf_counter()
            function()
            pair.append(time.perf_counter() - begun)
        times.append((pair[0], pair[1]) if number % 2 else (pair[1], pair[0]))
    return {
        "seconds": round(statistics.median(each[0] for each in times), 3),
        "other_seconds": round(statistics.median(each[1] for each in times), 3),
        "ratio": round(statistics.median(each[1] / each[0] for each in times), 3),
    }


def without_heatmap(path: Path, model: Model) -> Model:
    """The same model with a graph that does not compute the maps."""
    graph = onnx.load(path / "model.onnx")
    kept = [output for output in graph.graph.output if output.name != "heatmap"]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    return Model(graph.SerializeToString(), model.manifest, name="without")


def closed_form_map(path: Path, pictures: list[str]) -> dict[str, float]:
    """``predict`` without the maps, then with them."""
    model = topwork.load(path)
    bare = without_heatmap(path, model)
    return paired(
        lambda: list(bare.predict_each(pictures)), lambda: list(model.predict_each(pictures, heatmap=True)), 9
    )


def grad_cam(pictures: list[str]) -> dict[str, float] | None:
    """Grad-CAM of decoded pictures by topwork, then by pytorch-grad-cam on timm's module, in its fastest batch."""
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        return None
    import torch

    from topwork.backbones.pretrained import pretrained_module
    from topwork.backbones.zoo import backbone

    model = topwork.load(f"imagenet:{NETWORK}")
    decoded = [model.pixels(path) for path in pictures]
    network = network_of(model)
    squares = torch.from_numpy(np.stack([network.square(pixels) for pixels in decoded]))
    labels = network.probabilities(squares.numpy()).argmax(1).tolist()
    torch.set_num_threads(cores())
    module = pretrained_module(backbone(NETWORK)).eval()

    def theirs(batch: int, count: int) -> list[Any]:
        with GradCAM(model=module, target_layers=[module.bn2]) as method:
            return [
                method(squares[i : i + batch], [ClassifierOutputTarget(k) for k in labels[i : i + batch]])
                for i in range(0, count, batch)
            ]

    def ours(count: int) -> list[Any]:
        return [each.values for each in explain(model, decoded[:count], method="grad-cam", faithfulness=False)]

    def timed(batch: int) -> float:
        begun = time.perf_counter()
        theirs(batch, 32)
        return time.perf_counter() - begun

    check_alike(ours(3), theirs(1, 3))
    best, count = min((1, 8, 32), key=timed), len(decoded)
    return {**paired(lambda: ours(count), lambda: theirs(best, count), 3), "batch": best}


def check_alike(ours: list[Any], theirs: list[Any]) -> None:
    """The same maps, else the times mean nothing; pytorch-grad-cam keeps the positive part, scaled and enlarged."""
    from topwork.explanation.faithfulness import enlarged

    for one, other in zip(ours, theirs, strict=True):
        positive = enlarged(np.maximum(one, 0), *other[0].shape)
        correlation = np.corrcoef(positive.ravel(), other[0].ravel())[0, 1]
        if correlation < 0.98:
            sys.exit(f"expected the same maps, but their correlation is {correlation:.3f}; nothing was measured")


def occlusion(picture: str) -> dict[str, Any]:
    """Windows in batches on all cores, then one at a time: by topwork's own graph, and by Captum on timm's module."""
    import torch
    from captum.attr import Occlusion

    from topwork.backbones.pretrained import pretrained_module
    from topwork.backbones.zoo import backbone

    model = topwork.load(f"imagenet:{NETWORK}")
    network = network_of(model)
    x = network.square(model.pixels(picture))
    aim = aim_at(1000, int(network.probabilities(x[None])[0].argmax()))
    batched = METHODS.get("occlusion").prepare(network, "input")
    torch.set_num_threads(cores())
    method = Occlusion(pretrained_module(backbone(NETWORK)).eval())
    side = round(x.shape[1] / 7)

    def captum() -> Any:
        return method.attribute(
            torch.from_numpy(x)[None],
            target=int(aim.argmax()),
            sliding_window_shapes=(3, side, side),
            strides=(3, side // 2, side // 2),
        )

    np.testing.assert_allclose(batched(x, aim), captum()[0, 0].detach().numpy(), atol=1e-2)
    return {
        "against_captum": paired(lambda: batched(x, aim), captum, 3),
        "against_own_graph": paired(lambda: batched(x, aim), lambda: occluded(one_by_one(network, aim), x)),
    }


def one_by_one(network: ClassifierNetwork, aim: Any) -> Callable[[Any], Any]:
    """Scores of windows, each in a run of its own."""
    return lambda squares: np.concatenate([network.scores(square[None]) @ aim for square in squares])


def maximization() -> dict[str, float]:
    """Bare forward and backward runs of the network up to a stage, then ``maximize`` for one of its channels."""
    import torch

    from topwork.backbones.extra import torch_threads
    from topwork.visualization.ascent import Settings
    from topwork.visualization.gradients import layer_function
    from topwork.visualization.maximize import maximize
    from topwork.visualization.opened import open_network
    from topwork.visualization.targets import channel_target

    opened = open_network(NETWORK)
    target = channel_target(opened, "blocks.4", 3)
    layer = layer_function(opened, target.layer, before_activation=True)

    def bare() -> None:
        pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        with torch_threads(1):
            for _ in range(STEPS):
                x = pixels.clone().requires_grad_()
                torch.autograd.grad(target.of(layer(x)[0]), x)

    return paired(bare, lambda: maximize(opened, [target], Settings(steps=STEPS, size=224)), 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        photos = make_set(work / "photos", PICTURES, arguments.photos)
        pictures = [sample.location for sample in ImageSource.open(str(photos)).samples][:PICTURES]
        topwork.fit(photos, output=work / "bench.topwork")
        facts: dict[str, Any] = {}
        steps: dict[str, Callable[[], Any]] = {
            "predict_with_maps": lambda: closed_form_map(work / "bench.topwork", pictures),
            "pytorch_grad_cam": lambda: grad_cam(pictures),
            "occlusion_one_window_at_a_time": lambda: occlusion(pictures[0]),
            "maximize": maximization,
        }
        for step, measure in steps.items():
            print(f"{step} ...", file=sys.stderr)
            with contextlib.redirect_stdout(sys.stderr):
                facts[step] = measure()
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()

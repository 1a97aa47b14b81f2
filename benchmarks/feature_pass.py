"""How busy the feature pass keeps the cores: its wall-clock against (decode + resize + bare run) / cores."""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

MOST = 400  # pictures measured
ROUNDS = 5


def seconds(action: Any, items: list[Any]) -> float:
    """Seconds of calling ``action`` on each item, one after the other."""
    begun = time.perf_counter()
    for item in items:
        action(item)
    return time.perf_counter() - begun


def main(photos: Path, cache: Path) -> None:
    """Measure the parts alone on one core, then the pass with a cold feature cache; medians over the rounds."""
    os.environ["TOPWORK_CACHE_DIR"] = str(cache / "pass")
    import numpy as np

    from topwork.backbones import preprocessing
    from topwork.backbones.graph import feature_graph
    from topwork.backbones.nodes import Nodes, float_output, image_input
    from topwork.backbones.zoo import backbone
    from topwork.features import cache as feature_cache
    from topwork.features.cache import FeatureCache
    from topwork.features.extraction import extract
    from topwork.features.session import cores, open_session
    from topwork.images import DecodePolicy, ImageSource, decode

    samples = ImageSource.open(photos).samples[:MOST]
    spec = backbone("tf_efficientnet_lite0")
    policy, graph = DecodePolicy(shrink_to=spec.preprocess.needed_side), feature_graph(spec, "crop")
    data = [sample.read() for sample in samples]
    pixels = [decode(one, policy).pixels for one in data]

    nodes = Nodes()
    size = spec.preprocess.size
    nodes.rename(preprocessing.build(spec.preprocess, "crop", nodes, "image"), "out")
    resize = open_session(nodes.model([image_input()], [float_output("out", ["n", 3, size, size])]).SerializeToString())
    whole = open_session(graph.path)
    square = np.zeros((1, size, size, 3), np.uint8)
    found: dict[str, list[float]] = {"decode": [], "resize": [], "network": [], "pass": []}
    for _ in range(ROUNDS):
        found["decode"].append(seconds(lambda one: decode(one, policy), data))
        found["resize"].append(seconds(lambda one: resize.run(None, {"image": one[None]}), pixels))
        on_square = seconds(lambda one: resize.run(None, {"image": square}), pixels)
        found["network"].append(seconds(lambda one: whole.run(None, {"image": square}), pixels) - on_square)
        feature_cache.clear()
        feature_graph(spec, "crop")
        with FeatureCache() as features:
            begun = time.perf_counter()
            extract(samples, [graph], policy, features)
            found["pass"].append(time.perf_counter() - begun)
    ratios = [
        wall * cores() / (found["decode"][i] + found["resize"][i] + found["network"][i])
        for i, wall in enumerate(found["pass"])
    ]
    each = {name: round(statistics.median(values) / len(samples) * 1000, 2) for name, values in found.items()}
    result = {
        "n": len(samples),
        "milliseconds_per_picture": each,
        "pictures_per_second": round(1000 / each["pass"], 1),
        "wall_over_ideal": round(statistics.median(ratios), 3),
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

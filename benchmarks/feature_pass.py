"""How busy the feature pass keeps the cores: its wall-clock against (decode + resize + bare run) / cores."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

MOST = 400  # pictures measured


def seconds(action: Any, items: list[Any]) -> float:
    """Seconds of calling ``action`` on each item, one after the other."""
    begun = time.perf_counter()
    for item in items:
        action(item)
    return time.perf_counter() - begun


def main(photos: Path, cache: Path) -> None:
    """Measure the parts alone, then the pass with a cold feature cache."""
    os.environ["TOPWORK_CACHE_DIR"] = str(cache / "pass")
    import numpy as np

    from topwork.backbones import preprocessing
    from topwork.backbones.graph import feature_graph
    from topwork.backbones.nodes import Nodes, float_output, image_input
    from topwork.backbones.zoo import backbone
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
    parts = {
        "decode": seconds(lambda one: decode(one, policy), data),
        "resize": seconds(lambda one: resize.run(None, {"image": one[None]}), pixels),
    }
    on_square = seconds(lambda one: resize.run(None, {"image": square}), pixels)
    parts["network"] = seconds(lambda one: whole.run(None, {"image": square}), pixels) - on_square
    with FeatureCache() as features:
        begun = time.perf_counter()
        extract(samples, [graph], policy, features)
        wall = time.perf_counter() - begun
    ideal = sum(parts.values()) / cores()
    rounded = {name: round(value / len(samples) * 1000, 2) for name, value in parts.items()}
    result = {
        "n": len(samples),
        "milliseconds_per_picture_and_core": rounded,
        "pictures_per_second": round(len(samples) / wall, 1),
        "wall_over_ideal": round(wall / ideal, 3),
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Peak memory: the pass over the pixels for 1,000 and 100,000 pictures, and the head stage at its limit.

Each figure comes from a fresh process. The pass runs a small stand-in graph with outputs of the same size, so that
100,000 pictures take minutes; the real network adds the same constant to both. JSON on stdout.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def peak_megabytes() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stand_in_graph(folder: Path) -> Any:
    """A graph that only averages colours, with the outputs of the default backbone."""
    from topwork.backbones.graph import Graph
    from topwork.backbones.nodes import Nodes, float_output, image_input
    from topwork.backbones.zoo import backbone

    spec = backbone("tf_efficientnet_lite0")
    nodes = Nodes()
    colours = nodes.add(
        "ReduceMean", [nodes.add("Cast", ["image"], to=1), nodes.constant(np.array([1, 2]))], keepdims=0
    )
    outputs = []
    for name, width in (("features", spec.feature_dim), ("logits", spec.logits_dim)):
        nodes.add("MatMul", [colours, nodes.constant(np.ones((3, width), np.float32))], output=name)
        outputs.append(float_output(name, ["n", width]))
    path = folder / "stand-in.onnx"
    path.write_bytes(nodes.model([image_input()], outputs).SerializeToString())
    return Graph(path, "stand-in", spec, "crop")


def measure_pass(n: int) -> None:
    """Extract ``n`` different small pictures."""
    from topwork.features.cache import FeatureCache
    from topwork.features.extraction import extract
    from topwork.images import DecodePolicy, Sample

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TOPWORK_CACHE_DIR"] = name
        samples = []
        for number in range(n):
            path = folder / f"{number}.bmp"
            path.write_bytes(_bitmap(number))
            samples.append(Sample(str(number), str(path), "a"))
        before = peak_megabytes()
        with FeatureCache() as cache:
            extract(samples, [stand_in_graph(folder)], DecodePolicy(), cache)
        print(json.dumps({"n": n, "before": round(before, 1), "peak": round(peak_megabytes(), 1)}))


def _bitmap(number: int) -> bytes:
    import io

    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def measure_heads(n: int) -> None:
    """Choose and fit a head on ``n`` random pictures of ten classes."""
    import scipy.linalg  # noqa: F401 - loaded before threads are limited
    from threadpoolctl import threadpool_limits

    from topwork.features.session import cores
    from topwork.heads.candidates import candidates
    from topwork.heads.choice import HeadStage
    from topwork.recipe import Recipe

    random = np.random.default_rng(0)
    labels = random.integers(0, 10, n)
    views = {
        ("crop", "pooled"): random.random((n, 1280), np.float32),
        ("crop", "logits"): random.random((n, 1000), np.float32),
    }
    with threadpool_limits(1, "blas"):
        stage = HeadStage(views, labels, np.arange(n) % 5, 10, threads=cores())
        stage.final(stage.choose(candidates("auto", "auto", views)).winner)
    limit = {field.name: field.default for field in dataclasses.fields(Recipe)}["head_limit"]
    print(json.dumps({"n": n, "head_limit": limit, "peak": round(peak_megabytes(), 1)}))


def main() -> None:
    """Run each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("pass", "heads"))
    parser.add_argument("--n", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.only:
        {"pass": measure_pass, "heads": measure_heads}[chosen.only](chosen.n)
        return
    result = {}
    for only, n in (("pass", 1_000), ("pass", 100_000), ("heads", 3_000), ("heads", 20_000)):
        command = [sys.executable, __file__, "--only", only, "--n", str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result[f"{only}_{n}"] = json.loads(done.stdout)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

"""One row per network whose weights are on this machine: how fast, how large, how good its features are.

``python benchmarks/networks.py [DIR ...]``; without folders the sets are 96 solar cells and 500 digits. JSON on stdout.

Speed is that of the network alone on noise of its input size, on all cores: ONNX Runtime as topwork uses it, one
picture a thread; PyTorch eagerly, in batches of 32, channels last. Both take turns three times; the best is taken.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import topwork
from topwork.backbones.network import pretrained_network
from topwork.backbones.spec import FEATURES, INPUT, BackboneSpec
from topwork.backbones.weights import locate
from topwork.backbones.zoo import BACKBONES, backbone
from topwork.features.parallel import ordered_map
from topwork.features.session import cores, open_session
from topwork.weights import store

BATCH, ROUNDS, SECONDS = 32, 3, 2.0


def installed() -> list[BackboneSpec]:
    """The networks whose weights are here."""
    names = [*BACKBONES.names(), *(each.name for each in store.all_stored())]
    return [spec for spec in map(backbone, names) if locate(spec.weights) is not None]


def rate(run: Callable[[], int]) -> float:
    """Pictures a second: ``run`` answers how many it did, and is called for a while after a first time."""
    run()
    begun, done = time.perf_counter(), 0
    while (seconds := time.perf_counter() - begun) < SECONDS:
        done += run()
    return done / seconds


def speed(spec: BackboneSpec) -> dict[str, float]:
    """Pictures a second of the network alone."""
    import torch

    from topwork.backbones.pretrained import pretrained_module

    size = spec.preprocess.size
    x = np.random.default_rng(0).normal(size=(BATCH, 3, size, size)).astype(np.float32)
    session = open_session(pretrained_network(spec).model.SerializeToString())
    torch.set_num_threads(cores())
    module = pretrained_module(spec).to(memory_format=torch.channels_last)
    batch = torch.from_numpy(x).to(memory_format=torch.channels_last)

    def by_onnx_runtime() -> int:
        return len(list(ordered_map(lambda i: session.run([FEATURES], {INPUT: x[i : i + 1]}), range(BATCH))))

    def by_torch() -> int:
        with torch.inference_mode():
            return len(module(batch))

    rates = [(rate(by_onnx_runtime), rate(by_torch)) for _ in range(ROUNDS)]
    onnx_runtime, eager = (max(each) for each in zip(*rates, strict=True))
    return {"onnx_runtime": round(onnx_runtime, 1), "torch": round(eager, 1), "ratio": round(onnx_runtime / eager, 2)}


def quality(spec: BackboneSpec, source: Path) -> float:
    """Cross-validated accuracy of a linear head on the pooled features."""
    recipe = topwork.Recipe(backbone=spec.name, head="logistic", features="pooled")
    return round(float(topwork.fit(source, recipe).facts["accuracy"]["value"]), 4)


def own_sets(folder: Path) -> list[Path]:
    """Sets that PyPI packages carry."""
    examples = Path(__file__).parents[1] / "examples"
    sys.path.insert(0, str(examples))
    import digits
    import solar_cells

    solar_cells.main(folder / "cells")
    digits.main(folder / "digits", every=10)
    return [folder / "cells" / "labelled.csv", folder / "digits"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sets = arguments.sets or own_sets(Path(folder))
        rows = []
        for spec in installed():
            print(f"{spec.name} ...", file=sys.stderr)
            row: dict[str, Any] = {
                "name": spec.name,
                "parameters": spec.parameters,
                "megabytes": spec.weights and round(spec.weights.megabytes, 1),
                "input": spec.preprocess.size,
                "features": spec.feature_dim,
                **speed(spec),
            }
            row |= {source.stem: quality(spec, source) for source in sets}
            rows.append(row)
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()

"""Fine-tuning, as ratios inside one run: steps of ``top`` against steps of ``full``, whole fits, fastai beside them.

``python benchmarks/tuning.py PHOTOS``; JSON on stdout, progress on stderr. fastai is compared where ``--fastai`` names
a Python that has it, on the same weights and the same held-out pictures.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from topwork.features.session import cores

HERE = Path(__file__).parent
STEPS = """
import json, sys
from topwork.pipeline import fit
from topwork.recipe import Recipe, Training
from topwork.training import common
from topwork.tuning import fitting

def probe(plan, progress):
    strategies = [plan.make(name, 0) for name in plan.names]
    costs = {strategy.name: min(strategy.cost().picture for _ in range(3)) for strategy in strategies}
    print(json.dumps({name: 1 / seconds for name, seconds in costs.items()}))
    sys.exit()

fitting.compare = probe
fit(sys.argv[1], Recipe(strategy="auto"))
"""


def steps(photos: Path) -> dict[str, Any]:
    """Pictures a second of a training step, data included, for the top and for the whole network."""
    done = subprocess.run([sys.executable, "-c", STEPS, str(photos)], check=True, capture_output=True, text=True)
    speed = json.loads(done.stdout)
    return {**{name: round(value, 1) for name, value in speed.items()}, "ratio": round(speed["top"] / speed["full"], 2)}


def whole_fit(photos: Path, work: Path, *options: str) -> dict[str, Any]:
    """A fit in a fresh process with nothing in the cache but the backbone's graph."""
    model = work / "bench.topwork"
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TOPWORK_CACHE_DIR": cache}
        command = [sys.executable, "-m", "topwork", "fit", str(photos), "-o", str(model), "--json", *options]
        begun = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        wall = time.perf_counter() - begun
    facts = json.loads(done.stdout)
    rows = facts["comparison"]["candidates"]
    return {
        "seconds": round(wall, 1),
        "shipped": facts["strategy"],
        "sentence": facts["comparison"]["sentence"],
        "accuracy": {row["strategy"]: row["accuracy"]["value"] for row in rows if row["accuracy"]},
        "not_tried": {row["strategy"]: row["reason"] for row in rows if row["reason"]},
        "export_difference": facts["training"]["export_difference"] if facts["training"] else None,
    }


def fastai(python: str, photos: Path, model: Path, epochs: int) -> dict[str, Any]:
    """fastai's ``fine_tune`` on the pictures that topwork's model was trained on, measured on those it held out."""
    command = [python, str(HERE / "fastai_reference.py"), str(photos), str(model / "samples.jsonl"), str(epochs)]
    done = subprocess.run([*command, str(cores())], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Run everything and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder with class folders")
    parser.add_argument("--fastai", metavar="PYTHON", help="a Python with fastai")
    parser.add_argument("--epochs", type=int, default=4, help="of fastai's fine_tune")
    parser.add_argument("--budget", default="10min")
    chosen = parser.parse_args()
    result: dict[str, Any] = {"cores": cores(), "photos": chosen.photos.name, "steps": steps(chosen.photos)}
    print(result["steps"], file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        result["top"] = whole_fit(chosen.photos, work, "--strategy", "top")
        print(result["top"], file=sys.stderr)
        if chosen.fastai:
            result["fastai"] = fastai(chosen.fastai, chosen.photos, work / "bench.topwork", chosen.epochs)
            result["fastai"]["times_as_long_as_top"] = round(result["fastai"]["seconds"] / result["top"]["seconds"], 2)
            print(result["fastai"], file=sys.stderr)
        result["auto"] = whole_fit(chosen.photos, work, "--strategy", "auto", "--budget", chosen.budget)
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

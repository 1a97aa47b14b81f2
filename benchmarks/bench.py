"""``make bench``: topwork against the script one would write by hand, as ratios inside one run.

Every figure is the median over repetitions in fresh processes, graph cached. JSON on stdout, progress on stderr.
With a folder of class folders as argument the sets are made of its photographs, else of generated pictures.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from photos import make_set

from topwork.features.session import cores

HERE = Path(__file__).parent
TOPWORK = [sys.executable, "-m", "topwork"]


def run(command: list[str], cache: Path) -> dict[str, float]:
    """Wall-clock and CPU seconds of a command in a fresh process; its output must not matter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    environment = {**os.environ, "TOPWORK_CACHE_DIR": str(cache)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(r[name] for r in runs), 3) for name in runs[0]}


def forget_features(cache: Path) -> None:
    """Leave the graph in the cache, drop the features."""
    for path in cache.glob("features.sqlite*"):
        path.unlink()


def remove_some(photos: Path, share: float, number: int) -> None:
    """Remove a few photographs, other ones in each repetition, so that nothing whole can be remembered."""
    paths = sorted(photos.glob("*/*"))
    count = max(1, int(len(paths) * share))
    for path in paths[number :: len(paths) // count][:count]:
        path.unlink()


def compare(photos: Path, work: Path, repetitions: int) -> dict[str, Any]:
    """Reference, first fit and second fit on one set."""
    cache, model = work / "cache", work / "bench.topwork"
    fit = [*TOPWORK, "fit", "-o", str(model)]
    run([*fit, str(photos)], cache)  # builds the graph
    reference = [sys.executable, str(HERE / "reference.py"), str(photos), str(cores())]
    found: dict[str, list[dict[str, float]]] = {"reference": [], "first": [], "second": []}
    for number in range(repetitions):
        found["reference"].append(run(reference, cache))
        forget_features(cache)
        found["first"].append(run([*fit, str(photos)], cache))
        fewer = work / "fewer"
        shutil.copytree(photos, fewer)
        remove_some(fewer, 0.01, number)
        found["second"].append(run([*fit, str(fewer)], cache))
        shutil.rmtree(fewer)
        print(f"{photos.name}: repetition {number + 1} of {repetitions}", file=sys.stderr)
    seconds = {name: median(runs) for name, runs in found.items()}
    walls = {name: [r["wall"] for r in runs] for name, runs in found.items()}
    return {
        "seconds": seconds,
        "first_fit_speedup": _ratio(walls["reference"], walls["first"]),
        "second_fit_speedup": _ratio(walls["reference"], walls["second"]),
    }


def _ratio(slow: list[float], fast: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 2)


def feature_pass(photos: Path, work: Path) -> dict[str, Any]:
    """The feature pass against the sum of its parts, each measured alone on one core."""
    import subprocess

    output = subprocess.run(
        [sys.executable, str(HERE / "feature_pass.py"), str(photos), str(work / "cache")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return dict(json.loads(output))


def main() -> None:
    """Run everything and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?", type=Path, help="a folder with class folders; default: generated")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 1000, 3000])
    parser.add_argument("--repetitions", type=int, default=3)
    chosen = parser.parse_args()
    result: dict[str, Any] = {"cores": cores(), "photos": str(chosen.photos or "generated"), "sets": {}}
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for size in chosen.sizes:
            photos = make_set(work, size, chosen.photos)
            result["sets"][size] = compare(photos, work, chosen.repetitions)
        result["feature_pass"] = feature_pass(photos, work)
        photo = next(photos.glob("*/*"))
        cache, model = work / "cache", str(work / "bench.topwork")
        commands = {"help": [*TOPWORK, "--help"], "predict_one": [*TOPWORK, "predict", model, str(photo)]}
        for key, command in commands.items():
            result[key] = median([run(command, cache) for _ in range(5)])
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

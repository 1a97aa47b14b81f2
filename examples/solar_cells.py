"""Manifests for the demo: a few dozen labelled solar cells of each class, and all the others.

The pictures are those of the package elpv-dataset (CC BY-NC-SA 4.0): electroluminescence photographs of 2,624 solar
cells, each with the probability 0, 1/3, 2/3 or 1 that it is defective. Only the clear cases, 0 and 1, are used.
"""

import csv
import random
import sys
from importlib.util import find_spec
from pathlib import Path

LABELLED = 48  # pictures of each class to fit on


def cells() -> dict[str, list[Path]]:
    """The clear cases by class; labels.csv is separated by white space: path, probability, kind of cell."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        sys.exit('expected the package elpv-dataset; run `pip install "topwork[demo]"`')
    folder = Path(spec.submodule_search_locations[0]) / "data"
    found: dict[str, list[Path]] = {"good": [], "defective": []}
    for line in (folder / "labels.csv").read_text().splitlines():
        path, probability, _ = line.split()
        if float(probability) in (0.0, 1.0):
            found["defective" if float(probability) else "good"].append(folder / path)
    return found


def write_manifest(path: Path, rows: list[tuple[Path, str]]) -> None:
    """A manifest as ``topwork fit`` reads it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows(rows)


def main(folder: Path) -> None:
    """Write ``labelled.csv`` and ``others.csv`` into ``folder``."""
    folder.mkdir(exist_ok=True)
    labelled, others = [], []
    for label, paths in cells().items():
        shuffled = random.Random(1).sample(paths, len(paths))
        labelled += [(path, label) for path in shuffled[:LABELLED]]
        others += [(path, label) for path in shuffled[LABELLED:]]
    write_manifest(folder / "labelled.csv", labelled)
    write_manifest(folder / "others.csv", others)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""``make bench``: what an index costs and how right it answers, as ratios inside one run.

``python benchmarks/retrieval.py [PHOTOS]``; without a folder the pictures are generated. JSON on stdout. ``--quality
SET...`` measures instead how often the nearest pictures have the same label, for every backbone that is here and every
treatment of its features.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from photos import make_set
from PIL import Image

PASS, FILES, VECTORS, COPIES, WIDTH, QUERIES = 400, 10_000, 100_000, 20_000, 1280, 300
ROUNDS = 3
BACKBONES = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "mobilenet_v2", "vgg16-hed")

Floats = NDArray[np.float32]


def timed(action: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def milliseconds(action: Callable[[Floats], Any], queries: Floats) -> float:
    """The median over the queries."""
    return 1000 * statistics.median(timed(partial(action, query)) for query in queries)


def alone(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a function gives in a process of its own, and the most memory that took."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        found = pool.submit(function, *arguments).result()
        peak = pool.submit(peak_megabytes).result()
    return found | {"peak_mb": peak}


def peak_megabytes() -> float:
    """The most memory that this process has used."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def private_megabytes() -> float:
    """Memory of this process that is no file's, where the system tells."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return round(sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024, 1)


def indexing(photos: Path, work: Path) -> dict[str, float]:
    """Pictures a second of a new index with a cold cache, beside a bare pass: read, decode, run, on all cores."""
    from topwork.features import cache
    from topwork.features.parallel import ordered_map
    from topwork.features.session import open_session
    from topwork.images import ImageSource, Sample, decode
    from topwork.retrieval import build_index
    from topwork.retrieval.settings import Settings

    settings = Settings()
    session, policy = open_session(settings.graph().path), settings.policy()
    samples = ImageSource.open(photos).samples

    def bare() -> None:
        def one(sample: Sample) -> Any:
            return session.run(["features"], {"image": decode(sample.read(), policy).pixels[None]})

        for _ in ordered_map(one, samples):
            pass

    pairs = []
    for number in range(ROUNDS):
        cache.clear()
        settings.graph()
        runs: list[Callable[[], Any]] = [bare, partial(build_index, photos, work / f"{number}.index")]
        seconds = [timed(run) for run in (runs if number % 2 else runs[::-1])]
        pairs.append(seconds if number % 2 else seconds[::-1])
    return {
        "pictures": len(samples),
        "bare_per_second": round(len(samples) / statistics.median(pair[0] for pair in pairs), 1),
        "index_per_second": round(len(samples) / statistics.median(pair[1] for pair in pairs), 1),
        "share_of_bare": round(statistics.median(pair[0] / pair[1] for pair in pairs), 3),
    }


def second_run(work: Path) -> dict[str, float]:
    """A second run over files that did not change."""
    from topwork.retrieval import build_index

    folder = work / "many"
    dice = np.random.default_rng(0)
    for number in range(FILES):
        path = folder / f"{number % 10}" / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dice.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
        os.utime(path, (10**9, 10**9))
    first = timed(lambda: build_index(folder, work / "many.index").close())
    again = timed(lambda: build_index(folder, work / "many.index").close())
    return {"files": FILES, "first_seconds": round(first, 1), "files_per_second": round(FILES / again)}


def clustered(count: int) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Numbers and vectors of length 1 around 2,000 centres, as features of pictures lie."""
    dice = np.random.default_rng(0)
    centres = dice.standard_normal((2000, WIDTH), dtype=np.float32)
    for start in range(0, count, 5000):
        noise = 0.7 * dice.standard_normal((5000, WIDTH), dtype=np.float32)
        made = centres[dice.integers(0, 2000, 5000)] + noise
        yield np.arange(start + 1, start + 5001), made / np.linalg.norm(made, axis=1, keepdims=True)


def large(work: Path) -> dict[str, float]:
    """100,000 vectors: from a query vector to rows with paths, beside USearch alone and a product of matrices."""
    import usearch.index

    from topwork.retrieval import Index
    from topwork.retrieval import settings as index_settings
    from topwork.retrieval.settings import Settings
    from topwork.retrieval.table import Parts, Table
    from topwork.retrieval.treatment import Treatment

    folder = work / "large.index"
    settings = Settings.of(backbone=None, features=None, vectors="plain", store=None)
    index_settings.create(folder, settings)
    store, table = settings.open_store(folder), Table(folder)
    matrix = np.concatenate([made for _, made in clustered(VECTORS)])
    row: dict[str, Any] = dict.fromkeys(("source", "width", "height", "sharpness", "brightness", "phash"), 1)
    row |= dict.fromkeys(("label", "split", "group", "size", "time", "stamp")) | {"format": "JPEG"}
    building = time.perf_counter()
    state = store.prepare("", clustered(VECTORS), [], width=WIDTH, anew=True)
    building = time.perf_counter() - building
    with table.changing():
        for number in range(VECTORS):
            named = {"path": f"{number}.jpg", "location": f"/photos/{number}.jpg", "content": f"{number:064}"}
            table.insert(row | named, Parts(b"", matrix[number, :1], None))
        table.set_fact("state", state)
        table.set_fact("treatment", Treatment().to_bytes())
    table.close()
    dice = np.random.default_rng(1)
    queries = matrix[dice.choice(VECTORS, QUERIES)] + 0.3 / np.sqrt(WIDTH) * dice.standard_normal(
        (QUERIES, WIDTH), dtype=np.float32
    )
    opened = alone(opening, folder, queries[:50])
    index = Index.open(folder)
    bare = usearch.index.Index.restore(str(folder / state), view=True)
    found = [[hit.row.id for hit in index.search(query)] for query in queries]
    right = [np.argpartition(-(matrix @ query), 10)[:10] + 1 for query in queries]
    recall = np.mean([len(set(a) & set(b.tolist())) / 10 for a, b in zip(found, right, strict=True)])

    def product(query: Floats) -> Any:
        scores = matrix @ query
        return np.argpartition(-scores, 10)[:10]

    latency, least = milliseconds(index.search, queries), milliseconds(lambda query: bare.search(query, 10), queries)
    few = queries[:20]
    exact = milliseconds(lambda query: index.search(query, exact=True), few)
    filtered = milliseconds(lambda query: index.search(query, where="id % 3 = 0"), few)
    matrices = milliseconds(product, few)
    return {
        "vectors": VECTORS,
        "build_seconds": round(building, 1),
        "megabytes_on_disk": round((folder / state).stat().st_size / 1e6, 1),
        **opened,
        "recall_at_10": round(float(recall), 4),
        "search_ms": round(latency, 3),
        "usearch_alone_ms": round(least, 3),
        "over_usearch": round(latency / least, 2),
        "exact_ms": round(exact, 2),
        "numpy_product_ms": round(matrices, 2),
        "exact_over_numpy": round(exact / matrices, 3),
        "filtered_ms": round(filtered, 2),
    }


def opening(folder: Path, queries: Floats) -> dict[str, float]:
    """Milliseconds to open an index and to get the first answer, and the memory that 50 answers take."""
    from topwork.retrieval import Index

    Index.open(folder).close()  # what is imported once
    before, begun = private_megabytes(), time.perf_counter()
    index = Index.open(folder)
    opened = time.perf_counter()
    index.search(queries[0])
    answered = time.perf_counter()
    for query in queries:
        index.search(query)
    return {
        "open_ms": round(1000 * (opened - begun), 1),
        "first_answer_ms": round(1000 * (answered - opened), 1),
        "private_memory_mb": round(private_megabytes() - before, 1),
    }


def copies(n: int) -> dict[str, float]:
    """Seconds to find near-duplicates among n features."""
    from topwork.auditing.repeats import find_repeats

    features = np.concatenate([made for _, made in clustered(n)])
    hashes = np.random.default_rng(0).integers(0, 2**63, n).astype(np.uint64)
    seconds = timed(lambda: find_repeats([str(i) for i in range(n)], features, hashes, rows=np.arange(n)))
    return {"pictures": n, "seconds": round(seconds, 1)}


def quality(sets: list[Path], work: Path) -> list[dict[str, Any]]:
    """Precision@10 and mean average precision, the query itself left out, for each backbone, features and treatment."""
    from topwork.backbones.zoo import backbone
    from topwork.errors import TopworkError
    from topwork.retrieval import build_index
    from topwork.retrieval.treatment import TREATMENTS, fit

    rows: list[dict[str, Any]] = []
    for name in BACKBONES:
        try:
            spec = backbone(name)
        except TopworkError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            continue
        for features in ("pooled", "logits") if spec.logits_dim else ("pooled",):
            for photos in sets:
                out = work / f"{name}-{features}-{photos.parent.name}-{photos.name}.index"
                with build_index(photos, out, backbone=name, features=features, vectors="plain") as index:
                    labelled = [row for row in index.rows() if row.label is not None]
                    matrix = index.features([row.id for row in labelled])
                labels = np.array([row.label for row in labelled])
                for vectors in TREATMENTS:
                    measured = judge(fit(vectors, [matrix])(matrix), labels)
                    found = {
                        "backbone": name,
                        "features": features,
                        "vectors": vectors,
                        "set": f"{photos.parent.name}/{photos.name}",
                    }
                    rows.append(found | {"pictures": len(labels)} | measured)
    return rows


def judge(vectors: Floats, labels: NDArray[Any]) -> dict[str, float]:
    """Precision@10 and mean average precision of every picture as a query among the others."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
    same = labels[order] == labels[:, None]
    precision = np.cumsum(same, axis=1) / np.arange(1, same.shape[1] + 1)
    average = (precision * same).sum(axis=1) / np.maximum(same.sum(axis=1), 1)
    return {"precision_at_10": round(float(same[:, :10].mean()), 3), "map": round(float(average.mean()), 3)}


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", nargs="?", type=Path)
    parser.add_argument("--quality", nargs="+", type=Path, metavar="SET")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if arguments.quality:
            result: Any = quality(arguments.quality, work)
        else:
            os.environ["TOPWORK_CACHE_DIR"] = str(work / "cache")
            result = {
                "indexing": indexing(make_set(work, PASS, arguments.photos), work),
                "second_run": second_run(work),
                "large": large(work),
                "copies": alone(copies, COPIES),
            }
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

"""The one pass over the pixels."""

import dataclasses
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from topwork import fingerprint
from topwork.backbones.graph import Graph
from topwork.errors import CacheError
from topwork.features import extraction, parallel
from topwork.features.cache import FeatureCache, clear, key
from topwork.features.extraction import extract, load, load_facts
from topwork.features.facts import measure
from topwork.features.parallel import ordered_map
from topwork.images import DecodePolicy, Sample, decode

Pictures = Callable[..., list[Sample]]
POLICY = DecodePolicy()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with FeatureCache(tmp_path) as opened:
        yield opened


def test_features_are_those_of_the_bare_graph(
    pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache
) -> None:
    samples = pictures(1, 2, 3)
    found = extract(samples, list(graphs.values()), POLICY, cache)
    assert found.samples == tuple(samples)
    assert found.hashes == tuple(fingerprint.of_bytes(sample.read()) for sample in samples)
    assert (found.excluded, found.hits, found.misses) == ((), 0, 3)
    for graph in graphs.values():
        session = onnxruntime.InferenceSession(str(graph.path), providers=["CPUExecutionProvider"])
        for output, width in (("features", 1280), ("logits", 1000)):
            matrix = load(found.hashes, graph, output, POLICY, cache)
            assert matrix.shape == (3, width)
            assert matrix.dtype == np.float32
            for row, sample in zip(matrix, samples, strict=True):
                (expected,) = session.run([output], {"image": decode(sample.read()).pixels[None]})
                np.testing.assert_allclose(row, expected[0], rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert load_facts(found.hashes, POLICY, cache) == [measure(decode(sample.read())) for sample in samples]


def test_a_second_pass_finds_everything_and_opens_nothing(
    pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = pictures(1, 2, 3)
    first = extract(samples, [graphs["crop"]], POLICY, cache)
    monkeypatch.setattr(extraction, "open_session", lambda _: pytest.fail("a session was opened"))
    monkeypatch.setattr(extraction, "decode", lambda *_: pytest.fail("a picture was decoded"))
    second = extract(samples[::-1], [graphs["crop"]], POLICY, cache)
    assert second.hashes == first.hashes[::-1]
    assert (second.hits, second.misses) == (3, 0)


def test_what_misses_the_cache(pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache) -> None:
    samples = pictures(1, 2)
    crop = graphs["crop"]

    def misses(graph: Graph = crop, policy: DecodePolicy = POLICY) -> int:
        return extract(samples, [graph], policy, cache).misses

    assert misses() == 2
    assert misses() == 0
    other_weights = dataclasses.replace(crop, fingerprint=crop.fingerprint[::-1])
    for graph, policy in ((graphs["pad"], POLICY), (other_weights, POLICY), (crop, DecodePolicy(shrink_to=64))):
        assert misses(graph, policy) == 2
        assert misses(graph, policy) == 0
    path = Path(samples[0].location)
    path.write_bytes(pictures(7)[0].read())
    assert misses() == 1
    moved = path.with_name("elsewhere.png")
    moved.write_bytes(path.read_bytes())
    assert extract([Sample("x", str(moved))], [crop], POLICY, cache).hits == 1


def test_a_bad_picture_is_named_and_changes_no_other(
    pictures: Pictures, graphs: dict[str, Graph], tmp_path: Path
) -> None:
    mixed = pictures(1, -2, 3, -4, 5)
    gone = Sample("gone.png", str(tmp_path / "gone.png"))
    good = [sample for sample in mixed if "-" not in sample.id]
    matrices = []
    for name, samples in (("with", [mixed[0], gone, *mixed[1:]]), ("without", good)):
        (tmp_path / name).mkdir()
        with FeatureCache(tmp_path / name) as cache:
            found = extract(samples, [graphs["crop"]], POLICY, cache)
            assert found.samples == tuple(good)
            matrices.append(load(found.hashes, graphs["crop"], "features", POLICY, cache))
            if name == "with":
                reasons = {item.path: item.reason for item in found.excluded}
                assert list(reasons) == ["gone.png", mixed[1].id, mixed[3].id]
                assert reasons["gone.png"] == "file not found"
                assert all("PNG" in reasons[sample.id] for sample in (mixed[1], mixed[3]))
                assert found.misses == 3
    np.testing.assert_array_equal(*matrices)


def test_the_same_bytes_twice_are_one_entry(pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache) -> None:
    found = extract(pictures(1, 1, 2), [graphs["crop"]], POLICY, cache)
    assert len(found.samples) == 3
    assert found.hashes[0] == found.hashes[1] != found.hashes[2]
    assert cache.info().entries == 2 * 3  # features, logits, facts
    matrix = load(found.hashes, graphs["crop"], "features", POLICY, cache)
    np.testing.assert_array_equal(matrix[0], matrix[1])
    assert len(load_facts(found.hashes, POLICY, cache)) == 3


def test_features_that_vanished_are_an_error(pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache) -> None:
    found = extract(pictures(1, 2), [graphs["crop"]], POLICY, cache)
    cache._database.execute("DELETE FROM entries")
    with pytest.raises(CacheError, match="another run cleared it"):
        load(found.hashes, graphs["crop"], "features", POLICY, cache)
    with pytest.raises(CacheError, match="another run cleared it"):
        load_facts(found.hashes, POLICY, cache)


def test_a_damaged_entry_never_becomes_a_feature(pictures: Pictures, graphs: dict[str, Graph], tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        found = extract(pictures(1), [graphs["crop"]], POLICY, cache)
        name = key(found.hashes[0], POLICY.describe(), graphs["crop"].fingerprint, "features")
        value = cache.get([name])[name]
        cache._database.execute("UPDATE entries SET value = ? WHERE key = ?", (value[:-1] + b"\x7f", name))
        with pytest.raises(CacheError, match="topwork cache clear"):
            load(found.hashes, graphs["crop"], "features", POLICY, cache)
    clear(tmp_path)
    with FeatureCache(tmp_path) as cache:
        assert extract(pictures(1), [graphs["crop"]], POLICY, cache).misses == 1


KILLED = """
import sys
from pathlib import Path
from topwork.backbones.graph import feature_graph
from topwork.backbones.zoo import backbone
from topwork.features.cache import FeatureCache
from topwork.features.extraction import extract
from topwork.images import DecodePolicy, Sample
from topwork.progress import Silent

class Told(Silent):
    def advance(self, step, count=1):
        print("one", flush=True)

folder, paths = Path(sys.argv[1]), sys.argv[2:]
graph = feature_graph(backbone("tf_efficientnet_lite0"), "crop")
with FeatureCache(folder) as cache:
    extract([Sample(p, p) for p in paths], [graph], DecodePolicy(), cache, progress=Told())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_run_continues_where_it_was(pictures: Pictures, graphs: dict[str, Graph], tmp_path: Path) -> None:
    samples = pictures(*range(60))
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path), *(sample.location for sample in samples)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    for _ in range(12):
        assert run.stdout.readline() == "one\n"
    run.kill()
    assert run.wait() == -signal.SIGKILL
    run.stdout.close()
    with FeatureCache(tmp_path) as cache:
        found = extract(samples, [graphs["crop"]], POLICY, cache)
        assert found.hits >= 11
        assert found.hits + found.misses == 60
        assert np.isfinite(load(found.hashes, graphs["crop"], "features", POLICY, cache)).all()


def test_an_error_that_is_no_picture_error_comes_through(
    pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(extraction, "measure", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        extract(pictures(1, 2), [graphs["crop"]], POLICY, cache)


def test_only_a_few_pictures_are_alive(
    pictures: Pictures, graphs: dict[str, Graph], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    lock, most = threading.Lock(), 0
    real = extraction.decode

    def counted(data: bytes, policy: DecodePolicy) -> object:
        nonlocal most
        picture = real(data, policy)
        with lock:
            alive.add(picture)
            most = max(most, len(alive))
        return picture

    monkeypatch.setattr(extraction, "decode", counted)
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    extract(pictures(*range(40)), [graphs["crop"]], POLICY, cache)
    gc.collect()
    assert 1 <= most <= 4  # two threads, each with one picture and perhaps the one before
    assert len(alive) == 0


def test_ordered_map_keeps_the_order() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 5 == 0 else 0)
        return number * number

    assert list(ordered_map(slow_first, range(40), threads=4)) == [n * n for n in range(40)]
    assert list(ordered_map(slow_first, [], threads=4)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_ordered_map_takes_only_a_few_items_ahead(threads: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    results = ordered_map(abs, items(), threads=threads)
    for done in range(1, 50):
        next(results)
        assert taken <= done + 4 * threads + 1
    results.close()
    assert taken < 100


def test_ordered_map_works_in_parallel() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(ordered_map(lambda _: meeting.wait() >= 0, range(6), threads=3)) == [True] * 6


def test_ordered_map_passes_exceptions_on_in_their_place() -> None:
    started = []

    def fails_at_three(number: int) -> int:
        started.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    results = ordered_map(fails_at_three, range(1000), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert len(started) < 50
    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]


def test_onnx_runtime_is_told_to_report_nothing() -> None:
    child = "import os, topwork; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for before, after in ((None, "1"), ("0", "0")):
        given = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
        given |= {"ORT_DISABLE_TELEMETRY": before} if before else {}
        done = subprocess.run([sys.executable, "-c", child], env=given, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == after

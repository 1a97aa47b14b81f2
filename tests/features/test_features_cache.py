"""The feature cache: bounded, shared, and never wrong."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from topwork.errors import CacheError, UsageError
from topwork.features import cache as cache_module
from topwork.features.cache import FeatureCache, clear, key
from topwork.storage import parse_size


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with FeatureCache(tmp_path) as opened:
        yield opened


def on_disk(folder: Path) -> int:
    """Bytes of the database and its log; the memory that is shared beside them is none."""
    return sum(file.stat().st_size for file in folder.glob("features.sqlite*") if not file.name.endswith("-shm"))


def entries(count: int, size: int = 100, start: int = 0) -> dict[bytes, bytes]:
    return {key(str(i), "d", "g", "o"): bytes([i % 256]) * size for i in range(start, start + count)}


def test_what_was_put_comes_back(cache: FeatureCache, tmp_path: Path) -> None:
    values = entries(1200)
    cache.put(values)
    assert cache.get(values) == values
    other = set(entries(3, start=5000))
    assert cache.missing([*values, *other]) == other
    assert cache.get(other) == {}
    assert cache.get([]) == {}
    info = cache.info()
    assert (info.entries, info.graphs, info.path) == (1200, 0, str(tmp_path / "features.sqlite"))
    assert info.size >= on_disk(tmp_path) > 120_000
    with FeatureCache(tmp_path) as second:
        assert second.get(values) == values


def test_the_last_value_of_a_key_counts(cache: FeatureCache) -> None:
    cache.put({b"k": b"old"})
    cache.put({b"k": b"newer"})
    assert cache.get([b"k"]) == {b"k": b"newer"}
    assert cache.info().entries == 1


def test_free_pages_are_not_counted(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache.put(entries(100, size=5000))
        cache._database.execute("DELETE FROM entries")
        cache._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert cache.info().size < 100_000 < 500_000 < on_disk(tmp_path)


@pytest.mark.parametrize(
    "other", [("A", "d", "g", "o"), ("c", "D", "g", "o"), ("c", "d", "G", "o"), ("c", "d", "g", "O")]
)
def test_every_part_of_a_key_counts(other: tuple[str, str, str, str]) -> None:
    assert key(*other) != key("c", "d", "g", "o")
    assert key("ab", "c", "d", "e") != key("a", "bc", "d", "e")


def test_trim_removes_the_least_recently_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(entries(20))
    with FeatureCache(tmp_path, limit=1_500_000) as cache:
        for age, name in enumerate(names):  # the first is the oldest
            monkeypatch.setattr(time, "time", lambda age=age: 1_000_000 + 10_000 * age)
            cache.put({name: bytes(100_000)})
        monkeypatch.setattr(time, "time", lambda: 2_000_000)
        assert len(cache.get(names[:2])) == 2  # used again: now the youngest
        before = cache.info().size
        assert 500_000 < cache.trim() < before
        missing = cache.missing(names)
        assert missing == set(names[2 : 2 + len(missing)])
        assert 5 <= len(missing) <= 7
        assert 1_200_000 < cache.info().size <= 1_500_000
        assert cache.trim() == 0


@pytest.mark.parametrize("size", [50, 1000, 5120, 9000])
def test_the_limit_is_that_of_the_file(tmp_path: Path, size: int) -> None:
    with FeatureCache(tmp_path, limit=400_000) as cache:
        for start in range(0, 1_200_000 // size, 100):
            cache.put(entries(100, size=size, start=start))
        assert on_disk(tmp_path) > 1_000_000
        assert cache.trim() > 600_000
        assert 300_000 < on_disk(tmp_path) <= 400_000
        assert cache.info().size == on_disk(tmp_path)


def test_an_empty_cache_and_an_entry_above_the_limit(tmp_path: Path) -> None:
    with FeatureCache(tmp_path, limit=50) as cache:  # less than an empty file takes
        cache.trim()
        assert cache.trim() == 0
        cache.put({b"big": bytes(100_000)})
        assert cache.trim() > 100_000
        assert cache.info().entries == 0


def test_graphs_are_counted_and_cleared(tmp_path: Path) -> None:
    (tmp_path / "graphs").mkdir()
    for name in ("net.onnx", "net.sha256"):
        (tmp_path / "graphs" / name).write_bytes(bytes(1000))
    (tmp_path / "kept.txt").write_text("not ours")
    with FeatureCache(tmp_path, limit=500) as cache:
        cache.trim()
        assert cache.info().graphs == 2000
        size = cache.info().size
    assert clear(tmp_path) >= 2000 + size
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_graphs_are_where_the_backbones_keep_them(empty_cache: Path) -> None:
    from topwork.backbones.graph import feature_graph
    from topwork.backbones.zoo import backbone

    path = feature_graph(backbone("tf_efficientnet_lite0"), "crop").path
    with FeatureCache() as cache:
        assert cache.info().graphs >= path.stat().st_size
    clear()
    assert not path.exists()


def test_limit_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_SIZE", "1.5 MB")
    with FeatureCache(tmp_path) as cache:
        assert cache.info().limit == 1_500_000
    with FeatureCache(tmp_path, limit=7) as cache:
        assert cache.info().limit == 7
    monkeypatch.setenv("TOPWORK_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="TOPWORK_CACHE_SIZE must be a size such as 500MB or 2GB, not 'much'"):
        FeatureCache(tmp_path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("12", 12), ("12 B", 12), ("3kb", 3000), ("1.5GB", 1_500_000_000), (" 2 TB ", 2 * 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "limit") == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "-1GB", "1XB", "1 G B", "nan", "inf", "1e30", "2MBGB", "1,5GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="limit must be a size"):
        parse_size(text, "limit")


def test_clear_deletes_everything_even_what_is_damaged(tmp_path: Path) -> None:
    assert clear(tmp_path) == 0
    with FeatureCache(tmp_path) as cache:
        cache.put(entries(10))
    (tmp_path / "features.sqlite").write_bytes(b"not a database" * 100)
    assert clear(tmp_path) >= 1400
    assert not (tmp_path / "features.sqlite").exists()
    with FeatureCache(tmp_path) as cache:
        assert cache.info().entries == 0


def test_a_damaged_value_is_an_error_not_a_value(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache.put({b"first": b"A" * 200, b"second": b"B" * 200})
        cache._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "features.sqlite"
    data = bytearray(path.read_bytes())
    place = data.index(b"B" * 200)
    data[place + 100] ^= 1
    path.write_bytes(data)
    with FeatureCache(tmp_path) as cache:
        assert cache.get([b"first"]) == {b"first": b"A" * 200}
        with pytest.raises(CacheError, match=r"is damaged; run `topwork cache clear`"):
            cache.get([b"first", b"second"])


def test_values_of_two_keys_may_not_be_swapped(cache: FeatureCache) -> None:
    cache.put({b"one": b"1" * 8, b"two": b"2" * 8})
    swap = "UPDATE entries SET (value, checksum) = (SELECT value, checksum FROM entries WHERE key = ?) WHERE key = ?"
    cache._database.execute(swap, (b"one", b"two"))
    with pytest.raises(CacheError, match="damaged"):
        cache.get([b"two"])


def test_any_damaged_byte_gives_the_right_value_or_none_or_an_error(tmp_path: Path) -> None:
    values = {f"key {i}".encode() * 4: bytes([65 + i]) * 90 for i in range(6)}
    with FeatureCache(tmp_path) as cache:
        cache.put(values)
        cache._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "features.sqlite"
    good = path.read_bytes()
    places = [place for place in range(len(good)) if good[place]]
    refused = 0
    for place in places[:: max(1, len(places) // 700)]:
        data = bytearray(good)
        data[place] ^= 0x41
        clear(tmp_path)
        path.write_bytes(data)
        try:
            with FeatureCache(tmp_path) as cache:
                found = cache.get(values)
                cache.missing(values)
                cache.info()
        except CacheError:
            refused += 1
            continue
        assert all(values[name] == value for name, value in found.items()), place
    assert refused > 100


def test_a_file_that_is_no_database_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").write_bytes(b"hello, I am a text file, and a long one at that. " * 50)
    with pytest.raises(CacheError, match=r"cannot be read .*run `topwork cache clear`, then run again"):
        FeatureCache(tmp_path)


def test_a_full_disk_leaves_the_cache_as_it_was(cache: FeatureCache) -> None:
    kept = entries(50)
    cache.put(kept)
    pages = cache._database.execute("PRAGMA page_count").fetchone()[0]
    cache._database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(CacheError, match=r"cannot grow \(.*full.*free some space or set TOPWORK_CACHE_DIR"):
        cache.put(entries(500, size=2000, start=100))
    assert cache.get(kept) == kept
    assert cache.info().entries == 50
    cache._database.execute("PRAGMA max_page_count = 1000000")
    cache.put(entries(10, start=100))
    assert cache.info().entries == 60


FULL = """
import resource, signal, sys
from pathlib import Path
from topwork.errors import CacheError
from topwork.features.cache import FeatureCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with FeatureCache(Path(sys.argv[1])) as cache:
    cache.put({b"first": bytes(1000)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        for i in range(1000):
            cache.put({b"%d" % i: bytes(5000)})
    except CacheError as error:
        print(error)
    assert cache.get([b"first"]) == {b"first": bytes(1000)}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file size")
def test_a_limit_on_file_size_is_a_cache_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot grow" in done.stdout
    with FeatureCache(tmp_path) as cache:
        assert cache.get([b"first"]) == {b"first": bytes(1000)}


WRITER = """
import sys
from pathlib import Path
from topwork.features.cache import FeatureCache
with FeatureCache(Path(sys.argv[1])) as cache:
    for i in range(200):
        cache.put({f"{sys.argv[2]} {i}".encode(): sys.argv[2].encode() * 100, b"shared": b"the same"})
"""


def test_several_processes_writing_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with FeatureCache(tmp_path) as cache:
        names = {f"{name} {i}".encode(): name.encode() * 100 for name in "abc" for i in range(200)}
        assert cache.get(names) == names
        assert cache.info().entries == 601


def test_opening_a_new_cache_waits_for_another_process(tmp_path: Path) -> None:
    """SQLite refuses to switch to write-ahead mode at once while another connection is about to write."""
    other = sqlite3.connect(tmp_path / "features.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE something (x)")
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.3, other.execute, ("COMMIT",))
    done.start()
    with FeatureCache(tmp_path) as cache:
        cache.put({b"k": b"v"})
        assert cache.get([b"k"]) == {b"k": b"v"}
    done.join()
    other.close()


def test_a_busy_cache_is_an_error_that_says_so(tmp_path: Path) -> None:
    with FeatureCache(tmp_path) as cache:
        cache._database.execute("PRAGMA busy_timeout = 50")
        other = sqlite3.connect(tmp_path / "features.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="busy"):
            cache.put({b"k": b"v"})
        other.execute("ROLLBACK")
        other.close()
        cache.put({b"k": b"v"})


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as Unix has them")
def test_a_folder_that_cannot_be_written(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = """
        import os, sys
        from pathlib import Path
        from topwork.errors import CacheError
        from topwork.features.cache import FeatureCache
        if os.geteuid() == 0:  # root may write everywhere
            os.setuid(65534)
        try:
            FeatureCache(Path(sys.argv[1]))
        except CacheError as error:
            print("refused:", error)
    """
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which nobody else may enter
        os.chmod(folder, 0o555)
        ran = python(textwrap.dedent(program), folder)
    assert "refused:" in ran.stdout, ran.stderr


def test_chunks_are_small_enough_for_old_builds_of_sqlite() -> None:
    assert cache_module._CHUNK <= 999

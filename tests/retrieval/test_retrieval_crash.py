"""Killed runs leave the old state, and the next run goes on; several runs at once do no harm."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from topwork.retrieval import Index, build_index

_DIES = """
import os, signal, sys
from topwork.retrieval import build_index, building, embedded, table

def dying(owner, name, before):
    real = getattr(owner, name)
    def call(*arguments, **options):
        if not before:
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, call)

owner, name, before, photos, out = sys.argv[1:]
dying({"store": embedded.EmbeddedStore, "table": table.Table}[owner], name, before == "before")
build_index(photos, out)
"""

_INDEXES = "import sys; from topwork.cli.app import run; sys.exit(run(['index', *sys.argv[1:], '--json']))"


def check(index: Index, photos: Path) -> None:
    """The index holds just these pictures, each with its own vector, and no file too many."""
    rows = index.rows()
    assert sorted(row.path for row in rows) == sorted(
        path.relative_to(photos).as_posix() for path in photos.rglob("*.png")
    )
    numbers = [row.id for row in rows]
    stored = index.store.vectors(index.table.fact("state"), np.array(numbers))
    np.testing.assert_allclose(stored, index.vectors(numbers), atol=2e-3)
    assert len([path for path in index.path.iterdir() if path.suffix == ".usearch"]) == 1


@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        ("table", "insert", "after"),
        ("store", "prepare", "before"),
        ("store", "prepare", "after"),
        ("store", "settle", "before"),
    ],
)
def test_a_killed_run_leaves_an_index_that_answers(
    tmp_path: Path,
    photo_set: Callable[..., Path],
    python: Callable[..., "subprocess.CompletedProcess[str]"],
    owner: str,
    name: str,
    when: str,
) -> None:
    photos = photo_set(tmp_path / "photos", 2)
    build_index(photos, tmp_path / "x.index").close()
    photo_set(photos, 4)
    (photos / "dots" / "000.png").unlink()
    done = python(_DIES, owner, name, when, photos, tmp_path / "x.index")
    assert done.returncode == -9, done.stderr
    killed = Index.open(tmp_path / "x.index")
    hits = killed.search((photos / "stripes" / "001.png").read_bytes(), 20)
    assert hits[0].row.path == "stripes/001.png"
    assert len(hits) == len(killed) == (11 if name == "settle" else 6)  # the old state, or the new one
    killed.close()
    again = build_index(photos, tmp_path / "x.index")
    assert again.facts["added"] == (0 if name == "settle" else 6)
    assert again.facts["removed"] == (0 if name == "settle" else 1)
    photo_set(photos, 5)  # what a killed run left is swept when vectors are written again
    check(build_index(photos, tmp_path / "x.index"), photos)


def test_what_a_killed_run_read_is_not_read_again(
    tmp_path: Path, photo_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    photos = photo_set(tmp_path / "photos", 4)
    from topwork.features import extraction

    decoded: list[int] = []
    real = extraction.decode

    def decode(*arguments: object) -> object:
        decoded.append(1)
        if len(decoded) == 8:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "decode", decode)
    with pytest.raises(KeyboardInterrupt):
        build_index(photos, tmp_path / "x.index")
    before = len(decoded)
    index = build_index(photos, tmp_path / "x.index")
    assert index.facts["added"] == 12
    assert len(decoded) <= before + 12 - 4  # some of them were in the cache


def test_a_journal_that_a_killed_run_left_is_rolled_back_by_a_reader(
    tmp_path: Path, photo_set: Callable[..., Path], python: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    build_index(photo_set(tmp_path / "photos", 2), tmp_path / "x.index").close()
    dies = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")
database.execute("BEGIN IMMEDIATE")
database.execute("DELETE FROM parts")
database.execute("DELETE FROM pictures")
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python(dies, tmp_path / "x.index" / "pictures.sqlite").returncode == -9
    assert (tmp_path / "x.index" / "pictures.sqlite-journal").stat().st_size > 0
    with Index.open(tmp_path / "x.index") as index:
        assert len(index.search(np.ones(1280, np.float32), 99)) == 6


def test_several_first_runs_make_one_index(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    photos, out = photo_set(tmp_path / "photos", 3), tmp_path / "x.index"
    command = [sys.executable, "-c", _INDEXES, str(photos), "-o", str(out)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    done = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], done
    assert sorted(json.loads(out)["added"] for out, _ in done) == [0, 0, 9]
    check(Index.open(out), photos)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "x.index"]


def test_two_runs_at_once_and_a_reader(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    photos = photo_set(tmp_path / "photos", 3)
    out = tmp_path / "x.index"
    build_index(photos, out).close()
    photo_set(photos, 8)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", _INDEXES, str(photos), "-o", str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
        )
        for _ in range(2)
    ]
    query = (photos / "stripes" / "001.png").read_bytes()
    sizes = set()
    with Index.open(out) as reader:
        features = reader.encoder(query)
        while any(run.poll() is None for run in runs):
            hits = reader.search(features, 100)
            sizes.add(len(hits))
            assert hits[0].row.path == "stripes/001.png"
    done = [json.loads(run.communicate()[0]) for run in runs]
    assert sorted((facts["added"], facts["unchanged"]) for facts in done) == [(0, 24), (15, 9)]
    assert sizes <= {9, 24}
    check(Index.open(out), photos)


_FULL = """
import resource, sys
from topwork.cli.app import run
from topwork.retrieval import building
limit, real = int(sys.argv[1]), building._Run._change
def change(*arguments):  # the cache has room
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return real(*arguments)
building._Run._change = change
sys.exit(run(["index", *sys.argv[2:]]))
"""


@pytest.mark.parametrize("limit", [50_000, 150_000])  # the vectors cannot be written; the table cannot
def test_an_index_on_a_full_disk_stays_what_it_was(
    tmp_path: Path,
    photo_set: Callable[..., Path],
    python: Callable[..., "subprocess.CompletedProcess[str]"],
    limit: int,
) -> None:
    photos, out = photo_set(tmp_path / "photos", 2), tmp_path / "x.index"
    build_index(photos, out).close()
    photo_set(tmp_path / "photos", 10)
    build_index(photos, tmp_path / "other.index").close()  # all is in the cache: only the index is written
    before = sorted(path.name for path in out.iterdir())
    done = python(_FULL, limit, photos, "-o", out)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "is as it was, but" in message
    assert "then run again" in message
    assert "delete" not in message
    assert sorted(path.name for path in out.iterdir()) == before
    with Index.open(out) as index:
        assert len(index.search(photos / "dots" / "000.png", 99)) == 5
    assert build_index(photos, out).facts["added"] == 24

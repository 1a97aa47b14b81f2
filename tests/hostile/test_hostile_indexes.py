"""An index from a stranger: what it names is not read, asked, moved or deleted, and nothing in it runs or crashes."""

import json
import os
import re
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.errors import CacheError, SourceError, TopworkError, UsageError
from topwork.retrieval import Index, build_index
from topwork.retrieval.filters import matching
from topwork.retrieval.graph_file import why_not
from topwork.retrieval.moving import MARKER, undo
from topwork.retrieval.table import FILE

Command = Callable[..., tuple[int, str, str]]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n"


@dataclass
class Stranger:
    """An index of pictures that somebody else made; ``change`` is what he did to its table."""

    folder: Path

    def change(self, *statements: str, values: tuple[Any, ...] = ()) -> Path:
        database = sqlite3.connect(self.folder / FILE, isolation_level=None)
        for statement in ("DELETE FROM facts WHERE name = 'digest'", *statements):
            database.execute(statement, values if "?" in statement else ())
        database.close()
        return self.folder

    def settings(self, **changed: object) -> Path:
        path = self.folder / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))
        return self.folder

    @property
    def vectors(self) -> Path:
        return next(self.folder.glob("*.usearch"))


@pytest.fixture(scope="session")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "x.index"
    build_index(photos, folder).close()
    return folder


@pytest.fixture
def stranger(made: Path, tmp_path: Path) -> Stranger:
    return Stranger(Path(shutil.copytree(made, tmp_path / "stranger.index")))


@pytest.fixture
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A server on this computer, and what it was sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    heard.append(connection.recv(1000))

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], heard
        ended.set()
        thread.join()


# What it names


def test_a_server_in_it_is_asked_only_where_the_user_names_it(
    stranger: Stranger, photos: Path, tmp_path: Path, topwork_command: Command, listening: tuple[int, list[bytes]]
) -> None:
    port, heard = listening
    store = f"qdrant://127.0.0.1:{port}/photos"
    index, query = stranger.settings(store=store), photos / "dots" / "000.png"
    for command in (("search", index, query), ("index", photos, "-o", index), ("index", index, "--info")):
        code, _, err = topwork_command(*command)
        assert (code, f"--store {store}" in re.sub(r"\s+", " ", err)) == (2, True), err
    assert topwork_command("map", index, "-o", tmp_path / "map.html")[0] == 0
    assert topwork_command("duplicates", index)[0] == 0
    assert heard == []
    stranger.change("UPDATE facts SET value = '\"photos-00000000\"' WHERE name = 'state'")
    assert topwork_command("search", index, query, "--store", store)[0] == 1  # it answers nothing
    assert heard != []


@pytest.mark.parametrize("kind", ["private", "http", "reference", "drawing", "zip"])
def test_pictures_elsewhere_are_not_read_for_its_sake(
    stranger: Stranger,
    photos: Path,
    tmp_path: Path,
    topwork_command: Command,
    listening: tuple[int, list[bytes]],
    kind: str,
) -> None:
    port, heard = listening
    private = tmp_path / "private" / "me.png"
    private.parent.mkdir()
    Image.new("RGB", (200, 200), "magenta").save(private)
    place = {
        "private": str(private),
        "http": f"http://127.0.0.1:{port}/x.jpg",
        "reference": "reference://x.jpg::/tmp/refs.json",
        "drawing": f"drawing://0+10::{private}",
        "zip": f"zip://a.png::http://127.0.0.1:{port}/x.zip",
    }[kind]
    index = stranger.change("UPDATE pictures SET location = ?", "UPDATE sources SET root = '/'", values=(place,))
    sheet, page, query = tmp_path / "s.png", tmp_path / "p.html", photos / "dots" / "000.png"
    code, text, err = topwork_command("search", index, query, "-k", 30, "-o", sheet, "--html", page)
    assert code == 0, err
    assert "was not made on this computer" in re.sub(r"\s+", " ", text)
    assert topwork_command("duplicates", index, "--html", page)[0] == 0
    assert heard == []
    assert not (np.asarray(Image.open(sheet).convert("RGB")) == (255, 0, 255)).all(-1).any()
    if kind == "private":
        assert topwork_command("map", index, "-o", page)[0] == 0
        assert private.as_uri() not in page.read_text()
    with Index.open(index) as opened:
        assert {opened.why_not(row) is None for row in opened.rows()} == {False}
    with Index.open(index, photos=[private.parent]) as opened:
        assert {opened.why_not(row) is None for row in opened.rows()} == {kind in ("private", "drawing")}


def test_the_same_content_is_trusted_and_anything_else_is_not(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy.index"))
    with Index.open(copy) as opened:
        assert {opened.why_not(row) for row in opened.rows()} == {None}
    Stranger(copy).change("UPDATE pictures SET location = '/etc/hostname' WHERE id = 1")
    with Index.open(copy) as opened:
        assert None not in {opened.why_not(row) for row in opened.rows()}


def test_an_index_from_elsewhere_is_ones_own_once_it_was_brought_up_to_date(stranger: Stranger, photos: Path) -> None:
    index = stranger.change("UPDATE pictures SET location = '/etc/hostname', stamp = NULL")
    with build_index(photos, index) as opened:
        assert {opened.why_not(row) for row in opened.rows()} == {None}
        assert {Path(row.location).parent.parent for row in opened.rows()} == {photos}


def test_an_index_that_an_earlier_topwork_made_opens(stranger: Stranger, photos: Path) -> None:
    new = f"vectors-{'0' * 12}-{stranger.vectors.stat().st_size}.usearch"
    stranger.vectors.rename(stranger.folder / new)
    index = stranger.change("UPDATE facts SET value = ? WHERE name = 'state'", values=(json.dumps(new),))
    with Index.open(index) as opened:
        assert len(opened.search(photos / "dots" / "000.png", 3)) == 3


def test_files_that_its_table_names_are_not_deleted(stranger: Stranger, photos: Path, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.docx"
    victim.write_text("precious")
    index = stranger.change("UPDATE facts SET value = ? WHERE name = 'state'", values=(json.dumps(str(victim)),))
    with pytest.raises(CacheError, match="run `topwork index` with --rebuild"), Index.open(index) as opened:
        opened.search(photos / "dots" / "000.png")
    build_index(photos, index, backbone=None).close()
    assert victim.read_text() == "precious"


def test_a_journal_that_names_another_file_is_not_followed(stranger: Stranger, tmp_path: Path) -> None:
    victim = tmp_path / "thesis.docx"
    victim.write_text("precious")
    name = str(victim).encode()
    journal = bytes.fromhex("d9d505f920a163d7") + bytes(504) + name + len(name).to_bytes(4, "big") + bytes(4)
    (stranger.folder / f"{FILE}-journal").write_bytes(journal + bytes.fromhex("d9d505f920a163d7"))
    with pytest.raises(CacheError, match="its journal names another file"):
        Index.open(stranger.folder)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("{out}/stolen.txt", "a.png"),
        ("{photos}/../stolen.txt", "a.png"),
        ("{photos}/link/stolen.txt", "a.png"),
        ("stolen.txt", "a.png"),
        ("{photos}/taken.txt", "../private.txt"),
        ("{photos}/taken.txt", "{out}/private.txt"),
        ("{photos}/taken.txt", "link/private.txt"),
        ("{photos}/taken.txt", "link.txt"),
        ("{photos}/there.txt", "a.png"),
    ],
)
def test_undo_moves_nothing_in_or_out(tmp_path: Path, source: str, target: str) -> None:
    out, photos, moved = (tmp_path / name for name in ("out", "photos", "moved"))
    for folder in (out, photos, moved):
        folder.mkdir()
    (out / "private.txt").write_text("private")
    (tmp_path / "private.txt").write_text("private")
    (photos / "there.txt").write_text("mine")
    (moved / "a.png").write_text("theirs")
    (moved / "link").symlink_to(out)
    (photos / "link").symlink_to(out)
    (moved / "link.txt").symlink_to(out / "private.txt")
    names = {"source": source.format(out=out, photos=photos), "target": target.format(out=out), "content": ""}
    (moved / MARKER).write_text(json.dumps({"format": 1, "moves": [names]}))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    done = undo(moved, [str(photos)])
    assert (done.moved, len(done.left)) == ([], 1)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert (photos / "there.txt").read_text() == "mine"


def test_undo_moves_back_below_a_named_folder(tmp_path: Path) -> None:
    photos, moved = tmp_path / "photos", tmp_path / "moved"
    photos.mkdir()
    moved.mkdir()
    (moved / "a.png").write_text("a")
    names = {"source": str(photos / "cat" / "a.png"), "target": "a.png", "content": ""}
    (moved / MARKER).write_text(json.dumps({"format": 1, "moves": [names]}))
    assert undo(moved, [str(photos)]).moved == [names["source"]]
    assert (photos / "cat" / "a.png").read_text() == "a"


# What is in it


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON pictures BEGIN DELETE FROM pictures; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE other (a)",
        "CREATE INDEX i ON pictures (label COLLATE NOCASE)",
        "CREATE VIRTUAL TABLE f USING fts5(a)",
        "ALTER TABLE pictures ADD COLUMN more GENERATED ALWAYS AS (path || path)",
        "PRAGMA journal_mode = WAL",
        "UPDATE pictures SET path = x'00ff' WHERE id = 1",
        "UPDATE pictures SET label = 7.5 || x'00' WHERE id = 1",
        "UPDATE pictures SET content = 'x' WHERE id = 1",
        "UPDATE pictures SET width = 'wide' WHERE id = 1",
        "UPDATE pictures SET sharpness = 9e999 WHERE id = 1",
        "UPDATE pictures SET label = zeroblob(70000000) WHERE id = 1",
        "UPDATE parts SET features = zeroblob(7) WHERE id = 1",
        "UPDATE parts SET thumbnail = zeroblob(9000000) WHERE id = 1",
        "DELETE FROM parts WHERE id = 1",
        "UPDATE sources SET root = x'61'",
        "UPDATE facts SET value = 'nonsense' WHERE name = 'state'",
        "UPDATE facts SET value = '7' WHERE name = 'state'",
        "UPDATE facts SET value = x'00' WHERE name = 'treatment'",
    ],
)
def test_a_table_is_that_of_topwork_or_refused(stranger: Stranger, photos: Path, statement: str) -> None:
    index = stranger.change(statement)
    with pytest.raises(CacheError, match=r"damaged"), Index.open(index) as opened:
        opened.search(photos / "dots" / "000.png", 3)


@pytest.mark.parametrize("thumbnail", [EPS, b"\xff\xd8\xff" + EPS, b"", b"GIF89a"])
def test_a_thumbnail_is_a_small_jpeg_and_nothing_else_is_opened(
    stranger: Stranger, photos: Path, tmp_path: Path, topwork_command: Command, thumbnail: bytes
) -> None:
    index = stranger.change("UPDATE parts SET thumbnail = ?", values=(thumbnail,))
    assert topwork_command("map", index, "-o", tmp_path / "map.html")[0] == 1
    assert topwork_command("search", index, photos / "dots" / "000.png", "-o", tmp_path / "s.png")[0] == 1


def test_a_huge_thumbnail_is_not_decoded(stranger: Stranger, as_file: Callable[..., bytes]) -> None:
    large = as_file(np.zeros((3000, 3000, 3), np.uint8), "JPEG", quality=30)
    index = stranger.change("UPDATE parts SET thumbnail = ?", values=(large,))
    with Index.open(index) as opened, pytest.raises(CacheError, match="expected a small JPEG"):
        opened.thumbnail(1)


@pytest.mark.parametrize("name", ["index.json", FILE, "vectors"])
def test_what_never_ends_is_not_read(stranger: Stranger, photos: Path, name: str) -> None:
    path = stranger.vectors if name == "vectors" else stranger.folder / name
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TopworkError), Index.open(stranger.folder) as opened:
        opened.search(photos / "dots" / "000.png", 3)


@pytest.mark.parametrize(
    "changed", [{"backbone": "../../x"}, {"vectors": ["plain"]}, {"features": "none"}, {"more": 1}]
)
def test_settings_are_those_of_topwork(stranger: Stranger, changed: dict[str, object]) -> None:
    with pytest.raises(SourceError, match="there is none that can be read"):
        Index.open(stranger.settings(**changed))


def test_changed_vectors_are_noticed(stranger: Stranger, photos: Path) -> None:
    data = bytearray(stranger.vectors.read_bytes())
    data[100] ^= 1  # a bit of a vector: no structure is hurt
    stranger.vectors.write_bytes(data)
    with pytest.raises(CacheError, match="--rebuild"), Index.open(stranger.folder) as opened:
        opened.search(photos / "dots" / "000.png", 3)


def test_a_changed_row_is_noticed(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "copy.index"))
    database = sqlite3.connect(copy / FILE)
    database.execute("UPDATE pictures SET label = 'other' WHERE id = 1")
    database.commit()
    database.close()
    with pytest.raises(CacheError, match="what is in it has changed"):
        Index.open(copy)


def test_no_link_of_a_graph_leads_out_of_the_file(tmp_path: Path) -> None:
    """Mutations of the graph are refused, or harmless: USearch reads and changes what was let through."""
    from usearch.index import Index as Graph

    random, path = np.random.default_rng(0), tmp_path / "v.usearch"
    graph = Graph(ndim=16, metric="ip", dtype="f16")
    graph.add(np.arange(1, 301, dtype=np.uint64), random.normal(size=(300, 16)).astype(np.float32))
    graph.save(str(path))
    whole = path.read_bytes()
    assert why_not(path) is None
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for at in random.integers(8 + 300 * 32, len(data), 3):
            data[at] = random.integers(256)
        path.write_bytes(data[: random.integers(len(data))] if random.random() < 0.1 else data)
        if why_not(path) is not None:
            refused += 1
            continue
        mapped = Graph.restore(str(path), view=True)
        for query in random.normal(size=(5, 16)).astype(np.float32):
            mapped.search(query, 10)
            mapped.search(query, 10, exact=True)
        loaded = Graph.restore(str(path))
        loaded.add(np.arange(1000, 1010, dtype=np.uint64), random.normal(size=(10, 16)).astype(np.float32))
    assert refused > 100


# Filters


@pytest.mark.parametrize(
    ("where", "values"),
    [
        ("path LIKE ?", ("%a" * 24_000 + "b",)),
        ("path LIKE ?", ("%a" * 200 + "b",)),
        ("path GLOB ?", ("*a" * 200 + "b",)),
        ("path LIKE label", ()),
        ("instr(path, substr(path, 2, 400000) || 'b') > 0", ()),
        ("length(trim(path, label || path)) < 0", ()),
        ("length(replace(replace(path, 'a', path), 'a', path)) < 0", ()),
    ],
)
def test_a_filter_of_long_texts_ends_soon(stranger: Stranger, where: str, values: tuple[str, ...]) -> None:
    index = stranger.change("UPDATE pictures SET path = id || ?", values=("a" * 900_000,))
    with pytest.raises(UsageError, match=r"a text may have 10,000 characters|it took more than"):
        matching(index, where, values)

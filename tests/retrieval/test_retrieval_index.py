"""Building, updating and searching, the same in both stores."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topwork
from topwork.errors import ImageError, SourceError, UsageError
from topwork.images import Excluded, ImageSource
from topwork.retrieval import Index, build_index
from topwork.retrieval.moving import move_copies

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")
COUNTS = ("added", "updated", "moved", "unchanged", "removed")


def counts(facts: dict[str, Any]) -> dict[str, int]:
    return {name: facts[name] for name in COUNTS if facts[name]}


def aged(folder: Path) -> Path:
    """Files that were not changed a moment ago: only those are trusted without reading."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(10**18, 10**18 + path.stat().st_size))
    return folder


@pytest.fixture
def collection(tmp_path: Path, photo_set: Callable[..., Path]) -> Path:
    return aged(photo_set(tmp_path / "photos", 4))


@pytest.fixture
def update(collection: Path, tmp_path: Path, store_name: str) -> Callable[[], Index]:
    return lambda: build_index(collection, tmp_path / "photos.index", store=store_name)


def test_new_changed_moved_and_deleted_pictures_are_told_apart(
    collection: Path, update: Callable[[], Index], pattern: Callable[..., np.ndarray], as_file: Callable[..., bytes]
) -> None:
    assert counts(update().facts) == {"added": 12}
    assert counts(update().facts) == {"unchanged": 12}
    (collection / "dots" / "new.png").write_bytes(as_file(pattern("dots", 77)))
    (collection / "dots" / "000.png").write_bytes(as_file(pattern("stripes", 78)))
    (collection / "checks" / "001.png").rename(collection / "stripes" / "moved.png")
    (collection / "checks" / "002.png").unlink()
    index = update()
    assert counts(index.facts) == {"added": 1, "updated": 1, "moved": 1, "unchanged": 9, "removed": 1}
    there = {sample.id: sample.label for sample in ImageSource.open(collection).samples}
    assert {row.path: row.label for row in index.rows()} == there
    for path in ("dots/new.png", "dots/000.png", "stripes/moved.png"):
        (hit,) = index.search((collection / path).read_bytes(), 1)
        assert (hit.path, hit.label) == (str(collection / path), path.split("/")[0])
        assert hit.score == pytest.approx(1, abs=2e-3)
    everything = {hit.row.path for hit in index.search(collection / "dots/000.png", 50)}
    assert everything == set(there) - {"dots/000.png"}


def test_an_unchanged_file_is_not_read_again(
    collection: Path, update: Callable[[], Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    update()
    read: list[str] = []
    monkeypatch.setattr("topwork.images.sample.read_bytes", lambda location, *_: read.append(location) or b"")
    (collection / "dots" / "000.png").touch()
    index = update()
    assert read == [str(collection / "dots" / "000.png")]
    assert [row["path"] for row in index.facts["excluded"]] == ["dots/000.png"]  # it was read as an empty file


def test_a_file_changed_a_moment_ago_is_read_again_although_size_and_time_are_the_same(
    collection: Path, update: Callable[[], Index], pattern: Callable[..., np.ndarray]
) -> None:
    from PIL import Image

    path = collection / "dots" / "flat.bmp"
    Image.fromarray(pattern("dots", 5)).save(path)
    before = path.stat()
    first = {row.path: row.content for row in update().rows()}
    Image.fromarray(pattern("stripes", 5)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    index = update()
    assert index.facts["updated"] == 1
    assert {row.path: row.content for row in index.rows()}["dots/flat.bmp"] != first["dots/flat.bmp"]


def test_two_files_that_swap_names(collection: Path, update: Callable[[], Index]) -> None:
    before = {row.path: row.content for row in update().rows()}
    a, b = collection / "dots" / "000.png", collection / "stripes" / "000.png"
    a.rename(collection / "x.tmp")
    b.rename(a)
    (collection / "x.tmp").rename(b)
    after = {row.path: row.content for row in update().rows()}
    assert after["dots/000.png"] == before["stripes/000.png"]
    assert after["stripes/000.png"] == before["dots/000.png"]


def test_labels_that_change_in_a_manifest_need_no_pixels(
    collection: Path, tmp_path: Path, store_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,label\nphotos/dots/000.png,a\nphotos/dots/001.png,\n")
    build_index(manifest, tmp_path / "x.index", store=store_name)
    manifest.write_text("path,label,group\nphotos/dots/000.png,b,g\nphotos/dots/001.png,c,\n")
    monkeypatch.setattr("topwork.images.sample.read_bytes", lambda *_: pytest.fail("read"))
    index = build_index(manifest, tmp_path / "x.index", store=store_name)
    assert counts(index.facts) == {"unchanged": 2}
    assert [(row.label, row.group) for row in index.rows()] == [("b", "g"), ("c", None)]


def test_the_mean_is_made_anew_when_the_collection_outgrows_it(
    tmp_path: Path, photo_set: Callable[..., Path], store_name: str
) -> None:
    photos = photo_set(tmp_path / "photos", 2)

    def fitted_on(n: int) -> int:
        photo_set(photos, n)
        index = build_index(photos, tmp_path / "x.index", store=store_name)
        everyone = index.table.numbers().tolist()
        stored = index.store.vectors(index.table.fact("state"), np.array(everyone))
        np.testing.assert_allclose(stored, index.vectors(everyone), atol=2e-3)
        return int(index.info()["fitted_on"])

    assert [fitted_on(n) for n in (2, 7, 8, 14)] == [0, 21, 21, 42]


def test_search_takes_pictures_parts_features_and_several(
    collection: Path, update: Callable[[], Index], pattern: Callable[..., np.ndarray]
) -> None:
    index = update()
    path = collection / "checks" / "000.png"
    pixels = pattern("checks", 0)
    number = next(row.id for row in index.rows() if row.path == "checks/000.png")
    by_path = index.search(path, 5)
    assert str(path) not in [hit.path for hit in by_path]
    for query in (path.read_bytes(), pixels, index.features([number])[0], [pixels, path.read_bytes()]):
        first, *others = index.search(query, 6)
        assert first.path == str(path)
        assert [hit.path for hit in others] == [hit.path for hit in by_path]
    wide = np.concatenate([pixels, pattern("dots", 1)], axis=1)
    right = index.search(wide, 1, crop=(pixels.shape[1], 0, pixels.shape[1], pixels.shape[0]))
    assert right[0].row.path == "dots/001.png"
    assert index.search(wide, 1, crop=(0, 0, pixels.shape[1], pixels.shape[0]))[0].row.path == "checks/000.png"


def test_unlike_moves_away_from_a_picture(update: Callable[[], Index], pattern: Callable[..., np.ndarray]) -> None:
    index = update()
    both = [pattern("dots", 90), pattern("stripes", 90)]
    plain = index.search(both, 12)
    away = index.search(both, 12, unlike=[pattern("dots", 91), pattern("dots", 92)])

    def rank(hits: list[Any]) -> float:
        return float(np.mean([place for place, hit in enumerate(hits) if hit.label == "dots"]))

    assert rank(away) > rank(plain) + 2


def test_filters_choose_before_the_nearest_are_taken(update: Callable[[], Index], collection: Path) -> None:
    index = update()
    query = collection / "dots" / "000.png"
    hits = index.search(query, 3, "label = ? AND width >= ?", values=("stripes", 140))
    assert [hit.label for hit in hits] == ["stripes"] * 3
    exact = {row.id: score for row, score in zip(index.rows(), _cosines(index, query), strict=True)}
    expected = sorted((hit for hit in index.rows() if hit.label == "stripes"), key=lambda row: -exact[row.id])[:3]
    assert [hit.row.id for hit in hits] == [row.id for row in expected]
    assert index.search(query, 3, "label = 'nobody'") == []


def _cosines(index: Index, query: Path) -> np.ndarray:
    features = index.encoder(query)
    vector = index._ask(lambda _, treatment: treatment(features[None])[0])
    return index.vectors([row.id for row in index.rows()]) @ vector


def test_scores_are_cosines_in_falling_order(update: Callable[[], Index], collection: Path) -> None:
    index = update()
    query = (collection / "dots" / "000.png").read_bytes()
    hits = index.search(query, 12)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    expected = dict(zip((row.id for row in index.rows()), _cosines(index, collection / "dots/000.png"), strict=True))
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.row.id] for hit in hits], abs=2e-3)
    assert [hit.row.id for hit in index.search(query, 12, exact=True)] == [hit.row.id for hit in hits]


def test_a_class_of_a_model_is_looked_for(fitted: Any, indexed: Index, tmp_path: Path, photo_set: Any) -> None:
    hits = indexed.search_class(fitted.folder, "stripes", 8)
    assert [hit.label for hit in hits] == ["stripes"] * 8
    # other pictures: what the model learned from comes out of the cache
    others = build_index(photo_set(tmp_path / "others", 4, first=40), tmp_path / "others.index")
    assert {hit.label for hit in others.search_class(fitted.folder, "dots", 4)} == {"dots"}
    with pytest.raises(UsageError, match="no class 'stripe': did you mean stripes"):
        indexed.search_class(fitted.folder, "stripe")


def test_pictures_of_another_source_are_added_on_request_only(
    collection: Path, update: Callable[[], Index], tmp_path: Path, photo_set: Callable[..., Path], store_name: str
) -> None:
    index = update()
    more = photo_set(tmp_path / "more", 2, classes=("dots",), first=30)
    with pytest.raises(UsageError, match="add these to it with --add"):
        build_index(more, index.path, store=store_name)
    assert len(Index.open(index.path)) == 12
    assert counts(index.add(more)) == {"added": 2}
    assert counts(index.add(more)) == {"unchanged": 2}
    assert len(index) == 14
    assert counts(update().facts) == {"unchanged": 12}  # the first source alone
    # a folder in the first source: its pictures are there already
    assert counts(index.add(collection / "dots")) == {}
    assert index.search((more / "dots" / "030.png").read_bytes(), 1)[0].path == str(more / "dots" / "030.png")


def test_lists_are_added_to(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    photos = photo_set(tmp_path / "photos", 2)
    names = sorted(str(path) for path in photos.rglob("*.png"))
    index = build_index(names[:2], tmp_path / "x.index")
    assert counts(index.add(names[1:4])) == {"added": 2, "unchanged": 1}
    assert [row.path for row in index.rows()] == names[:4]


def test_a_moved_folder_is_recognised(
    collection: Path, update: Callable[[], Index], tmp_path: Path, store_name: str
) -> None:
    ids = [row.id for row in update().rows()]
    new = tmp_path / "elsewhere"
    collection.rename(new)
    index = build_index(new, tmp_path / "photos.index", store=store_name)
    assert counts(index.facts) == {"unchanged": 12}
    assert [row.id for row in index.rows()] == ids
    assert index.search((new / "dots/000.png").read_bytes(), 1)[0].path == str(new / "dots" / "000.png")


def test_another_folder_does_not_take_the_place_of_one_that_is_gone(
    collection: Path, update: Callable[[], Index], tmp_path: Path, photo_set: Callable[..., Path], store_name: str
) -> None:
    update()
    collection.rename(tmp_path / "on another disk")
    others = photo_set(tmp_path / "others", 2, first=50)
    with pytest.raises(UsageError, match=r"of which .* is an index"):
        build_index(others, tmp_path / "photos.index", store=store_name)
    assert len(Index.open(tmp_path / "photos.index")) == 12


def test_a_manifest_and_its_pictures_move_together(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    home = tmp_path / "home"
    photo_set(home / "photos", 1)
    (home / "list.csv").write_text("path,label\nphotos/dots/000.png,a\nphotos/checks/000.png,b\n")
    build_index(home / "list.csv", home / "photos.index").close()
    home.rename(tmp_path / "away")
    index = Index.open(tmp_path / "away" / "photos.index")
    assert sorted(index.place(row) for row in index.rows()) == sorted(
        str(tmp_path / "away" / "photos" / name / "000.png") for name in ("dots", "checks")
    )


def test_index_and_pictures_move_together(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    home = tmp_path / "home"
    build_index(photo_set(home / "photos", 2), home / "photos.index").close()
    home.rename(tmp_path / "away")
    index = Index.open(tmp_path / "away" / "photos.index")
    path = tmp_path / "away" / "photos" / "dots" / "000.png"
    assert index.search(path.read_bytes(), 1)[0].path == str(path)
    assert index.sample(index.rows()[0]).read()
    assert index.roots == [str(tmp_path / "away" / "photos")]


def test_the_wrong_backbone_is_refused(indexed: Index, photos: Path) -> None:
    with pytest.raises(UsageError, match=r"made with backbone mobilenetv2_100, but .* made with tf_efficientnet_lite0"):
        build_index(photos, indexed.path, backbone="mobilenetv2_100")
    with pytest.raises(UsageError, match="made with features logits"):
        build_index(photos, indexed.path, features="logits")
    with pytest.raises(UsageError, match=r"1280 finite numbers, got float64 \[7\]"):
        indexed.search(np.ones(7))


def test_other_weights_are_refused(photos: Path, tmp_path: Path) -> None:
    build_index(photos, tmp_path / "x.index").close()
    marker = tmp_path / "x.index" / "index.json"
    marker.write_text(marker.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(UsageError, match="but those here are others"):
        build_index(photos, tmp_path / "x.index")


@pytest.mark.parametrize("vectors", ["plain", "pca", "whitened"])
@pytest.mark.parametrize("features", ["pooled", "logits"])
def test_every_treatment_finds_the_class(photos: Path, tmp_path: Path, vectors: str, features: str) -> None:
    with build_index(photos, tmp_path / "x.index", features=features, vectors=vectors) as index:
        hits = index.search(photos / "stripes" / "000.png", 3)
        assert [hit.label for hit in hits] == ["stripes"] * 3
        assert index.duplicates() == []


def test_one_picture_and_none(tmp_path: Path, photo_set: Callable[..., Path], store_name: str) -> None:
    photos = photo_set(tmp_path / "photos", 1, classes=("dots",))
    index = build_index(photos, tmp_path / "x.index", store=store_name)
    only = photos / "dots" / "000.png"
    assert [hit.path for hit in index.search(only.read_bytes())] == [str(only)]
    assert index.search(only) == []
    assert index.duplicates() == []
    assert index.info()["recall"] == 1
    only.write_bytes(b"broken")
    index = build_index(photos, tmp_path / "x.index", store=store_name)
    assert (len(index), index.facts["removed"]) == (0, 1)
    assert [row["path"] for row in index.facts["excluded"]] == ["dots/000.png"]
    assert index.search(np.ones(1280, np.float32)) == []
    assert index.search(np.ones(1280, np.float32), exact=True, where="width > 1") == []
    assert index.info()["recall"] is None
    only.unlink()
    with pytest.raises(SourceError, match="no picture was found"):
        build_index(photos, tmp_path / "y.index")
    assert not (tmp_path / "y.index").exists()


def test_what_cannot_be_searched_is_said(indexed: Index, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read nowhere.jpg: file not found"):
        indexed.search("nowhere.jpg")
    with pytest.raises(UsageError, match="k must be a whole number"):
        indexed.search(np.ones(1280, np.float32), 0)
    with pytest.raises(UsageError, match="several, but got none"):
        indexed.search([])
    with pytest.raises(UsageError, match=r"within the query, 140x110 pixels, got 100,0,80,80"):
        indexed.search(np.zeros((110, 140, 3), np.uint8), crop=(100, 0, 80, 80))
    with pytest.raises(SourceError, match="expected an index at"):
        Index.open(tmp_path)


def test_something_else_is_never_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(topwork.TopworkError, match="it is something else"):
        build_index(photos, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_an_index_among_the_pictures_is_not_a_picture(collection: Path) -> None:
    index = build_index(collection, collection / "photos.index")
    again = build_index(collection, collection / "photos.index")
    assert counts(index.facts) == {"added": 12}
    assert counts(again.facts) == {"unchanged": 12}
    with pytest.raises(SourceError, match="it is a topwork index"):
        ImageSource.open(collection / "photos.index")


def test_pictures_in_one_file_are_named_by_their_places(tmp_path: Path) -> None:
    lines = []
    for seed in range(4):
        xs, ys = np.random.default_rng(seed).integers(0, 255, (2, 9)).tolist()
        lines.append(json.dumps({"word": "ant", "recognized": True, "drawing": [[xs, ys]]}))
    (tmp_path / "drawings").mkdir()
    (tmp_path / "drawings" / "ant.ndjson").write_text("\n".join([*lines, lines[0]]) + "\n")
    index = build_index(tmp_path / "drawings", tmp_path / "x.index")
    hits = index.search(index.sample(index.rows()[0]), 5)
    assert {hit.path for hit in hits} <= {f"{tmp_path}/drawings/ant.ndjson:{number}" for number in range(1, 6)}
    (group,) = index.duplicates()
    assert [path.rsplit("/", 1)[-1] for path in group.paths] == ["ant.ndjson:1", "ant.ndjson:5"]
    done = move_copies([group], tmp_path / "away", index.roots)
    assert done.moved == []
    assert "is not a file of its own on this computer" in done.left[0]["reason"]
    assert counts(build_index(tmp_path / "drawings", tmp_path / "x.index").facts) == {"unchanged": 5}


def test_a_file_that_cannot_be_read_now_but_is_what_it_was_stays(
    collection: Path, update: Callable[[], Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [row.id for row in update().rows()]
    first = ImageSource.open(collection)
    gone = first.samples[0]
    without = replace(
        first, samples=first.samples[1:], excluded=(*first.excluded, Excluded(gone.id, "no permission to read it"))
    )
    monkeypatch.setattr(ImageSource, "open", lambda *_, **__: without)
    index = update()
    assert counts(index.facts) == {"unchanged": 11}
    assert [row.id for row in index.rows()] == ids
    (collection / gone.id).unlink()
    assert counts(update().facts) == {"unchanged": 11, "removed": 1}


def test_one_of_two_sources_is_moved(
    collection: Path, update: Callable[[], Index], tmp_path: Path, photo_set: Callable[..., Path], store_name: str
) -> None:
    index = update()
    more = photo_set(tmp_path / "more", 2, first=30)
    index.add(more)
    collection.rename(tmp_path / "elsewhere")
    moved = build_index(tmp_path / "elsewhere", index.path, store=store_name)
    assert (counts(moved.facts), len(moved)) == ({"unchanged": 12}, 18)


def test_a_zip_file_moves_with_its_index(tmp_path: Path, photo_set: Callable[..., Path]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.make_archive(str(home / "all"), "zip", photo_set(tmp_path / "photos", 2))
    build_index(home / "all.zip", home / "x.index").close()
    home.rename(tmp_path / "away")
    index = Index.open(tmp_path / "away" / "x.index")
    assert all(index.sample(row).read() for row in index.rows())
    query = index.sample(index.rows()[0])
    assert query.location not in [hit.path for hit in index.search(query, 10)]
    assert counts(build_index(tmp_path / "away" / "all.zip", index.path).facts) == {"unchanged": 6}


def test_odd_but_honest_calls(indexed: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    features = indexed.features([indexed.rows()[0].id])[0]
    assert len(indexed.search(features, np.int64(3))) == 3
    assert len(indexed.search(features, 10**9)) == len(indexed)
    with pytest.raises(UsageError, match="finite"):
        indexed.search(np.full(1280, np.nan))
    with pytest.raises(UsageError, match="four whole numbers"):
        indexed.search(np.zeros((9, 9, 3), np.uint8), crop=(0, 0, 1.5, 2))
    monkeypatch.chdir(indexed.path.parent)
    with Index.open("photos.index") as relative:
        monkeypatch.chdir(tmp_path)
        assert len(relative.search(features, 99, "label = 'dots'")) == 8


def test_a_newer_index_is_refused(indexed: Index, tmp_path: Path) -> None:
    copy = shutil.copytree(indexed.path, tmp_path / "copy.index")
    (copy / "index.json").write_text((copy / "index.json").read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(topwork.TopworkError, match="newer topwork"):
        Index.open(copy)


@pytest.mark.parametrize("damage", [b"", b"not a database at all", b"SQLite format 3\0" + bytes(500)])
def test_a_damaged_table_is_said(indexed: Index, tmp_path: Path, damage: bytes) -> None:
    copy = shutil.copytree(indexed.path, tmp_path / "copy.index")
    (copy / "pictures.sqlite").write_bytes(damage)
    with pytest.raises(topwork.TopworkError, match=r"expected the table .*; delete the index"):
        Index.open(copy).search(np.ones(1280, np.float32))


def test_no_index_is_made_where_nothing_can_be_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.png"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"nonsense")
    with pytest.raises(topwork.SourceError, match=r"there is none: 3 left out, such as a.jpg \("):
        build_index(tmp_path / "photos", tmp_path / "x.index")
    assert not (tmp_path / "x.index").exists()

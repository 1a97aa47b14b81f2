"""Copies are found by the one logic, and moved so that nothing can be lost."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from topwork.auditing import audit
from topwork.errors import TopworkError, UsageError
from topwork.retrieval import Index, build_index, moving
from topwork.retrieval.moving import MARKER, move_copies, undo

PLANTED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((160, 120), Image.Resampling.LANCZOS),
    "cropped": lambda image: image.crop((8, 6, 312, 234)),  # 5 % less each way
    "mirrored": ImageOps.mirror,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, scene: Callable[[int], np.ndarray]) -> Path:
    """40 pictures; of the first few there are copies, one of each kind."""
    folder = tmp_path_factory.mktemp("planted")
    for seed in range(40):
        Image.fromarray(scene(seed)).save(folder / f"{seed:02}.png")
    for seed, (name, change) in enumerate(PLANTED.items()):
        change(Image.fromarray(scene(seed))).save(folder / f"{seed:02}-{name}.png")
    Image.fromarray(scene(5)).save(folder / "05-encoded.jpg", quality=40)
    (folder / "06-copied.png").write_bytes((folder / "06.png").read_bytes())
    (folder / "07-copied.png").write_bytes((folder / "07.png").read_bytes())
    Image.fromarray(scene(7)).save(folder / "07-encoded.jpg", quality=60)
    return folder


@pytest.fixture(scope="module")
def index(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return build_index(planted, tmp_path_factory.mktemp("index") / "planted.index")


def groups_of(index: Index) -> list[tuple[str, set[str]]]:
    return [(group.kind, {row.path for row in group.rows}) for group in index.duplicates()]


def test_every_planted_copy_is_found_and_nothing_else(index: Index) -> None:
    planted = [(f"{seed:02}.png", f"{seed:02}-{name}.png") for seed, name in enumerate(PLANTED)]
    expected = [("near", set(pair)) for pair in planted]
    expected += [("near", {"05.png", "05-encoded.jpg"}), ("exact", {"06.png", "06-copied.png"})]
    expected += [("near", {"07.png", "07-copied.png", "07-encoded.jpg"})]
    assert sorted(groups_of(index), key=str) == sorted(expected, key=str)


def test_audit_finds_the_same_groups(index: Index, planted: Path) -> None:
    facts = audit(planted).facts
    near = [("near", set(group)) for group in facts["near_duplicates"]]
    exact = [("exact", set(group)) for group in facts["exact_duplicates"] if not any(set(group) <= n for _, n in near)]
    assert sorted(groups_of(index), key=str) == sorted(near + exact, key=str)


@pytest.mark.parametrize("options", [{"features": "logits"}, {"vectors": "plain"}, {"vectors": "pca"}])
def test_what_is_searched_does_not_change_what_is_a_copy(
    index: Index, planted: Path, tmp_path: Path, options: dict[str, str]
) -> None:
    with build_index(planted, tmp_path / "x.index", **options) as other:  # type: ignore[arg-type]
        assert groups_of(other) == groups_of(index)


def test_the_best_comes_first(index: Index) -> None:
    best = {group.rows[0].path for group in index.duplicates()}
    assert {"00.png", "01.png", "05.png", "06.png", "07.png"} <= best  # larger, whole, without loss, shorter name


def test_different_labels_are_named(tmp_path: Path, scene: Callable[[int], np.ndarray]) -> None:
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.fromarray(scene(1)).save(tmp_path / "photos" / label / "x.png")
        Image.fromarray(scene(len(label) + ord(label))).save(tmp_path / "photos" / label / "y.png")
    (group,) = build_index(tmp_path / "photos", tmp_path / "x.index").duplicates()
    assert (group.labels, group.as_dict()["kind"]) == (["a", "b"], "exact")


@pytest.fixture
def photos(planted: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(planted, tmp_path / "photos"))


@pytest.fixture
def own(photos: Path, tmp_path: Path) -> Index:
    return build_index(photos, tmp_path / "own.index")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


def test_all_but_the_best_move_and_come_back(own: Index, photos: Path, tmp_path: Path) -> None:
    before, away = contents(photos), tmp_path / "away"
    groups = own.duplicates()
    done = move_copies(groups, away, own.roots)
    assert sorted(done.moved) == sorted(path for group in groups for path in group.paths[1:])
    assert done.left == []
    assert contents(photos) | contents(away) == before
    assert not contents(photos).keys() & contents(away).keys()
    again = build_index(photos, own.path)
    assert again.facts["removed"] == len(done.moved)
    assert again.duplicates() == []
    back = undo(away)
    assert sorted(back.moved) == sorted(done.moved)
    assert contents(photos) == before
    assert not away.exists()


def test_a_changed_picture_stays_and_so_do_all_where_the_best_has_changed(
    own: Index, photos: Path, tmp_path: Path
) -> None:
    (photos / "06.png").write_bytes(b"other")
    (photos / "00-resized.png").unlink()
    before = contents(photos)
    done = move_copies(own.duplicates(), tmp_path / "away", own.roots)
    reasons = {Path(row["path"]).name: row["reason"] for row in done.left}
    assert set(reasons) == {"06-copied.png", "00-resized.png"}
    assert "has changed since it was indexed" in reasons["06-copied.png"]
    assert reasons["00-resized.png"] == "cannot be read: file not found"
    assert contents(photos) | contents(tmp_path / "away") == before


def test_a_link_to_the_best_is_not_taken_for_a_copy(photos: Path, tmp_path: Path) -> None:
    (photos / "a-link.png").symlink_to(photos / "30.png")
    index = build_index(photos, tmp_path / "x.index")
    (group,) = [each for each in index.duplicates() if any("link" in row.path for row in each.rows)]
    done = move_copies([group], tmp_path / "away", index.roots)
    assert done.moved == []
    assert done.left[0]["reason"] == "it is a link"
    assert not (tmp_path / "away").exists()


def test_undo_overwrites_nothing(own: Index, photos: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    move_copies(own.duplicates(), away, own.roots)
    (photos / "06-copied.png").write_bytes(b"a new picture in its place")
    done = undo(away)
    assert [(Path(row["path"]).name, row["reason"]) for row in done.left] == [
        ("06-copied.png", "there is another file now")
    ]
    assert (photos / "06-copied.png").read_bytes() == b"a new picture in its place"
    assert list(contents(away)) == ["06-copied.png"]
    (photos / "06-copied.png").unlink()
    assert len(undo(away).moved) == 1
    assert not away.exists()


def test_a_killed_run_can_be_undone(own: Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, away, moves = contents(photos), tmp_path / "away", []

    def dies(source: Path, target: Path, real: Any = moving._move) -> None:
        if len(moves) == 2:
            raise KeyboardInterrupt
        moves.append(source)
        real(source, target)

    monkeypatch.setattr(moving, "_move", dies)
    with pytest.raises(KeyboardInterrupt):
        move_copies(own.duplicates(), away, own.roots)
    monkeypatch.undo()
    assert len(undo(away).moved) == 2
    assert contents(photos) == before


def test_to_another_disk_a_file_moves_whole_and_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    source, target = tmp_path / "a.jpg", tmp_path / "away" / "a.jpg"
    source.write_bytes(b"picture")
    os.utime(source, (1e9, 1e9))
    monkeypatch.setattr(os, "rename", other_disk)
    moving._move(source, target)
    assert (target.read_bytes(), target.stat().st_mtime) == (b"picture", 1e9)
    assert list(tmp_path.rglob("*")) == [target.parent, target]


def test_two_runs_move_to_one_folder(own: Index, photos: Path, tmp_path: Path, scene: Any) -> None:
    before, away = contents(photos), tmp_path / "away"
    first = move_copies(own.duplicates(), away, own.roots)
    (photos / "06-copied.png").write_bytes((photos / "06.png").read_bytes())
    second = move_copies(build_index(photos, own.path).duplicates(), away, own.roots)
    assert [Path(path).name for path in second.moved] == ["06-copied.png"]
    assert "06-copied-2.png" in contents(away)
    done = undo(away)
    assert len(done.moved) == len(first.moved)
    assert [row["reason"] for row in done.left] == ["there is another file now"]
    assert contents(photos) == before


def test_another_disk_is_no_obstacle(own: Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(source: Any, target: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    before = contents(photos)
    monkeypatch.setattr(os, "rename", rename)
    done = move_copies(own.duplicates(), tmp_path / "away", own.roots)
    assert done.left == []
    assert contents(photos) | contents(tmp_path / "away") == before


def test_places_that_are_no_good(own: Index, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would be indexed again"):
        move_copies(own.duplicates(), photos / "copies", own.roots)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").write_text("x")
    with pytest.raises(TopworkError, match="something else"):
        move_copies(own.duplicates(), tmp_path / "mine", own.roots)
    with pytest.raises(TopworkError, match="expected a folder of moved copies"):
        undo(tmp_path / "mine")


def test_pictures_in_an_archive_stay(tmp_path: Path, scene: Callable[[int], np.ndarray]) -> None:
    import zipfile

    buffer = io.BytesIO()
    Image.fromarray(scene(3)).save(buffer, "PNG")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("a.png", "b.png"):
            archive.writestr(name, buffer.getvalue())
    index = build_index(tmp_path / "all.zip", tmp_path / "x.index")
    done = move_copies(index.duplicates(), tmp_path / "away", index.roots)
    assert done.moved == []
    assert "not a file of its own on this computer" in done.left[0]["reason"]


def test_exact_copies_are_listed_though_there_is_a_near_one_as_well(planted: Path, tmp_path: Path) -> None:
    with build_index(planted, tmp_path / "x.index") as index:
        exact = [[Path(path).name for path in group.paths] for group in index.duplicates(exact=True)]
        assert exact == [["06.png", "06-copied.png"], ["07.png", "07-copied.png"]]
        (near,) = [group for group in index.duplicates() if "07.png" in map(os.path.basename, group.paths)]
        assert len(near.paths) == 3

import importlib
import os
import shutil
import sys
import zipfile
from pathlib import Path
from uuid import uuid4

import pytest

from topwork.errors import ImageError, MissingExtraError, SourceError, UsageError
from topwork.images import ImageSource, Sample

links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


def table(source: ImageSource) -> list[tuple[str, str | None, str | None]]:
    return [(sample.id, sample.label, sample.split) for sample in source.samples]


def excluded(source: ImageSource) -> dict[str, str]:
    found = {each.path: each.reason for each in source.excluded}
    assert len(found) == len(source.excluded)
    return found


def message(source: object, **options: bool) -> str:
    with pytest.raises((SourceError, UsageError)) as caught:
        ImageSource.open(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


def test_a_folder_per_class(tree):
    root = tree("b/2.jpg", "b/1.jpg", "a/deep/er/1.jpg", "a/no suffix", "loose.png")
    source = ImageSource.open(root)
    assert source.kind == "classes"
    assert source.root == str(root)
    assert source.classes == ["a", "b"]
    assert table(source) == [
        ("a/deep/er/1.jpg", "a", None),
        ("a/no suffix", "a", None),
        ("b/1.jpg", "b", None),
        ("b/2.jpg", "b", None),
        ("loose.png", None, None),
    ]
    assert source.excluded == ()
    for sample in source.samples:
        assert os.path.isabs(sample.location)
        assert sample.read() == sample.id.encode()
    assert source.samples[0].read(limit=3) == b"a/d"


def test_the_answer_does_not_depend_on_the_working_folder_or_the_way_of_writing(tree, monkeypatch):
    root = tree("a/1.jpg", "b/1.jpg")
    monkeypatch.chdir(root.parent)
    wanted = ImageSource.open(root)
    assert ImageSource.open("root") == wanted
    assert ImageSource.open("root/") == wanted
    assert ImageSource.open("./root/../root") == wanted
    assert ImageSource.open(f"file://{root}") == wanted
    assert ImageSource.open(wanted) is wanted


def test_splits(tree):
    root = tree("train/a/1.jpg", "train/b/x/2.jpg", "Validation/a/3.jpg", "valid/b/3.jpg", "test/4.jpg", "loose.jpg")
    source = ImageSource.open(root)
    assert source.kind == "splits"
    assert table(source) == [
        ("Validation/a/3.jpg", "a", "val"),
        ("loose.jpg", None, None),
        ("test/4.jpg", None, "test"),
        ("train/a/1.jpg", "a", "train"),
        ("train/b/x/2.jpg", "b", "train"),
        ("valid/b/3.jpg", "b", "val"),
    ]


@pytest.mark.parametrize(
    ("folders", "kind"),
    [
        (["train"], "splits"),
        (["val", "test"], "splits"),
        (["test"], "classes"),
        (["training"], "splits"),
        (["Training", "Testing"], "splits"),
        (["test", "bus"], "classes"),
        (["testing", "val", "bus"], "classes"),
        (["train", ".cache"], "splits"),
    ],
)
def test_when_a_folder_is_of_splits(tree, folders, kind):
    assert ImageSource.open(tree(*(f"{folder}/a/1.jpg" for folder in folders))).kind == kind


def test_folders_without_pictures_do_not_change_the_splits(tree):
    root = tree("training/a/1.jpg", "testing/a/1.jpg", "about/notes.txt")
    (root / "empty").mkdir()
    source = ImageSource.open(root)
    assert (source.kind, source.classes) == ("splits", ["a"])
    assert [sample.split for sample in source.samples] == ["test", "train"]


@pytest.mark.parametrize(
    "paths",
    [
        ["train/a/1.jpg", "test/a/1.jpg", "misc/1.jpg"],
        ["training/a/1.jpg", "testing/a/1.jpg", "misc/1.jpg"],
        ["train/1.jpg", "val/1.jpg", "misc/1.jpg"],
        ["Train/a/1.jpg", "misc/1.jpg"],
    ],
)
def test_other_folders_beside_splits_are_an_error(tree, paths):
    root = tree(*paths)
    text = message(root)
    assert "there is misc; move" in text
    assert paths[0].split("/")[0] in text
    assert len(ImageSource.open(root, labelled=False).samples) == len(paths)


@pytest.mark.parametrize("classes", [["a", "b", "test"], ["bus", "train"]])
def test_classes_called_like_a_split(tree, classes):
    assert ImageSource.open(tree(*(f"{name}/1.jpg" for name in classes))).classes == classes


def test_model_folders_are_no_classes(tree):
    root = tree("a/1.jpg", "b/1.jpg", "b/model.json", "b/old/m/model.json", "b/old/m/model.onnx", "b/old/m/x.png")
    model = ["model.json", "model.onnx", "report.html", "golden/0.png"]
    root = tree(*(f"cars.topwork/{name}" for name in model))
    source = ImageSource.open(root)
    assert source.classes == ["a", "b"]
    assert [sample.id for sample in source.samples] == ["a/1.jpg", "b/1.jpg"]
    reasons = {"cars.topwork": "a topwork model", "b/old/m": "a topwork model", "b/model.json": "not a picture (.json)"}
    assert excluded(source) == reasons
    assert "it is a topwork model; give the folder of its pictures" in message(root / "cars.topwork")


def test_model_folders_do_not_change_the_splits(tree):
    root = tree("train/a/1.jpg", "test/a/1.jpg", "m/model.json", "m/model.onnx", "m/golden/0.png")
    assert ImageSource.open(root).kind == "splits"


def test_for_prediction_what_cannot_be_read_is_enough(tree):
    root = tree("b/.hidden")
    assert "no picture was found" in message(root, labelled=False)
    (root / "pictures.csv").write_text("path\ngone.jpg\n")
    source = ImageSource.open(root / "pictures.csv", labelled=False)
    assert (source.kind, source.samples, excluded(source)) == ("manifest", (), {"gone.jpg": "file not found"})
    assert "no picture was found" in message(root / "pictures.csv")


def test_unlabelled_folder_and_single_picture(tree):
    root = tree("1.jpg", "2.jpg", ".hidden/x.jpg")
    source = ImageSource.open(root)
    assert (source.kind, table(source)) == ("unlabelled", [("1.jpg", None, None), ("2.jpg", None, None)])
    one = ImageSource.open(root / "1.jpg")
    assert (one.kind, table(one), one.samples[0].read()) == ("unlabelled", [("1.jpg", None, None)], b"1.jpg")


def test_labelled_demands_or_forgets_labels(tree):
    root = tree("a/1.jpg", "b/1.jpg")
    assert ImageSource.open(root, labelled=True).classes == ["a", "b"]
    forgotten = ImageSource.open(root, labelled=False)
    assert (forgotten.kind, table(forgotten)) == (
        "unlabelled",
        [("a/1.jpg", None, None), ("b/1.jpg", None, None)],
    )
    assert "none has a label" in message(root / "a", labelled=True)
    assert "the list" in message([root / "a"], labelled=True)


def test_a_list_keeps_its_order_and_names_what_is_missing(tree, monkeypatch):
    root = tree("z.jpg", "b/2.jpg", "b/1.jpg", "b/.hidden", "notes.txt")
    monkeypatch.chdir(root)
    source = ImageSource.open(["z.jpg", Path("b"), "gone.jpg", "z.jpg", "notes.txt"])
    assert source.kind == "list"
    assert [sample.id for sample in source.samples] == ["z.jpg", "b/1.jpg", "b/2.jpg", "notes.txt"]
    assert [sample.read() for sample in source.samples] == [b"z.jpg", b"b/1.jpg", b"b/2.jpg", b"notes.txt"]
    assert excluded(source) == {
        "gone.jpg": "file not found",
        "z.jpg": "listed before",
        "b/.hidden": "hidden file",
    }
    assert "no picture was found in the list (1 left out, such as gone: file not found)" in message(["gone"])
    assert "no picture" in message([])
    assert "int" in message([3])


def test_hidden_files_and_other_files_are_listed(tree):
    root = tree(
        "a/1.jpg",
        "a/.DS_Store",
        "a/Thumbs.db",
        "desktop.ini",
        ".git/config",
        ".git/objects/1.jpg",
        "__MACOSX/a/._1.jpg",
        "a/README.TXT",
        "labels.csv",
        "a/sound.mp3",
    )
    source = ImageSource.open(root)
    assert [sample.id for sample in source.samples] == ["a/1.jpg"]
    assert excluded(source) == {
        "a/.DS_Store": "hidden file",
        "a/Thumbs.db": "hidden file",
        "desktop.ini": "hidden file",
        ".git": "hidden folder",
        "__MACOSX": "hidden folder",
        "a/README.TXT": "not a picture (.txt)",
        "labels.csv": "not a picture (.csv)",
        "a/sound.mp3": "not a picture (.mp3)",
    }


def test_empty_class_folders_are_listed(tree):
    root = tree("a/1.jpg")
    (root / "b").mkdir()
    assert excluded(ImageSource.open(root)) == {"b": "empty folder"}


@links
def test_links_are_followed_and_loops_named(tree, tmp_path):
    root = tree("a/1.jpg", "b/1.jpg")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "9.jpg").write_bytes(b"9")
    (root / "c").symlink_to(outside, target_is_directory=True)
    (root / "a" / "link.jpg").symlink_to(root / "b" / "1.jpg")
    (root / "a" / "up").symlink_to(root, target_is_directory=True)
    (root / "a" / "self").symlink_to(root / "a", target_is_directory=True)
    (root / "a" / "broken.jpg").symlink_to(root / "nothing.jpg")
    (root / "a" / "endless.jpg").symlink_to("endless.jpg")
    (outside / "cross").symlink_to(root / "c", target_is_directory=True)
    source = ImageSource.open(root)
    assert [sample.id for sample in source.samples] == ["a/1.jpg", "a/link.jpg", "b/1.jpg", "c/9.jpg"]
    loop = "a link to a folder that it is in"
    assert excluded(source) == {
        "a/up": loop,
        "a/self": loop,
        "c/cross": loop,
        "a/broken.jpg": "broken link",
        "a/endless.jpg": "broken link",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipes_are_not_read(tree):
    root = tree("a/1.jpg")
    os.mkfifo(root / "a" / "pipe.jpg")
    assert excluded(ImageSource.open(root)) == {"a/pipe.jpg": "not a regular file"}


def test_folders_that_cannot_be_read_are_listed(tree, monkeypatch):
    root = tree("a/1.jpg", "b/1.jpg")
    scandir = os.scandir

    def refuse(path: str) -> object:  # as a permission would, which root and Windows do not heed
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    source = ImageSource.open(root)
    assert [sample.id for sample in source.samples] == ["a/1.jpg"]
    assert excluded(source) == {"b": "folder: no permission to read it"}


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes exist on Linux only")
def test_unusual_names(tree):
    names = [
        "käse/ß.jpg",
        "ka\u0308se/1.jpg",
        "猫/🐈.jpg",
        "a\nb/c\td.jpg",
        " /' \".jpg",
        "x/" + "n" * 240 + ".jpg",
    ]
    root = tree(*names)
    source = ImageSource.open(root)
    assert [sample.id for sample in source.samples] == sorted(names)
    assert [sample.read() for sample in source.samples] == [name.encode() for name in sorted(names)]
    assert source.classes == ["a\nb", "k\u00e4se", "x", "猫"]
    assert len(source.notes) == 2
    with open(os.path.join(os.fsencode(root), b"x", b"\xff.jpg"), "wb"):
        pass
    assert excluded(ImageSource.open(root)) == {"x/\\udcff.jpg": "the name is not valid UTF-8; rename the file"}


def test_deep_nesting(tmp_path):
    shallow = "/".join(["d"] * 300)
    (tmp_path / shallow).mkdir(parents=True)
    (tmp_path / shallow / "1.jpg").write_bytes(b"1")
    assert [sample.label for sample in ImageSource.open(tmp_path).samples] == ["d"]


def test_errors_say_what_was_expected(tree, tmp_path):
    root = tree("notes.md", "empty/.keep")
    assert "there is nothing; check the path" in message(tmp_path / "gone")
    assert "2 left out" in message(root)
    assert "hidden file" in message(root / "empty")
    assert "is a .md file" in message(root / "notes.md")
    assert "not int" in message(3)
    assert "not bytes" in message(b"root")
    assert "is empty" in message("")
    assert "zero byte" in message("a\0b")


def test_reading_problems_are_image_errors(tmp_path):
    with pytest.raises(ImageError, match=r"^file not found$"):
        Sample("a", str(tmp_path / "a")).read()
    with pytest.raises(ImageError, match=r"^a folder, not a file$"):
        Sample("a", str(tmp_path)).read()
    with pytest.raises(ImageError, match=r"^file not found$"):
        Sample("a", "memory://no/such/file.jpg").read()


@pytest.fixture
def memory():
    import fsspec

    filesystem = fsspec.filesystem("memory")
    root = f"/{uuid4().hex}"
    yield lambda path, data: filesystem.pipe_file(f"{root}/{path}", data), f"memory:/{root}"
    filesystem.rm(root, recursive=True)


def test_memory_urls(memory):
    put, url = memory
    for path in ("a/1.jpg", "b/ü 2.jpg", "b/.hidden", "b/notes.txt"):
        put(path, path.encode())
    source = ImageSource.open(url)
    assert source.kind == "classes"
    assert table(source) == [("a/1.jpg", "a", None), ("b/ü 2.jpg", "b", None)]
    assert [sample.read() for sample in source.samples] == [b"a/1.jpg", "b/ü 2.jpg".encode()]
    assert source.samples[0].read(limit=1) == b"a"
    assert excluded(source) == {"b/.hidden": "hidden file", "b/notes.txt": "not a picture (.txt)"}
    assert [sample.id for sample in ImageSource.open(f"{url}/a/1.jpg").samples] == ["1.jpg"]
    items = ImageSource.open([f"{url}/a/1.jpg", f"{url}/b", f"{url}/gone.jpg"])
    assert [sample.read() for sample in items.samples] == [b"a/1.jpg", "b/ü 2.jpg".encode()]
    assert len(items.excluded) == 2 + 1
    assert "there is nothing" in message(f"{url}/gone")


def test_a_manifest_behind_a_url(memory):
    put, url = memory
    put("pictures/1.jpg", b"1")
    put("lists/m.csv", f"path,label\n../pictures/1.jpg,a\n{url}/pictures/1.jpg,a\nno.jpg,b\n".encode())
    source = ImageSource.open(f"{url}/lists/m.csv")
    assert table(source) == [("../pictures/1.jpg", "a", None)]
    assert source.samples[0].read() == b"1"
    assert excluded(source) == {f"{url}/pictures/1.jpg": "line 3 repeats line 2", "no.jpg": "file not found"}


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def test_zip_files(tmp_path):
    path = zipped(tmp_path / "cars.zip", "a/1.jpg", "a/x/2.jpg", "b/ß.jpg", "__MACOSX/a/._1.jpg", "b/notes.txt")
    wanted = [("a/1.jpg", "a", None), ("a/x/2.jpg", "a", None), ("b/ß.jpg", "b", None)]
    for url in (path, str(path), f"zip://::{path}", f"zip://::file://{path}"):
        source = ImageSource.open(url)
        assert table(source) == wanted
        assert [sample.read().decode() for sample in source.samples] == [sample.id for sample in source.samples]
        assert excluded(source) == {"__MACOSX": "hidden folder", "b/notes.txt": "not a picture (.txt)"}
    inner = ImageSource.open(f"zip://a::{path}")
    assert [(sample.id, sample.label, sample.read()) for sample in inner.samples] == [
        ("1.jpg", None, b"a/1.jpg"),
        ("x/2.jpg", "x", b"a/x/2.jpg"),
    ]
    with pytest.raises(ImageError):
        Sample("c", f"zip://c.jpg::{path}").read()


def test_a_zip_with_one_folder_at_its_top(tmp_path):
    path = zipped(tmp_path / "cars.zip", "cars/a/1.jpg", "cars/b/1.jpg", "__MACOSX/x")
    assert table(ImageSource.open(path)) == [("a/1.jpg", "a", None), ("b/1.jpg", "b", None)]
    one_class = zipped(tmp_path / "one.zip", "a/1.jpg")
    assert table(ImageSource.open(one_class)) == [("a/1.jpg", "a", None)]
    whole = ImageSource.open(path, labelled=False)
    assert [(sample.id, sample.read()) for sample in whole.samples] == [
        ("cars/a/1.jpg", b"cars/a/1.jpg"),
        ("cars/b/1.jpg", b"cars/b/1.jpg"),
    ]
    train = zipped(tmp_path / "train.zip", "train/a/1.jpg")
    assert table(ImageSource.open(train)) == [("train/a/1.jpg", "a", "train")]


def test_a_manifest_in_a_zip(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("p/m.csv", "path,label\n1.jpg,a\n2.jpg,b\n")
        archive.writestr("p/1.jpg", "one")
    source = ImageSource.open(f"zip://p/m.csv::{path}")
    assert table(source) == [("1.jpg", "a", None)]
    assert source.samples[0].read() == b"one"
    assert excluded(source) == {"2.jpg": "file not found"}


def test_a_zip_that_changed_is_read_anew(tmp_path):
    path = zipped(tmp_path / "x.zip", "a/1.jpg")
    assert ImageSource.open(path).samples[0].read() == b"a/1.jpg"
    path.unlink()
    zipped(path, "b/long name.jpg", "b/2.jpg")
    assert [sample.read() for sample in ImageSource.open(path).samples] == [b"b/2.jpg", b"b/long name.jpg"]


def test_a_damaged_zip_is_a_source_error(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK not really")
    assert "x.zip" in message(tmp_path / "x.zip")


def test_missing_packages_and_unknown_protocols(monkeypatch):
    registry = importlib.import_module("fsspec.registry")  # the attribute fsspec.registry is something else

    def no_package(name: str) -> object:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(registry, "_import_class", no_package)
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "topwork\[s3\]"'):
        ImageSource.open("s3://bucket/cars")
    assert "nosuch" in message("nosuch://bucket/cars")


def test_a_source_survives_the_removal_of_a_file(tree):
    root = tree("a/1.jpg", "a/2.jpg")
    source = ImageSource.open(root)
    shutil.rmtree(root)
    with pytest.raises(ImageError, match="file not found"):
        source.samples[0].read()

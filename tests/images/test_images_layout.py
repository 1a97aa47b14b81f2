"""What folders of real data sets mean: the layouts and names that people report."""

import os
import unicodedata

import pytest

from topwork.errors import SourceError
from topwork.images import ImageSource

NFC, NFD = (unicodedata.normalize(form, "Kätzchen") for form in ("NFC", "NFD"))
posix = pytest.mark.skipif(os.name == "nt", reason="Windows takes blanks off names")


def found(source: ImageSource) -> list[tuple[str | None, str | None]]:
    return sorted({(sample.label, sample.split) for sample in source.samples}, key=str)


_SPLITS = {
    "training_set": "test_set",
    "seg_train": "seg_test",
    "Training Data": "Validation Data",
    "trainset": "testset",
    "train_images": "test_images",
    "cars_train": "cars_test",
    "train2017": "val2017",
    "TrainSet": "TestSet",
    "imagenet-train": "imagenet-valid",
    "Training": "Test",
    "dataset.train": "dataset.testing",
}


@pytest.mark.parametrize("train", _SPLITS)
def test_splits_by_other_names(tree, train):
    other = _SPLITS[train]
    source = ImageSource.open(tree(f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{other}/a/1.jpg", f"{other}/b/2.jpg"))
    which = "val" if "val" in other.lower() else "test"
    wanted = [("a", "train"), ("a", which), ("b", "train"), ("b", which)]
    assert (source.kind, found(source)) == ("splits", sorted(wanted, key=str))
    is_plain = train.lower() in ("training", "train")
    assert [note.startswith("folders were taken as splits") for note in source.notes] == ([] if is_plain else [True])


@pytest.mark.parametrize(
    "classes",
    [
        ["freight_train", "toy_train"],
        ["test_tube", "flask"],
        ["train1", "train2"],
        ["set", "data"],
        ["mistrain", "contest"],
        ["val_thorens", "test_valley"],
    ],
)
def test_classes_with_a_word_of_a_split_in_their_name(tree, classes):
    source = ImageSource.open(tree(*(f"{name}/1.jpg" for name in classes)))
    assert (source.kind, source.classes, source.notes) == ("classes", sorted(classes), ())


def test_a_third_folder_beside_splits_is_asked_about(tree):
    root = tree("seg_train/a/1.jpg", "seg_test/a/1.jpg", "seg_pred/1.jpg")
    with pytest.raises(SourceError, match=r"beside the splits \(seg_test, seg_train\) there is seg_pred; move"):
        ImageSource.open(root)


def test_splits_that_hold_themselves_again(tree):
    root = tree(*(f"seg_{split}/seg_{split}/{label}/1.jpg" for split in ("train", "test") for label in "ab"))
    source = ImageSource.open(root)
    assert found(source) == [("a", "test"), ("a", "train"), ("b", "test"), ("b", "train")]
    assert "the classes lie one folder deeper" in source.notes[1]


@pytest.mark.parametrize("above", ["PetImages", "data/PetImages", "archive/data/PetImages"])
def test_classes_one_level_too_deep(tree, above):
    source = ImageSource.open(tree(f"{above}/Cat/1.jpg", f"{above}/Dog/x/2.jpg", "readme.txt"))
    assert [sample.id for sample in source.samples] == [f"{above}/Cat/1.jpg", f"{above}/Dog/x/2.jpg"]
    assert (source.classes, source.notes) == (["Cat", "Dog"], (f"the classes were taken from inside {above}",))


def test_splits_one_level_too_deep(tree):
    source = ImageSource.open(tree("dataset/training_set/a/1.jpg", "dataset/test_set/a/1.jpg"))
    assert found(source) == [("a", "test"), ("a", "train")]


@pytest.mark.parametrize(
    "paths", [["cat/1.jpg"], ["cat/x/1.jpg"], ["cat/x/1.jpg", "cat/2.jpg"], ["cat/x/1.jpg", "loose.jpg"]]
)
def test_one_class_stays_one(tree, paths):
    source = ImageSource.open(tree(*paths))
    assert (source.classes, source.notes) == (["cat"], ())


@posix
def test_names_of_classes_count_in_one_form(tree):
    source = ImageSource.open(tree("cat/1.jpg", "cat /2.jpg", f"{NFC}/3.jpg", f"{NFD}/4.jpg", "dog/5.jpg"))
    assert source.classes == [NFC, "cat", "dog"]
    assert source.notes[0] == f"the names {NFD!r} (accents stored apart) and {NFC!r} count as one class, {NFC}"
    assert source.notes[1] == "the names 'cat' and 'cat ' count as one class, cat"
    assert all(sample.read() for sample in source.samples)


@posix
@pytest.mark.parametrize("stored", [NFC, NFD])
@pytest.mark.parametrize("written", [NFC, NFD])
def test_a_file_is_found_in_whatever_form_its_name_is_stored(tree, stored, written):
    root = tree(f"{stored}/{stored}.jpg", "1.jpg")
    (root / "list.csv").write_text(f"path,label,group\n{written}/{written}.jpg,{written},{NFD}\n1.jpg,{NFC},{NFC}\n")
    source = ImageSource.open(root / "list.csv")
    assert source.excluded == ()
    assert source.classes == [NFC]
    assert {sample.group for sample in source.samples} == {NFC}
    assert all(sample.read() for sample in source.samples)
    assert bool(source.notes) == (written == NFD)


def test_cells_beyond_the_header_are_named(tree):
    root = tree("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    (root / "list.csv").write_text('path,label\n1.jpg,cat, big\n2.jpg,"cat, small"\n3.jpg,dog,,\n4.jpg,dog, \n')
    source = ImageSource.open(root / "list.csv")
    assert source.classes == ["cat, small", "dog"]
    (left_out,) = source.excluded
    assert left_out.path == "1.jpg"
    assert left_out.reason == "3 cells in line 2, the header has 2; put a value with a comma in it in quotes"


_SYSTEM = ("@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information", ".Trashes", "__MACOSX")


def test_folders_of_the_system_are_no_classes(tree):
    root = tree("a/1.jpg", "b/1.jpg", *(f"{name}/x/1.jpg" for name in _SYSTEM), "a/@eaDir/1.jpg/SYNO.jpg")
    source = ImageSource.open(root)
    assert source.classes == ["a", "b"]
    assert len(source.samples) == 2
    assert {each.reason for each in source.excluded} == {"hidden folder"}
    assert not any(each.is_fault for each in source.excluded)

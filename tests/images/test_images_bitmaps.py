"""QuickDraw's bitmaps and idx files: what is in them, what is refused, and both as sources."""

import gzip
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topwork
from topwork.errors import ImageError, SourceError
from topwork.images import ImageSource, decode
from topwork.images.bitmaps import open_idx, open_npy


def pictures(n: int, height: int = 28, width: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, n]).integers(0, 256, (n, height, width), dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def digits(folder: Path, name: str, n: int, *, end: str = "", dash: str = "-", seed: int = 0) -> np.ndarray:
    """A pair of files; the labels are 0, 1, 2, 0, ..."""
    folder.mkdir(exist_ok=True)
    array = pictures(n, seed=seed)
    put(folder / f"{name}images{dash}idx3-ubyte{end}", idx(array))
    put(folder / f"{name}labels{dash}idx1-ubyte{end}", idx(np.arange(n, dtype=np.uint8) % 3))
    return array


def table(source: ImageSource) -> list[tuple[str, str | None, str | None]]:
    return [(sample.id, sample.label, sample.split) for sample in source.samples]


def message(call: Callable[[], object]) -> str:
    with pytest.raises(SourceError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("expected ")
    return text


# QuickDraw's bitmaps.


@pytest.mark.parametrize("shape", [(5, 784), (5, 28, 28)])
def test_npy(tmp_path, shape):
    array = pictures(5)
    np.save(tmp_path / "ant.npy", array.reshape(shape))
    bitmaps = open_npy(str(tmp_path / "ant.npy"))
    assert (len(bitmaps), bitmaps.labels) == (5, None)
    for index in (4, 0, 2):
        assert (bitmaps.picture(index) == array[index]).all()
    for index in (5, -1):
        with pytest.raises(IndexError):
            bitmaps.picture(index)


def test_the_second_version_of_the_header(tmp_path):
    array = pictures(2)
    with open(tmp_path / "ant.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    assert (open_npy(str(tmp_path / "ant.npy")).picture(1) == array[1]).all()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((3, 784), np.float32), r"float32 \[3, 784\]"),
        (np.zeros((3, 784), np.int8), "int8"),
        (np.zeros((3, 785), np.uint8), r"uint8 \[3, 785\]"),
        (np.zeros((3, 14, 56), np.uint8), r"\[3, 14, 56\]"),
        (np.zeros(784, np.uint8), r"\[784\]"),
        (np.zeros((), np.uint8), r"\[\]"),
        (np.zeros((0, 784), np.uint8), r"\[0, 784\]"),
        (np.asfortranarray(np.zeros((3, 784), np.uint8)), "column by column"),
        (np.zeros((3, 784), [("a", np.uint8)]), "expected bitmaps"),
    ],
    ids=str,
)
def test_other_arrays_are_refused(tmp_path, array, text):
    np.save(tmp_path / "ant.npy", array)
    message(lambda: open_npy(str(tmp_path / "ant.npy")))
    with pytest.raises(SourceError, match=text):
        open_npy(str(tmp_path / "ant.npy"))


class _Spy:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_pickled_arrays_are_never_loaded(tmp_path):
    np.save(tmp_path / "ant.npy", np.array([_Spy(tmp_path / "ran")] * 3, object), allow_pickle=True)
    assert "pickled" in message(lambda: open_npy(str(tmp_path / "ant.npy")))
    assert "pickled" in message(lambda: ImageSource.open(tmp_path / "ant.npy"))
    (tmp_path / "bee.npy").write_bytes(pickle.dumps(_Spy(tmp_path / "ran")))
    assert "its header cannot be read" in message(lambda: open_npy(str(tmp_path / "bee.npy")))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:20]])
def test_npy_files_that_are_not_whole(tmp_path, change):
    np.save(tmp_path / "ant.npy", pictures(2))
    path = tmp_path / "ant.npy"
    path.write_bytes(change(path.read_bytes()))
    message(lambda: open_npy(str(path)))


@settings(deadline=None)
@given(st.binary(max_size=80), st.integers(0, 127))
def test_damaged_headers(tmp_path_factory, data, at):
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, pictures(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    with suppress(SourceError):  # and nothing else
        assert open_npy(str(path)).picture(0).shape == (28, 28)


def test_a_folder_of_bitmaps(tmp_path):
    arrays = {"ant": pictures(2), "full_numpy_bitmap_ice cream": pictures(1, seed=1)}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "features.npy", np.zeros((3, 5)))
    source = ImageSource.open(tmp_path, labelled=True)
    assert table(source) == [
        ("ant.npy:1", "ant", None),
        ("ant.npy:2", "ant", None),
        ("full_numpy_bitmap_ice cream.npy:1", "ice cream", None),
    ]
    (left_out,) = source.excluded
    assert (left_out.path, left_out.is_fault) == ("features.npy", True)
    assert "float64 [3, 5]" in left_out.reason
    picture = decode(source.samples[1].read())
    assert (picture.mode, picture.width, picture.height) == ("L", 28, 28)
    assert (picture.pixels[:, :, 0] == arrays["ant"][1]).all()
    assert [sample.label for sample in ImageSource.open(tmp_path / "ant.npy").samples] == ["ant", "ant"]


def test_arrays_beside_class_folders_change_nothing(tmp_path, photo_set):
    root = photo_set(tmp_path / "photos", 1)
    before = ImageSource.open(root)
    np.save(root / "ant.npy", pictures(2))
    after = ImageSource.open(root)
    assert after.samples == before.samples
    assert [(each.path, each.reason) for each in after.excluded] == [("ant.npy", "not a picture (.npy)")]


# idx files.


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-", "."])
def test_train_and_test(tmp_path, end, dash):
    train = digits(tmp_path, "train-", 4, end=end, dash=dash)
    digits(tmp_path, "t10k-", 2, end=end, dash=dash, seed=1)
    source = ImageSource.open(tmp_path, labelled=True)
    assert (source.kind, source.classes, source.excluded) == ("splits", ["0", "1", "2"], ())
    names = [f"{name}-images{dash}idx3-ubyte{end}" for name in ("t10k", "train")]
    assert table(source) == [
        (f"{names[0]}:1", "0", "test"),
        (f"{names[0]}:2", "1", "test"),
        (f"{names[1]}:1", "0", "train"),
        (f"{names[1]}:2", "1", "train"),
        (f"{names[1]}:3", "2", "train"),
        (f"{names[1]}:4", "0", "train"),
    ]
    samples = pickle.loads(pickle.dumps(source.samples))  # noqa: S301 - our own
    for place in (3, 0, 2, 1):
        assert (decode(samples[2 + place].read()).pixels[:, :, 0] == train[place]).all()
    assert len({sample.location for sample in samples}) == 6
    assert {sample.split for sample in ImageSource.open(tmp_path, labelled=False).samples} == {None}


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_any_size_is_read_back(tmp_path_factory, n, height, width, packed):
    array = pictures(n, height, width)
    path = tmp_path_factory.getbasetemp() / f"any-images-idx3-ubyte{'.gz' if packed else ''}"
    found = open_idx(str(put(path, idx(array))))
    assert [found.picture(index).tolist() for index in range(len(found))] == array.tolist()


def test_one_pair_is_no_split(tmp_path):
    digits(tmp_path / "a", "t10k-", 3)
    digits(tmp_path / "b", "", 3)
    for folder in ("a", "b"):
        source = ImageSource.open(tmp_path / folder)
        assert (source.kind, [sample.split for sample in source.samples]) == ("classes", [None] * 3)
    one = ImageSource.open(tmp_path / "a" / "t10k-images-idx3-ubyte")
    assert [sample.label for sample in one.samples] == ["0", "1", "2"]


def test_labels_and_pictures_packed_or_not(tmp_path):
    digits(tmp_path, "train-", 3)
    labels = tmp_path / "train-labels-idx1-ubyte"
    put(tmp_path / "train-labels-idx1-ubyte.gz", labels.read_bytes())
    labels.unlink()
    put(tmp_path / "train-images-idx3-ubyte.gz", idx(pictures(9)))
    source = ImageSource.open(tmp_path)
    assert [sample.label for sample in source.samples] == ["0", "1", "2"]
    assert [each.path for each in source.excluded] == ["train-images-idx3-ubyte.gz"]
    assert not source.excluded[0].is_fault


def test_pictures_without_labels_and_labels_without_pictures(tmp_path):
    digits(tmp_path, "train-", 3)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "other-images-idx3-ubyte")
    source = ImageSource.open(tmp_path)
    assert [sample.label for sample in source.samples] == [None] * 3
    assert [(each.path, each.is_fault) for each in source.excluded] == [("train-labels-idx1-ubyte", True)]
    assert "none has a label" in message(lambda: ImageSource.open(tmp_path, labelled=True))
    assert "holds labels" in message(lambda: ImageSource.open(tmp_path / "train-labels-idx1-ubyte"))


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (idx(pictures(3))[:-1], None, "truncated"),
        (idx(pictures(3))[:10], None, "starts with"),
        (b"", None, "empty file|nothing"),
        (idx(pictures(3)) + b"x", None, "too long"),
        (b"\0\0\x08\x01" + idx(pictures(3))[4:], None, "00 00 08 03, but it starts with 00 00 08 01"),
        (b"\0\0\x0d\x03" + idx(pictures(3))[4:], None, "00 00 0d 03"),
        (b"\x89PNG" + idx(pictures(3))[4:], None, "89 50 4e 47"),
        (idx(np.zeros((0, 28, 28), np.uint8)), None, r"\[0, 28, 28\]"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**16, 2**16), None, "its header says"),
        (idx(pictures(3)), idx(np.zeros(4, np.uint8)), "each of the 3 pictures .* has 4"),
        (idx(pictures(3)), idx(np.zeros(3, np.uint8))[:-1], "truncated"),
        (idx(pictures(3)), idx(pictures(3)), "idx file of labels .* 00 00 08 03"),
    ],
)
def test_damaged_pairs_are_refused_as_a_whole(tmp_path, end, images, labels, text):
    put(tmp_path / f"train-images-idx3-ubyte{end}", images)
    put(tmp_path / f"train-labels-idx1-ubyte{end}", idx(np.zeros(3, np.uint8)) if labels is None else labels)
    digits(tmp_path, "t10k-", 2)
    with pytest.raises(SourceError, match=text):
        ImageSource.open(tmp_path)
    assert "idx" in message(lambda: ImageSource.open(tmp_path, labelled=False))


def test_damaged_gz_files(tmp_path):
    path = put(tmp_path / "train-images-idx3-ubyte.gz", idx(pictures(30)))
    whole = path.read_bytes()
    for data in (whole[:-100], b"not gzip", whole[:200] + b"????" + whole[204:]):
        path.write_bytes(data)
        assert "cannot be read" in message(lambda: ImageSource.open(tmp_path))
    path.write_bytes(whole)  # what failed before is not remembered
    assert len(ImageSource.open(tmp_path).samples) == 30


def test_a_gz_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("topwork.images.bitmaps.MAX_UNPACKED", 1000)
    put(tmp_path / "train-images-idx3-ubyte.gz", idx(pictures(30)))
    assert "unpacks to more than 1,000 bytes" in message(lambda: ImageSource.open(tmp_path))


@pytest.mark.parametrize("end", ["", ".gz"])
def test_files_that_change_or_vanish(tmp_path, end):
    digits(tmp_path, "train-", 3, end=end)
    sample = ImageSource.open(tmp_path).samples[2]
    path = tmp_path / f"train-images-idx3-ubyte{end}"
    other = pictures(3, seed=7)
    put(path, idx(other))
    assert (decode(sample.read()).pixels[:, :, 0] == other[2]).all()  # never what used to be there
    put(path, idx(other)[:-1])
    with pytest.raises(ImageError, match="shorter"):
        sample.read()
    path.unlink()
    with pytest.raises(ImageError, match="file not found"):
        sample.read()


@pytest.mark.parametrize("end", ["", ".gz"])
def test_no_file_is_in_memory_as_a_whole(tmp_path, end):
    n = 20_000
    put(tmp_path / f"big-images-idx3-ubyte{end}", idx(np.zeros((n, 28, 28), np.uint8)))
    tracemalloc.start()
    try:
        bitmaps = open_idx(str(tmp_path / f"big-images-idx3-ubyte{end}"))
        assert not bitmaps.picture(n - 1).any()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000  # of 16


def test_digits_are_learned(tmp_path):
    """Bars, dots and crosses, drawn by numpy; a network that never saw digits tells them apart."""
    for name, n, seed in (("train-", 30, 0), ("t10k-", 9, 1)):
        labels = np.arange(n, dtype=np.uint8) % 3
        array = np.zeros((n, 28, 28), np.uint8)
        random = np.random.default_rng(seed)
        for picture, label in zip(array, labels, strict=True):
            a, b = random.integers(6, 20, 2)
            if label in (0, 2):
                picture[a : a + 3, 4:-4] = random.integers(150, 256)
            if label in (1, 2):
                picture[4:-4, b : b + 3] = random.integers(150, 256)
        put(tmp_path / f"{name}images-idx3-ubyte", idx(array))
        put(tmp_path / f"{name}labels-idx1-ubyte", idx(labels))
    facts = topwork.fit(tmp_path, topwork.Recipe(head="lda", features="pooled", group_duplicates=False)).facts
    assert (facts["n_images"], facts["test"]["n_images"]) == (30, 9)
    assert facts["test"]["accuracy"]["value"] > 0.6

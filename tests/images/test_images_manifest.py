import csv
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.errors import SourceError
from topwork.images import ImageSource
from topwork.images.names import plain
from topwork.tables import guarded


@pytest.fixture
def manifest(tree):
    """Write a manifest beside the pictures 1.jpg, 2.jpg and sub/3.jpg."""
    root = tree("1.jpg", "2.jpg", "sub/3.jpg")

    def write(content: str | bytes, name: str = "m.csv") -> Path:
        data = content if isinstance(content, bytes) else content.encode()
        (root / name).write_bytes(data)
        return root / name

    return write


def rows(source: ImageSource) -> list[tuple[str | None, ...]]:
    assert source.kind == "manifest"
    return [(each.id, each.label, each.split, each.group) for each in source.samples]


def excluded(source: ImageSource) -> dict[str, str]:
    return {each.path: each.reason for each in source.excluded}


def message(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        ImageSource.open(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_columns_in_any_order_and_others_ignored(manifest):
    path = manifest(
        "note,group,label,split,path\nx,g1,a,train,sub/3.jpg\n,,b,valid,1.jpg\n,g1,,test,2.jpg\n",
    )
    source = ImageSource.open(path)
    assert rows(source) == [
        ("1.jpg", "b", "val", None),
        ("2.jpg", None, "test", "g1"),
        ("sub/3.jpg", "a", "train", "g1"),
    ]
    assert source.classes == ["a", "b"]
    assert [sample.read() for sample in source.samples] == [b"1.jpg", b"2.jpg", b"sub/3.jpg"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", "path,label\n1.jpg,a\n"),
        ("m.csv", "\ufeffPath, Label\r\n1.jpg,a\r\n"),
        ("m.csv", "path;label\n1.jpg;a\n"),
        ("m.csv", '"path","label"\n"1.jpg","a"\n'),
        ("m.tsv", "path\tlabel\n1.jpg\ta\n"),
        ("m.txt", "path\tlabel\n1.jpg\ta\n"),
        ("m.txt", "path,label\n\n1.jpg,a\n\n"),
        ("m.csv", "path,label\n1.jpg,a\n".encode("utf-16")),
        ("m.csv", "path,label\r1.jpg,a\r"),
    ],
)
def test_dialects(manifest, name, content):
    assert rows(ImageSource.open(manifest(content, name))) == [("1.jpg", "a", None, None)]


def test_blanks_around_values_do_not_count(manifest):
    path = manifest("path, label ,split,group\n 1.jpg , a,Training , g\n2.jpg,a ,\ttest,g \n ./1.jpg,a ,,\n")
    source = ImageSource.open(path)
    assert rows(source) == [("1.jpg", "a", "train", "g"), ("2.jpg", "a", "test", "g")]
    assert excluded(source) == {"./1.jpg": "line 4 repeats line 2"}
    assert source.classes == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="Windows takes blanks off names")
def test_blanks_count_where_a_file_has_them_in_its_name(manifest):
    path = manifest("path,label\n 1.jpg ,a\n2.jpg, b \nodd/trail .jpg ,c\n 2.jpg,d\n")
    (path.parent / "odd").mkdir()
    for name in ("odd/trail .jpg ", " 2.jpg"):
        (path.parent / name).write_bytes(b"")
    assert [row[:2] for row in rows(ImageSource.open(path))] == [
        (" 2.jpg", "d"),
        ("1.jpg", "a"),
        ("2.jpg", "b"),
        ("odd/trail .jpg ", "c"),
    ]


def test_path_only_is_unlabelled(manifest):
    path = manifest("path\n2.jpg\n1.jpg\n")
    assert rows(ImageSource.open(path)) == [("1.jpg", None, None, None), ("2.jpg", None, None, None)]
    with pytest.raises(SourceError, match="none has a label"):
        ImageSource.open(path, labelled=True)


def test_bad_rows_are_kept_out_by_name(manifest):
    path = manifest(
        "path,label,split\n1.jpg,a,train\n1.jpg,a,train\n2.jpg,b,tset\ngone.jpg,a,\nsub,a,\nsub/3.jpg\n,a,\n"
    )
    source = ImageSource.open(path)
    assert rows(source) == [("1.jpg", "a", "train", None)]
    assert excluded(source) == {
        "1.jpg": "line 3 repeats line 2",
        "2.jpg": "the split in line 4 is 'tset', not one of train, training, val, validation, valid, test, testing",
        "gone.jpg": "file not found",
        "sub": "a folder, not a file",
        "sub/3.jpg": "too few columns in line 7",
        "line 8": "no path in line 8",
    }


def test_absolute_paths(manifest, tmp_path):
    (tmp_path / "elsewhere.jpg").write_bytes(b"e")
    source = ImageSource.open(manifest(f"path,label\n{tmp_path}/elsewhere.jpg,a\n1.jpg,b\n"))
    assert {sample.label: sample.read() for sample in source.samples} == {"a": b"e", "b": b"1.jpg"}


def test_network_urls_are_not_looked_up(manifest):
    source = ImageSource.open(manifest("path,label\ns3://bucket/1.jpg,a\n"), allow_remote=True)
    assert source.samples[0].location == "s3://bucket/1.jpg"


def test_two_labels_for_one_picture_are_an_error(manifest):
    text = message(manifest("path,label\n1.jpg,a\n2.jpg,b\n./1.jpg,b\n"))
    assert "./1.jpg" in text
    assert "'a' in line 2" in text
    assert "'b' in line 4" in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "column 'path'"),
        ("path,label\n", "a row for each picture"),
        ("file,label\n1.jpg,a\n", "first line is file, label"),
        ("path,path\n1.jpg,a\n", "one column 'path'"),
        ('path,label\n"1.jpg,a\n2.jpg,b\n', "check its quotes"),
        (b"path,label\n1.jpg,caf\xe9\n", "UTF-8"),
        (b"\xff\xd8\xff\xe0 a picture", "m.csv"),
        ("path,label\ngone.jpg,a\n", "1 left out, such as gone.jpg: file not found"),
    ],
)
def test_what_is_no_manifest(manifest, content, words):
    assert words in message(manifest(content))


text = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=12)
file_name = text.map(lambda name: name.replace("/", "_").strip()).filter(
    lambda name: name.strip(".") and len(name.encode()) < 200 and "\\" not in name
)


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not allow")
@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(file_name, st.tuples(text, st.sampled_from(["", "train", "val", "test"]), text), min_size=1),
    st.sampled_from([("m.csv", ","), ("m.csv", ";"), ("m.tsv", "\t")]),
)
def test_any_names_and_labels_survive_the_round_trip(records, dialect):
    name, delimiter = dialect
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["path", "label", "split", "group"])
    writer.writerows([guarded(cell) for cell in (path, *rest)] for path, rest in records.items())
    with tempfile.TemporaryDirectory() as folder:
        for path in records:
            Path(folder, path).write_bytes(path.encode())
        manifest = Path(folder, "longer than any picture's name " + name)
        manifest.write_text(buffer.getvalue(), encoding="utf-8", newline="")
        source = ImageSource.open(manifest)
        assert [sample.read().decode() for sample in source.samples] == sorted(records)
    assert rows(source) == [
        (path, plain(label) or None, split or None, plain(group) or None)
        for path, (label, split, group) in sorted(records.items())
    ]

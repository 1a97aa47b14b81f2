"""QuickDraw files: what a line says, what a drawing looks like, and a folder of files as a source."""

import io
import itertools
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import topwork
from topwork.errors import ImageError, SourceError, UsageError
from topwork.images import Excluded, ImageSource, decode
from topwork.images.quickdraw import MAX_LINE, BadLine, Drawing, parse, read_drawings, read_lines, render

Stroke = Sequence[Sequence[float]]


def line_of(word: str = "ant", strokes: Any = (((0, 9), (0, 5)),), **others: Any) -> bytes:
    return json.dumps({"word": word, "drawing": strokes, **others}).encode() + b"\n"


def drawing_of(*strokes: Stroke) -> Drawing:
    """Strokes as lists of [x, y]."""
    return Drawing("any", tuple(np.array(stroke, np.float32) for stroke in strokes))


def grey(drawing: Drawing, **options: Any) -> np.ndarray:
    """[size, size] of a rendering without colours, as ink in 0..1."""
    picture = render(drawing, **options)
    assert picture.dtype == np.uint8
    assert (picture == picture[:, :, :1]).all()
    ink = picture[:, :, 0] / 255
    return ink if options.get("inverted") else 1 - ink


def doodle(kind: str, seed: int) -> list[list[list[float]]]:
    """The strokes, lists of x and of y, of a shaky circle, zigzag or cross; every seed gives another."""
    random = np.random.default_rng([seed, len(kind)])
    if kind == "circle":
        angle = np.linspace(0, 2 * np.pi * random.uniform(0.9, 1.1), 25) + random.uniform(0, 6)
        strokes = [np.stack([np.cos(angle) * random.uniform(0.5, 1), np.sin(angle)])]
    elif kind == "zigzag":
        x = np.arange(random.integers(5, 10))
        strokes = [np.stack([x, x % 2 * random.uniform(1, 4)])]
    else:
        turn = random.uniform(-0.4, 0.4)
        strokes = [np.array([np.linspace(-c, c, 6), np.linspace(-s, s, 6)]) for c, s in ((1.0, turn), (-turn, 1.0))]
    return [(100 * stroke + random.normal(0, 4, stroke.shape)).round(1).tolist() for stroke in strokes]


def doodle_folder(folder: Path, n: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("circle", "cross", "zigzag"):
        lines = [line_of(kind, doodle(kind, seed), key_id=str(seed)) for seed in range(first, first + n)]
        (folder / f"{kind}.ndjson").write_bytes(b"".join(lines))
    return folder


# What a line says.


def test_a_simplified_and_a_raw_drawing():
    simple = parse(line_of("The Eiffel Tower", [[[1, 2], [3, 4.5]], [[9], [8]]], key_id="12", recognized=False))
    assert (simple.word, simple.key_id, simple.recognized) == ("The Eiffel Tower", "12", False)
    assert [stroke.tolist() for stroke in simple.strokes] == [[[1, 3], [2, 4.5]], [[9, 8]]]
    assert {stroke.dtype for stroke in simple.strokes} == {np.dtype(np.float32)}
    raw = parse(line_of("ant", [[[1.5, 2], [3, 4], [0, 16]]]))
    assert raw.strokes[0].tolist() == [[1.5, 3, 0], [2, 4, 16]]
    assert (raw.key_id, raw.recognized) == ("", None)


numbers = st.integers(-1000, 1000) | st.floats(-1e5, 1e5, width=32)
points = st.integers(2, 3).flatmap(lambda rows: st.lists(st.tuples(*[numbers] * rows), min_size=1, max_size=6))
words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9)


@settings(deadline=None)
@given(st.lists(st.tuples(words, st.lists(points, min_size=1, max_size=4), st.none() | st.booleans()), max_size=5))
def test_what_was_written_is_read(drawings):
    lines = [
        line_of(word, [list(zip(*stroke, strict=True)) for stroke in strokes], key_id=str(place), recognized=known)
        for place, (word, strokes, known) in enumerate(drawings)
    ]
    found = list(read_drawings(io.BytesIO(b"".join(lines))))
    for place, ((word, strokes, known), drawing) in enumerate(zip(drawings, found, strict=True)):
        assert isinstance(drawing, Drawing)
        assert (drawing.word, drawing.key_id, drawing.recognized) == (word, str(place), known)
        assert [stroke.tolist() for stroke in drawing.strokes] == [
            np.array(stroke, np.float32).tolist() for stroke in strokes
        ]


BAD = {
    b"{": "not JSON",
    b"[1, 2]": "not an object",
    b"null": "not an object",
    b"\xff\xfe{}": "not UTF-8",
    b"[" * 200_000: "nested too deeply",
    b'{"a":' * 100_000: "nested too deeply",
    b'{"word": "ant", "drawing": [[[' + b"9" * 5000 + b"],[1]]]}": "not JSON",
    b'{"word": "ant", "drawing": [[[' + b"9" * 400 + b"],[1]]]}": "too large",
    line_of(strokes=[[[0, 1e7], [0, 1]]]): "too large or not finite",
    line_of(strokes=[[[0, 1], [-1000001, 1]]]): "too large or not finite",
    line_of(strokes=[[[0, float("nan")], [0, 1]]]): "too large or not finite",
    line_of(strokes=[[[0, 1], [0, float("-inf")]]]): "too large or not finite",
    line_of(strokes=[[[0, 1], [0, 1], [0, 1e13]]]): "too large or not finite",
    b'{"word": "ant", "drawing": [[[1e999],[1]]]}': "too large or not finite",
    line_of(strokes=[]): "without strokes",
    line_of(strokes=[[[0], [0]], []]): "stroke 2 is not two or three lists",
    line_of(strokes=[[[], []]]): "stroke 1 has no points",
    line_of(strokes=[[[0, 1], [0]]]): "stroke 1 has lists of different lengths",
    line_of(strokes=[[[0], [0], [0], [0]]]): "stroke 1 is not two or three lists",
    line_of(strokes=[[[0, True], [0, 1]]]): "no number",
    line_of(strokes=[[["0"], ["1"]]]): "no number",
    line_of(strokes=[[[None], [1]]]): "no number",
    line_of(strokes=[[[[0]], [[1]]]]): "no number",
    line_of(strokes=[{"x": 1, "y": 2}]): "stroke 1 is not two or three lists",
    line_of(strokes="[[[0, 1], [0, 1]]]"): "no list of strokes",
    b'{"word": "ant"}': "no list of strokes",
    b'{"drawing": [[[0], [0]]]}': 'no text under "word"',
    line_of(word=" "): 'no text under "word"',
    line_of(word=7): 'no text under "word"',  # type: ignore[arg-type]
    b'{"word": "\\ud800", "drawing": [[[0], [0]]]}': "cannot be printed",
    line_of(word="a\nb"): "cannot be printed",
    line_of(key_id=[1]): "key_id",
    line_of(key_id=True): "key_id",
    line_of(recognized="yes"): "recognized",
    line_of(strokes=[[[0] * MAX_LINE, [0] * MAX_LINE]]): "longer than 1,048,576 bytes",
}


@pytest.mark.parametrize(("bad", "reason"), BAD.items(), ids=lambda value: value[:24])
def test_a_bad_line_is_named_and_the_others_are_as_they_were(bad, reason):
    good = [line_of("ant"), line_of("bee", [[[3, 4], [5, 6]]])]
    found = list(read_drawings(io.BytesIO(good[0] + bad.strip() + b"\n" + good[1])))
    assert [each.word if isinstance(each, Drawing) else each.number for each in found] == ["ant", 2, "bee"]
    assert isinstance(found[1], BadLine)
    assert reason in found[1].reason
    assert "\n" not in found[1].reason
    assert Excluded("f:2", found[1].reason).is_fault
    assert found[2].strokes[0].tolist() == [[3, 5], [4, 6]]


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(st.sampled_from('[]{},:"0123e.-wordaing '), max_size=60).map(str.encode))
def test_no_line_raises(data):
    line = line_of("bee")
    found = list(read_drawings(io.BytesIO(data.replace(b"\n", b" ") + b"\n" + line)))
    assert isinstance(found[-1], Drawing)
    assert len(found) == (2 if data.replace(b"\n", b" ").strip() else 1)


def test_line_ends_blank_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "ant.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + line_of("a").replace(b"\n", b"\r\n") + b"\n  \n" + line_of("b").strip())
    assert [drawing.word for drawing in read_drawings(path)] == ["a", "b"]
    data = path.read_bytes()
    lines = list(read_lines(str(path)))
    assert [line.number for line in lines] == [1, 4]
    assert all(data[line.offset :].startswith(line.data) for line in lines)


def test_offsets_after_a_line_that_is_too_long():
    data = b"x" * (3 * MAX_LINE + 5) + b"\n" + line_of("b")
    first, second = read_lines(io.BytesIO(data))
    assert len(first.data) <= MAX_LINE + 1
    assert (second.number, data[second.offset :]) == (2, line_of("b"))
    assert list(read_lines(io.BytesIO(b""))) == []


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ImageError, match=r"^file not found$"):
        list(read_drawings(tmp_path / "no.ndjson"))
    with pytest.raises(UsageError, match="binary mode"):
        list(read_drawings(io.StringIO("{}")))  # type: ignore[arg-type]


# What a drawing looks like.


@pytest.mark.parametrize("size", [16, 33, 128])
@pytest.mark.parametrize("width", [1.0, 2.0, 3.0, 4.5])
def test_a_horizontal_line_covers_its_width(size, width):
    ink = grey(drawing_of([[0, 7], [10, 7]]), size=size, stroke_width=width, padding=2)
    column = ink[:, size // 2]
    rows = np.arange(size) + 0.5
    band = np.clip(np.minimum(rows + 0.5, size / 2 + width / 2) - np.maximum(rows - 0.5, size / 2 - width / 2), 0, 1)
    np.testing.assert_allclose(column, band, atol=1 / 255)  # the part of each pixel inside the band
    assert (ink[:, :1] == 0).all()
    along = ink.max(axis=0)
    assert along[2:-2].min() > 0.2
    assert along[[0, 1, -2, -1]].max() == 0  # the padding stays empty


def test_the_ink_reaches_from_padding_to_padding():
    box = drawing_of([[0, 0], [40, 0], [40, 20], [0, 20], [0, 0]])
    ink = grey(box, size=64, stroke_width=4, padding=6)
    rows, columns = np.flatnonzero(ink.max(axis=1)), np.flatnonzero(ink.max(axis=0))
    assert (columns[0], columns[-1]) == (6, 57)
    assert (rows[0], rows[-1]) == (18, 45)  # half as high: 48 pixels between the lines' middles become 24
    assert np.flatnonzero(grey(box, size=64).max(axis=0))[0] == 4  # a 16th


def test_round_ends_corners_and_a_dot():
    dot = grey(drawing_of([[5, 5]]), size=20, stroke_width=10)
    distance = np.hypot(*(np.mgrid[:20, :20] + 0.5 - 10))
    np.testing.assert_allclose(dot, np.clip(5.5 - distance, 0, 1), atol=1 / 255)
    assert dot.sum() == pytest.approx(np.pi * 25, rel=0.02)
    corner = grey(drawing_of([[0, 0], [10, 0], [10, 10]]), size=60, stroke_width=16, padding=2)
    assert corner[2, 57] == 0  # a mitred corner would be there
    assert corner[10, 49] == 1


def test_a_symmetric_drawing_is_symmetric():
    star = [[[-4, 0], [4, 0]], [[0, -4], [0, 4]], [[-3, -3], [3, 3]], [[-3, 3], [3, -3]]]
    ink = grey(drawing_of(*star), size=64, stroke_width=3)
    for other in (ink[::-1], ink[:, ::-1], ink.T):
        np.testing.assert_allclose(other, ink, atol=1.01 / 255)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.125, 2.0, 64.0]), st.integers(-500, 500))
def test_scale_and_place_do_not_matter(seed, scale, shift):
    strokes = [np.array(stroke).T.round() for kind in ("circle", "cross") for stroke in doodle(kind, seed)]
    moved = [scale * stroke + shift for stroke in strokes]
    first, second = grey(drawing_of(*strokes), size=48), grey(drawing_of(*moved), size=48)
    np.testing.assert_allclose(first, second, atol=1.01 / 255)


def test_time_is_not_drawn():
    raw = Drawing("any", (np.array([[0, 0, 0], [9, 4, 1e6]], np.float32),))
    assert (render(raw) == render(drawing_of([[0, 0], [9, 4]]))).all()


def test_thin_lines_are_pale_and_crossings_are_no_darker():
    assert grey(drawing_of([[0, 0], [9, 0]]), size=33, stroke_width=0.5).max() == pytest.approx(0.5, abs=1 / 255)
    once, twice = [[0, 0], [9, 4]], [[9, 4], [0, 0]]
    assert (render(drawing_of(once)) == render(drawing_of(once, twice))).all()


def test_colours_follow_the_order_of_the_strokes():
    bars = [[[0, row], [40, row]] for row in (0, 20, 40)]
    picture = render(drawing_of(*bars), size=52, stroke_width=4, padding=4, colour=True)
    assert picture[[6, 26, 46], 26].tolist() == [[204, 0, 0], [0, 204, 51], [102, 0, 204]]
    assert picture[16, 26].tolist() == [255, 255, 255]
    backwards = render(drawing_of(*bars[::-1]), size=52, stroke_width=4, padding=4, colour=True)
    assert backwards[[6, 26, 46], 26].tolist() == [[102, 0, 204], [0, 204, 51], [204, 0, 0]]
    over = render(drawing_of([[0, 0], [40, 0]], [[20, -20], [20, 20]]), size=52, stroke_width=4, colour=True)
    assert over[26, 26].tolist() == [102, 0, 204]
    dark = render(drawing_of(*bars), size=52, stroke_width=4, padding=4, colour=True, inverted=True)
    assert (dark[6, 26].tolist(), dark[16, 26].tolist()) == ([255, 51, 51], [0, 0, 0])


def test_inverted_is_the_negative():
    drawing = drawing_of(*[np.array(stroke).T.tolist() for stroke in doodle("cross", 3)])
    negative = render(drawing, inverted=True).astype(int)
    assert np.abs(255 - negative - render(drawing)).max() <= 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 0}, "size"),
        ({"size": 5000}, "4096"),
        ({"size": 12.5}, "size"),
        ({"size": True}, "size"),
        ({"stroke_width": 0}, "stroke_width"),
        ({"stroke_width": float("nan")}, "stroke_width"),
        ({"padding": -1}, "padding"),
        ({"padding": 63}, "leave none"),
        ({"stroke_width": 200}, "leave none"),
    ],
)
def test_styles_that_cannot_be(options, text):
    with pytest.raises(UsageError, match=text):
        render(drawing_of([[0, 0], [1, 1]]), **options)


# As a source.


def table(source: ImageSource) -> list[tuple[str, str | None, str | None]]:
    return [(sample.id, sample.label, sample.split) for sample in source.samples]


def test_a_folder_of_drawings(tmp_path):
    (tmp_path / "insects.ndjson").write_bytes(line_of("bee") + b"\noops\n" + line_of("ant", [[[0, 0], [0, 5]]]))
    (tmp_path / "cat.ndjson").write_bytes(line_of("cat"))
    (tmp_path / "LICENSE").write_text("CC BY 4.0")
    (tmp_path / "README.md").write_text("drawings")
    (tmp_path / "cat.bin").write_bytes(bytes(99))
    (tmp_path / ".hidden").write_text("x")
    source = ImageSource.open(tmp_path, labelled=True)
    assert (source.kind, source.classes) == ("classes", ["ant", "bee", "cat"])
    wanted = [("cat.ndjson:1", "cat", None), ("insects.ndjson:1", "bee", None), ("insects.ndjson:4", "ant", None)]
    assert table(source) == wanted
    assert {each.path: each.is_fault for each in source.excluded} == {
        ".hidden": False,
        "README.md": False,
        "LICENSE": False,
        "cat.bin": False,
        "insects.ndjson:3": True,
    }
    for sample in pickle.loads(pickle.dumps(source.samples)):  # noqa: S301 - our own
        picture = decode(sample.read())
        assert (picture.format, picture.width, picture.height) == ("PNG", 256, 256)
        assert sample.read(4) == b"\x89PNG"
    tall = decode(source.samples[2].read()).pixels
    assert (tall == render(drawing_of([[0, 0], [0, 5]]), size=256, stroke_width=6)).all()
    assert len({sample.location for sample in source.samples}) == 3
    unlabelled = ImageSource.open(tmp_path, labelled=False)
    assert table(unlabelled) == [(name, None, None) for name, _, _ in wanted]


def test_one_file_and_a_zip_file(tmp_path):
    path = tmp_path / "ant.ndjson"
    path.write_bytes(b"oops\n" + line_of("ant"))
    one = ImageSource.open(path)
    assert table(one) == [("ant.ndjson:2", "ant", None)]
    assert [each.path for each in one.excluded] == ["ant.ndjson:1"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "ant.ndjson")
        archive.writestr("bee.ndjson", line_of("bee"))
    zipped = ImageSource.open(tmp_path / "all.zip")
    assert table(zipped) == [("ant.ndjson:2", "ant", None), ("bee.ndjson:1", "bee", None)]
    assert zipped.samples[0].read() == one.samples[0].read()


def test_drawings_beside_pictures_are_none_of_them(tmp_path, photo_set):
    root = photo_set(tmp_path / "photos", 1)
    (root / "ant.ndjson").write_bytes(line_of("ant"))
    assert ImageSource.open(root).classes == ["checks", "dots", "stripes"]
    picture = next(root.rglob("*.png")).read_bytes()
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "ant.ndjson").write_bytes(line_of("ant"))
    (flat / "photo").write_bytes(picture)  # without a suffix, and yet one
    assert table(ImageSource.open(flat)) == [("ant.ndjson", None, None), ("photo", None, None)]


def test_a_file_without_a_drawing_and_a_changed_file(tmp_path):
    path = tmp_path / "ant.ndjson"
    path.write_bytes(b"oops\n")
    with pytest.raises(SourceError, match=r"such as ant.ndjson:1: not JSON"):
        ImageSource.open(path)
    path.write_bytes(line_of("ant"))
    (sample,) = ImageSource.open(path).samples
    path.write_bytes(b"x" * 10)
    with pytest.raises(ImageError, match="not JSON"):
        sample.read()
    path.unlink()
    with pytest.raises(ImageError, match=r"^file not found$"):
        sample.read()


# Memory.

LINES = 100_000


class _Endless(io.RawIOBase):
    """A file of 20,000 drawings that is never there as a whole."""

    def __init__(self) -> None:
        self._lines: Iterator[bytes] = itertools.repeat(line_of("ant", [[[0, 5], [1, 7]]]), LINES // 5)

    def readline(self, size: int | None = -1, /) -> bytes:
        return next(self._lines, b"")


def test_reading_takes_constant_memory():
    tracemalloc.start()
    try:
        count = sum(isinstance(each, Drawing) for each in read_drawings(_Endless()))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == LINES // 5
    assert peak < 100_000  # a line is 60 bytes, a drawing in memory 20 times that


@pytest.mark.slow
def test_opening_a_long_file_takes_the_list_of_samples_and_no_more(tmp_path):
    path = tmp_path / "ant.ndjson"
    path.write_bytes(line_of("ant", [[[0, 5], [1, 7]]]) * LINES)
    tracemalloc.start()
    try:
        source = ImageSource.open(path)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(source.samples) == LINES
    assert source.samples[-1].id == f"ant.ndjson:{LINES}"
    assert decode(source.samples[-1].read()).width == 256
    assert kept < 700 * LINES
    assert peak - kept < 2_000_000  # besides: the list that the samples grew in


# The whole way.


def test_doodles_are_learned(tmp_path):
    fit = topwork.fit(doodle_folder(tmp_path / "doodles", 12), topwork.Recipe(head="lda", features="pooled"))
    assert sorted(fit.facts["classes"]) == ["circle", "cross", "zigzag"]
    assert fit.facts["n_images"] == 36
    assert fit.facts["accuracy"]["value"] > 0.8  # chance is a third


def test_the_same_line_gives_the_same_bytes(tmp_path, python):
    path = doodle_folder(tmp_path / "doodles", 2) / "circle.ndjson"
    program = (
        "import sys, hashlib; from topwork.images import ImageSource; "
        "print([hashlib.sha256(s.read()).hexdigest() for s in ImageSource.open(sys.argv[1]).samples])"
    )
    first, second = (python(program, path, PYTHONHASHSEED=str(seed)) for seed in (1, 2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert len(set(json.loads(first.stdout.replace("'", '"')))) == 2

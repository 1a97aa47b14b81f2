"""``topwork drawings``: what is chosen, what is written, and what is never replaced."""

import json
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.images import ImageSource
from topwork.images.drawing_set import _Reservoir, file_names
from topwork.images.sample import Sample

Command = Callable[..., tuple[int, str, str]]


def line_of(word: str, number: int, **others: Any) -> str:
    """A square of 100, and in it a bar: the number and 20 below the top."""
    strokes = [[[0, 100, 100, 0, 0], [0, 0, 100, 100, 0]], [[10, 90], [20 + number, 20 + number]]]
    return json.dumps({"word": word, "key_id": str(number), "drawing": strokes, **others}) + "\n"


@pytest.fixture
def insects(tmp_path: Path) -> Path:
    """30 ants, 20 bees of which 5 are recognised, 3 flies; a bad line among the bees."""
    folder = tmp_path / "INSECTS"
    folder.mkdir()
    bees = [line_of("bee", n, recognized=n % 4 == 0) for n in range(20)]
    (folder / "ant.ndjson").write_text("".join(line_of("ant", n) for n in range(30)))
    (folder / "bee.ndjson").write_text("".join([*bees[:6], "oops\n", *bees[6:]]))
    (folder / "fly.ndjson").write_text("".join(line_of("fly", n, recognized=True) for n in range(3)))
    return folder


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_of_everything(insects, tmp_path, topwork_command):
    output = tmp_path / "set"
    code, out, err = topwork_command("drawings", insects, "-o", output, "--sheet", tmp_path / "sheet.png", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts == {
        "output": str(output),
        "sheet": str(tmp_path / "sheet.png"),
        "classes": {"ant": 30, "bee": 20, "fly": 3},
        "images": 53,
        "excluded": [
            {"path": f"{insects}/bee.ndjson:7", "reason": "not JSON: Expecting value: line 1 column 1 (char 0)"}
        ],
    }
    source = ImageSource.open(output, labelled=True)
    assert (source.kind, source.classes, len(source.samples)) == ("classes", ["ant", "bee", "fly"], 53)
    assert not [each for each in source.excluded if each.is_fault]
    made = pictures(output)
    assert {picture.shape for picture in made.values()} == {(128, 128)}
    names = sorted(name for name in made if name.startswith("bee/"))
    assert names == [f"bee/bee-{n:06}.png" for n in [*range(1, 7), *range(8, 22)]]
    origins = json.loads((output / "drawings.json").read_text())["pictures"]
    assert set(origins) == set(made)
    assert origins["bee/bee-000008.png"] == f"{insects}/bee.ndjson:8"
    assert Image.open(tmp_path / "sheet.png").height == 2 * 12 + 3 * (96 + 6) - 6


def test_the_pictures_are_of_the_lines_that_they_name(insects, tmp_path, topwork_command):
    topwork_command("drawings", insects / "ant.ndjson", "-o", tmp_path / "set", "--per-class", 6)
    made = pictures(tmp_path / "set")
    assert len(made) == 6
    for name, picture in made.items():
        number = int(name[-10:-4]) - 1
        ink = 255.0 - picture[20:108, 40]  # without the square itself
        middle = (ink @ (np.arange(20, 108) + 0.5)) / ink.sum()
        assert middle == pytest.approx(9.5 + (128 - 19) * (20 + number) / 100, abs=0.02)


def test_the_table_for_people(insects, tmp_path, topwork_command):
    code, out, _ = topwork_command("drawings", insects, "-o", tmp_path / "set")
    assert code == 0
    assert "53 drawings in" in out
    assert ["bee", "20"] in [line.split() for line in out.splitlines()]
    assert "left out:" in out
    assert "bee.ndjson:7 (not JSON" in out


def test_a_choice_by_seed(insects, tmp_path, topwork_command):
    def made(name: str, *options: object) -> dict[str, bytes]:
        assert topwork_command("drawings", insects, "-o", tmp_path / name, *options)[0] == 0
        return content(tmp_path / name)

    first = made("first", "--per-class", 5)
    assert Counter(name.split("/")[0] for name in first) == {"ant": 5, "bee": 5, "fly": 3, "drawings.json": 1}
    assert made("again", "--per-class", 5) == first
    assert made("other", "--per-class", 5, "--seed", 1).keys() != first.keys()
    one = made("one class", "--per-class", 5, "--classes", 1)
    (label,) = {name.split("/")[0] for name in one if "/" in name}
    chosen = {name for name in one if "/" in name}
    assert chosen == {name for name in first if name.startswith(f"{label}/")}  # whatever the other classes are
    assert len({frozenset(made(f"s{seed}", "--classes", 1, "--seed", seed)) for seed in range(6)}) > 1


def test_every_line_is_as_likely_as_any_other():
    import random

    counts: Counter[int] = Counter()
    for seed in range(2000):
        reservoir = _Reservoir(random.Random(seed), 3)
        for order in range(10):
            reservoir.show(order, Sample(str(order), ""))
        kept = [int(sample.id) for sample in reservoir.in_order()]
        assert kept == sorted(set(kept))
        counts.update(kept)
    assert sum(counts.values()) == 6000
    assert max(abs(counts[order] - 600) for order in range(10)) < 100  # 4.9 standard deviations


def test_recognized_only(insects, tmp_path, topwork_command):
    code, out, _ = topwork_command("drawings", insects, "-o", tmp_path / "set", "--recognized-only", "--json")
    assert (code, json.loads(out)["classes"]) == (0, {"bee": 5, "fly": 3})  # nothing says that an ant was
    code, _, err = topwork_command("drawings", insects / "ant.ndjson", "-o", tmp_path / "no", "--recognized-only")
    assert code == 1
    assert "none was found" in err
    assert not (tmp_path / "no").exists()


def test_styles(insects, tmp_path, topwork_command):
    options = {
        "plain": [],
        "large": ["--size", 200],
        "wide": ["--stroke-width", 9],
        "colour": ["--colour"],
        "inverted": ["--inverted"],
    }
    made = {}
    for name, words in options.items():
        assert topwork_command("drawings", insects / "fly.ndjson", "-o", tmp_path / name, *words)[0] == 0
        made[name] = pictures(tmp_path / name)["fly/fly-000003.png"].astype(int)
    assert made["large"].shape == (200, 200)
    assert (255 - made["wide"]).sum() > 2 * (255 - made["plain"]).sum()
    assert made["colour"].shape == (128, 128, 3)
    assert {tuple(pixel) for pixel in made["colour"].reshape(-1, 3)} >= {(255, 255, 255), (204, 0, 0), (102, 0, 204)}
    assert np.abs(255 - made["inverted"] - made["plain"]).max() <= 1


def test_bitmaps_and_digits(tmp_path, topwork_command):
    square = np.zeros((2, 28, 28), np.uint8)
    square[:, 7:21, 7:21] = 255
    np.save(tmp_path / "box.npy", square)
    header = struct.pack(">4B3I", 0, 0, 8, 3, 2, 14, 28)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + square[:, ::2].tobytes())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 2) + bytes([7, 3]))
    sources = [tmp_path / "box.npy", tmp_path / "train-images-idx3-ubyte"]
    code, out, _ = topwork_command("drawings", *sources, "-o", tmp_path / "set", "--size", 56, "--json")
    assert (code, json.loads(out)["classes"]) == (0, {"3": 1, "7": 1, "box": 2})
    made = pictures(tmp_path / "set")
    box, digit = made["box/box-000002.png"], made["7/train-images-idx3-ubyte-000001.png"]
    assert (box[28, 28], box[2, 2]) == (0, 255)
    assert (digit[28, 28], digit[2, 2], digit[16, 28]) == (0, 255, 255)  # half as high, in the middle
    topwork_command("drawings", *sources, "-o", tmp_path / "set", "--inverted", "--size", 28)
    assert (pictures(tmp_path / "set")["box/box-000001.png"] == square[0]).all()


def test_files_of_one_name_stay_apart():
    samples = [Sample(f"{folder}/Ant.ndjson:7", f"drawing://0+9::/{folder}/Ant.ndjson") for folder in "abc"]
    names = list(file_names({"ant": samples}).values())
    assert names == ["ant/Ant-000007.png", "ant/Ant-2-000007.png", "ant/Ant-3-000007.png"]


def test_the_same_file_twice_counts_once(insects, tmp_path, topwork_command):
    sources = [insects, insects / "ant.ndjson", insects / ".." / insects.name / "ant.ndjson"]
    code, out, _ = topwork_command("drawings", *sources, "-o", tmp_path / "set", "--json")
    assert (code, json.loads(out)["images"]) == (0, 53)


def test_files_in_a_zip_file(insects, tmp_path, topwork_command):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in insects.iterdir():
            archive.write(path, path.name)
    for source, names in ((f"zip://fly.ndjson::{tmp_path}/all.zip", {"fly"}), (insects / "fly.ndjson", {"fly"})):
        code, out, err = topwork_command("drawings", source, "-o", tmp_path / "set", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["classes"].keys() == names
    code, out, _ = topwork_command("drawings", f"zip://::{tmp_path}/all.zip", "-o", tmp_path / "set", "--json")
    assert (code, json.loads(out)["images"]) == (0, 53)


def test_an_earlier_set_is_replaced_as_a_whole(insects, tmp_path, topwork_command):
    output = tmp_path / "set"
    assert topwork_command("drawings", insects, "-o", output)[0] == 0
    assert topwork_command("drawings", insects / "fly.ndjson", "-o", output)[0] == 0
    assert {name.split("/")[0] for name in content(output)} == {"fly", "drawings.json"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def fails(topwork_command: Command, *words: object) -> str:
    code, out, err = topwork_command("drawings", *words)
    assert code in (1, 2)
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_what_is_not_its_own_is_never_replaced(insects, tmp_path, topwork_command):
    output = tmp_path / "set"
    assert topwork_command("drawings", insects / "fly.ndjson", "-o", output)[0] == 0
    (output / "fly" / "mine.png").write_bytes(b"x")
    before = content(output)
    assert "fly/mine.png, which would be lost" in fails(topwork_command, insects, "-o", output)
    (output / "fly" / "mine.png").unlink()
    (output / "drawings.json").write_text("[]")
    assert "would be lost" in fails(topwork_command, insects, "-o", output)
    assert before.keys() - content(output).keys() == {"fly/mine.png"}
    inputs = content(insects)
    assert "something else" in fails(topwork_command, insects, "-o", insects)
    file = tmp_path / "file"
    file.write_text("x")
    assert "something else" in fails(topwork_command, insects, "-o", file)
    assert (content(insects), file.read_text()) == (inputs, "x")


def test_a_run_that_fails_leaves_the_old_set(insects, tmp_path, topwork_command, monkeypatch):
    output = tmp_path / "set"
    assert topwork_command("drawings", insects / "fly.ndjson", "-o", output)[0] == 0
    before = content(output)

    def full(pixels: np.ndarray) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("topwork.images.drawing_set.as_png", full)
    assert "the disk is full" in fails(topwork_command, insects, "-o", output)
    assert content(output) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "word",
    ["../out", "a/b", "a\\b", ".hidden", "C:", "ends.", "x" * 200, "what?", "Drawings.json"],
    ids=lambda word: word[:9],
)
def test_words_that_cannot_be_folders(tmp_path, topwork_command, word):
    (tmp_path / "ant.ndjson").write_text(line_of("ant", 1) + line_of(word, 2))
    code, out, _ = topwork_command("drawings", tmp_path / "ant.ndjson", "-o", tmp_path / "set" / "deep", "--json")
    facts = json.loads(out)
    assert (code, facts["classes"]) == (0, {"ant": 1})
    assert "cannot be the name of a folder" in facts["excluded"][0]["reason"]
    assert {path.name for path in tmp_path.iterdir()} == {"ant.ndjson", "set"}


def test_errors_come_before_the_work(insects, tmp_path, topwork_command):
    output = tmp_path / "set"
    (tmp_path / "case.ndjson").write_text(line_of("Ant", 1) + line_of("ant", 2))
    for words, text in [
        ([insects, "--classes", 4], "the files have 3"),
        ([insects, "--size", 0], "size must be"),
        ([insects, "--size", 9000], "4096"),
        ([insects, "--stroke-width", -1], "stroke_width must be"),
        ([insects, "--size", 20, "--stroke-width", 30], "leave none"),
        ([insects, "--per-class", 0], "per-class"),
        ([insects, "--sheet", tmp_path / "sheet.jpg"], "end in .png"),
        ([insects, "--sheet", output / "sheet.png"], "a file for the sheet outside of"),
        ([tmp_path / "nothing"], "there is nothing"),
        ([tmp_path], "it is something else"),
        ([tmp_path / "case.ndjson"], "Ant and ant would be one folder"),
    ]:
        assert text in fails(topwork_command, *words, "-o", output)
        assert not output.exists()


def test_digits_without_labels(tmp_path, topwork_command):
    header = struct.pack(">4B3I", 0, 0, 8, 3, 1, 2, 2)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + bytes(4))
    err = fails(topwork_command, tmp_path / "train-images-idx3-ubyte", "-o", tmp_path / "set")
    assert "expected a file of labels beside" in err

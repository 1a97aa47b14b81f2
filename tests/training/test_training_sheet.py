"""The augmentation sheet and the command that writes it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.errors import SourceError
from topwork.images import DecodePolicy, ImageSource
from topwork.training.augmentation import Augmenter, description
from topwork.training.sheet import CAPTION, DIVIDE, GAP, MARGIN, PAPER, augmentation_sheet

Command = Callable[..., tuple[int, str, str]]
SIZE = 40


def place(row: int, column: int, size: int = SIZE) -> tuple[slice, slice]:
    """Where a tile lies on the sheet; column 0 is the picture as predicted."""
    left = MARGIN if column == 0 else MARGIN + size + DIVIDE + (column - 1) * (size + GAP)
    top = MARGIN + CAPTION + row * (CAPTION + size) + CAPTION
    return slice(top, top + size), slice(left, left + size)


@pytest.fixture
def small(tmp_path: Path, photo_set: Callable[..., Path]) -> Path:
    return photo_set(tmp_path / "small", 2)


def test_a_sheet_holds_the_plain_picture_and_its_variants(small: Path) -> None:
    source = ImageSource.open(small)
    augmenter = Augmenter("light", SIZE, seed=3)
    sheet, excluded = augmentation_sheet(source.samples[:3], DecodePolicy(), augmenter, variants=4)
    assert excluded == []
    assert (sheet.width, sheet.height) == (
        2 * MARGIN + 5 * SIZE + DIVIDE + 3 * GAP,
        2 * MARGIN + CAPTION + 3 * (CAPTION + SIZE),
    )
    drawn = np.asarray(sheet)
    for row, sample in enumerate(source.samples[:3]):
        pixels = np.asarray(Image.open(sample.location))
        np.testing.assert_array_equal(drawn[place(row, 0)], Augmenter("none", SIZE, seed=0)(pixels))
        for column in range(1, 5):
            np.testing.assert_array_equal(drawn[place(row, column)], augmenter(pixels, row, column - 1))


def test_captions_stay_between_the_pictures(tmp_path: Path, as_file: Callable[..., bytes]) -> None:
    """A name too long for the sheet, and one with a line break, leave ink in their own line only."""
    white = as_file(np.full((50, 50, 3), 255, np.uint8))
    names = ["x" * 90 + ".png", "line\nbreak.png", "käfer 漢字 🐞.png"]
    for name in names:
        (tmp_path / name).write_bytes(white)
    sheet, _ = augmentation_sheet(
        ImageSource.open(tmp_path).samples, DecodePolicy(), Augmenter("none", SIZE, 0), variants=6
    )
    ink = np.any(np.asarray(sheet) != PAPER, axis=2)
    assert not ink[:, :MARGIN].any()
    assert not ink[:, -MARGIN:].any()
    for row in range(3):
        rows, _ = place(row, 0)
        assert ink[rows.start - CAPTION : rows.start].any()
        assert not ink[rows].any()


def test_an_unreadable_picture_has_no_row_but_is_named(small: Path) -> None:
    (small / "dots" / "000.png").write_bytes(b"")
    samples = ImageSource.open(small).samples
    sheet, excluded = augmentation_sheet(samples, DecodePolicy(), Augmenter("light", SIZE, 0), variants=2)
    assert [(item.path, item.reason) for item in excluded] == [("dots/000.png", "empty file")]
    assert sheet.height == 2 * MARGIN + CAPTION + 5 * (CAPTION + SIZE)


def test_a_sheet_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no")
    samples = ImageSource.open(tmp_path).samples
    with pytest.raises(SourceError, match=r"none of 1 could be read \(such as a.png: "):
        augmentation_sheet(samples, DecodePolicy(), Augmenter("light", SIZE, 0))


def test_the_command_writes_the_sheet(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "sheet.png"
    code, out, err = topwork_command("augment", photos, "-o", target, "--pictures", 3, "--variants", 2)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"Sheet: {target}",
        "",
        "light, for each training picture:",
        *(f"* {step}" for step in description("light")),
    ]
    assert all(len(line) <= 80 for line in out.splitlines()[1:])
    with Image.open(target) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (2 * MARGIN + 3 * 224 + DIVIDE + GAP, 2 * MARGIN + CAPTION + 3 * (CAPTION + 224))
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize("preset", ["none", "light", "strong", "document", "satellite"])
def test_every_preset_as_json(topwork_command: Command, photos: Path, tmp_path: Path, preset: str) -> None:
    line = ["-o", tmp_path / "sheet.jpg", "--preset", preset, "--pictures", 1, "--variants", 1, "--json"]
    code, out, err = topwork_command("augment", photos, *line)
    facts = json.loads(out)
    assert (code, err) == (0, "")
    assert facts.keys() == {"preset", "steps", "pictures", "output", "excluded"}
    assert (facts["preset"], facts["steps"]) == (preset, description(preset))
    assert (facts["output"], facts["excluded"]) == (str(tmp_path / "sheet.jpg"), [])
    assert all(len(step) <= 78 for step in facts["steps"])
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"


def chosen(topwork_command: Command, source: Path, target: Path, *line: object) -> list[str]:
    code, out, _ = topwork_command("augment", source, "-o", target / "s.jpg", "--variants", 1, "--json", *line)
    assert code == 0
    return json.loads(out)["pictures"]  # type: ignore[no-any-return]


def test_classes_take_turns(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    six = chosen(topwork_command, photos, tmp_path)
    assert sorted(path.split("/")[0] for path in six) == ["checks"] * 2 + ["dots"] * 2 + ["stripes"] * 2
    two = chosen(topwork_command, photos, tmp_path, "--pictures", 2)
    assert len({path.split("/")[0] for path in two}) == 2
    assert set(two) <= set(six)
    assert chosen(topwork_command, photos, tmp_path, "--pictures", 2, "--seed", 1) != two


def test_only_training_pictures_are_shown(
    topwork_command: Command, tmp_path: Path, photo_set: Callable[..., Path]
) -> None:
    for number, split in enumerate(("train", "val", "test")):
        photo_set(tmp_path / "set" / split, 1, first=10 * number)
    expected = [f"train/{name}/000.png" for name in ("checks", "dots", "stripes")]
    assert chosen(topwork_command, tmp_path / "set", tmp_path) == expected


def test_unlabelled_pictures_will_do(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    found = chosen(topwork_command, photos / "dots", tmp_path, "--pictures", 3)
    assert len(found) == 3
    assert all((photos / "dots" / name).is_file() for name in found)


def test_unreadable_pictures_are_named(topwork_command: Command, small: Path, tmp_path: Path) -> None:
    (small / "dots" / "001.png").write_bytes(b"")
    line = ["augment", small, "-o", tmp_path / "s.jpg", "--variants", 1]
    _, out, _ = topwork_command(*line)
    assert "left out: dots/001.png (empty file)" in out
    _, out, _ = topwork_command(*line, "--json")
    facts = json.loads(out)
    assert facts["excluded"] == [{"path": "dots/001.png", "reason": "empty file"}]
    assert len(facts["pictures"]) == 5


def test_another_network_has_another_input(topwork_command: Command, photos: Path, tmp_path: Path) -> None:
    chosen(topwork_command, photos, tmp_path, "--pictures", 1, "--backbone", "tf_efficientnet_lite2")
    with Image.open(tmp_path / "s.jpg") as sheet:
        assert sheet.size == (2 * MARGIN + 2 * 260 + DIVIDE, 2 * MARGIN + 2 * CAPTION + 260)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["-o", "sheet.gif"], 2, "expected the sheet's name to end in .png or .jpg, not sheet.gif"),
        (["-o", "sheet"], 2, "expected the sheet's name to end in .png or .jpg, not sheet;"),
        (["-o", "folder.png"], 1, "cannot write folder.png: it is a folder"),
        (["-o", "s.png", "--preset", "lihgt"], 2, "there is no augmentation 'lihgt': did you mean light?"),
        (["-o", "s.png", "--backbone", "tf_efficientnet_lite9"], 2, "there is no network 'tf_efficientnet_lite9'"),
        (["-o", "s.png", "--pictures", "0"], 2, "invalid value for '--pictures'"),
        ([], 2, "missing option '-o' / '--output'"),
    ],
)
def test_errors_are_one_sentence(
    topwork_command: Command,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    found, out, err = topwork_command("augment", photos, *line)
    assert (found, out) == (code, "")
    assert err.startswith(f"topwork: {message}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_without_torch_the_command_says_what_to_install(
    topwork_command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, err = topwork_command("augment", photos, "-o", tmp_path / "s.png")
    assert (code, out) == (2, "")
    assert 'run pip install "topwork[train]"' in err
    assert err.count("\n") == 1

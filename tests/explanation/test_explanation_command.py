"""``topwork explain``: what it prints, what it writes, and what it says of wrong calls."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.images import Excluded, ImageSource

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(fitted: Any, tmp_path: Path) -> Path:
    """Two pictures of one name in two folders, and a broken one."""
    for label in ("dots", "stripes"):
        (tmp_path / label).mkdir()
        shutil.copy(fitted.photos / label / "000.png", tmp_path / label / "000.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    return tmp_path


def test_files_and_json(topwork_command: Command, fitted: Any, folder: Path) -> None:
    why = folder / "why"
    names = ("dots/000.png", "nowhere.png", "stripes/000.png", "broken.png")
    pictures = [folder / name for name in names]
    code, out, _ = topwork_command("explain", fitted.folder, *pictures, "-o", why, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["path"] for row in rows] == list(map(str, pictures))
    assert rows[1]["error"] == "file not found"
    assert rows[3]["error"]
    assert rows[1]["files"] == rows[3]["files"] == []
    assert rows[1].keys() == rows[0].keys()
    for row in rows[::2]:
        assert {"path", "target", "method", "layer", "faithfulness", "files"} <= row.keys()
        assert (row["method"], row["layer"], row["target"]) == ("cam", "last_map", row["label"])
        assert set(row["faithfulness"]) == {"deletion", "insertion", "weight_correlation", "trusted", "reason"}
        png, values = row["files"]
        assert Image.open(png).width == 464
        with np.load(values) as opened:
            assert opened["values"].shape == (7, 7)
            assert str(opened["path"]) == row["path"]
    assert {path.name for path in why.iterdir()} == {
        "000.cam.png",
        "000.cam.npz",
        "000-2.cam.png",
        "000-2.cam.npz",
        "sheet.png",
        ".topwork",
    }
    source = ImageSource.open(folder)
    assert source.classes == ["dots", "stripes"]
    assert Excluded("why", "a topwork result") in source.excluded
    assert len(ImageSource.open(why).samples) == 3


def test_the_table_fits_80_columns(
    topwork_command: Command, fitted: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    code, out, _ = topwork_command("explain", fitted.folder, "dots", "broken.png", "--target", "stripes")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "cam, layer last_map"
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["picture", "predicted", "explained", "prob.", "deletion", "insertion", "trust"]
    assert "dots/000.png" in out
    assert "broken.png" in out


def test_without_measurements(topwork_command: Command, fitted: Any, folder: Path) -> None:
    code, out, _ = topwork_command("explain", fitted.folder, folder / "dots", "--no-faithfulness")
    assert code == 0
    assert "deletion" not in out
    assert "%" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "gradcam"], "there is no explanation method 'gradcam': did you mean grad-cam"),
        (["--target", "cow"], "the model has no class 'cow': choose one of checks, dots, stripes"),
        (["--method", "grad-cam", "--layer", "x"], "the network has no stage 'x': choose one of blocks.0"),
        (["--layer", "blocks.2"], "cam exists for the last stage, last_map, only"),
    ],
)
def test_wrong_calls(topwork_command: Command, fitted: Any, folder: Path, options: list[str], message: str) -> None:
    code, out, err = topwork_command("explain", fitted.folder, folder / "dots", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_nothing_readable_fails(topwork_command: Command, fitted: Any, folder: Path) -> None:
    code, _, err = topwork_command("explain", fitted.folder, folder / "broken.png", "-o", folder / "why")
    assert code == 1
    assert err.startswith("topwork: ")
    assert not (folder / "why").exists()


def test_a_place_that_cannot_be_written_is_said_before_the_work(
    topwork_command: Command, fitted: Any, folder: Path
) -> None:
    (folder / "file").write_text("")
    code, out, err = topwork_command("explain", fitted.folder, folder / "dots", "-o", folder / "file" / "why")
    assert (code, out) == (1, "")
    assert "cannot write" in err


def test_a_contrast_prints_both_classes_and_their_nearest_pictures(
    topwork_command: Command, fitted: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(folder)
    arguments = ["explain", fitted.folder, "dots/000.png", "--contrast", "--photos", fitted.photos, "-o", "why"]
    code, out, _ = topwork_command(*arguments, "--html", "page.html")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "rather than" in out
    assert out.count("  dots 0.") == 3
    assert "Page: page.html" in out
    with_rows, alone = Image.open("why/000.cam.png").height, Image.open("why/000.cam.png").width
    assert with_rows > alone + 200  # two rows of nearest pictures below the map
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 1 + 1 + 6  # the picture, its map, the nearest pictures of both classes
    assert "000.png" in page
    assert "dots rather than " in page
    code, out, _ = topwork_command(*arguments, "--json")
    [row] = json.loads(out)
    assert row["against"] in ("checks", "stripes")
    assert [each["label"] for each in row["neighbours"]] == ["dots"] * 3 + [row["against"]] * 3
    assert all(each["path"].startswith(each["label"]) for each in row["neighbours"])
    assert "dots/000.png" not in [each["path"] for each in row["neighbours"]]  # the picture itself


def test_a_contrast_without_known_pictures_says_so(
    topwork_command: Command, fitted: Any, folder: Path, empty_cache: Path
) -> None:
    arguments = ["explain", fitted.folder, folder / "dots", "--no-faithfulness", "--against", "stripes"]
    code, out, _ = topwork_command(*arguments)
    assert code == 0
    assert "Nearest training pictures are left out: expected the features" in out
    code, out, err = topwork_command(*arguments, "--neighbours", 2)
    assert (code, out) == (2, "")
    assert "give the pictures with --photos" in err


def test_a_channel_is_explained(topwork_command: Command, fitted: Any, folder: Path) -> None:
    arguments = ["explain", fitted.folder, folder / "dots", "--method", "deconvnet", "--layer", "blocks.1"]
    code, out, _ = topwork_command(*arguments, "--channel", 3)
    assert code == 0
    assert "activation" in out
    assert "prob." not in out
    code, out, err = topwork_command(*arguments, "--neuron", "3,99,20", "--json")
    assert code == 2
    assert "a row and a column in the 56 x 56 map of blocks.1, not 99,20" in err
    code, _, err = topwork_command(*arguments, "--channel", 3, "--neuron", "3,1,1")
    assert code == 2
    assert "expected --channel or --neuron, not both" in err


def test_pages_are_called_html(topwork_command: Command, fitted: Any, folder: Path) -> None:
    code, out, err = topwork_command("explain", fitted.folder, folder / "dots", "--html", folder / "page.png")
    assert (code, out) == (2, "")
    assert "expected a name that ends in .html" in err


def test_predictions_come_with_their_maps(topwork_command: Command, fitted: Any, folder: Path) -> None:
    why = folder / "why"
    pictures = [folder / name for name in ("dots/000.png", "broken.png", "stripes/000.png")]
    code, out, _ = topwork_command("predict", fitted.folder, *pictures, "--explain", why, "--json")
    assert code == 0
    rows = json.loads(out)
    assert rows[1]["files"] == []
    assert "heatmap" not in rows[0]
    others = json.loads(topwork_command("explain", fitted.folder, *pictures, "-o", folder / "x", "--json")[1])
    for row, other in zip(rows[::2], others[::2], strict=True):
        assert row["label"] == other["label"]
        png, values = row["files"]
        assert Image.open(png).size == Image.open(other["files"][0]).size
        with np.load(values) as found, np.load(other["files"][1]) as expected:
            np.testing.assert_allclose(found["values"], expected["values"], rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(found["box"], expected["box"])
    code, out, _ = topwork_command("predict", fitted.folder, folder / "dots", "--explain", why)
    assert code == 0
    assert str(why / "000.cam.png") in out
    plain = json.loads(topwork_command("predict", fitted.folder, folder / "dots", "--json")[1])
    assert "files" not in plain[0]


def test_pretrained_networks_give_maps_too(topwork_command: Command, folder: Path) -> None:
    arguments = ["predict", "imagenet:tf_efficientnet_lite0", folder / "dots", "--explain", folder / "why", "--json"]
    code, out, _ = topwork_command(*arguments)
    assert code == 0
    assert len(json.loads(out)[0]["files"]) == 2


def test_a_model_without_maps_is_sent_to_explain(
    topwork_command: Command, folder: Path, toy_model: Callable[..., Path]
) -> None:
    model = toy_model([np.eye(3).reshape(3, 3, 1, 1)], np.ones((3, 2)), pool=False)
    code, out, err = topwork_command("predict", model, folder / "dots", "--explain", folder / "why")
    assert (code, out) == (2, "")
    assert "use `topwork explain`" in err


def test_a_file_in_place_of_the_folder_is_said_before_the_work(
    topwork_command: Command, fitted: Any, folder: Path
) -> None:
    (folder / "file").write_text("kept")
    for command, option in (("explain", "-o"), ("predict", "--explain")):
        code, out, err = topwork_command(command, fitted.folder, folder / "dots", option, folder / "file")
        assert (code, out) == (1, "")
        assert "it is a file, not a folder" in err
    assert (folder / "file").read_text() == "kept"

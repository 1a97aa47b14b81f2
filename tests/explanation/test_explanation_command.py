"""``topwork explain``: what it prints, what it writes, and what it says of wrong calls."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
    }


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

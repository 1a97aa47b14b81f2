"""``topwork style``: painting, fast styles, and what is said where something is missing."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.style import feedforward
from topwork.style.fast_style import FastStyle, save

Command = Callable[..., tuple[int, str, str]]
FEW = ("--size", 64, "--steps", 3, "--scales", 1, "--backbone", "tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, picture: Any) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name, seed, size in (("content", 0, (60, 80)), ("style", 1, (64, 64)), ("other", 2, (50, 70))):
        Image.fromarray((255 * picture(seed, *size)).astype(np.uint8)).save(folder / f"{name}.png")
    mask = np.zeros((60, 80), np.uint8)
    mask[:, 40:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


@pytest.fixture(scope="module")
def fast_style(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("styles") / "plain.style"
    save(folder, feedforward.network(width=4, blocks=1), {"name": "plain"}, report="<p>")
    return folder


def test_a_picture_is_painted(topwork_command: Command, pictures: Path, tmp_path: Path) -> None:
    output, preview = tmp_path / "new" / "out.png", tmp_path / "preview.jpg"
    given = (pictures / "content.png", pictures / "style.png", "-o", output)
    code, printed, said = topwork_command("style", *given, *FEW, "--preview", preview, "--json")
    assert code == 0, said
    facts = json.loads(printed)
    assert {"network", "layers", "trace", "seconds", "peak_memory_mb"} <= set(facts)
    assert facts["network"] == "tf_efficientnet_lite0"
    assert len(facts["trace"]) == 4
    assert all(set(row) == {"total", "content", "style"} for row in facts["trace"])
    assert facts["trace"][0]["content"] == 0  # before the first update it is the content picture
    assert list(facts["layers"]) == ["style", "content"]
    assert facts["peak_memory_mb"] > 100
    assert Image.open(output).size == (64, 48)
    assert Image.open(preview).size == (64, 48)
    assert [path.name for path in output.parent.iterdir()] == ["out.png"]
    again = tmp_path / "again.png"
    assert topwork_command("style", "transfer", *given[:2], "-o", again, *FEW)[0] == 0
    assert again.read_bytes() == output.read_bytes()


def test_without_vgg_it_says_how_to_get_it_and_goes_on(
    topwork_command: Command, pictures: Path, tmp_path: Path
) -> None:
    code, printed, said = topwork_command(
        "style", pictures / "content.png", pictures / "style.png", "-o", tmp_path / "a.png", *FEW[:-2]
    )
    assert code == 0
    assert "topwork weights pull vgg19" in said
    assert "vgg16-hed" in said
    assert said.count("\n") == 1
    assert printed.startswith(f"Picture: {tmp_path / 'a.png'}")


def test_layers_masks_and_several_styles(topwork_command: Command, pictures: Path, tmp_path: Path) -> None:
    code, printed, said = topwork_command(
        "style", pictures / "content.png", pictures / "style.png", pictures / "other.png", "-o", tmp_path / "a.png",
        *FEW, "--weight", 2, "--weight", 1, "--mask", pictures / "mask.png", "--mask", pictures / "mask.png",
        "--style-layers", "blocks.0=1,blocks.2=0.5", "--content-layer", "blocks.3", "--colours", "luminance",
        "--style-scale", 0.5, "--start", "noise", "--seed", 3, "--optimizer", "adam", "--pooling", "max",
        "--smoothness", 5, "--tile", 0, "--json",
    )  # fmt: skip
    assert code == 0, said
    assert json.loads(printed)["layers"] == {"style": {"blocks.0": 1.0, "blocks.2": 0.5}, "content": ["blocks.3"]}
    painted = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    content = np.asarray(Image.open(pictures / "content.png").resize((64, 48), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(painted[:, :30] - content[:, :30]).max() <= 2  # outside of the masks
    assert np.abs(painted[:, 34:] - content[:, 34:]).max() > 20


def test_a_strip_shows_several_weights(topwork_command: Command, pictures: Path, tmp_path: Path) -> None:
    code, printed, _ = topwork_command(
        "style", pictures / "content.png", pictures / "style.png", "-o", tmp_path / "strip.png", *FEW,
        "--steps", 15, "--strip", "1,1000", "--json",
    )  # fmt: skip
    assert code == 0
    facts = json.loads(printed)
    assert [row["style_weight"] for row in facts["strip"]] == [1, 1000]
    assert facts["strip"][0]["style"] > facts["strip"][1]["style"]
    assert Image.open(tmp_path / "strip.png").width > 3 * 64


def test_a_stopped_run_goes_on(
    topwork_command: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topwork.style.checkpoints import Checkpoint
    from topwork.style.transfer import Transfer

    given = (pictures / "content.png", pictures / "style.png", "-o", tmp_path / "a.png", *FEW[:2], "--steps", 23)
    options = ("--scales", 1, *FEW[-2:])
    real = Checkpoint.save

    def stop_after(self: Checkpoint, *state: Any) -> None:
        real(self, *state)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", stop_after)
    assert topwork_command("style", *given, *options)[0] == 130
    assert not (tmp_path / "a.png").exists()
    assert (tmp_path / "a.png.progress").exists()
    monkeypatch.setattr(Checkpoint, "save", real)
    code, _, said = topwork_command("style", *given, *options, "--style-weight", 3, "--resume")
    assert code == 2
    assert "other pictures or options" in said
    begun = []
    steps = Transfer.steps

    def counted(self: Transfer, *arguments: Any, **more: Any) -> Any:
        begun.append(more["done"])
        return steps(self, *arguments, **more)

    monkeypatch.setattr(Transfer, "steps", counted)
    code, printed, _ = topwork_command("style", *given, *options, "--resume", "--json")
    assert code == 0
    assert begun == [20]
    assert len(json.loads(printed)["trace"]) == 24
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    code, _, said = topwork_command("style", *given, *options, "--resume")
    assert code == 2
    assert "there is no" in said


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("-o", "a.gif"), ".png or .jpg"),
        (("-o", "a.png", "--weight", "1", "--weight", "2"), "one --weight for each of 1 styles, got 2"),
        (("-o", "a.png", "--mask", "b.png", "--mask", "c.png"), "one --mask for each of 1 styles, got 2"),
        (("-o", "a.png", "--style-layers", "conv1_1=much"), "expected LAYER=WEIGHT"),
        (("-o", "a.png", "--strip", "some"), "expected style weights such as"),
        (("-o", "a.png", "--strip", "1", "--resume"), "single picture only"),
        (("-o", "a.png", "--optimizer", "sgd"), "optimizer cannot be 'sgd'"),
        (("-o", "a.png", "--start", "nowhere.png"), "cannot read nowhere.png"),
        (("-o", "a.png", "--backbone", "nonsense"), "nonsense"),
        ((), "output"),
    ],
)
def test_wrong_calls_are_refused_in_one_sentence(
    topwork_command: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = topwork_command("style", pictures / "content.png", pictures / "style.png", *FEW[:-2], *more)
    assert code in (1, 2)
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_picture_itself_is_not_replaced(topwork_command: Command, pictures: Path) -> None:
    content = pictures / "content.png"
    before = content.read_bytes()
    code, _, said = topwork_command("style", content, pictures / "style.png", "-o", content, *FEW)
    assert code == 2
    assert "another name" in said
    assert content.read_bytes() == before


def test_bad_pictures_are_named(topwork_command: Command, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.new("RGB", (200, 4)).save(tmp_path / "thin.png")
    Image.new("L", (64, 64), 90).save(tmp_path / "grey.png")
    (tmp_path / "folder.png").mkdir()
    for name, words in (
        ("broken.jpg", "cannot read"),
        ("thin.png", "at least 32 pixels on both sides"),
        ("mistyped.png", "mistyped.png: file not found; choose another picture"),
        ("folder.png", "a folder, not a file; choose another picture"),
    ):
        code, _, said = topwork_command(
            "style", tmp_path / name, pictures / "style.png", "-o", tmp_path / "a.png", *FEW
        )  # fmt: skip
        assert code != 0
        assert words in said
        assert said.count("\n") == 1
    assert (
        topwork_command("style", tmp_path / "grey.png", pictures / "style.png", "-o", tmp_path / "a.png", *FEW)[0] == 0
    )


def test_a_video_is_painted_frame_by_frame(
    topwork_command: Command, pictures: Path, film: Callable[..., Path], tmp_path: Path
) -> None:
    frames = [np.full((48, 64, 3), 100 + 5 * number, np.uint8) for number in range(4)]
    source = film(tmp_path / "in.mp4", frames)
    code, printed, said = topwork_command(
        "style", source, pictures / "style.png", "-o", tmp_path / "out.mp4", *FEW, "--fps", 5, "--video", "--json"
    )
    assert code == 0, said
    assert json.loads(printed)["frames"] == 2
    assert (tmp_path / "out.mp4").stat().st_size > 0
    code, _, said = topwork_command("style", source, pictures / "style.png", "-o", tmp_path / "out.png", *FEW)
    assert code == 2
    assert ".mp4" in said


def test_a_fast_style_is_trained_and_used(topwork_command: Command, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wave.style"
    code, printed, said = topwork_command(
        "style", "train", pictures / "style.png", pictures, "-o", folder, "--steps", 3, "--batch", 1, "--size", 64,
        "--width", 4, "--backbone", "tf_efficientnet_lite0", "--json",
    )  # fmt: skip
    assert code == 0, said
    facts = json.loads(printed)
    assert len(facts["trace"]) == 3
    assert facts["photographs"] == 4
    manifest = json.loads((folder / "model.json").read_text())
    assert manifest["task"] == "stylize"
    assert manifest["loss_network"] == "tf_efficientnet_lite0"
    assert "Photographs it was trained on" in (folder / "report.html").read_text()
    assert FastStyle.load(folder).drift(folder) == 0
    code, printed, _ = topwork_command("style", "apply", folder, pictures / "content.png", "-o", tmp_path / "a.jpg")
    assert code == 0
    assert printed.startswith("1 picture in ")
    assert Image.open(tmp_path / "a.jpg").size == (80, 60)
    code, _, said = topwork_command(
        "style", "train", pictures / "style.png", pictures, "-o", folder, "--steps", 1, "--size", 64, "--batch", 1,
        "--backbone", "tf_efficientnet_lite0", "--start", folder,
    )  # fmt: skip
    assert code == 0, said
    code, _, said = topwork_command("style", "train", pictures / "style.png", pictures, "-o", pictures)
    assert code == 1
    assert (pictures / "content.png").exists()


KILLED = """
import os, signal, sys
from topwork.cli import app, fast_styles
from topwork.style import learning

fast_styles._SAVE_EVERY = 2
learn = learning.learn

def dying(*arguments, **options):
    for each in learn(*arguments, **options):
        if each.number == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield each

learning.learn = dying
app.run(sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_training_goes_on_with_the_same_command(
    topwork_command: Command, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last state that was saved, as if nothing had been; with another option it is not lost."""
    from topwork.cli import fast_styles

    monkeypatch.setattr(fast_styles, "_SAVE_EVERY", 2)

    def call(name: str, steps: int = 7) -> list[str]:
        given = ("style", "train", pictures / "style.png", pictures, "-o", tmp_path / name, "--steps", steps)
        more = ("--batch", 2, "--size", 64, "--width", 4, "--backbone", "tf_efficientnet_lite0", "--json")
        return [str(each) for each in (*given, *more)]

    died = subprocess.run([sys.executable, "-c", KILLED, *call("killed.style")], capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    state = tmp_path / "killed.style.progress"
    assert state.exists()
    assert json.loads((tmp_path / "killed.style" / "model.json").read_text())["steps"] == 4
    code, _, said = topwork_command(*call("killed.style", steps=9))
    assert code == 2
    assert "other pictures or options" in said
    assert state.exists()
    code, printed, said = topwork_command(*call("killed.style"))
    assert code == 0, said
    assert "goes on from step 4" in said
    assert not state.exists()
    going_on = json.loads(printed)["trace"]
    whole = json.loads(topwork_command(*call("whole.style"))[1])["trace"]
    assert len(going_on) == len(whole) == 7
    for name in ("content", "style", "total"):
        np.testing.assert_allclose(
            [row[name] for row in going_on], [row[name] for row in whole], rtol=0.02
        )  # bfloat16 rounds as threads come
    assert json.loads((tmp_path / "killed.style" / "model.json").read_text())["steps"] == 7


def test_a_folder_is_painted_under_its_names(topwork_command: Command, fast_style: Path, tmp_path: Path) -> None:
    for name in ("in/a/1.png", "in/b/1.png", "in/b/1.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50), "blue").save(path)
    (tmp_path / "in" / "b" / "2.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.new("RGB", (100, 5)).save(tmp_path / "in" / "b" / "thin.png")
    code, printed, _ = topwork_command(
        "style", "apply", fast_style, tmp_path / "in", "-o", tmp_path / "out", "--size", 40, "--json"
    )
    assert code == 0
    facts = json.loads(printed)
    assert facts["pictures"] == 3
    made = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.jpg"))
    assert made == ["a/1.jpg", "b/1-2.jpg", "b/1.jpg"]
    assert {Image.open(tmp_path / "out" / name).size for name in made} == {(40, 20)}
    assert {Path(row["path"]).name for row in facts["excluded"]} == {"2.jpg", "thin.png"}


def test_a_video_in_a_fast_style(
    topwork_command: Command, fast_style: Path, film: Callable[..., Path], tmp_path: Path
) -> None:
    source = film(tmp_path / "in.mp4", [np.full((48, 64, 3), 40 * number, np.uint8) for number in range(5)])
    code, printed, _ = topwork_command("style", "apply", fast_style, source, "-o", tmp_path / "out.mp4")
    assert code == 0
    assert printed.startswith("5 frames in ")


def test_the_camera_is_the_demo_page(
    topwork_command: Command, fast_style: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from topwork.style.demo import DemoServer

    monkeypatch.setattr(DemoServer, "run", lambda self: self.socket.close())
    code, printed, _ = topwork_command("style", "apply", fast_style, "camera")
    assert code == 0
    assert printed.startswith("Open http://127.0.0.1:")
    assert printed.splitlines()[0].endswith("/#camera")
    code, printed, _ = topwork_command("style", "demo", fast_style, fast_style)
    assert code == 0
    assert printed.splitlines()[0].endswith("/")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("apply", "{style}", "{picture}"), "give -o"),
        (("apply", "{nothing}", "{picture}", "-o", "a.png"), "expected a model folder"),
        (("apply", "{style}", "{nothing}", "-o", "a.png"), "cannot read"),
        (("apply", "{style}", "{picture}", "-o", "a.gif"), ".png or .jpg"),
        (("demo", "{nothing}"), "expected a model folder"),
        (("train", "{picture}", "{nothing}", "-o", "a.style"), "nothing"),
        (("train", "{picture}", "{pictures}", "-o", "a.style", "--size", 65), "expected a size"),
    ],
)
def test_wrong_calls_of_fast_styles(
    topwork_command: Command, pictures: Path, fast_style: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: Any, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {
        "style": fast_style, "picture": pictures / "content.png", "pictures": pictures, "nothing": "nothing"
    }  # fmt: skip
    code, _, said = topwork_command("style", *(str(each).format(**places) for each in arguments))
    assert code in (1, 2)
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{content}", "{style}", "-o", "{style}"), "made from"),
        (("{content}", "{style}", "--mask", "{mask}", "-o", "{mask}"), "made from"),
        (("{content}", "{style}", "-o", "a.png", "--preview", "{style}"), "made from"),
        (("{content}", "{style}", "-o", "a.png", "--fps", "5"), "--fps with a video only"),
        (("{content}", "{style}", "-o", "a.png", "--strip", "1", "--start", "{mask}"), "--start FILE with a single"),
        (("{content}", "{style}", "-o", "a.png", "--style-weight", "inf"), "expected weights of at least 0"),
        (("{content}", "{style}", "-o", "a.png", "--style-layers", "blocks.0=nan"), "expected weights of at least 0"),
        (("{content}", "{style}", "-o", "a.png", "--weight", "0"), "one above 0"),
        (("{content}", "{style}", "-o", "a.png", "--mask", "{style}"), "a mask of the shape of the content picture"),
        (("apply", "{fast}", "{folder}", "-o", "{folder}"), "expected a folder beside"),
        (("apply", "{fast}", "{folder}", "-o", "{folder}/painted"), "expected a folder beside"),
        (("apply", "{fast}", "{content}", "-o", "{content}"), "made from"),
    ],
)
def test_nothing_that_is_given_is_replaced_and_no_option_is_ignored(
    topwork_command: Command, pictures: Path, fast_style: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: Any, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    places = {name: pictures / f"{name}.png" for name in ("content", "style", "mask")}
    filled = [each.format(**places, fast=fast_style, folder=pictures) for each in arguments]
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    more = () if arguments[0] == "apply" else FEW
    code, _, said = topwork_command("style", *filled, *more)
    assert code == 2
    assert words in said
    assert {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()} == before
    assert not list(tmp_path.iterdir())


def test_a_video_does_not_replace_itself(
    topwork_command: Command, fast_style: Path, film: Callable[..., Path], tmp_path: Path
) -> None:
    source = film(tmp_path / "in.mp4", [np.full((48, 64, 3), 90, np.uint8)] * 2)
    before = source.read_bytes()
    code, _, said = topwork_command("style", "apply", fast_style, source, "-o", source)
    assert code == 2
    assert "made from" in said
    assert source.read_bytes() == before

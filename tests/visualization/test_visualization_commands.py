"""``topwork see`` from the command line: what is printed, what is written, what is refused."""

import base64
import inspect
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.cli.exciting import maximize
from topwork.visualization.ascent import Settings

NETWORK = "tf_efficientnet_lite0"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photo(tmp_path: Path, pattern: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch) -> str:
    """A picture of 140 by 110 pixels in the working folder."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pattern("any", 1)).save("a.png")
    return "a.png"


def test_convolve_prints_the_arithmetic_and_writes_sheet_and_arrays(topwork_command: Command, photo: str) -> None:
    options = [
        "--kernel",
        "sobel",
        "--padding",
        "same",
        "--stride",
        2,
        "--pool",
        "max",
        "-o",
        "s.png",
        "--npz",
        "s.npz",
    ]
    code, out, _ = topwork_command("see", "convolve", photo, *options)
    assert code == 0
    assert "convolved: 55 x 70 x 3" in out
    assert "  height: (110 + 2 - 3) / 2 + 1 = 55, rounded down" in out
    assert "max of 2 x 2: 27 x 35 x 3" in out
    assert max(map(len, out.splitlines())) <= 80
    assert Image.open("s.png").width > 600
    arrays = np.load("s.npz", allow_pickle=False)
    assert arrays["convolved"].shape == (55, 70, 3)
    assert np.array_equal(arrays["image"], np.array(Image.open(photo)))


def test_convolve_of_brightness_with_rows_of_numbers(topwork_command: Command, photo: str) -> None:
    code, out, _ = topwork_command("see", "convolve", photo, "--kernel", "[[0, 1]]", "--grey", "--flip", "--json")
    assert code == 0
    image, convolved = json.loads(out)["steps"]
    assert image["shape"] == [110, 140]
    assert convolved["shape"] == [110, 139]
    assert convolved["range"][0] >= 0


def test_filters_and_activations_are_written(topwork_command: Command, photo: str) -> None:
    code, out, _ = topwork_command("see", "filters", NETWORK, "-o", "f.png", "--npz", "f.npz", "--json")
    assert code == 0
    assert json.loads(out)["kernels"] == [32, 3, 3, 3]
    assert json.loads(out)["files"] == ["f.png", "f.npz"]
    assert np.load("f.npz", allow_pickle=False)["kernels"].shape == (32, 3, 3, 3)
    code, out, _ = topwork_command("see", "activations", NETWORK, photo, "-o", "m.png", "--channels", 2, "--json")
    assert code == 0
    stages = json.loads(out)["stages"]
    assert [stage["shape"] for stage in stages][:2] == [[16, 112, 112], [24, 56, 56]]
    assert {len(stage["strongest"]) for stage in stages} == {2}
    assert Image.open("m.png").height > 8 * 96


def test_random_weights_are_warned_of_on_stderr(topwork_command: Command, photo: str) -> None:
    code, out, err = topwork_command("see", "filters", "lenet5", "-o", "f.png", "--json")
    assert code == 0
    assert json.loads(out)["pretrained"] is False
    assert "lenet5 has no pretrained weights on this machine" in err
    assert len(err.strip().splitlines()) == 1


def test_maximize_has_a_trace_and_is_repeatable(topwork_command: Command, photo: str) -> None:
    options = ["--class", "goldfish", "--steps", 3, "--size", 48, "--seed", 7]
    code, out, _ = topwork_command("see", "maximize", NETWORK, *options, "-o", "m.png", "--npz", "m.npz", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["class"], facts["name"], facts["seed"], len(facts["trace"])) == (1, "goldfish", 7, 3)
    pictures = np.load("m.npz", allow_pickle=False)["pictures"]
    assert pictures.shape == (1, 48, 48, 3)
    first = Path("m.png").read_bytes()
    assert topwork_command("see", "maximize", NETWORK, *options, "-o", "m.png")[0] == 0
    assert Path("m.png").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--layer", "blocks.1", "--channel", 3], {"layer": "blocks.1", "channel": 3}),
        (["--layer", "blocks.1", "--neuron", "3,2,5"], {"layer": "blocks.1", "channel": 3, "place": [2, 5]}),
    ],
)
def test_maximize_says_what_it_maximized(
    options: list[object], expected: dict[str, object], topwork_command: Command, photo: str
) -> None:
    arguments = ["--steps", 2, "--size", 32, "-o", "m.png", "--json"]
    code, out, _ = topwork_command("see", "maximize", NETWORK, *options, *arguments)
    assert code == 0
    assert expected.items() <= json.loads(out).items()


def test_grids_and_several_classes_share_a_sheet(topwork_command: Command, photo: str) -> None:
    arguments = ["--steps", 1, "--size", 32, "-o", "m.png", "--json"]
    code, out, _ = topwork_command("see", "maximize", NETWORK, "--layer", "blocks.0", "--grid", 99, *arguments)
    assert code == 0
    assert [row["channel"] for row in json.loads(out)["pictures"]] == list(range(16))  # it has no more
    code, out, _ = topwork_command("see", "maximize", NETWORK, "--class", 1, "--class", "volcano", *arguments)
    assert code == 0
    assert [row["name"] for row in json.loads(out)["pictures"]] == ["goldfish", "volcano"]


def test_dream_invert_and_top_write_their_pictures(
    topwork_command: Command, photo: str, tmp_path: Path, photo_set: Callable[..., Path]
) -> None:
    short = ["--steps", 1, "--octaves", 2]
    code, out, _ = topwork_command("see", "dream", photo, "-o", "d.png", "--npz", "d.npz", *short, "--json")
    assert code == 0
    assert json.loads(out)["layer"] == "blocks.4"
    arrays = np.load("d.npz", allow_pickle=False)
    assert np.array_equal(arrays["picture"], np.array(Image.open(photo)))
    assert np.array_equal(arrays["dream"], np.array(Image.open("d.png")))
    code, out, _ = topwork_command(
        "see", "invert", NETWORK, photo, "--layer", "blocks.0", "--steps", 2, "-o", "i.png", "--npz", "i.npz", "--json"
    )
    assert code == 0
    assert [len(row["trace"]) for row in json.loads(out)["layers"]] == [2]
    assert set(np.load("i.npz", allow_pickle=False)) == {"picture", "blocks.0"}
    photos = photo_set(tmp_path / "PHOTOS", 1)
    options = ["--layer", "blocks.2", "--channel", 3, "--count", 2, "-o", "t.png", "--npz", "t.npz", "--json"]
    code, out, _ = topwork_command("see", "top", NETWORK, photos, *options)
    assert code == 0
    facts, arrays = json.loads(out), np.load("t.npz", allow_pickle=False)
    assert len(facts["patches"]) == 2
    assert facts["reconstruction"] == "guided"  # a deconvnet's would be alike: this network has no max pooling
    assert facts["files"] == ["t.png", "t.npz"]
    assert arrays["boxes"].tolist() == [row["box"] for row in facts["patches"]]
    assert arrays["patch_1"].shape == arrays["signal_1"].shape


def tiles_of(page: str) -> list[np.ndarray]:
    """The pictures on a page of HTML."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.array(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


@pytest.mark.parametrize(
    ("arguments", "count", "words"),
    [
        (["convolve", "a.png", "--kernel", "blur", "--pool", "max"], 3, ["convolved 108 x 138 x 3", "(110 + 0 - 3)"]),
        (["filters", NETWORK], 32, ["32 kernels of 3 x 3 pixels, RGB"]),
        (["activations", NETWORK, "a.png", "--channels", 2], 16, ["blocks.4: 112 channels of 14 x 14"]),
        (["maximize", NETWORK, "--class", "daisy", "--steps", 1, "--size", 32], 1, ["daisy", "1 steps", "seed 0"]),
        (["dream", "a.png", "--steps", 1, "--octaves", 1], 2, ["the picture", "the dream"]),
        (["invert", NETWORK, "a.png", "--layer", "blocks.0", "--steps", 1], 2, ["blocks.0", "the picture"]),
        (["top", NETWORK, ".", "--layer", "blocks.0", "--channel", 2], 1, ["blocks.0 channel 2", "a.png"]),
    ],
)
def test_each_look_is_a_page_too(
    arguments: list[object], count: int, words: list[str], topwork_command: Command, photo: str
) -> None:
    code, out, err = topwork_command("see", *arguments, "--html", "p.html", "--json")
    assert code == 0, err
    assert json.loads(out)["files"] == ["p.html"]
    page = Path("p.html").read_text()
    assert len(tiles_of(page)) == count
    assert not [word for word in words if word not in page]
    assert not re.search(r"<script|https?://", page)


def test_a_page_holds_the_pictures_themselves(topwork_command: Command, photo: str) -> None:
    code, _, _ = topwork_command("see", "dream", photo, "--steps", 1, "--octaves", 1, "--html", "p.html", "-o", "d.png")
    assert code == 0
    before, after = tiles_of(Path("p.html").read_text())
    assert np.array_equal(before, np.array(Image.open(photo)))
    assert np.array_equal(after, np.array(Image.open("d.png")))


def test_a_model_is_looked_into_by_its_folder(topwork_command: Command, photo: str, fitted: Any) -> None:
    short = ["--steps", 2, "--size", 32, "-o", "m.png", "--json"]
    code, out, err = topwork_command("see", "maximize", fitted.folder, "--class", "dots", *short)
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["backbone"], facts["class"], facts["name"]) == (fitted.folder.name, 1, "dots")
    code, _, err = topwork_command("see", "maximize", fitted.folder, "--class", "goldfish", *short)
    assert code == 2
    assert "expected a class from 0 to 2 or its name, not 'goldfish'" in err
    code, _, err = topwork_command("see", "activations", fitted.folder, photo, "-o", "a2.png", "--channels", 1)
    assert code == 0, err
    code, _, err = topwork_command("see", "filters", ".", "-o", "f.png")
    assert code == 2
    assert "expected a network's name or a model folder, but . is a folder without model.json" in err


def test_the_command_has_the_defaults_of_the_function() -> None:
    settings = vars(Settings())
    parameters = inspect.signature(maximize).parameters
    shared = {name: parameters[name].default for name in settings if name in parameters}
    assert shared == {name: settings[name] for name in ("steps", "size", "seed", "smoothness")}


def test_diverse_pictures_are_of_one_target(topwork_command: Command, photo: str) -> None:
    short = ["--steps", 1, "--size", 32, "-o", "m.png", "--json"]
    code, out, _ = topwork_command("see", "maximize", NETWORK, "--class", "daisy", "--diverse", 3, *short)
    assert code == 0
    assert [row["name"] for row in json.loads(out)["pictures"]] == ["daisy"] * 3
    code, _, err = topwork_command("see", "maximize", NETWORK, "--class", 1, "--class", 2, "--diverse", 3, *short)
    assert code == 2
    assert "expected one target for --diverse, not several" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maximize", NETWORK, "-o", "m.png"], "expected one thing to maximize: --class K, or --layer L with"),
        (["maximize", NETWORK, "-o", "m.png", "--class", "1", "--layer", "blocks.0"], "expected one thing to maximize"),
        (["maximize", NETWORK, "-o", "m.png", "--layer", "blocks.0", "--neuron", "1,2"], "such as 5,3,2, not '1,2'"),
        (["maximize", NETWORK, "-o", "m.jpg", "--class", "1"], "expected a name that ends in .png, not m.jpg"),
        (["maximize", NETWORK, "-o", "m.png", "--class", "1", "--size", "8"], "expected a picture of 16 to 1,024"),
        (["filters", NETWORK], "expected a file to write, but none is named; give -o FILE.png, --html or --npz"),
        (["filters", NETWORK, "--html", "f.htm"], "expected a name that ends in .html, not f.htm"),
        (
            ["top", NETWORK, ".", "--layer", "blocks.0", "--channel", "1", "--rule", "guide", "-o", "t.png"],
            "expected the rule to be deconvnet or guided, not 'guide': did you mean guided?",
        ),
        (["convolve", "a.png", "--kernel", "sobl"], "did you mean sobel?"),
        (["convolve", "a.png", "--kernel", "blur", "--pool", "min"], "expected kind to be max or average, not 'min'"),
        (["convolve", "a.png", "--kernel", "blur", "--padding", "full"], "expected padding to be valid, same"),
    ],
)
def test_wrong_calls_are_answered_in_a_sentence(
    arguments: list[str], message: str, topwork_command: Command, photo: str
) -> None:
    code, out, err = topwork_command("see", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["a.png"]


def test_pictures_that_cannot_be_read_and_weights_that_are_missing(topwork_command: Command, photo: str) -> None:
    code, _, err = topwork_command("see", "activations", NETWORK, "nowhere.jpg", "-o", "m.png")
    assert (code, err.strip()) == (1, "topwork: cannot read nowhere.jpg: file not found; choose another picture")
    code, _, err = topwork_command("see", "maximize", "lenet5", "--class", "1", "-o", "m.png")
    assert code == 2
    assert "the pretrained weights of lenet5 are not on this machine" in err
    assert not Path("m.png").exists()


def test_the_picture_itself_is_never_replaced(topwork_command: Command, photo: str) -> None:
    before = Path("a.png").read_bytes()
    code, _, err = topwork_command("see", "dream", "a.png", "-o", "a.png", "--steps", 1, "--octaves", 1)
    assert code == 2
    assert "expected another name than that of the picture itself" in err
    assert Path("a.png").read_bytes() == before


def test_dreams_of_tiny_pictures_are_refused(topwork_command: Command, photo: str) -> None:
    Image.new("RGB", (31, 200)).save("tiny.png")
    code, _, err = topwork_command("see", "dream", "tiny.png", "-o", "d.png", "--steps", 1)
    assert code == 2
    assert "expected a picture of at least 32 pixels a side, not 31 x 200" in err

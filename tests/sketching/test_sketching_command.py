"""``topwork strokes``."""

import json
from collections.abc import Callable

import pytest

from topwork.cli import sketching
from topwork.sketching.comparison import EPOCHS, SIZE

Command = Callable[..., tuple[int, str, str]]

PAIRS = (("strokes", "picture"), ("both", "picture"), ("both", "strokes"))


def facts(*, best=None, low=-1.0, high=1.0, name="d", excluded=0):
    accuracy = {"value": 1.0, "low": 0.123456, "high": 1.0, "confidence": 0.95, "n": 1000, "correct": 1000}
    row = {"accuracy": accuracy, "parameters": 1_234_567, "seconds": 12345.678, "curves": []}
    return {
        "classes": [f"class {k}" for k in range(345)],
        "n_training": 37_500,
        "n_held": 12_500,
        "copies": 30,
        "networks": {"picture": row, "strokes": row, "both": row},
        "gains": [{"network": n, "over": o, "value": (low + high) / 2, "low": low, "high": high} for n, o in PAIRS],
        "best": best,
        "excluded": [{"path": f"{name}.ndjson:{k}", "reason": "not JSON"} for k in range(excluded)],
        "output": None,
    }


def test_what_is_printed(rings, tmp_path, topwork_command: Command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "sketches"
    code, out, err = topwork_command("strokes", rings, "--epochs", 2, "--per-class", 8, "--size", 12, "-o", folder)
    assert (code, err) == (0, "")
    assert out.startswith("16 drawings of 2 classes\ntrained on 12, measured on 4 that were held out\n")
    for words in ("the picture", "the strokes", "both", "95 % interval", "both and the strokes", f"Networks: {folder}"):
        assert words in out
    assert (folder / "both.onnx").is_file()


def test_json(rings, topwork_command: Command):
    files = rings / "circle.ndjson", rings / "square.ndjson"
    code, out, err = topwork_command("strokes", *files, "--epochs", 1, "--seed", 5, "--json")
    found = json.loads(out)
    assert (code, err, found["seed"], found["size"], found["output"]) == (0, "", 5, SIZE, None)
    assert found["n_training"] + found["n_held"] == 24
    assert list(found["networks"]) == ["picture", "strokes", "both"]


@pytest.mark.parametrize(
    ("low", "high", "best", "words"),
    [
        (0.02, 0.06, "both", "both: 4.0 points better than the strokes (2.0 to 6.0)"),
        (-0.06, -0.02, "picture", "both: 4.0 points worse than the strokes (2.0 to 6.0)"),
        (-1.0, 1.0, None, "both and the strokes: no sure difference, 0.0 points (-100.0 to 100.0)"),
    ],
)
def test_the_verdict_in_words_fits_80_columns(capsys, monkeypatch, low, high, best, words):
    monkeypatch.setenv("COLUMNS", "80")
    sketching._print(facts(low=low, high=high, best=best, excluded=12))
    lines = capsys.readouterr().out.splitlines()
    assert words in lines
    assert max(map(len, lines)) <= 80
    assert any(("beyond doubt" if best is None else f"sees {sketching._SEES[best]}.") in line for line in lines)
    assert "30 copies stay on the side of the drawing copied" in lines
    assert lines[-1] == "... and 2 more (--json lists all)"


def test_the_default_of_the_command_is_that_of_the_function():
    assert sketching.EPOCHS == EPOCHS


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["RINGS", "--epochs", "0"], 2, "epochs must be a whole number"),
        (["RINGS", "--size", "4"], 2, "8 to 256"),
        (["RINGS", "--per-class", "0"], 2, "--per-class"),
        (["RINGS/circle.ndjson"], 1, "at least two classes"),
        (["RINGS", "-o", "RINGS"], 1, "choose another name with -o"),
        ([], 2, "DRAWINGS"),
    ],
)
def test_wrong_calls(rings, topwork_command: Command, arguments, code, words):
    found, out, err = topwork_command("strokes", *(each.replace("RINGS", str(rings)) for each in arguments))
    assert (found, out, len(err.splitlines())) == (code, "", 1)
    assert words in err


WITHOUT_TORCH = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
from topwork.cli.app import run
sys.exit(run(["strokes", sys.argv[1]]))
"""


def test_without_torch_it_says_what_to_install(rings, python):
    done = python(WITHOUT_TORCH, rings)
    assert done.returncode == 2
    assert "needs torch, which is not installed" in done.stderr
    assert 'pip install "topwork[train]"' in done.stderr


def test_help_imports_nothing_heavy(python):
    done = python(
        "import sys\n"
        "from topwork.cli.app import run\n"
        "assert run(['strokes', '--help']) == 0\n"
        "print([name for name in ('numpy', 'torch', 'onnx', 'topwork.sketching') if name in sys.modules])"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"

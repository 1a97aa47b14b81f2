"""What is imported when: an installation without torch, a fast ``import topwork``, the public names."""

import importlib
import json
import pkgutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Python = Callable[..., subprocess.CompletedProcess[str]]

BLOCKED = ("torch", "torchvision", "timm", "sklearn", "pandas", "matplotlib", "skimage", "tensorflow")

WITHOUT = f"""
import contextlib, importlib.abc, io, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
for name in {BLOCKED!r}:
    try:
        __import__(name)
    except ImportError:
        pass
    else:
        raise SystemExit("the blocker does not block " + name)
photos, output = sys.argv[1:]
import topwork
from topwork.cli.app import run
assert topwork.fit(photos, output=output).facts["n_images"] == 24
assert topwork.audit(photos).facts["n_images"] == 24
for line in (["audit", photos], ["fit", photos, "--head", "svm"], ["predict", output, photos + "/dots"],
             ["evaluate", output, photos], ["report", output], ["backbones"],
             ["backbones", "tf_efficientnet_lite0"], ["cache", "info"]):
    for extra in ([], ["--json"]):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = run(["--debug", *line, *extra])
        assert code == 0, line
        if extra:
            json.loads(printed.getvalue())
        assert printed.getvalue(), line
print("done")
"""


@pytest.mark.slow
def test_everything_but_training_without_torch(photos: Path, tmp_path: Path, python: Python) -> None:
    done = python(WITHOUT, photos, tmp_path / "m.topwork")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"


HEAVY = ["numpy", "onnxruntime", "onnx", "PIL", "scipy", "rich.table", "jinja2", "sqlite3", "torch", "fsspec"]


def loaded(python: Python, program: str) -> set[str]:
    done = python(
        f"import contextlib, io, json, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n {program}\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_import_topwork_is_light(python: Python) -> None:
    assert loaded(python, "import topwork; topwork.__all__, topwork.__version__, dir(topwork)") == set()


@pytest.mark.parametrize("line", [["--help"], ["fit", "--help"], ["predict", "-h"], ["--version"], []])
def test_help_is_light(python: Python, line: list[str]) -> None:
    assert loaded(python, f"from topwork.cli.app import run; assert run({line!r}) == 0") == set()


def test_predict_needs_no_head_stage(python: Python, fitted: Any, photos: Path) -> None:
    done = python(
        "import sys, topwork\n"
        "assert topwork.load(sys.argv[1]).predict(sys.argv[2])[0].label == 'dots'\n"
        "print(*[name for name in ('scipy', 'jinja2', 'typer', 'topwork.pipeline') if name in sys.modules])",
        fitted.folder,
        photos / "dots" / "000.png",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def submodules() -> list[str]:
    import topwork

    return [module.name for module in pkgutil.walk_packages(topwork.__path__, "topwork.")]


def test_every_submodule_can_be_imported() -> None:
    names = submodules()
    assert len(names) > 40
    for name in names:
        if name != "topwork.__main__":
            importlib.import_module(name)


def test_every_public_name_is_there_twice() -> None:
    """Importing a package ``topwork.x`` would replace a function ``topwork.x``: so after all of them, and again."""
    import topwork

    for name in submodules():
        if name != "topwork.__main__":
            importlib.import_module(name)
    for name in topwork.__all__:
        first = getattr(topwork, name)
        assert getattr(topwork, name) is first
        assert callable(first), name
        assert first.__doc__, name
    modules = {name.split(".")[1] for name in submodules()}
    assert not modules & set(topwork.__all__)
    assert len(set(topwork.__all__)) == len(topwork.__all__)


def test_an_unknown_public_name() -> None:
    import topwork

    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        topwork.fitt  # noqa: B018


def test_public_names_are_first_loaded_in_any_order(python: Python) -> None:
    program = (
        "import topwork\n"
        "for name in sorted(topwork.__all__, reverse=True): assert callable(getattr(topwork, name)), name\n"
        "for name in topwork.__all__: assert callable(getattr(topwork, name)), name\n"
        "from topwork import *\n"
        "assert callable(fit) and callable(audit) and callable(evaluate)"
    )
    done = python(program)
    assert done.returncode == 0, done.stderr

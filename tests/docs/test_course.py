"""The notebooks of docs/course run from start to end, use only what is public, and are committed as they ran."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import topwork
from topwork.cli.app import app

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

COURSE = Path(__file__).parents[2] / "docs" / "course"
NOTEBOOKS = sorted(COURSE.glob("*.ipynb"))
MOST_BYTES = 700_000
PUBLIC_MODULES = {
    "topwork.explanation.drawing",
    "topwork.explanation.methods",
    "topwork.explanation.network",
    "topwork.explanation.summary",
    "topwork.explanation.summary_drawing",
    "topwork.style.feedforward",
    "topwork.style.losses",
    "topwork.style.network",
    "topwork.style.transfer",
    "topwork.visualization.activations",
    "topwork.visualization.ascent",
    "topwork.visualization.convolution",
    "topwork.visualization.filters",
    "topwork.visualization.invert",
    "topwork.visualization.maximize",
    "topwork.visualization.opened",
    "topwork.visualization.square",
    "topwork.visualization.targets",
    "topwork.visualization.views",
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tree(path: Path) -> ast.Module:
    """The Python of a notebook, without lines for the shell."""
    lines = "\n".join(cell.source for cell in code_cells(path)).splitlines()
    return ast.parse("\n".join(line for line in lines if not line.startswith("!")))


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel of this Python, whatever kernels are installed."""
    folder = tmp_path / "jupyter" / "kernels" / "of_this_python"
    folder.mkdir(parents=True)
    arguments = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": arguments, "display_name": "this Python", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return folder.name


@pytest.mark.slow
@each_notebook
def test_it_runs_from_start_to_end(path: Path, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(path, as_version=4)
    committed = [pictures(cell) for cell in notebook.cells if cell.cell_type == "code"]
    monkeypatch.setenv("TOPWORK_QUICK", "1")  # style transfer at a small size
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    resources = {"metadata": {"path": str(workplace)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name=kernel, resources=resources).execute()
    assert [pictures(cell) for cell in notebook.cells if cell.cell_type == "code"] == committed
    assert not list(workplace.iterdir()), "a notebook leaves files behind where it was started"


def pictures(cell: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def test_there_are_six() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@each_notebook
def test_it_is_committed_as_it_ran(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output
        assert pictures(cell) == len(re.findall(r"^(?:plt\.)?show\(", cell.source, re.MULTILINE)), cell.source
    assert sum(map(pictures, cells)) >= 3
    assert path.stat().st_size < MOST_BYTES


@each_notebook
def test_it_tells_nothing_about_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"/tmp/|/home/|/Users/|/root/|\\\\Users\\\\|site-packages", text)
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


@each_notebook
def test_it_uses_public_names_only(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names if alias.name.split(".")[0] == "topwork"}
            assert names <= {"topwork", *PUBLIC_MODULES}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "topwork":
            assert node.module in {"topwork", *PUBLIC_MODULES}
            known = topwork.__all__ if node.module == "topwork" else dir(importlib.import_module(node.module))
            for alias in node.names:
                assert alias.name in known
                assert not alias.name.startswith("_")
        elif isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "topwork":
                assert node.attr in topwork.__all__


def test_links_lead_somewhere() -> None:
    texts = {"README.md": (COURSE / "README.md").read_text(encoding="utf-8")}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        texts[path.name] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for name, text in texts.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (COURSE / target).exists(), f"{name} points to {target}"
    assert all(f"({path.name})" in texts["README.md"] for path in NOTEBOOKS)


def test_commands_and_their_options_exist() -> None:
    everything = typer.main.get_command(app)
    texts = [path.read_text(encoding="utf-8") for path in [COURSE / "README.md", *NOTEBOOKS]]
    named = [line for text in texts for line in re.findall(r"`topwork ([a-z][^`]*)`", text)]
    assert len(named) >= 20
    for line in named:
        command, rest = everything, line.split()
        while hasattr(command, "commands"):  # groups such as `see` have commands of their own
            word, *rest = rest
            assert word in command.commands, line
            command = command.commands[word]
        options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        assert {part for part in rest if part.startswith("-")} <= options, line

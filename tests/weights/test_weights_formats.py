"""Files of weights from people nobody knows."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from topwork.errors import BackboneError, MissingExtraError
from topwork.weights import formats

Tensors = dict[str, np.ndarray]


def write_torch(path: Path, tensors: Tensors, *, legacy: bool = False, wrap: Callable[..., Any] = dict) -> None:
    torch = pytest.importorskip("torch")
    state = OrderedDict((name, torch.from_numpy(array.copy())) for name, array in tensors.items())
    torch.save(wrap(state), path, _use_new_zipfile_serialization=not legacy)


def write_keras(path: Path, tensors: Tensors) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in tensors.items():
            file.create_dataset(name.replace(".", "/"), data=array)


def write_legacy_torch(path: Path, tensors: Tensors) -> None:
    write_torch(path, tensors, legacy=True)


def write_safetensors(path: Path, tensors: Tensors) -> None:
    save_file(tensors, path)


WRITERS = [write_torch, write_legacy_torch, write_keras, write_safetensors]
every_format = pytest.mark.parametrize("write", WRITERS, ids=lambda w: w.__name__)


def same(found: Tensors, expected: Tensors) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        wanted = np.float32 if array.dtype.kind == "f" else array.dtype
        assert found[name].dtype == wanted
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array.astype(wanted))


@every_format
def test_what_was_written_is_read(write: Callable[..., None], toy_tensors: Tensors, tmp_path: Path) -> None:
    tensors = {**toy_tensors, "half": np.array([0.5, -2], np.float16), "double": np.array([[1e-3]])}
    write(tmp_path / "file", tensors)
    slashes = write is write_keras
    same(formats.read(tmp_path / "file"), {(k.replace(".", "/") if slashes else k): v for k, v in tensors.items()})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"model_state": state},
        lambda state: OrderedDict((f"module.{name}", tensor) for name, tensor in state.items()),
        lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    ],
)
def test_wrappers_of_a_state_dict_are_taken_off(wrap: Any, toy_tensors: Tensors, tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", toy_tensors, wrap=wrap)
    same(formats.read(tmp_path / "a.pth"), toy_tensors)


def test_bfloat16_and_parameters_keep_their_values(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    values = torch.tensor([[1.0, -2.5, 3e38, 1e-40]], dtype=torch.bfloat16)
    save_torch({"w": values}, tmp_path / "a.safetensors")
    torch.save({"w": torch.nn.Parameter(values)}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        np.testing.assert_array_equal(formats.read(tmp_path / name)["w"], values.float().numpy())


@every_format
def test_a_file_cut_anywhere_is_refused(write: Callable[..., None], toy_tensors: Tensors, tmp_path: Path) -> None:
    write(tmp_path / "whole", toy_tensors)
    data = (tmp_path / "whole").read_bytes()
    for length in [*range(0, len(data), 1 + len(data) // 150), len(data) - 1]:
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(BackboneError, match="expected weights in cut, but "):
            formats.read(tmp_path / "cut")


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x89HDF\r\n\x1a\n", b"\x09" + bytes(7) + b"{"]),
)
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, head: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(head + data)
    with pytest.raises(BackboneError, match="expected weights in noise, but "):
        formats.read(path)


class _Calls:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._reduced


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap", [lambda bomb: bomb, lambda bomb: {"w": bomb}, lambda bomb: {"state_dict": {"w": bomb}}]
)
def test_a_file_that_would_run_code_does_not(tmp_path: Path, legacy: bool, wrap: Callable[..., Any]) -> None:
    torch = pytest.importorskip("torch")
    trace, path = tmp_path / "was_here", tmp_path / "bomb.pth"
    for call in (_Calls(os.mkdir, str(trace)), _Calls(eval, f"open({str(trace)!r}, 'w')")):
        torch.save(wrap(call), path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(BackboneError, match="holds more than tensors, which may be code"):
            formats.read(path)
        assert not trace.exists()
        path.write_bytes(pickle.dumps(wrap(call)))
        with pytest.raises(BackboneError, match="expected weights in bomb"):
            formats.read(path)
        assert not trace.exists()
    pickle.loads(pickle.dumps(_Calls(os.mkdir, str(trace))))  # noqa: S301 - the attack itself works
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "it holds a list, not tensors by name"),
        (3.5, "it holds a float"),
        ({}, "it holds none"),
        ({"state_dict": {}}, "it holds none"),
        ({"w": "text"}, "'w' in it is a str, not a tensor"),
        ({"state_dict": {"epoch": 3}}, "'epoch' in it is a int"),
        ({3: "w"}, "3 in it is not the name of a tensor"),
    ],
)
def test_something_else_than_tensors_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    torch = pytest.importorskip("torch")
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(BackboneError, match=reason):
        formats.read(tmp_path / "a.pth")


def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    odd = [torch.eye(3).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(2, dtype=torch.complex64)]
    for tensor in odd:
        torch.save({"w": tensor}, tmp_path / "a.pth")
        with pytest.raises(BackboneError, match=r"expected weights in a\.pth, but"):
            formats.read(tmp_path / "a.pth")


@every_format
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_no_finite_numbers_are_refused(
    write: Callable[..., None], tmp_path: Path, value: float
) -> None:
    write(tmp_path / "a", {"fine": np.ones(3), "wrong": np.array([0.0, value])})
    with pytest.raises(BackboneError, match="'wrong' in it has values that are no finite numbers"):
        formats.read(tmp_path / "a")


@every_format
def test_a_file_without_tensors_is_refused(write: Callable[..., None], tmp_path: Path) -> None:
    write(tmp_path / "a", {})
    with pytest.raises(BackboneError, match="it holds none"):
        formats.read(tmp_path / "a")


def test_keras_values_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(400))
    with h5py.File(tmp_path / "external.h5", "w") as file:
        file.create_dataset("w", (100,), "f4", external=[(str(tmp_path / "secret"), 0, 400)])
    with h5py.File(tmp_path / "claims.h5", "w") as file:
        file.create_dataset("w", (1 << 20, 1 << 20), "f4", chunks=(64, 64))  # four terabytes in a few kilobytes
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "external.h5"), "w", (4,))
        file.create_virtual_dataset("w", layout)
    for name in ("external", "claims", "virtual"):
        with pytest.raises(BackboneError, match="the values of 'w' are not in it"):
            formats.read(tmp_path / f"{name}.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["w"] = h5py.ExternalLink(str(tmp_path / "external.h5"), "w")
    with pytest.raises(BackboneError, match="it holds none"):
        formats.read(tmp_path / "linked.h5")


def test_text_in_a_keras_file_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["w"] = "text"
    with pytest.raises(BackboneError, match="'w' in it is not a tensor of numbers"):
        formats.read(tmp_path / "a.h5")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"expected weights in a\.pth, but no such file"):
        formats.read(tmp_path / "a.pth")
    with pytest.raises(BackboneError, match="is a directory"):
        formats.read(tmp_path)


@pytest.mark.parametrize(
    ("write", "package", "extra"), [(write_torch, "torch", "train"), (write_keras, "h5py", "weights")]
)
def test_a_missing_package_is_named(
    write: Callable[..., None], package: str, extra: str, tmp_path: Path, python: Callable[..., Any]
) -> None:
    write(tmp_path / "a", {"w": np.ones(2)})
    program = f"""
import sys
sys.modules[{package!r}] = None
from pathlib import Path
from topwork.weights import formats
formats.read(Path(sys.argv[1]))
"""
    done = python(program, tmp_path / "a")
    assert f'run pip install "topwork[{extra}]"' in done.stderr
    assert MissingExtraError.__name__ in done.stderr

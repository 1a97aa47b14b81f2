"""Weights from the Hugging Face hub: one file of one repository, resumed where it broke off, compared by sha256.

``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, ``HF_TOKEN``, ``HF_HUB_CACHE`` and proxies are understood as huggingface_hub does.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from topwork.errors import BackboneError
from topwork.extra import package
from topwork.weights import store
from topwork.weights.files import remove_older, sha256_of

_SHA256 = re.compile(r"[0-9a-f]{64}")
_A_WEEK = 7 * 86_400  # seconds; how long a download that broke off can be resumed


@dataclass(frozen=True)
class Remote:
    """A file on the hub, as it is in one commit."""

    repo: str
    """Such as ``timm/resnet50.a1_in1k``."""
    file: str
    commit: str
    sha256: str
    size: int
    """In bytes."""
    url: str

    @property
    def source(self) -> str:
        """Where it is from, as shown to people.

        >>> Remote("timm/toy", "model.safetensors", "c0ffee", "0" * 64, 8, "").source
        'hub timm/toy@c0ffee'
        """
        return f"hub {self.repo}@{self.commit}"


def find(repo: str, file: str, *, endpoint: str | None = None) -> Remote:
    """Ask the hub which file this is today; nothing is downloaded.

    ``endpoint``: the hub's address; None: ``HF_ENDPOINT``, else https://huggingface.co. BackboneError where the hub
    cannot be reached, does not have the file, or gives no sha256 for it; MissingExtraError without huggingface_hub.
    """
    _require()
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with _explained(repo, file):
        found = get_hf_file_metadata(hf_hub_url(repo, file, endpoint=endpoint), library_name="topwork")
    if not found.commit_hash or not _SHA256.fullmatch(found.etag or "") or found.size is None:
        raise BackboneError(
            f"expected the commit, size and sha256 of {file} in {repo}, but the hub does not give them; fetch the file "
            "by other means and run `topwork weights add FILE NAME`"
        )
    url = hf_hub_url(repo, file, revision=found.commit_hash, endpoint=endpoint)
    return Remote(repo, file, found.commit_hash, str(found.etag), found.size, url)


@contextmanager
def pull(remote: Remote) -> Iterator[Path]:
    """The file for as long as the block lasts, its sha256 compared; from the local hub cache where it is there.

    A download that broke off, or was killed, goes on where it ended, also in a later run; one process at a time.
    BackboneError where it cannot be completed, or is not what the hub promised: then nothing is left of it.
    """
    _require()
    from huggingface_hub.utils import WeakFileLock

    here = cached(remote.repo, remote.file)
    if here is not None and here.resolve().name == remote.sha256:
        yield here
        return
    folder = store.folder() / "downloads"
    folder.mkdir(exist_ok=True)
    remove_older(list(folder.iterdir()), _A_WEEK)
    path = folder / f"{remote.sha256}{Path(remote.file).suffix}"
    with WeakFileLock(path.with_name(f"{path.name}.lock")):
        _download(remote, path)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def cached(repo: str, file: str) -> Path | None:
    """The file in the local hub cache, without the network; None where it is not there, or not what its name says.

    The cache calls a file by its sha256, which is compared.

    >>> cached("no-such-owner/no-such-repository", "model.safetensors") is None
    True
    """
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(repo, file)
    if not isinstance(found, str):
        return None
    path = Path(found)
    promised = path.resolve().name
    return path if _SHA256.fullmatch(promised) and _remembered(path, path.stat().st_mtime_ns) == promised else None


@cache
def _remembered(path: Path, _changed: int) -> str:
    return sha256_of(path)


def _download(remote: Remote, path: Path) -> None:
    """Make ``path`` hold the whole file."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    begun = path.stat().st_size if path.exists() else 0
    if begun > remote.size:
        path.unlink()
        begun = 0
    with _explained(remote.repo, remote.file), path.open("ab") as file:
        http_get(
            remote.url,
            file,
            resume_size=begun,
            headers=build_hf_headers(library_name="topwork"),
            expected_size=remote.size,
            displayed_filename=remote.file,
        )
    got = sha256_of(path)
    if got != remote.sha256:
        path.unlink()
        raise BackboneError(
            f"{remote.file} of {remote.repo} is not what the hub promised: expected sha256 {remote.sha256[:12]}…, got "
            f"{got[:12]}…; nothing was stored, run again"
        )


def _require() -> None:
    package("huggingface_hub", "fetching weights from the hub", "weights")


@contextmanager
def _explained(repo: str, file: str) -> Iterator[None]:
    """Give what goes wrong on the way to the hub a sentence."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    by_hand = f"or fetch it from https://huggingface.co/{repo} elsewhere and run `topwork weights add FILE NAME`"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise BackboneError(
            f"expected to ask the hub for {repo}, but HF_HUB_OFFLINE is set; unset it, {by_hand}"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise BackboneError(
            f"the hub has no {file} in {repo}, or shows it to nobody without a token; look for it there, {by_hand}"
        ) from error
    except Exception as error:  # of whichever HTTP client this version of huggingface_hub has
        raise BackboneError(
            f"expected {file} of {repo} from the hub, but {_first_line(error)}; run again, {by_hand}"
        ) from error


def _first_line(error: Any) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__

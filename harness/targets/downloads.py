"""Files of the hub, in the Hugging Face cache, with every failure in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, httpx

from ...suites.hub_errors import hub_reason
from ..errors import UsageError


@contextmanager
def hub_failures(what: str) -> Iterator[None]:
    """Turn errors of the hub's clients into one line: what, why, what to do. Others pass. The clients' bars are off."""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()  # stderr belongs to our own progress
    try:
        yield
    except Exception as error:
        if (reason := hub_reason(error)) is None:
            raise
        raise UsageError(f"{what}: {reason}") from None
    finally:
        if shown:
            enable_progress_bars()


def fetch(repo_id: str, filename: str, revision: str | None) -> Path:
    """Download one file, or find it in the cache, and compare it with its hash.

    Args:
        repo_id: `org/repo`.
        filename: Path in the repo.
        revision: Branch, tag or commit; None for main.

    Returns:
        Its path in the cache: `.../snapshots/COMMIT/filename`.

    Raises:
        UsageError: It cannot be had, or its bytes are not those that the hub promised.
    """
    with hub_failures(f"{filename} of {repo_id}"):
        path = Path(hf_hub_download(repo_id, filename, revision=revision))
    verify(path, f"{filename} of {repo_id}")
    return path


def fetch_if_there(repo_id: str, filename: str, revision: str | None) -> Path | None:
    """As `fetch`; None where the repo has no such file (or, offline, where the cache has not)."""
    with hub_failures(f"{filename} of {repo_id}"):
        try:
            path = Path(hf_hub_download(repo_id, filename, revision=revision))
        except LocalEntryNotFoundError:
            if constants.is_offline_mode():
                return None
            raise
        except EntryNotFoundError:
            return None
    verify(path, f"{filename} of {repo_id}")
    return path


def commit_of(path: Path, filename: str) -> str:
    """The commit that a file in the cache is of."""
    return path.parents[len(Path(filename).parts) - 1].name


def verify(path: Path, what: str) -> None:
    """Compare a file in the cache with the hash that is its blob's name: the clients look at the size alone.

    Raises:
        UsageError: The bytes are others. The file is removed, so that the next run downloads it again.
    """
    blob = path.resolve()
    if blob.parent.name != "blobs" or len(blob.name) not in {40, 64}:
        return  # a cache without links (Windows) says nothing about hashes
    # Large files go by their sha256, the others by Git's hash of them.
    git = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
    with blob.open("rb") as file:
        found = hashlib.file_digest(file, lambda: git if len(blob.name) == 40 else hashlib.sha256())
    if found.hexdigest() != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise UsageError(f"{what}: its bytes do not have the hash that the hub gives; it was removed, try again")


def repo_files(repo_id: str, revision: str | None) -> list[str]:
    """Paths of the files of a repo; without a connection, of those in the cache.

    Raises:
        UsageError: There is no such repo or revision, or the hub cannot be asked and the cache holds nothing of it.
    """
    with hub_failures(f"{repo_id}{f'@{revision}' if revision else ''}"):
        if constants.is_offline_mode():
            return _cached_files(repo_id, revision)
        try:
            siblings = HfApi().model_info(repo_id, revision=revision).siblings or []
        except httpx.TransportError as error:  # single files come out of the cache then too: the client sees to that
            with suppress(LocalEntryNotFoundError):
                return _cached_files(repo_id, revision)
            raise error
    return sorted(sibling.rfilename for sibling in siblings)


def _cached_files(repo_id: str, revision: str | None) -> list[str]:
    snapshot = Path(snapshot_download(repo_id, revision=revision, local_files_only=True))
    return sorted(file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file())

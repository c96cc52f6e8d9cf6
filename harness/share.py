"""Upload exported baselines to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from ..suites.hub_errors import hub_reason
from .arm_store import RECORD, SAVED, unsound
from .baseline_store import find_arms
from .errors import UsageError
from .targets.hub import REPO

FILES = (RECORD, *SAVED)
"""Files of an exported baseline; nothing else that lies beside them is uploaded."""


def check_repo(repo: str) -> None:
    """Refuse what is no name of a hub repo.

    Raises:
        UsageError: saying what would be right.
    """
    if not REPO.fullmatch(repo):
        raise UsageError(f"{repo!r} is no name of a hub repo; it must be org/name")


def exported_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of the exported baselines in a folder, relative to it.

    Raises:
        UsageError: when there are none, or one is not an ordinary file with the bytes that its record says.
    """
    arms = tuple(find_arms(folder))
    if not arms:
        raise UsageError(f"{folder} holds no exported baselines; `sae-sanity baselines export {folder}` writes them")
    for arm in arms:
        if wrong := unsound(arm.path, arm.record):
            raise UsageError(f"{arm.path / wrong} is not what {RECORD} says; export it again")
    return tuple((arm.path / name).relative_to(folder) for arm in arms for name in FILES)


def upload(folder: Path, files: Sequence[Path], repo: str, *, private: bool) -> str:
    """Make the repo if there is none, upload exactly these files in one commit and return its address.

    Args:
        folder: where they are.
        files: relative to it, as `exported_files` returns them.
        repo: `org/name`.
        private: whether a new repo is private.

    Raises:
        UsageError: when the hub refuses; the message never holds the token.
    """
    api = HfApi()
    operations = [CommitOperationAdd(path_in_repo=f.as_posix(), path_or_fileobj=folder / f) for f in files]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message="Baselines of sae-sanity")
    except Exception as error:  # of several clients; the token may stand in their texts, so none of them is shown
        if (reason := hub_reason(error)) is None:
            raise
        raise UsageError(f"{repo} was not uploaded: {reason}") from None
    return str(commit.commit_url)

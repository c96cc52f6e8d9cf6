"""Upload exported baselines to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from ..suites.hub_errors import hub_reason
from .errors import UsageError

PATTERNS = ("cfg.json", "sae_weights.safetensors", "arm.json")
"""Names of the files that belong to exported baselines."""


def upload_folder(folder: Path, repo: str, *, private: bool) -> str:
    """Make the repo if there is none, upload the folder in one commit and return its address.

    Raises:
        UsageError: when the hub refuses; the message never holds the token.
    """
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        patterns = [f"**/{name}" for name in PATTERNS]
        commit = api.upload_folder(
            repo_id=repo, folder_path=folder, allow_patterns=patterns, commit_message="Baselines of sae-sanity"
        )
    except Exception as error:  # of several clients; the token may stand in their texts, so none of them is shown
        if (reason := hub_reason(error)) is None:
            raise
        raise UsageError(f"{repo} was not uploaded: {reason}") from None
    return str(commit.commit_url)

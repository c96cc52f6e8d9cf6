"""SAEs in repos of the Hugging Face hub, in SAELens' format."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ...baselines.wrap import Artefact
from ..errors import UsageError
from . import registry
from .downloads import commit_of, fetch, fetch_if_there, repo_files
from .folder import CFG, HERE, locate_one
from .located import Located, each_of, select
from .registry import Knowledge, with_model

SCHEME = "hf://"
REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""`org/repo`."""
RUNNER_CFG, WEIGHTS = "runner_cfg.json", "sae_weights.safetensors"
_HUB_PATH = re.compile(rf"hf://(?P<repo>{REPO.pattern})(?P<path>(/[^/@]+)*)/?(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubPath:
    """A place on the hub."""

    repo_id: str
    """`org/repo`."""
    path: str = ""
    """Folder in the repo; "" for its root."""
    revision: str | None = None
    """Branch, tag or commit; None for main."""

    @classmethod
    def parse(cls, text: str) -> HubPath:
        """Read `hf://org/repo[/path][@revision]`.

        Raises:
            UsageError: The text is not of this form.
        """
        match = _HUB_PATH.fullmatch(text)
        if match is None or {"..", "."} & set(match["path"].split("/")):
            right = "it must be hf://org/repo, then /path and @revision if needed"
            raise UsageError(f"target {text!r} cannot be read; {right}")
        return cls(match["repo"], match["path"].strip("/"), match["revision"])

    def __str__(self) -> str:
        path, revision = f"/{self.path}" if self.path else "", f"@{self.revision}" if self.revision else ""
        return f"{SCHEME}{self.repo_id}{path}{revision}"


def locate_hub(place: HubPath, sae_ids: Sequence[str]) -> tuple[Located, ...]:
    """Find the SAEs of a repo: its folders (and root) that hold a cfg.json; ids are paths below the named one.

    Only configuration files are downloaded.

    Raises:
        UsageError: The repo cannot be read, holds no SAE, several and none was chosen, or a chosen one is refused.
    """
    known = _sae_ids(repo_files(place.repo_id, place.revision), place.path)
    if not known:
        raise UsageError(f"no SAE in {place}: no folder of it holds {CFG} (SAELens' format){_instead(place)}")
    if HERE in known and not sae_ids:
        return (_one(place, ""),)
    return each_of(select(str(place), known, sae_ids), lambda sae_id: _one(place, sae_id), "hub")


def locate_in_repo(repo_id: str, path: str, name: str, known: Knowledge, revision: str | None = None) -> Located:
    """Read the recipe of one SAE of a repo.

    Args:
        repo_id: `org/repo`.
        path: Its folder; "" for the root.
        name: Its sae_id; "" where the target is this SAE.
        known: What SAELens' registry knows of it.
        revision: Branch, tag or commit; None for main.

    Raises:
        UsageError: Its configuration cannot be had or is refused.
    """
    prefix = f"{path}/" if path else ""
    cfg = fetch(repo_id, f"{prefix}{CFG}", revision)
    # All else is of the same commit, so that what is loaded later is what was located.
    commit = commit_of(cfg, f"{prefix}{CFG}")
    # The learning rate and the number of tokens are nowhere else; most repos have none.
    fetch_if_there(repo_id, f"{prefix}{RUNNER_CFG}", commit)
    shown = str(HubPath(repo_id, path))
    with _hub_names(cfg.parent, shown):
        found = locate_one(cfg.parent, name, label=Path(path or repo_id).name, kind="hub", extra=known.facts)
        found = with_model(found, known.model)

    def load() -> Artefact:
        fetch(repo_id, f"{prefix}{WEIGHTS}", commit)
        with _hub_names(cfg.parent, shown):
            return found.load()

    return replace(found, load=load)


@contextmanager
def _hub_names(folder: Path, shown: str) -> Iterator[None]:
    """Let messages speak of files on the hub: in the cache they are named by their hashes."""
    try:
        yield
    except UsageError as error:
        text = str(error)
        for file in (CFG, RUNNER_CFG, WEIGHTS):
            text = text.replace(os.path.realpath(folder / file), f"{shown}/{file}")
        raise type(error)(text.replace(str(folder), shown)) from None


def _one(place: HubPath, sae_id: str) -> Located:
    path = "/".join(part for part in (place.path, sae_id) if part not in {"", HERE})
    return locate_in_repo(place.repo_id, path, sae_id, registry.knowledge(place.repo_id, path), place.revision)


def _sae_ids(files: Sequence[str], path: str) -> tuple[str, ...]:
    below = f"{path}/" if path else ""
    folders = (file[: -len(CFG)].rstrip("/") for file in files if file == CFG or file.endswith(f"/{CFG}"))
    found = [folder for folder in folders if folder == path or folder.startswith(below)]
    return tuple(folder[len(below) :] or HERE for folder in sorted(found) if folder.isprintable())


def _instead(place: HubPath) -> str:
    names = registry.releases_of(place.repo_id)
    return f"; SAELens reads this repo as release {', '.join(map(repr, names[:3]))}: name that" if names else ""

"""The folder that `--baselines-from` names: one on this machine, or one of a hub repo."""

from __future__ import annotations

from pathlib import Path

from .arm_store import RECORD, WEIGHTS
from .errors import UsageError
from .targets.downloads import commit_of, fetch, repo_files
from .targets.hub import SCHEME, HubPath


def fetch_folder(source: str) -> Path:
    """Return the folder of exported baselines; those of a hub repo are downloaded into the Hugging Face cache.

    Args:
        source: as typed: a path, or hf://org/repo[/path][@revision].

    Raises:
        UsageError: when there is no such folder or it cannot be had.
    """
    if source.startswith(SCHEME):
        return _downloaded(HubPath.parse(source), source)
    if not Path(source).is_dir():
        raise UsageError(f"baselines_from is {source!r}: there is no such folder; name one, or hf://org/repo")
    return Path(source)


def _downloaded(place: HubPath, source: str) -> Path:
    inside = f"{place.path}/" if place.path else ""
    records = [f for f in repo_files(place.repo_id, place.revision) if f.startswith(inside) and Path(f).name == RECORD]
    if not records:
        raise UsageError(f"baselines_from is {source!r}: it holds no exported baselines (no {RECORD})")
    # All else is of the commit of the first file, though the branch may move on meanwhile.
    first = fetch(place.repo_id, records[0], place.revision)
    commit = commit_of(first, records[0])
    for record in records:
        for name in (RECORD, "cfg.json", WEIGHTS):
            fetch(place.repo_id, (Path(record).parent / name).as_posix(), commit)
    return first.parents[len(Path(records[0]).parts) - 1] / place.path

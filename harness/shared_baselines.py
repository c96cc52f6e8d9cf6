"""The baselines that `--baselines-from` names: in a folder on this machine, or in a hub repo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .arm_store import CONFIG, RECORD, WEIGHTS
from .baseline_store import Kept, find_arms, nothing_exported
from .errors import UsageError
from .targets.downloads import commit_of, fetch, repo_files
from .targets.hub import SCHEME, HubPath


def check_place(source: str) -> None:
    """Refuse a place that cannot hold baselines before anything is loaded; the hub is not asked yet.

    Raises:
        UsageError: when there is no such folder, it holds no export, or the address cannot be read.
    """
    if source.startswith(SCHEME):
        HubPath.parse(source)
    elif source and not shared_arms(source):
        raise nothing_exported(source)


def shared_arms(source: str) -> tuple[Kept, ...]:
    """Return what a place holds; of a hub repo only the records are downloaded.

    Args:
        source: as typed: a path, or hf://org/repo[/path][@revision].

    Raises:
        UsageError: when there is no such folder or it cannot be had.
    """
    if source.startswith(SCHEME):
        return tuple(_records(HubPath.parse(source), source))
    if not Path(source).is_dir():
        raise UsageError(f"baselines_from is {source!r}: there is no such folder; name one, or hf://org/repo")
    return tuple(find_arms(Path(source)))


def with_files(arm: Kept, source: str) -> Path:
    """Return the folder of an arm with all of its files, which are downloaded if it lies on the hub.

    Raises:
        UsageError: when they cannot be had.
    """
    if source.startswith(SCHEME):
        place = HubPath.parse(source)
        snapshot = _snapshot(arm.path)
        for name in (CONFIG, WEIGHTS):
            # All of the commit of the record, though the branch may have moved on since.
            fetch(place.repo_id, (arm.path / name).relative_to(snapshot).as_posix(), snapshot.name)
    return arm.path


def _records(place: HubPath, source: str) -> Iterator[Kept]:
    inside = f"{place.path}/" if place.path else ""
    records = [f for f in repo_files(place.repo_id, place.revision) if f.startswith(inside) and Path(f).name == RECORD]
    if not records:
        raise nothing_exported(source)
    first = fetch(place.repo_id, records[0], place.revision)
    for record in records[1:]:
        fetch(place.repo_id, record, commit_of(first, records[0]))
    yield from find_arms(_snapshot(first.parent) / place.path)


def _snapshot(path: Path) -> Path:
    """Folder of the commit that a path in the Hugging Face cache is of."""
    return next(parent for parent in (path, *path.parents) if parent.parent.name == "snapshots")

"""Trained baselines that are kept for later checks, and those that somebody else has trained."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from ..baselines import parse_arm
from ..results.design import L0_TOLERANCE
from ..results.store import content_key
from .arm_store import RECORD, read_record, take_files, unsound, whole_folder
from .errors import UsageError

VARIABLE = "SAE_SANITY_BASELINES"
"""Environment variable: folder of the kept baselines; `none` keeps and reuses none."""

SPELLINGS = ("model",)
"""Entries that say the same thing in many ways (a hub id, a folder): the hash beside them decides."""

WORDS = {
    "model_sha256": "language model (sha256 of its weights)",
    "order": "base seed",
    "texts": "training texts (sha256)",
    "lr": "learning rate",
}
"""Entries of a recipe whose names a user would not recognise."""


def cache_folder() -> Path:
    """Where converted models and activations are kept: SAE_SANITY_CACHE, or the user's cache folder."""
    return Path(os.environ.get("SAE_SANITY_CACHE") or user_cache_path("sae-sanity"))


@dataclass(frozen=True)
class Kept:
    """One trained arm in a folder."""

    path: Path
    """Folder, readable by `SAE.load_from_disk`."""
    arm: str
    """Name of the arm."""
    seed: int
    """Its seed."""
    recipe: Mapping[str, Any]
    """How it was trained, as `ArmMaker.recipe` says."""
    l0: float
    """L0 that was measured when it was made."""
    record: Mapping[str, Any]
    """All that was written beside it."""

    @property
    def group(self) -> str:
        """Short name of the recipe: arms and seeds of one recipe share it."""
        return recipe_name(self.recipe)


class BaselineStore:
    """Trained arms by content key: recipe, texts, code and versions, so what is found is what would be made."""

    def __init__(self, folder: Path | None) -> None:
        """Use a folder, made when something is kept; None keeps nothing."""
        self.folder = folder

    @classmethod
    def of_user(cls) -> BaselineStore:
        """Return the user's own store, by default in the cache folder."""
        place = os.environ.get(VARIABLE)
        return cls(None if place == "none" else Path(place) if place else cache_folder() / "baselines")

    def find(self, key: str) -> Path | None:
        """Folder of the arm with this key; None where there is none or it is damaged."""
        if self.folder is None or not (self.folder / key / RECORD).is_file():
            return None
        path = self.folder / key
        try:
            record = read_record(path / RECORD)
        except UsageError:
            return None
        return path if record["key"] == key and not unsound(path, record) else None

    def keep(self, path: Path, key: str) -> None:
        """Keep a finished arm, unless it is kept."""
        if self.folder is not None and self.find(key) is None:
            whole_folder(self.folder / key, lambda temporary: take_files(path, temporary, link=True))

    def arms(self) -> tuple[Kept, ...]:
        """Everything that is kept."""
        return tuple(find_arms(self.folder)) if self.folder is not None else ()


def recipe_name(recipe: Mapping[str, Any]) -> str:
    """Eight digits that name a recipe."""
    return content_key(dict(recipe))[:8]


def find_arms(folder: Path) -> Iterator[Kept]:
    """Every trained baseline with a recipe in a folder and its subfolders, in a fixed order.

    What is no such thing is passed over: damaged records, unfinished folders, the SAE under test, names of no arm.
    """
    for path in sorted(folder.rglob(RECORD)) if folder.is_dir() else ():
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            record = read_record(path)
            baseline = parse_arm(record["facts"]["arm"])
        except (UsageError, ValueError):
            continue
        if isinstance(record.get("recipe"), dict) and baseline.trains and baseline.name != "trained":
            facts = record["facts"]
            yield Kept(path.parent, baseline.arm, facts["seed"], record["recipe"], float(facts["l0"]), record)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, ...]:
    """How a recipe differs from the one that is wanted, one phrase each; L0 within its tolerance is no difference."""
    return tuple(
        f"{WORDS.get(name, name)} is {there.get(name)!r} there and {here.get(name)!r} here"
        for name in here
        if name not in SPELLINGS and not _same(name, there.get(name), here[name])
    )


def _same(name: str, there: Any, here: Any) -> bool:  # noqa: ANN401
    if name == "l0" and isinstance(there, int | float):
        return abs(there - here) <= L0_TOLERANCE * here
    return there == here


def nothing_exported(source: str) -> UsageError:
    """Make the error for a place without exported baselines."""
    return UsageError(f"baselines_from is {source!r}: it holds no exported baselines (no {RECORD} with a recipe)")


def fitting(
    arms: Sequence[Kept], wanted: Mapping[str, Any], names: Collection[str], source: str
) -> dict[tuple[str, int], Kept]:
    """Somebody else's arms that are baselines of the check at hand, by arm and seed.

    Args:
        arms: what was found.
        wanted: the recipe of the check.
        names: arms that the check trains; no other is taken, whatever it is called.
        source: what the user typed, for the message.

    Raises:
        UsageError: when there is none; it names how the closest one differs.
    """
    if not arms:
        raise nothing_exported(source)
    found = {(a.arm, a.seed): a for a in arms if a.arm in names and not differences(a.recipe, wanted)}
    if not found:
        closest = min((differences(arm.recipe, wanted) for arm in arms), key=len)
        closest = closest or (f"none of them is one of {', '.join(sorted(names))}",)
        raise UsageError(
            f"baselines_from is {source!r}: its baselines are not those of this check: {'; '.join(closest)}"
        )
    return found


def export(arms: Iterable[Kept], folder: Path) -> tuple[Path, ...]:
    """Write arms as an ordinary SAELens repo folder: `<recipe>/<arm>/seed-<n>/` with cfg.json, weights and record.

    Copies, not links: the folder is the user's to change. `@` of an arm's name becomes `-`, because `@` separates a
    revision in hf:// addresses. Of arms with one recipe that differ in versions or calibration the newest is written.

    Raises:
        UsageError: when one is not what its record says.
    """
    chosen: dict[Path, Kept] = {}
    for arm in sorted(arms, key=lambda arm: (arm.path / RECORD).stat().st_mtime_ns):
        chosen[folder / arm.group / arm.arm.replace("@", "-") / f"seed-{arm.seed}"] = arm
    for path, arm in chosen.items():
        if wrong := unsound(arm.path, arm.record):
            raise UsageError(f"{arm.path / wrong} is not what {RECORD} says; it was not exported")
        whole_folder(path, lambda temporary, source=arm.path: take_files(source, temporary, link=False))
    return tuple(sorted(chosen))

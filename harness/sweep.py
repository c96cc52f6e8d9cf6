"""A sweep: many checks from one file, each an ordinary results folder, judged together."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..results.outcome import Manifest, Skip
from ..results.policy import Policy
from ..results.store import StoreError, content_key
from .check import Task, find_tasks, run_check, slug
from .config import LISTS, Settings, flat_policy, merge, read_environment, read_file
from .errors import UsageError, unknown
from .judging import Limits
from .lock import InUseError, locked
from .record import FILE, Several, config_hash, identity, save_several, several_report, versions

if TYPE_CHECKING:
    from ..results.outcome import CheckReport
    from ..suites.judges.budget import Spent
    from .sweep_progress import SweepProgress

TABLES = ("defaults", "run")
_FULL = frozenset({28, 30, 122})  # no space, read-only, quota: what stops one check stops them all


@dataclass(frozen=True)
class Member:
    """One SAE of a sweep, by one set of settings."""

    name: str
    """What reports call it; no two are called alike."""
    settings: Settings
    """Settings of its check, which is `check` with the same ones."""
    task: Task
    """How it will be done."""

    @property
    def place(self) -> str:
        """Its folder in that of the sweep: other settings have another one."""
        return f"{slug(self.name)[:100]}-{config_hash(self.settings)[:8]}"


@dataclass(frozen=True)
class Sweep:
    """What a file asks for, found and planned."""

    path: Path
    """The file."""
    members: tuple[Member, ...]
    """SAEs that can be checked."""
    skipped: tuple[Skip, ...]
    """The others, and why."""
    policy: Policy
    """What follows from the verdict."""

    @property
    def folder(self) -> Path:
        """Default results folder: one for each file, so that a file that grew goes on where it was."""
        return Path("sae-sanity-results") / f"sweep-{slug(self.path.stem)}"


def read_sweep(path: Path, environ: Mapping[str, str] | None = None) -> tuple[Settings, ...]:
    """Read the checks that a sweep's file asks for, in its order.

    Args:
        path: TOML with `[defaults]`, settings as in sae-sanity.toml, and one `[[run]]` or more, which win over them. A
            setting of one value may have a list in a run: every combination of such lists is a check.
        environ: environment variables, which win over the file; the process's own by default.

    Raises:
        UsageError: for a file that cannot be read, has no run, or asks for what is no setting or no value of it.
    """
    data = read_file(path)
    if other := sorted(set(data) - set(TABLES)):
        raise UsageError(f"{path}: {unknown('table of a sweep', other[0], TABLES)}")
    defaults, runs = data.get("defaults", {}), data.get("run", [])
    if not isinstance(defaults, dict):
        raise UsageError(f"{path}: defaults is {defaults!r}; it must be a table, [defaults]")
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise UsageError(f"{path}: it asks for nothing; it needs one table [[run]] or more, each with a target")
    nearer = read_environment(os.environ if environ is None else environ)
    found: list[Settings] = []
    for number, run in enumerate(runs, 1):
        try:
            found += [_merged(defaults | values, nearer) for values in _combinations(run)]
        except UsageError as error:
            raise UsageError(f"{path}, [[run]] {number}: {error}") from None
    return tuple(found)


def _merged(values: Mapping[str, Any], nearer: Mapping[str, Any]) -> Settings:
    settings = merge(values, nearer)
    if settings.policy.lock or settings.policy.require_lock:
        raise UsageError("policy.lock registers the plan of one check; run those that are registered with `check`")
    return settings


def _combinations(run: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every choice of one value from each list that stands where one value is meant."""
    if "policy" in run:
        raise UsageError("policy is one for the whole sweep; put it into [defaults.policy]")
    if "target" not in run:
        raise UsageError("it has no target")
    swept = {name: value for name, value in run.items() if isinstance(value, list) and name not in LISTS}
    for name, values in swept.items():
        if not values:
            raise UsageError(f"{name} is an empty list; it needs a value")
    for choice in itertools.product(*swept.values()):
        yield dict(run) | dict(zip(swept, choice, strict=True))


def plan_sweep(path: Path) -> Sweep:
    """Find and plan everything that a file asks for; nothing is loaded or written.

    Raises:
        UsageError: as `read_sweep`, and for a target that is not there or a check that cannot run.
    """
    asked = read_sweep(path)
    found: list[tuple[str, Settings, Task]] = []
    skips: list[Skip] = []
    for settings in asked:
        tasks, skipped = find_tasks(settings)
        skips += [_skip(settings, asked, skip) for skip in skipped]
        for task in tasks:
            sae_id = task.located.name if task.located else ""
            own = settings.model_copy(update={"sae_id": (sae_id,)}) if sae_id else settings
            found.append((_named(settings, asked, sae_id), own, task))
    unique = {config_hash(own): (name, own, task) for name, own, task in found}
    members: list[Member] = []
    for name, own, task in unique.values():
        members.append(Member(_apart(name, [member.name for member in members]), own, task))
    return Sweep(path, tuple(members), tuple(dict.fromkeys(skips)), asked[0].policy)


def _skip(settings: Settings, asked: Sequence[Settings], skip: Skip) -> Skip:
    sae_id = "" if skip.what == settings.target else skip.what
    return Skip(what=_named(settings, asked, sae_id), reason=skip.reason)


def _named(settings: Settings, asked: Sequence[Settings], sae_id: str) -> str:
    """An SAE by what tells it from the others: its target where there are several, its id, the settings that vary."""
    several = len({each.target for each in asked}) > 1
    target = settings.target.rstrip("/")
    name = sae_id if sae_id and not several else "/".join(filter(None, (target, sae_id)))
    mine = [each for each in asked if each.target == settings.target and each.sae_id == settings.sae_id]
    varied = [n for n in Settings.model_fields if n != "policy" and len({str(getattr(e, n)) for e in mine}) > 1]
    shown = [f"{n}={_shown(getattr(settings, n))}" for n in varied if n not in ("target", "sae_id")]
    return " ".join([name, *shown])


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _apart(name: str, taken: Sequence[str]) -> str:
    return next(n for n in itertools.chain([name], (f"{name} #{i}" for i in itertools.count(2))) if n not in taken)


@dataclass(frozen=True)
class OneBudget(Limits):
    """Limits over all checks of a sweep: each goes on with what the others have spent."""

    _spent: list[Spent] = field(default_factory=list, compare=False)

    def spent(self) -> Spent:
        """The one count."""
        if not self._spent:
            self._spent.append(super().spent())
        return self._spent[0]


def run_sweep(sweep: Sweep, folder: Path | None, progress: SweepProgress, limits: Limits | None = None) -> CheckReport:
    """Run or resume a sweep and return the report of all its SAEs, Holm across all of them and their suites.

    Every SAE has a results folder of its own inside, as `check` writes it. One that cannot be checked leaves the
    others as they are, and the sweep incomplete.

    Args:
        sweep: from `plan_sweep`.
        folder: results folder; None for the default one.
        progress: told about every stage of every check.
        limits: what may be spent on judges, over all checks.

    Raises:
        UsageError: for a folder that holds something else or is in use, or where nothing could be checked.
        StoreError: for a folder that cannot be written.
    """
    folder = folder or sweep.folder
    _refuse_other(folder)
    budget = OneBudget(limits.max_tokens, limits.max_cost, limits.price) if limits else OneBudget()
    several = Several(sweep.path.name, {}, sweep.skipped, _manifest(sweep, folder), policy=sweep.policy)
    if not sweep.members:
        first = sweep.skipped[0]
        raise UsageError(f"{sweep.path}: nothing in it can be checked; {first.what}: {first.reason}")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for number, member in enumerate(sweep.members, 1):
            progress.begin(number, len(sweep.members), member.name)
            several = _one(several, member, folder / member.place, progress, budget)
        if not several.members:
            first = several.skipped[len(sweep.skipped)]
            raise UsageError(f"none of the {len(sweep.members)} SAEs could be checked; {first.what}: {first.reason}")
        save_several(folder, several)
    return several_report(folder, several)


def _one(several: Several, member: Member, folder: Path, progress: SweepProgress, budget: Limits) -> Several:
    try:
        run_check(member.settings, folder, progress, limits=budget)
    except InUseError:
        raise
    except (UsageError, StoreError) as error:
        return _without(several, member, str(error))
    except OSError as error:
        if error.errno in _FULL:
            raise
        return _without(several, member, f"{type(error).__name__}: {error}")
    except Exception as error:  # a bug that one SAE meets must not cost the hours of the others
        traceback.print_exc(file=sys.stderr)
        return _without(several, member, f"internal error, {type(error).__name__}: {error}")
    return replace(several, members=several.members | {member.name: folder.name})


def _without(several: Several, member: Member, reason: str) -> Several:
    line = " ".join(reason.split())[:500]
    return replace(several, skipped=(*several.skipped, Skip(what=member.name, reason=line)))


def _refuse_other(folder: Path) -> None:
    if (folder / FILE).exists() or (folder / "store.json").exists():
        raise UsageError(f"results folder {folder} belongs to a check; name another one for the sweep")
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UsageError(f"results folder {folder} cannot be written: {nearest} is not a writable folder")


def _manifest(sweep: Sweep, folder: Path) -> Manifest:
    """How to reproduce all of it; settings are those that every check has, the others are in each one's own."""
    dumped = [member.settings.model_dump(mode="json", exclude={"policy"}) for member in sweep.members]
    first = dumped[0] if dumped else {}
    common = {name: value for name, value in first.items() if all(each[name] == value for each in dumped)}
    return Manifest(
        command=shlex.join(["sae-sanity", "sweep", str(sweep.path), "--results", str(folder)]),
        config_hash=content_key({"sweep": [identity(member.settings) for member in sweep.members]}),
        settings=common | flat_policy(sweep.policy),
        versions=versions(),
        hashes={},
    )
